"""Rows as the text of a MySQL ``VALUES`` list.

Belongs here: how one Python value is written in SQL text for MySQL and MariaDB, and the driver parameter that carries
whole rows. Does not belong here: the statement around them (SQLAlchemy compiles it, ``upsert.py`` runs it).

Why not the driver's ``executemany``: it escapes each value through four Python calls. A column at a time costs a third
of that, and under several worker threads it is the interpreter's lock, not the server, that sets the pace
(``nsimport_pipeline_tests/benchmarks/upsert.py`` measures both).

The text is right only in a session with backslash escapes and utf8mb4, which ``engine.py`` sets on every connection.
Numbers are quoted: the server turns the text into an exact DECIMAL, where a bare ``1E+5`` would be a float.
"""

from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

from pymysql.converters import conversions


class RowsText:
    """Rendered rows, ``(1,'a'),(2,NULL)``, to stand where a statement says ``VALUES %s``."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text


def _rows_text(value: RowsText, _mapping: Any = None) -> str:
    return value.text


DRIVER_CONVERSIONS: dict[Any, Any] = {**conversions, RowsText: _rows_text}
"""The driver's own conversions and ``RowsText``, for its ``conv`` argument."""


def literals(values: Sequence[Any]) -> list[str]:
    """One column's values as SQL literals, in order.

    Raises TypeError for a value no column can hold (a list, a float that is no number, …), without the value in it.
    """
    kinds = set(map(type, values))
    nullable = type(None) in kinds
    kinds.discard(type(None))
    if kinds == {str}:
        text = "".join(filter(None, values))
        if "'" in text or "\\" in text:
            return [
                "NULL" if value is None else quoted(value) if "'" in value or "\\" in value else f"'{value}'"
                for value in values
            ]
        return ["NULL" if value is None else f"'{value}'" for value in values]
    if len(kinds) == 1 and not nullable:
        render = _renderer(kinds.pop())
        return [render(value) for value in values]
    renderers = {kind: _renderer(kind) for kind in kinds}
    return ["NULL" if value is None else renderers[type(value)](value) for value in values]


def quoted(text: str) -> str:
    """``text`` as an SQL string literal. Every other character may stand in one as it is, NUL and newline included."""
    escaped = text.replace("\\", "\\\\").replace("'", "''")
    return f"'{escaped}'"


def _datetime(value: datetime) -> str:
    if value.tzinfo is not None:
        value = value.astimezone(UTC).replace(tzinfo=None)
    return f"'{value.isoformat(' ')}'"


def _decimal(value: Decimal) -> str:
    if not value.is_finite():
        raise TypeError("a decimal that is not a finite number cannot be stored")
    return f"'{value:f}'"


def _float(value: float) -> str:
    if value != value or value in (float("inf"), float("-inf")):
        raise TypeError("a float that is not a finite number cannot be stored")
    return f"'{value!r}'"


_RENDERERS: tuple[tuple[type, Callable[[Any], str]], ...] = (
    (bool, lambda value: "1" if value else "0"),
    (str, quoted),
    (int, int.__repr__),
    (Decimal, _decimal),
    (datetime, _datetime),
    (date, lambda value: f"'{value.isoformat()}'"),
    (float, _float),
    (bytes, lambda value: f"X'{value.hex()}'"),
)


def _renderer(kind: type) -> Callable[[Any], str]:
    for known, render in _RENDERERS:
        if issubclass(kind, known):
            return render
    raise TypeError(f"a value of type {kind.__name__} cannot be stored")
