"""Sums over batches, for showing progress."""

from datetime import datetime

from sqlalchemy import Connection, func, select
from sqlalchemy.engine import RowMapping

from nsimport_pipeline.imports.states import (
    BatchState,
)
from nsimport_pipeline.imports.store.rows import naive
from nsimport_pipeline.warehouse.control import (
    wave_batches,
)

_SECONDS = (
    wave_batches.c.slot_wait_seconds
    + wave_batches.c.fetch_seconds
    + wave_batches.c.transform_seconds
    + wave_batches.c.write_seconds
)


def batch_counts(connection: Connection, import_id: str) -> list[RowMapping]:
    """Per record type, wave and state: batches, records expected, upserted, rejected, deleted, seconds, first start."""
    table = wave_batches
    statement = (
        select(
            table.c.record_type,
            table.c.wave_number,
            table.c.dependency_level,
            table.c.status,
            func.count().label("batches"),
            func.sum(table.c.expected).label("expected"),
            func.sum(table.c.rows_upserted).label("imported"),
            func.sum(table.c.rows_rejected).label("rejected"),
            func.sum(table.c.rows_deleted).label("deleted"),
            func.sum(_SECONDS).label("seconds"),
            func.min(table.c.started_at).label("first_start"),
        )
        .where(table.c.import_id == import_id)
        .group_by(table.c.record_type, table.c.wave_number, table.c.dependency_level, table.c.status)
    )
    return list(connection.execute(statement).mappings())


def failed_batches(connection: Connection, import_id: str) -> list[RowMapping]:
    """Per record type and reason: how many batches were given up, the most first."""
    table = wave_batches
    keys = (table.c.record_type, table.c.failure_reason)
    statement = (
        select(*keys, func.count().label("batches"))
        .where(table.c.import_id == import_id, table.c.status == BatchState.FAILED.value)
        .group_by(*keys)
        .order_by(func.count().desc())
    )
    return list(connection.execute(statement).mappings())


def recent_work(connection: Connection, import_id: str, since: datetime) -> tuple[int, float]:
    """Rows of batches that completed after ``since``, and the seconds these batches took, summed."""
    table = wave_batches
    rows, seconds = connection.execute(
        select(func.coalesce(func.sum(table.c.rows_upserted), 0), func.coalesce(func.sum(_SECONDS), 0)).where(
            table.c.import_id == import_id,
            table.c.status == BatchState.COMPLETED.value,
            table.c.finished_at >= naive(since),
        )
    ).one()
    return int(rows), float(seconds)
