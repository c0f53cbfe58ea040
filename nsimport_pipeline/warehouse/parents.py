"""Rows of derived record types, and the rows of other tables that they are part of.

Belongs here: which parents are in the database, and replacing the rows of parents as a set. Does not belong here: when
(``imports/``), or rows that NetSuite no longer has of other record types (``deletes.py``).

Rows of a derived type are deleted, not marked: a line that is gone from its order was never there for anybody who sums
the order up.
"""

from collections.abc import Collection, Mapping, Sequence

from sqlalchemy import Connection, Table, delete, func, inspect, select, union

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


def parents_there(connection: Connection, tables: Sequence[Table], low: int, high: int) -> set[int]:
    """The ids ``low < refid <= high`` that are live rows of one of ``tables``."""
    if not tables:
        return set()
    statements = [
        select(table.c.refid).where(table.c.refid > low, table.c.refid <= high, table.c.deleted_at.is_(None))
        for table in tables
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
) -> int:
    """Delete the rows of parents ``low < column <= high`` that this import did not write, and return how many.

    Meant for the transaction that wrote all of them. ``present``: refids NetSuite sent whose rows could not be written.
    """
    # Looked for first: a DELETE would lock the whole range of parents, also where nothing is to be deleted.
    statement = select(table.c.refid).where(
        table.c[column] > low, table.c[column] <= high, table.c.import_id != import_id
    )
    gone = sorted(set(connection.scalars(statement)) - set(present))
    for start in range(0, len(gone), _CHUNK):
        connection.execute(delete(table).where(table.c.refid.in_(gone[start : start + _CHUNK])))
    return len(gone)


def delete_beyond(connection: Connection, table: Table, column: str, high: int | None) -> int:
    """Delete the rows of parents ``column > high`` (all, if None), and of none, and return how many."""
    statement = delete(table)
    if high is not None:
        statement = statement.where((table.c[column] > high) | table.c[column].is_(None))
    return connection.execute(statement).rowcount
