"""Sweeps: what the last one of each record type found, and whether the next import has to bring all of it."""

from datetime import datetime

from sqlalchemy import Connection, insert, or_, select, update

from nsimport_pipeline.imports.records import Sweep
from nsimport_pipeline.imports.store.rows import aware, naive
from nsimport_pipeline.warehouse.control import sweeps


def begin_sweep(connection: Connection, record_type: str, now: datetime) -> None:
    """A sweep of the record type begins; what the last one found missing stays known until it has ended."""
    began = {"started_at": naive(now), "finished_at": None, "requests": 0, "compared": 0, "deleted": 0, "failure": None}
    own = sweeps.c.record_type == record_type
    there = connection.execute(select(sweeps.c.record_type).where(own)).first() is not None
    connection.execute(
        update(sweeps).where(own).values(**began) if there else insert(sweeps).values(record_type=record_type, **began)
    )


def count_swept(connection: Connection, record_type: str, deleted: int) -> None:
    """So many more rows were found deleted. Meant for the transaction that marks them."""
    own = sweeps.c.record_type == record_type
    connection.execute(update(sweeps).where(own).values(deleted=sweeps.c.deleted + deleted))


def end_sweep(connection: Connection, done: Sweep) -> None:
    """Keep what a sweep came to; what it deleted is kept already."""
    values = {key: getattr(done, key) for key in ("requests", "compared", "missing", "drifted")}
    own = sweeps.c.record_type == done.record_type
    connection.execute(update(sweeps).where(own).values(finished_at=naive(done.finished_at), **values))


def fail_sweep(connection: Connection, record_type: str, now: datetime, reason: str, *, requests: int) -> None:
    """It could not be done; what it has marked stays, and so does what the last one found missing."""
    values = {"finished_at": naive(now), "failure": reason, "requests": requests}
    connection.execute(update(sweeps).where(sweeps.c.record_type == record_type).values(**values))


def last_sweeps(connection: Connection) -> dict[str, Sweep]:
    """The last sweep of each record type that was swept."""
    found = {}
    for row in connection.execute(select(sweeps)).mappings():
        started = aware(row["started_at"])
        assert started is not None  # noqa: S101 the column is NOT NULL
        values = {key: row[key] for key in ("requests", "compared", "deleted", "missing", "drifted", "failure")}
        found[row["record_type"]] = Sweep(row["record_type"], started, aware(row["finished_at"]), **values)
    return found


def drifted_types(connection: Connection) -> set[str]:
    """The record types that have to be loaded whole, as NetSuite has records that no import of changes would fetch."""
    return set(connection.scalars(select(sweeps.c.record_type).where(sweeps.c.drifted > 0)))


def forget_missing(connection: Connection, record_type: str, created_at: datetime) -> None:
    """All records have been imported by an import that was created then: what an earlier sweep missed is there.

    ``created_at`` is naive UTC, as the database has it.
    """
    table = sweeps
    connection.execute(
        update(table)
        .where(
            table.c.record_type == record_type,
            table.c.started_at <= created_at,
            or_(table.c.missing > 0, table.c.drifted > 0),
        )
        .values(missing=0, drifted=0)
    )
