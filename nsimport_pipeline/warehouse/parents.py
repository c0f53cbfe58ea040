"""Rows of derived record types, and the rows of other tables that they are part of.

Belongs here: which parents are in the database, and replacing the rows of parents as a set. Does not belong here: when
(``imports/``), or rows that NetSuite no longer has of other record types (``deletes.py``).

``deleted_at`` is as in ``deletes.py``. Rows of a derived type are removed as a rule, not marked: a line that is gone
from its order was never there for anybody who sums the order up.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from sqlalchemy import Connection, Table, func, inspect, select, union

from nsimport_pipeline.warehouse.deletes import deleting, mark_gone

_CHUNK = 500


def highest_rows(connection: Connection, tables: Mapping[str, Table]) -> dict[str, int]:
    """The highest live ``refid`` of each table that exists and has one, by the name given."""
    inspector = inspect(connection)
    highest: dict[str, int] = {}
    for name, table in tables.items():
        if inspector.has_table(table.name):
            found = connection.scalar(select(func.max(table.c.refid)).where(table.c.deleted_at.is_(None)))
            if found is not None:
                highest[name] = int(found)
    return highest


def parents_there(connection: Connection, tables: Sequence[Table], ids: Collection[int]) -> set[int]:
    """Those of ``ids``, a batch's, that are live rows of one of ``tables``."""
    if not tables or not ids:
        return set()
    wanted = sorted(ids)
    statements = [
        select(table.c.refid).where(table.c.refid.in_(wanted), table.c.deleted_at.is_(None)) for table in tables
    ]
    return set(connection.scalars(union(*statements)))


def delete_unwritten(
    connection: Connection,
    table: Table,
    column: str,
    low: int,
    high: int,
    *,
    import_id: str,
    present: Collection[int],
    parents: Collection[int] | None = None,
    deleted_at: datetime | None,
) -> list[int]:
    """Mark or remove the rows of parents ``low < column <= high`` that this import did not write.

    Returns each one's parent. Meant for the transaction that wrote all of them. ``present``: refids NetSuite sent whose
    rows were not written. ``parents``: only the rows of these, a batch's.
    """
    # Looked for first: a DELETE would lock the whole range of parents, also where nothing is to be deleted.
    of = [table.c[column] > low, table.c[column] <= high] if parents is None else [table.c[column].in_(sorted(parents))]
    if deleted_at is not None:
        of.append(table.c.deleted_at.is_(None))
    statement = select(table.c.refid, table.c[column]).where(*of, table.c.import_id != import_id)
    kept = set(present)
    parent_of = {refid: parent for refid, parent in connection.execute(statement) if refid not in kept}
    mark_gone(connection, table, sorted(parent_of), deleted_at=deleted_at)
    return list(parent_of.values())


def delete_bereft(
    connection: Connection, table: Table, column: str, parents: Collection[int], *, deleted_at: datetime | None
) -> int:
    """Mark or remove the rows of these parents and return how many."""
    gone, deleted = sorted(parents), 0
    for start in range(0, len(gone), _CHUNK):
        some = gone[start : start + _CHUNK]
        deleted += connection.execute(deleting(table, table.c[column].in_(some), deleted_at=deleted_at)).rowcount
    return deleted


def delete_beyond(
    connection: Connection, table: Table, column: str, high: int | None, *, deleted_at: datetime | None
) -> int:
    """Mark or remove the rows of parents ``column > high`` (all, if None), and of none, and return how many."""
    own = [] if high is None else [(table.c[column] > high) | table.c[column].is_(None)]
    return connection.execute(deleting(table, *own, deleted_at=deleted_at)).rowcount
