"""The keys of an imported table: counted and summed by range, or read for a range that is small.

Belongs here: reading keys of rows that are not marked deleted. Does not belong here: what they are compared with
(``imports/sweep.py``).
"""

from collections.abc import Mapping, Sequence
from datetime import datetime

from sqlalchemy import Connection, Table, case, func, select

_CHUNK = 500


def key_bounds(connection: Connection, table: Table) -> tuple[int, int] | None:
    """The lowest and the highest ``refid`` of all rows, those marked deleted too; None if there is no row."""
    low, high = connection.execute(select(func.min(table.c.refid), func.max(table.c.refid))).one()
    return None if low is None else (int(low), int(high))


def tallies(
    connection: Connection, table: Table, spans: Sequence[tuple[int, int]], modulus: int
) -> list[tuple[int, int, int]]:
    """How many live rows have ``low < refid <= high``, the sum of their keys, and of the squares of the remainders.

    One statement for all of ``spans``, ascending.
    """
    key = table.c.refid
    remainder = key % modulus
    columns = []
    for low, high in spans:
        inside = (key > low) & (key <= high)
        columns += [func.sum(case((inside, value), else_=0)) for value in (1, key, remainder * remainder)]
    own = (key > spans[0][0], key <= spans[-1][1], table.c.deleted_at.is_(None))
    row = [int(value or 0) for value in connection.execute(select(*columns).where(*own)).one()]
    return [(row[place], row[place + 1], row[place + 2]) for place in range(0, len(row), 3)]


def live_within(connection: Connection, table: Table, low: int, high: int) -> dict[int, datetime]:
    """The live rows with ``low < refid <= high``, each with when it was imported."""
    own = (table.c.refid > low, table.c.refid <= high, table.c.deleted_at.is_(None))
    return {row[0]: row[1] for row in connection.execute(select(table.c.refid, table.c.imported_at).where(*own))}


def still_as(connection: Connection, table: Table, imported: Mapping[int, datetime]) -> list[int]:
    """Those ids of ``imported``, with when each was, whose rows are live and were not imported again; ascending."""
    ids, found = sorted(imported), dict[int, datetime]()
    for start in range(0, len(ids), _CHUNK):
        own = (table.c.refid.in_(ids[start : start + _CHUNK]), table.c.deleted_at.is_(None))
        rows = connection.execute(select(table.c.refid, table.c.imported_at).where(*own))
        found |= {row[0]: row[1] for row in rows}
    return [refid for refid in ids if refid in found and found[refid] == imported[refid]]
