"""Steering an import from outside: cancel it, go on with it, do parts of it again.

Belongs here: the control tables' side of it. Does not belong here: runs and queues (``defs/wave_sensor.py``).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, Engine

from nsimport_pipeline.errors import Category, RefusedError
from nsimport_pipeline.imports import store
from nsimport_pipeline.imports.records import Batch, ImportJob, KeyRange, TypePlan
from nsimport_pipeline.imports.states import ACTIVE_IMPORTS, OPEN_IMPORTS, BatchState, ImportState, WaveState
from nsimport_pipeline.imports.waves import PlannedWave, plan_waves
from nsimport_pipeline.warehouse.migrate import serialise


def cancel_import(engine: Engine, job: ImportJob, *, now: datetime) -> bool:
    """Begin to wind an import down. False if it is over, or being cancelled already."""
    with engine.begin() as connection:
        moved = store.move_import(connection, job.import_id, ImportState.CANCELLING, now)
        if moved:
            store.record_event(connection, job.import_id, "import_cancelling", now)
    return moved


def resume_import(engine: Engine, job: ImportJob, *, now: datetime) -> int:
    """Put everything an import has not done back to pending, in new waves. Returns how many batches that is.

    The key ranges are those of the plan, however long ago it was made, and are the partitions again; a derived record
    type is planned anew if parents are among what is to be done. Raises RefusedError if the import is not over or was
    never planned, or another one of the same record types is open.
    """
    undone = {BatchState.FAILED, BatchState.CANCELLED}
    with engine.begin() as connection:
        serialise(connection)
        batches = _over(connection, job)
        return _go_on(connection, job, batches, [b for b in batches if b.state in undone], "import_resumed", now)


@dataclass(frozen=True, slots=True)
class Retried:
    """What a retry put back to be done."""

    batches: int
    planned_anew: tuple[str, ...] = ()
    """Derived record types that could not be planned."""
    rejected: int = 0
    """Rejected rows in those batches, if it is for them."""


def retry_import(
    engine: Engine, job: ImportJob, *, category: Category | None = None, rejected: bool = False, now: datetime
) -> Retried:
    """Put the failed batches of an import (of one category) back to pending, or those that hold rejected rows.

    Derived record types that could not be planned are planned anew, unless only one category or rejected rows are
    asked for and there are none. With nothing to retry the import stays as it is. A batch is fetched whole: its
    rejected rows are replaced by those that do not fit now. Raises RefusedError as ``resume_import`` does.
    """
    with engine.begin() as connection:
        serialise(connection)
        batches = _over(connection, job)
        if rejected:
            chosen = [b for b in batches if b.state is BatchState.COMPLETED and b.rejected]
        else:
            chosen = [b for b in batches if b.state is BatchState.FAILED and category in (None, b.failure_category)]
        failed = [plan.record_type for plan in store.type_plans(connection, job.import_id) if plan.failure]
        if not chosen and (rejected or category or not failed):
            return Retried(0)
        _go_on(connection, job, batches, chosen, "import_retried", now)
    return Retried(len(chosen), tuple(failed), sum(batch.rejected for batch in chosen) if rejected else 0)


def reset_wave(engine: Engine, job: ImportJob, number: int, *, now: datetime) -> int:
    """Put the unfinished batches of a dispatched wave back to pending, in a new wave. Returns how many that is.

    Whatever run has them loses them: what it still does for one is rolled back, so its end is not waited for. No
    attempt is counted. Raises RefusedError if the import is not running or has no such wave.
    """
    with engine.begin() as connection:
        serialise(connection)
        current = store.find_job(connection, job.import_id)
        if current is None or current.state not in ACTIVE_IMPORTS:
            raise RefusedError(
                f"{job.import_id} is {current.state.value if current else 'gone'}: only waves of a running import can "
                "be reset"
            )
        waves = store.waves(connection, job.import_id)
        wave = next((wave for wave in waves if wave.number == number), None)
        if wave is None:
            raise RefusedError(f"{job.import_id} has no wave {number}: its waves are 1 to {len(waves)}")
        if wave.state not in (WaveState.DISPATCHING, WaveState.PROCESSING):
            return 0
        left = [batch for batch in store.batches(connection, job.import_id, number) if not batch.terminal]
        if not left:
            return 0
        store.take_back_batches(connection, left)
        again = PlannedWave(max(w.number for w in waves) + 1, wave.level, tuple(batch.range for batch in left))
        store.regroup(connection, job.import_id, again, now)
        message = f"{len(left)} batches go into wave {again.number}"
        store.record_event(connection, job.import_id, "wave_reset", now, wave=number, message=message)
    return len(left)


def _over(connection: Connection, job: ImportJob) -> list[Batch]:
    """The batches of an import that is over, all settled. Raises RefusedError if it is not, or has none."""
    current = store.find_job(connection, job.import_id)
    if current is None or current.state in OPEN_IMPORTS:
        raise RefusedError(f"{job.import_id} is not over: wait for it, or cancel it first")
    batches = store.batches(connection, job.import_id)
    if not batches and all(plan.planned for plan in store.type_plans(connection, job.import_id)):
        raise RefusedError(f"{job.import_id} has no batches to go on with: start the import again")
    return batches


def _go_on(
    connection: Connection,
    job: ImportJob,
    batches: Sequence[Batch],
    again: Sequence[Batch],
    event: str,
    now: datetime,
) -> int:
    """Open an import that is over again, with the batches ``again`` of all its ``batches`` in new waves."""
    plans = store.type_plans(connection, job.import_id)
    taken = store.open_import_of(connection, [plan.record_type for plan in plans])
    if taken is not None:
        raise RefusedError(f"{taken[1]} is being imported by {taken[0]}: wait for it or cancel it first")
    if not store.move_import(connection, job.import_id, ImportState.RUNNING, now):
        raise RefusedError(f"{job.import_id} cannot be opened again from state {job.state.value}")
    store.forget_failure(connection, job.import_id)
    anew = _unplan(connection, job, plans, again)
    again = [batch for batch in again if batch.record_type not in anew]
    store.reopen_batches(connection, again)
    levels = {batch.record_type: batch.level for batch in again}
    store.forget_checks(connection, job.import_id, levels)
    # Batches of changes are no partitions.
    whole = {plan.record_type for plan in plans if plan.changed_since is None}
    _pin_again(
        connection, job, {name: [b.range for b in batches if b.record_type == name] for name in whole & {*levels}}
    )
    number = max((wave.number for wave in store.waves(connection, job.import_id)), default=0) + 1
    for wave in plan_waves((batch.range for batch in again), levels, job.wave_size, number):
        store.regroup(connection, job.import_id, wave, now)
    store.record_event(connection, job.import_id, event, now, message=f"{len(again)} batches")
    return len(again)


def _unplan(connection: Connection, job: ImportJob, plans: Sequence[TypePlan], again: Sequence[Batch]) -> set[str]:
    """Derived record types that were not planned, or from other parents than there will be, are planned (again)."""
    lowest = min((batch.level for batch in again), default=None)
    anew: set[str] = set()
    for plan in plans:
        if not plan.planned or (plan.parents is not None and lowest is not None and lowest < plan.level):
            store.unplan(connection, job.import_id, plan)
            anew.add(plan.record_type)
    store.forget_checks(connection, job.import_id, anew)
    return anew


def _pin_again(connection: Connection, job: ImportJob, ranges: Mapping[str, Sequence[KeyRange]]) -> None:
    """Make the key ranges of an import the partitions again. One by hand has some of them only, and replaces none."""
    if job.origin == "import":
        store.pin_ranges(connection, job.import_id, ranges)
        return
    for record_type, own in ranges.items():
        pinned = {(r.partition_key, r.low, r.high) for r in store.pinned_ranges(connection, record_type)}
        if any((r.partition_key, r.low, r.high) not in pinned for r in own):
            raise RefusedError(
                f"the partitions of {record_type} were planned anew since {job.import_id}: materialize them again by "
                "hand"
            )
