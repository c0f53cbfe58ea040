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


def batch_counts(connection: Connection, import_id: str) -> list[RowMapping]:
    """Per record type, wave and state: batches, records expected, upserted, rejected, deleted, rows read."""
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
        )
        .where(table.c.import_id == import_id)
        .group_by(table.c.record_type, table.c.wave_number, table.c.dependency_level, table.c.status)
    )
    return list(connection.execute(statement).mappings())


def recent_throughput(connection: Connection, import_id: str, since: datetime) -> int:
    """Rows of batches that completed after ``since``."""
    table = wave_batches
    value = connection.execute(
        select(func.coalesce(func.sum(table.c.rows_upserted), 0)).where(
            table.c.import_id == import_id,
            table.c.status == BatchState.COMPLETED.value,
            table.c.finished_at >= naive(since),
        )
    ).scalar_one()
    return int(value)
