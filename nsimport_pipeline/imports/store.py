"""Every SQL statement over the control tables.

Belongs here: reading and writing the control tables, transitions as compare-and-set, rows to plain values.
Does not belong here: deciding anything, or the imported tables (``warehouse/``).

Functions take an open connection, so the caller chooses the transaction: a batch's rows and its state are committed
together. A transition returns how many rows took it; a row that is not in a state it may leave stays as it is.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import orjson
import sqlalchemy as sa
from sqlalchemy import Connection, case, delete, exists, func, insert, select, update
from sqlalchemy.engine import RowMapping

from nsimport_pipeline.errors import Category
from nsimport_pipeline.imports.records import Batch as BatchRecord
from nsimport_pipeline.imports.records import BatchStats, ImportJob, KeyRange, RunSpec, TypePlan, Wave
from nsimport_pipeline.imports.states import (
    ACTIVE_IMPORTS,
    BATCH_STEPS,
    FINISHED_WAVES,
    IMPORT_STEPS,
    OPEN_IMPORTS,
    TERMINAL_BATCHES,
    WAVE_STEPS,
    BatchState,
    ImportState,
    WaveState,
    sources,
)
from nsimport_pipeline.imports.waves import PlannedWave
from nsimport_pipeline.record_types.transform import RejectedRow
from nsimport_pipeline.warehouse.control import (
    import_errors,
    import_jobs,
    import_record_types,
    job_events,
    partition_ranges,
    rejected_records,
    wave_batches,
    wave_coordination,
)

# ---------------------------------------------------------------- imports


def insert_job(connection: Connection, job: ImportJob) -> None:
    connection.execute(
        insert(import_jobs).values(
            import_id=job.import_id,
            tenant=job.tenant,
            mode=job.mode,
            origin=job.origin,
            state=job.state.value,
            requested=list(job.requested),
            wave_size=job.wave_size,
            completion_threshold=job.completion_threshold,
            retry_attempts=job.retry_attempts,
            continue_on_permanent=job.continue_on_permanent,
            created_at=_naive(job.created_at),
            started_at=_naive(job.started_at),
        )
    )


def find_job(connection: Connection, import_id: str) -> ImportJob | None:
    row = connection.execute(select(import_jobs).where(import_jobs.c.import_id == import_id)).mappings().first()
    return _job(row) if row else None


def latest_jobs(connection: Connection, limit: int) -> list[ImportJob]:
    """The latest imports, newest first."""
    statement = select(import_jobs).order_by(import_jobs.c.created_at.desc(), import_jobs.c.import_id).limit(limit)
    return [_job(row) for row in connection.execute(statement).mappings()]


def open_jobs(connection: Connection) -> list[ImportJob]:
    """Imports that are not over, oldest first."""
    statement = (
        select(import_jobs)
        .where(import_jobs.c.state.in_([state.value for state in OPEN_IMPORTS]))
        .order_by(import_jobs.c.created_at, import_jobs.c.import_id)
    )
    return [_job(row) for row in connection.execute(statement).mappings()]


def open_import_of(connection: Connection, record_types: Iterable[str]) -> tuple[str, str] | None:
    """An open import (not one by hand) that has one of ``record_types``: its id and that record type."""
    statement = (
        select(import_record_types.c.import_id, import_record_types.c.record_type)
        .join(import_jobs, import_jobs.c.import_id == import_record_types.c.import_id)
        .where(
            import_jobs.c.state.in_([state.value for state in OPEN_IMPORTS]),
            import_jobs.c.origin == "import",
            import_record_types.c.record_type.in_(list(record_types)),
        )
        .order_by(import_jobs.c.created_at)
        .limit(1)
    )
    row = connection.execute(statement).first()
    return (row[0], row[1]) if row else None


def move_import(
    connection: Connection, import_id: str, to: ImportState, now: datetime, reason: str | None = None
) -> bool:
    values: dict[str, Any] = {"state": to.value}
    if to is ImportState.RUNNING:
        values |= {"started_at": func.coalesce(import_jobs.c.started_at, _naive(now)), "finished_at": None}
    if to not in OPEN_IMPORTS:
        values |= {"finished_at": _naive(now)}
    if reason is not None:
        values |= {"failure_reason": reason}
    return bool(
        connection.execute(
            update(import_jobs)
            .where(
                import_jobs.c.import_id == import_id,
                import_jobs.c.state.in_([state.value for state in sources(IMPORT_STEPS, to)]),
            )
            .values(values)
        ).rowcount
    )


def forget_failure(connection: Connection, import_id: str) -> None:
    """An import that goes on has not failed."""
    connection.execute(update(import_jobs).where(import_jobs.c.import_id == import_id).values(failure_reason=None))


# ---------------------------------------------------------------- plan


def insert_type_plans(connection: Connection, import_id: str, plans: Iterable[TypePlan]) -> None:
    rows = [
        {
            "import_id": import_id,
            "record_type": plan.record_type,
            "dependency_level": plan.level,
            "expected": plan.expected,
            "upper_bound": plan.upper_bound,
            "unavailable": plan.unavailable,
        }
        for plan in plans
    ]
    if rows:
        connection.execute(insert(import_record_types), rows)


def update_type_plans(connection: Connection, import_id: str, plans: Iterable[TypePlan]) -> None:
    """Replace what an import means to do for its record types."""
    connection.execute(delete(import_record_types).where(import_record_types.c.import_id == import_id))
    insert_type_plans(connection, import_id, plans)


def type_plans(connection: Connection, import_id: str) -> list[TypePlan]:
    """The record types of an import, lowest level first."""
    table = import_record_types
    statement = (
        select(table).where(table.c.import_id == import_id).order_by(table.c.dependency_level, table.c.record_type)
    )
    return [
        TypePlan(
            record_type=row["record_type"],
            level=row["dependency_level"],
            expected=row["expected"],
            upper_bound=row["upper_bound"],
            unavailable=row["unavailable"],
            source_count=row["source_count"],
            table_count=row["table_count"],
            in_sync=row["in_sync"],
        )
        for row in connection.execute(statement).mappings()
    ]


def forget_checks(connection: Connection, import_id: str, record_types: Iterable[str]) -> None:
    """These record types go on: what their final count said does not hold any more."""
    table = import_record_types
    connection.execute(
        update(table)
        .where(table.c.import_id == import_id, table.c.record_type.in_(list(record_types)))
        .values(source_count=None, table_count=None, in_sync=None, checked_at=None)
    )


def record_check(
    connection: Connection,
    import_id: str,
    record_type: str,
    *,
    source_count: int,
    table_count: int,
    in_sync: bool,
    now: datetime,
) -> None:
    """Keep what the final count of a record type said."""
    table = import_record_types
    connection.execute(
        update(table)
        .where(table.c.import_id == import_id, table.c.record_type == record_type)
        .values(source_count=source_count, table_count=table_count, in_sync=in_sync, checked_at=_naive(now))
    )


def insert_waves(connection: Connection, import_id: str, waves: Iterable[PlannedWave]) -> None:
    """Write new waves and their batches."""
    wave_rows: list[dict[str, Any]] = []
    batch_rows: list[dict[str, Any]] = []
    for wave in waves:
        wave_rows.append(
            {
                "import_id": import_id,
                "wave_number": wave.number,
                "dependency_level": wave.level,
                "status": WaveState.PENDING.value,
            }
        )
        batch_rows.extend(
            {
                "import_id": import_id,
                "batch_id": f"{key_range.record_type}:{key_range.partition_key}",
                "wave_number": wave.number,
                "dependency_level": wave.level,
                "record_type": key_range.record_type,
                "batch_number": key_range.number,
                "partition_key": key_range.partition_key,
                "low_key": key_range.low,
                "high_key": key_range.high,
                "expected": key_range.expected,
                "status": BatchState.PENDING.value,
            }
            for key_range in wave.ranges
        )
    if wave_rows:
        connection.execute(insert(wave_coordination), wave_rows)
    if batch_rows:
        connection.execute(insert(wave_batches), batch_rows)


def pin_ranges(connection: Connection, import_id: str, ranges: Mapping[str, Sequence[KeyRange]]) -> None:
    """Make these key ranges the partitions of their record types, in place of earlier ones."""
    for record_type, key_ranges in ranges.items():
        connection.execute(delete(partition_ranges).where(partition_ranges.c.record_type == record_type))
        rows = [
            {
                "record_type": record_type,
                "batch_number": key_range.number,
                "partition_key": key_range.partition_key,
                "low_key": key_range.low,
                "high_key": key_range.high,
                "expected": key_range.expected,
                "import_id": import_id,
            }
            for key_range in key_ranges
        ]
        if rows:
            connection.execute(insert(partition_ranges), rows)


def pinned_ranges(
    connection: Connection, record_type: str, partition_keys: Sequence[str] | None = None
) -> list[KeyRange]:
    """The key ranges of a record type's partitions, in order; of ``partition_keys`` only if given."""
    table = partition_ranges
    statement = select(table).where(table.c.record_type == record_type).order_by(table.c.batch_number)
    wanted = None if partition_keys is None else set(partition_keys)
    return [
        _range(row)
        for row in connection.execute(statement).mappings()
        if wanted is None or row["partition_key"] in wanted
    ]


# ---------------------------------------------------------------- waves


def waves(connection: Connection, import_id: str) -> list[Wave]:
    table = wave_coordination
    statement = select(table).where(table.c.import_id == import_id).order_by(table.c.wave_number)
    return [
        Wave(
            number=row["wave_number"],
            level=row["dependency_level"],
            state=WaveState(row["status"]),
            retried=row["retried_batches"],
            dispatched_at=_aware(row["dispatched_at"]),
            completed_at=_aware(row["completed_at"]),
        )
        for row in connection.execute(statement).mappings()
    ]


def move_wave(connection: Connection, import_id: str, number: int, to: WaveState, now: datetime) -> bool:
    values: dict[str, Any] = {"status": to.value}
    if to is WaveState.DISPATCHING:
        values["dispatched_at"] = _naive(now)
    if to in FINISHED_WAVES:
        values["completed_at"] = _naive(now)
    table = wave_coordination
    return bool(
        connection.execute(
            update(table)
            .where(
                table.c.import_id == import_id,
                table.c.wave_number == number,
                table.c.status.in_([state.value for state in sources(WAVE_STEPS, to)]),
            )
            .values(values)
        ).rowcount
    )


def dispatch_batches(connection: Connection, import_id: str, runs: Iterable[RunSpec], now: datetime) -> int:
    """Mark the pending batches of these runs dispatched and note which run each belongs to."""
    moved = 0
    for run in runs:
        for keys in _chunks(run.partition_keys):
            moved += connection.execute(
                update(wave_batches)
                .where(
                    wave_batches.c.import_id == import_id,
                    wave_batches.c.wave_number == run.wave,
                    wave_batches.c.record_type == run.record_type,
                    wave_batches.c.partition_key.in_(keys),
                    _may_become(BatchState.DISPATCHED),
                )
                .values(
                    status=BatchState.DISPATCHED.value,
                    run_number=run.number,
                    run_id=None,
                    dispatched_at=_naive(now),
                )
            ).rowcount
    return moved


def regroup(connection: Connection, import_id: str, wave: PlannedWave, now: datetime) -> int:
    """Put batches that wait for a retry into a new wave. Returns how many; none if another tick did it already."""
    keys = {(r.record_type, r.partition_key) for r in wave.ranges}
    rows = connection.execute(
        select(
            wave_batches.c.id, wave_batches.c.wave_number, wave_batches.c.record_type, wave_batches.c.partition_key
        ).where(
            wave_batches.c.import_id == import_id,
            wave_batches.c.dependency_level == wave.level,
            wave_batches.c.status.in_([BatchState.RETRYING.value, BatchState.PENDING.value]),
        )
    ).all()
    chosen = [row for row in rows if (row.record_type, row.partition_key) in keys]
    if not chosen:
        return 0
    connection.execute(
        insert(wave_coordination).values(
            import_id=import_id, wave_number=wave.number, dependency_level=wave.level, status=WaveState.PENDING.value
        )
    )
    left: dict[int, int] = {}
    for row in chosen:
        left[row.wave_number] = left.get(row.wave_number, 0) + 1
    for number, count in left.items():
        connection.execute(
            update(wave_coordination)
            .where(wave_coordination.c.import_id == import_id, wave_coordination.c.wave_number == number)
            .values(retried_batches=wave_coordination.c.retried_batches + count)
        )
    for ids in _chunks([row.id for row in chosen]):
        connection.execute(
            update(wave_batches)
            .where(wave_batches.c.id.in_(ids))
            .values(
                status=BatchState.PENDING.value,
                wave_number=wave.number,
                run_number=None,
                run_id=None,
                not_before=None,
            )
        )
    return len(chosen)


# ---------------------------------------------------------------- batches


def batches(connection: Connection, import_id: str, wave: int | None = None) -> list[BatchRecord]:
    """The batches of an import (of one wave), by wave, record type and number."""
    table = wave_batches
    statement = (
        select(table)
        .where(table.c.import_id == import_id)
        .order_by(table.c.wave_number, table.c.record_type, table.c.batch_number)
    )
    if wave is not None:
        statement = statement.where(table.c.wave_number == wave)
    return [_batch(row) for row in connection.execute(statement).mappings()]


def batches_of(
    connection: Connection, import_id: str, record_type: str, partition_keys: Sequence[str]
) -> list[BatchRecord]:
    """The batches of these partitions, in partition order."""
    table = wave_batches
    wanted = set(partition_keys)
    statement = (
        select(table)
        .where(table.c.import_id == import_id, table.c.record_type == record_type)
        .order_by(table.c.batch_number)
    )
    return [_batch(row) for row in connection.execute(statement).mappings() if row["partition_key"] in wanted]


def claim_batch(connection: Connection, batch: BatchRecord, run_id: str, now: datetime) -> bool:
    """Take a batch for a run. False if it is not to be had: done, taken, or its import is not active any more.

    Nor if it has gone into another wave since the run looked: that wave's turn is not this run's.
    """
    active = exists().where(
        import_jobs.c.import_id == wave_batches.c.import_id,
        import_jobs.c.state.in_([state.value for state in ACTIVE_IMPORTS]),
    )
    return bool(
        connection.execute(
            update(wave_batches)
            .where(
                wave_batches.c.id == batch.id,
                wave_batches.c.wave_number == batch.wave,
                _may_become(BatchState.PROCESSING),
                active,
            )
            .values(status=BatchState.PROCESSING.value, run_id=run_id, started_at=_naive(now))
        ).rowcount
    )


def release_batch(connection: Connection, batch: BatchRecord, run_id: str) -> bool:
    """Give back a claimed batch whose work was broken off before it could fail; costs no attempt."""
    return bool(
        connection.execute(
            update(wave_batches)
            .where(
                wave_batches.c.id == batch.id,
                wave_batches.c.run_id == run_id,
                wave_batches.c.status == BatchState.PROCESSING.value,
            )
            .values(status=BatchState.DISPATCHED.value, run_id=None, started_at=None)
        ).rowcount
    )


def complete_batch(connection: Connection, batch: BatchRecord, run_id: str, stats: BatchStats, now: datetime) -> bool:
    """Mark a claimed batch completed, with what it did. Meant for the transaction that writes its rows."""
    return bool(
        connection.execute(
            update(wave_batches)
            .where(
                wave_batches.c.id == batch.id,
                wave_batches.c.run_id == run_id,
                wave_batches.c.status == BatchState.PROCESSING.value,
            )
            .values(
                status=BatchState.COMPLETED.value,
                finished_at=_naive(now),
                failure_category=None,
                failure_reason=None,
                **asdict(stats),
            )
        ).rowcount
    )


def fail_batch(
    connection: Connection,
    batch: BatchRecord,
    *,
    to: BatchState,
    category: Category,
    reason: str,
    now: datetime,
    not_before: datetime | None = None,
    attempts: int = 1,
) -> bool:
    """Mark a batch failed or to be retried, and count ``attempts`` more failures of it.

    False if it is not as ``batch`` has it any more: in that state, that wave and that run's hands.
    """
    taken = connection.execute(
        update(wave_batches)
        .where(
            wave_batches.c.id == batch.id,
            wave_batches.c.status == batch.state.value,
            wave_batches.c.wave_number == batch.wave,
            wave_batches.c.run_id.is_not_distinct_from(batch.run_id),
            _may_become(to),
        )
        .values(
            status=to.value,
            attempts=wave_batches.c.attempts + attempts,
            failure_category=category.value,
            failure_reason=reason,
            not_before=_naive(not_before),
            finished_at=_naive(now) if to in TERMINAL_BATCHES else None,
        )
    ).rowcount
    return bool(taken)


def cancel_batches(connection: Connection, import_id: str, now: datetime, states: Iterable[BatchState]) -> int:
    """Cancel the batches of an import that are in one of ``states``."""
    allowed = sources(BATCH_STEPS, BatchState.CANCELLED) & set(states)
    return connection.execute(
        update(wave_batches)
        .where(wave_batches.c.import_id == import_id, wave_batches.c.status.in_([s.value for s in allowed]))
        .values(status=BatchState.CANCELLED.value, finished_at=_naive(now))
    ).rowcount


def reopen_batches(connection: Connection, import_id: str, states: Iterable[BatchState]) -> int:
    """Put failed or cancelled batches back to pending with a fresh retry budget."""
    allowed = sources(BATCH_STEPS, BatchState.PENDING) & set(states)
    return connection.execute(
        update(wave_batches)
        .where(wave_batches.c.import_id == import_id, wave_batches.c.status.in_([s.value for s in allowed]))
        .values(
            status=BatchState.PENDING.value, attempts=0, run_id=None, run_number=None, not_before=None, finished_at=None
        )
    ).rowcount


def batch_stats(connection: Connection, batch: BatchRecord) -> BatchStats:
    """What a completed batch did."""
    names = list(BatchStats.__dataclass_fields__)
    row = connection.execute(
        select(*[wave_batches.c[name] for name in names]).where(wave_batches.c.id == batch.id)
    ).one()
    return BatchStats(**dict(zip(names, row, strict=True)))


def stats_if_completed_by(connection: Connection, batch: BatchRecord, run_id: str) -> BatchStats | None:
    """What a batch did, if this run completed it."""
    table = wave_batches
    done = select(table.c.id).where(
        table.c.id == batch.id, table.c.run_id == run_id, table.c.status == BatchState.COMPLETED.value
    )
    return batch_stats(connection, batch) if connection.execute(done).first() else None


# ---------------------------------------------------------------- rejected rows, errors, events


def replace_rejected(
    connection: Connection,
    import_id: str,
    key_range: KeyRange,
    rejected: Sequence[RejectedRow],
    now: datetime,
) -> None:
    """Make these the rejected rows of a batch, in place of those of an earlier attempt."""
    table = rejected_records
    connection.execute(
        delete(table).where(
            table.c.import_id == import_id,
            table.c.record_type == key_range.record_type,
            table.c.partition_key == key_range.partition_key,
        )
    )
    if rejected:
        connection.execute(
            insert(table),
            [
                {
                    "import_id": import_id,
                    "record_type": key_range.record_type,
                    "partition_key": key_range.partition_key,
                    "refid": row.refid,
                    "column_name": row.column,
                    "reason": row.reason[:2000],
                    "raw": orjson.dumps(dict(row.raw), default=str).decode("utf-8", "replace"),
                    "rejected_at": _naive(now),
                }
                for row in rejected
            ],
        )


def rejected_without_row(connection: Connection, import_id: str, record_type: str, table: sa.Table) -> int:
    """Rejected records of an import that have no live row in the imported table, each once."""
    rejected = rejected_records
    has_row = exists().where(table.c.refid == rejected.c.refid, table.c.deleted_at.is_(None))
    nameless = func.count(case((rejected.c.refid.is_(None), 1)))  # MySQL has no FILTER
    statement = select(func.count(rejected.c.refid.distinct()) + nameless)
    return connection.execute(
        statement.where(rejected.c.import_id == import_id, rejected.c.record_type == record_type, ~has_row)
    ).scalar_one()


def record_error(
    connection: Connection,
    import_id: str,
    category: Category,
    message: str,
    now: datetime,
    *,
    record_type: str | None = None,
    partition_key: str | None = None,
    column: str | None = None,
    attempt: int = 0,
    occurrences: int = 1,
    final: bool = False,
) -> None:
    connection.execute(
        insert(import_errors).values(
            import_id=import_id,
            at=_naive(now),
            category=category.value,
            record_type=record_type,
            partition_key=partition_key,
            column_name=column[:64] if column else None,
            attempt=attempt,
            occurrences=occurrences,
            final=final,
            message=message[:2000],
        )
    )


def record_event(
    connection: Connection,
    import_id: str,
    event: str,
    now: datetime,
    *,
    wave: int | None = None,
    record_type: str | None = None,
    partition_key: str | None = None,
    run_id: str | None = None,
    message: str | None = None,
) -> None:
    connection.execute(
        insert(job_events).values(
            import_id=import_id,
            at=_naive(now),
            event=event,
            wave_number=wave,
            record_type=record_type,
            partition_key=partition_key,
            run_id=run_id,
            message=message[:2000] if message else None,
        )
    )


# ---------------------------------------------------------------- totals for progress


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
            table.c.finished_at >= _naive(since),
        )
    ).scalar_one()
    return int(value)


def error_counts(connection: Connection, import_id: str) -> dict[Category, int]:
    """Failures recorded for an import, by category; every category is there."""
    table = import_errors
    rows = connection.execute(
        select(table.c.category, func.sum(table.c.occurrences))
        .where(table.c.import_id == import_id)
        .group_by(table.c.category)
    ).all()
    counts = dict.fromkeys(Category, 0)
    counts.update({Category(category): int(count) for category, count in rows})
    return counts


def error_groups(connection: Connection, import_id: str | None, limit: int) -> list[RowMapping]:
    """Failures grouped by category, record type and column, most frequent first, with first and last time."""
    table = import_errors
    keys = (table.c.category, table.c.record_type, table.c.column_name)
    statement = (
        select(
            *keys,
            func.sum(table.c.occurrences).label("count"),
            func.sum(case((table.c.final, 1), else_=0)).label("final"),
            func.min(table.c.at).label("first_at"),
            func.max(table.c.at).label("last_at"),
            func.max(table.c.message).label("sample"),
        )
        .group_by(*keys)
        .order_by(func.sum(table.c.occurrences).desc())
    )
    return _most(connection, statement, table, import_id, limit)


def rejected_groups(connection: Connection, import_id: str | None, limit: int) -> list[RowMapping]:
    """Rejected rows grouped by record type, column and reason, most frequent first, with a sample key."""
    table = rejected_records
    keys = (table.c.record_type, table.c.column_name, table.c.reason)
    statement = (
        select(*keys, func.count().label("count"), func.min(table.c.refid).label("sample_refid"))
        .group_by(*keys)
        .order_by(func.count().desc())
    )
    return _most(connection, statement, table, import_id, limit)


def _most(
    connection: Connection, groups: sa.Select[Any], table: sa.Table, import_id: str | None, limit: int
) -> list[RowMapping]:
    """The first ``limit`` of these groups, of one import if given."""
    if import_id is not None:
        groups = groups.where(table.c.import_id == import_id)
    return list(connection.execute(groups.limit(limit)).mappings())


def unfinished_batches(connection: Connection, import_id: str, record_type: str, besides: Sequence[str] = ()) -> int:
    """Batches of a record type that are not in a terminal state, besides these partitions."""
    table = wave_batches
    return connection.execute(
        select(func.count()).where(
            table.c.import_id == import_id,
            table.c.record_type == record_type,
            table.c.status.not_in([state.value for state in TERMINAL_BATCHES]),
            table.c.partition_key.not_in(list(besides)),
        )
    ).scalar_one()


def unfinished_below(connection: Connection, import_id: str, level: int) -> int:
    """Batches of an import at lower levels than ``level`` that are not in a terminal state."""
    table = wave_batches
    return connection.execute(
        select(func.count()).where(
            table.c.import_id == import_id,
            table.c.dependency_level < level,
            table.c.status.not_in([state.value for state in TERMINAL_BATCHES]),
        )
    ).scalar_one()


# ---------------------------------------------------------------- rows to values


def _may_become(state: BatchState) -> sa.ColumnElement[bool]:
    allowed: sa.ColumnElement[bool] = wave_batches.c.status.in_(
        [source.value for source in sources(BATCH_STEPS, state)]
    )
    return allowed


def _chunks(values: Sequence[Any], size: int = 500) -> Iterable[Sequence[Any]]:
    return (values[start : start + size] for start in range(0, len(values), size))


def _naive(moment: datetime | None) -> datetime | None:
    return moment.astimezone(UTC).replace(tzinfo=None) if moment else None


def _aware(moment: datetime | None) -> datetime | None:
    return moment.replace(tzinfo=UTC) if moment else None


def _job(row: RowMapping) -> ImportJob:
    created = _aware(row["created_at"])
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
        started_at=_aware(row["started_at"]),
        finished_at=_aware(row["finished_at"]),
        failure_reason=row["failure_reason"],
    )


def _range(row: RowMapping) -> KeyRange:
    return KeyRange(
        record_type=row["record_type"],
        number=row["batch_number"],
        partition_key=row["partition_key"],
        low=row["low_key"],
        high=row["high_key"],
        expected=row["expected"],
    )


def _batch(row: RowMapping) -> BatchRecord:
    return BatchRecord(
        id=row["id"],
        range=_range(row),
        wave=row["wave_number"],
        level=row["dependency_level"],
        state=BatchState(row["status"]),
        run_number=row["run_number"],
        attempts=row["attempts"],
        run_id=row["run_id"],
        not_before=_aware(row["not_before"]),
        failure_category=Category(row["failure_category"]) if row["failure_category"] else None,
        failure_reason=row["failure_reason"],
    )
