"""Rows as the text of a MySQL ``VALUES`` list.

Belongs here: how a row of Python values is written in SQL text for MySQL and MariaDB, and the driver parameter that
carries whole rows. Does not belong here: the statement around them (SQLAlchemy compiles it, ``upsert.py`` runs it).

Why not the driver's ``executemany``: it escapes each value through four Python calls. JSON and SQL write null, whole
numbers and truth alike, and texts nearly so; a JSON library written in Rust does a whole row in a few microseconds.
Under several worker threads it is the interpreter's lock, not the server, that sets the pace
(``nsimport_pipeline_tests/benchmarks/upsert.py`` measures both).

The text is right only in a session with backslash escapes, without ANSI_QUOTES and with utf8mb4, which ``engine.py``
sets on every connection. Decimals are quoted: the server turns the text into an exact DECIMAL. Times have the ``T`` of
ISO 8601, which every server takes.
"""

import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import orjson
from pymysql.cursors import Cursor


class RowsText:
    """Rendered rows in UTF-8, ``(1,"a"),(2,null)``, to stand where a statement says ``VALUES %s``."""

    __slots__ = ("text",)

    def __init__(self, text: bytes) -> None:
        self.text = text


def send_rows(cursor: Cursor, statement: str, parameters: Any, _context: Any) -> bool:
    """Listener of an engine's ``do_execute``: sends a statement whose one parameter is ``RowsText``.

    As bytes: the driver would make one text of statement and rows, and encode that, which takes as long as rendering.
    To SQLAlchemy the rows are a parameter like any other, so errors hide them. False: it is another kind of statement.
    """
    if len(parameters) != 1 or type(parameters[0]) is not RowsText:
        return False
    cursor.execute(statement.encode() % parameters[0].text)  # type: ignore[call-overload]  # the driver takes bytes too
    return True


# JSON escapes that mean something else in MySQL. A pair of backslashes is matched too, to be passed over.
_FOREIGN_ESCAPES = re.compile(rb"\\\\|\\f|\\u00([0-9a-f]{2})")


def row_literals(row: Sequence[Any]) -> bytes:
    """A row's values as SQL literals with commas between them, in UTF-8.

    Values: str, int, bool, Decimal, date, naive datetime or None. Raises TypeError, without the value in it, for
    another one, for a number that is not finite, and for text that is not valid Unicode.
    """
    try:
        text = orjson.dumps(row, default=_as_text)[1:-1]
    except orjson.JSONEncodeError as error:
        raise TypeError("a value of this row has no SQL literal") from error.__cause__
    if b"\\u" in text or b"\\f" in text:
        return _FOREIGN_ESCAPES.sub(_as_itself, text)
    return text


def _as_itself(escape: re.Match[bytes]) -> bytes:
    """Any character but quote and backslash may stand in an SQL literal as it is, NUL and newline included."""
    if escape[0] == b"\\\\":
        return escape[0]
    return bytes.fromhex(escape[1].decode()) if escape[1] else b"\f"


def _as_text(value: Any) -> str:
    if isinstance(value, Decimal) and value.is_finite():
        return f"{value:f}"
    raise TypeError(f"a value of type {type(value).__name__} cannot be stored")
