"""Rows of the control tables to plain values and back, for the modules beside this one.

Belongs here: conversions without a statement. Does not belong here: anything that asks the database.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import RowMapping

from nsimport_pipeline.errors import Category
from nsimport_pipeline.imports.records import Batch as BatchRecord
from nsimport_pipeline.imports.records import ImportJob, KeyRange
from nsimport_pipeline.imports.states import (
    BATCH_STEPS,
    BatchState,
    ImportState,
    sources,
)
from nsimport_pipeline.warehouse.control import wave_batches


def chunks(values: Sequence[Any], size: int = 500) -> Iterable[Sequence[Any]]:
    return (values[start : start + size] for start in range(0, len(values), size))


def naive(moment: datetime | None) -> datetime | None:
    return moment.astimezone(UTC).replace(tzinfo=None) if moment else None


def aware(moment: datetime | None) -> datetime | None:
    return moment.replace(tzinfo=UTC) if moment else None


def may_become(state: BatchState) -> sa.ColumnElement[bool]:
    allowed: sa.ColumnElement[bool] = wave_batches.c.status.in_(
        [source.value for source in sources(BATCH_STEPS, state)]
    )
    return allowed


def job_of(row: RowMapping) -> ImportJob:
    created = aware(row["created_at"])
    assert created is not None  # noqa: S101 the column is NOT NULL
    return ImportJob(
        import_id=row["import_id"],
        tenant=row["tenant"],
        mode=row["mode"],
        origin=row["origin"],
        state=ImportState(row["state"]),
        requested=tuple(row["requested"]),
        wave_size=row["wave_size"],
        completion_threshold=row["completion_threshold"],
        retry_attempts=row["retry_attempts"],
        continue_on_permanent=bool(row["continue_on_permanent"]),
        created_at=created,
        started_at=aware(row["started_at"]),
        finished_at=aware(row["finished_at"]),
        failure_reason=row["failure_reason"],
    )


def range_of(row: RowMapping) -> KeyRange:
    return KeyRange(
        record_type=row["record_type"],
        number=row["batch_number"],
        partition_key=row["partition_key"],
        low=row["low_key"],
        high=row["high_key"],
        expected=row["expected"],
    )


def batch_of(row: RowMapping) -> BatchRecord:
    return BatchRecord(
        id=row["id"],
        range=range_of(row),
        wave=row["wave_number"],
        level=row["dependency_level"],
        state=BatchState(row["status"]),
        run_number=row["run_number"],
        attempts=row["attempts"],
        run_id=row["run_id"],
        not_before=aware(row["not_before"]),
        failure_category=Category(row["failure_category"]) if row["failure_category"] else None,
        failure_reason=row["failure_reason"],
        rejected=row["rows_rejected"],
    )
