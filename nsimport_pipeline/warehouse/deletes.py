"""Marking, or removing, rows that NetSuite no longer has.

Belongs here: the ``deleted_at`` of imported rows. Does not belong here: finding out what is gone.

``deleted_at`` is everywhere a naive UTC time to mark rows with, or None to remove them, those marked before too.
"""

from collections.abc import Collection, Sequence
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, Delete, Table, Update, delete, func, select, update

_CHUNK = 500


def mark_absent(
    connection: Connection,
    table: Table,
    low: int,
    high: int,
    *,
    import_id: str,
    present: Collection[int],
    deleted_at: datetime | None,
) -> int:
    """Mark or remove the rows with ``low < refid <= high`` that this import did not write, and return how many.

    Meant for the transaction that wrote the whole range. ``present``: ids NetSuite sent whose rows could not be
    written.
    """
    own = [table.c.refid > low, table.c.refid <= high, table.c.import_id != import_id]
    if present:
        own.append(table.c.refid.not_in(sorted(present)))
    return connection.execute(deleting(table, *own, deleted_at=deleted_at)).rowcount


def mark_absent_above(connection: Connection, table: Table, high: int | None, *, deleted_at: datetime | None) -> int:
    """Mark or remove the rows with ``refid > high`` (all, if None) and return how many.

    Meant for a moment when ``high`` is known to be NetSuite's highest key.
    """
    own = [] if high is None else [table.c.refid > high]
    return connection.execute(deleting(table, *own, deleted_at=deleted_at)).rowcount


def live_among(connection: Connection, table: Table, ids: Sequence[int]) -> list[int]:
    """Those of ``ids`` that are rows not marked deleted."""
    found: list[int] = []
    for start in range(0, len(ids), _CHUNK):
        some = ids[start : start + _CHUNK]
        found += connection.scalars(select(table.c.refid).where(table.c.refid.in_(some), table.c.deleted_at.is_(None)))
    return found


def mark_gone(connection: Connection, table: Table, ids: Sequence[int], *, deleted_at: datetime | None) -> int:
    """Mark or remove the rows with these ids and return how many there were."""
    return sum(
        connection.execute(
            deleting(table, table.c.refid.in_(ids[start : start + _CHUNK]), deleted_at=deleted_at)
        ).rowcount
        for start in range(0, len(ids), _CHUNK)
    )


def deleting(table: Table, *own: ColumnElement[bool], deleted_at: datetime | None) -> Update | Delete:
    """The statement that marks the live rows that these conditions hold for, or removes all such rows."""
    if deleted_at is None:
        return delete(table).where(*own)
    return update(table).where(*own, table.c.deleted_at.is_(None)).values(deleted_at=deleted_at)


def live_rows(connection: Connection, table: Table, high: int | None, column: str = "refid") -> int:
    """Rows with ``column <= high`` (all, if None) that are not marked deleted."""
    statement = select(func.count()).select_from(table).where(table.c.deleted_at.is_(None))
    if high is not None:
        statement = statement.where(table.c[column] <= high)
    return connection.execute(statement).scalar_one()
