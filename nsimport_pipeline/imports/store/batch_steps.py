"""Batches: claiming, completing, failing and reopening them, each as one compare-and-set."""

from collections.abc import Iterable, Sequence, Set
from dataclasses import asdict
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, exists, func, select, update

from nsimport_pipeline.errors import Category
from nsimport_pipeline.imports.records import COUNT_OWED, BatchStats
from nsimport_pipeline.imports.records import Batch as BatchRecord
from nsimport_pipeline.imports.states import (
    ACTIVE_IMPORTS,
    BATCH_STEPS,
    TERMINAL_BATCHES,
    BatchState,
    sources,
)
from nsimport_pipeline.imports.store.journal import record_event
from nsimport_pipeline.imports.store.rows import batch_of, chunks, may_become, naive
from nsimport_pipeline.warehouse.control import (
    import_jobs,
    wave_batches,
)


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
    return [batch_of(row) for row in connection.execute(statement).mappings()]


def batches_of(
    connection: Connection, import_id: str, record_type: str, partition_keys: Sequence[str] | None = None
) -> list[BatchRecord]:
    """The batches of a record type, in partition order; of ``partition_keys`` only if given."""
    table = wave_batches
    wanted = None if partition_keys is None else set(partition_keys)
    statement = (
        select(table)
        .where(table.c.import_id == import_id, table.c.record_type == record_type)
        .order_by(table.c.batch_number)
    )
    return [
        batch_of(row)
        for row in connection.execute(statement).mappings()
        if wanted is None or row["partition_key"] in wanted
    ]


def latest_settled(connection: Connection, import_ids: Sequence[str]) -> dict[tuple[str, str], tuple[str, BatchRecord]]:
    """By record type and partition: the batch completed or failed last in one of these imports, and that import.

    Not of those that another of them still has to do: what became of it before is not the last word then. A batch of
    changes counts for the partitions in which it changed rows.
    """
    table = wave_batches
    settled = [BatchState.COMPLETED.value, BatchState.FAILED.value]
    latest: dict[tuple[str, str], tuple[str, BatchRecord]] = {}
    unsettled: set[tuple[str, str]] = set()
    for ids in chunks(import_ids):
        statement = (
            select(table)
            .where(table.c.import_id.in_(ids), table.c.status.in_(settled))
            .order_by(table.c.finished_at, table.c.id)
        )
        for row in connection.execute(statement).mappings():
            keys = [row["partition_key"]] if row["touched"] is None else list(row["touched"])
            for key in keys:
                latest[row["record_type"], key] = (row["import_id"], batch_of(row))
        to_do = select(table.c.record_type, table.c.partition_key).where(
            table.c.import_id.in_(ids), table.c.status.not_in([state.value for state in TERMINAL_BATCHES])
        )
        unsettled |= {(record_type, key) for record_type, key in connection.execute(to_do)}
    return {place: found for place, found in latest.items() if place not in unsettled}


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
                may_become(BatchState.PROCESSING),
                active,
            )
            .values(status=BatchState.PROCESSING.value, run_id=run_id, started_at=naive(now))
        ).rowcount
    )


def _held(batch: BatchRecord, run_id: str) -> ColumnElement[bool]:
    """That the batch is being worked on by this run."""
    table = wave_batches
    return and_(table.c.id == batch.id, table.c.run_id == run_id, table.c.status == BatchState.PROCESSING.value)


def release_batch(connection: Connection, batch: BatchRecord, run_id: str) -> bool:
    """Give back a claimed batch whose work was broken off before it could fail; costs no attempt."""
    return bool(
        connection.execute(
            update(wave_batches)
            .where(_held(batch, run_id))
            .values(status=BatchState.DISPATCHED.value, run_id=None, started_at=None)
        ).rowcount
    )


def complete_batch(connection: Connection, batch: BatchRecord, run_id: str, stats: BatchStats, now: datetime) -> bool:
    """Mark a claimed batch completed, with what it did. Meant for the transaction that writes its rows."""
    return bool(
        connection.execute(
            update(wave_batches)
            .where(_held(batch, run_id))
            .values(
                status=BatchState.COMPLETED.value,
                finished_at=naive(now),
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
    """Mark a batch failed or to be retried, count ``attempts`` more failures of it, and write the event of it.

    False if it is not as ``batch`` has it any more: in that state, that wave and that run's hands.
    """
    taken = connection.execute(
        update(wave_batches)
        .where(
            wave_batches.c.id == batch.id,
            wave_batches.c.status == batch.state.value,
            wave_batches.c.wave_number == batch.wave,
            wave_batches.c.run_id.is_not_distinct_from(batch.run_id),
            may_become(to),
        )
        .values(
            status=to.value,
            attempts=wave_batches.c.attempts + attempts,
            failure_category=category.value,
            failure_reason=reason,
            not_before=naive(not_before),
            finished_at=naive(now) if to in TERMINAL_BATCHES else None,
        )
    ).rowcount
    if taken:
        owner = select(wave_batches.c.import_id).where(wave_batches.c.id == batch.id)
        record_event(
            connection,
            connection.execute(owner).scalar_one(),
            "batch_failed" if to is BatchState.FAILED else "batch_retried",
            now,
            wave=batch.wave,
            record_type=batch.record_type,
            partition_key=batch.range.partition_key,
            run_id=batch.run_id,
            message=f"{category.value}: {reason}",
        )
    return bool(taken)


def cancel_batches(connection: Connection, import_id: str, now: datetime, states: Iterable[BatchState]) -> int:
    """Cancel the batches of an import that are in one of ``states``."""
    allowed = sources(BATCH_STEPS, BatchState.CANCELLED) & set(states)
    return connection.execute(
        update(wave_batches)
        .where(wave_batches.c.import_id == import_id, wave_batches.c.status.in_([s.value for s in allowed]))
        .values(status=BatchState.CANCELLED.value, finished_at=naive(now))
    ).rowcount


def reopen_batches(connection: Connection, batches: Iterable[BatchRecord]) -> int:
    """Put settled batches back to pending with a fresh retry budget; not one that has left its state since."""
    values = {"attempts": 0, "failure_category": None, "failure_reason": None}
    return _put_back(connection, batches, TERMINAL_BATCHES, values)


def count_again(connection: Connection, batches: Iterable[BatchRecord]) -> int:
    """Put completed batches back to pending, for the final count that their runs owe: that uses up an attempt."""
    values = {"attempts": wave_batches.c.attempts + 1, "failure_reason": COUNT_OWED}
    return _put_back(connection, batches, {BatchState.COMPLETED}, values)


def complete_counted(connection: Connection, batches: Iterable[BatchRecord], run_id: str, now: datetime) -> int:
    """Complete those that were put back for nothing but a count, as they were. Returns how many there were."""
    return sum(
        claim_batch(connection, batch, run_id, now)
        and complete_batch(connection, batch, run_id, batch_stats(connection, batch), now)
        for batch in batches
        if batch.owes_count
    )


def take_back_batches(connection: Connection, batches: Iterable[BatchRecord]) -> int:
    """Put unsettled batches back to pending, whoever has them: what a run still does for one is rolled back."""
    return _put_back(connection, batches, frozenset(BatchState) - TERMINAL_BATCHES, {})


def _put_back(
    connection: Connection, batches: Iterable[BatchRecord], states: Set[BatchState], values: dict[str, Any]
) -> int:
    allowed = sources(BATCH_STEPS, BatchState.PENDING) & states
    by_state = {state: [batch.id for batch in batches if batch.state is state] for state in allowed}
    return sum(
        connection.execute(
            update(wave_batches)
            .where(wave_batches.c.id.in_(ids), wave_batches.c.status == state.value)
            .values(
                status=BatchState.PENDING.value,
                run_id=None,
                run_number=None,
                not_before=None,
                finished_at=None,
                **values,
            )
        ).rowcount
        for state, all_ids in by_state.items()
        for ids in chunks(all_ids)
    )


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
