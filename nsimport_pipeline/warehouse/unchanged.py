"""Telling rows that differ from what is stored.

Belongs here: comparing. Does not belong here: writing them (``upsert.py``).

Values are compared as Python has them, not by the database, whose collation takes ``Meyer`` for ``MEYER``. Where in
doubt a row differs: then it is written once more than needed.
"""

import json
from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import Connection, Table, select
from sqlalchemy.exc import SQLAlchemyError

from nsimport_pipeline.warehouse.errors import column_missing

_CHUNK = 500

Row = tuple[Any, ...]


def differing(
    connection: Connection, table: Table, columns: Sequence[str], rows: Sequence[Row], *, keep: Collection[str] = ()
) -> list[int]:
    """The positions of those of ``rows`` that are new, differ from the stored row, or are stored as deleted.

    ``columns`` name the rows' values; ``refid`` is one of them. ``keep``: columns that stored rows keep anyway.
    """
    compared = [place for place, name in enumerate(columns) if name not in keep and name != "refid"]
    key = list(columns).index("refid")
    raw = list(columns).index("raw") if "raw" in columns else None
    chosen = [table.c.refid, table.c.deleted_at, *(table.c[columns[place]] for place in compared)]
    stored: dict[int, Row] = {}
    try:
        for start in range(0, len(rows), _CHUNK):
            ids = [row[key] for row in rows[start : start + _CHUNK]]
            for found in connection.execute(select(*chosen).where(table.c.refid.in_(ids))):
                stored[found[0]] = tuple(found)
    except SQLAlchemyError as error:
        if not column_missing(error):
            raise
        return list(range(len(rows)))  # who writes them finds out which column
    result = []
    for position, row in enumerate(rows):
        before = stored.get(row[key])
        same = (
            before is not None
            and before[1] is None
            and all(
                mine == theirs or (place == raw and _same_json(mine, theirs))
                for place, mine, theirs in zip(compared, (row[place] for place in compared), before[2:], strict=True)
            )
        )
        if not same:
            result.append(position)
    return result


def _same_json(one: str | None, other: str | None) -> bool:
    """Whether two texts say the same: NetSuite may change the order of its keys."""
    try:
        return one is not None and other is not None and bool(json.loads(one) == json.loads(other))
    except ValueError:
        return False
