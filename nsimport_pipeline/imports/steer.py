"""Steering an import from outside: cancel it, or go on with it.

Belongs here: the control tables' side of it. Does not belong here: runs and queues (``defs/wave_sensor.py``).
"""

from datetime import datetime

from sqlalchemy import Engine

from nsimport_pipeline.errors import RefusedError
from nsimport_pipeline.imports import store
from nsimport_pipeline.imports.records import ImportJob
from nsimport_pipeline.imports.states import OPEN_IMPORTS, BatchState, ImportState
from nsimport_pipeline.imports.waves import plan_waves
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

    The key ranges are those of the plan, however long ago it was made, and are the partitions again. Raises
    RefusedError if the import is not over or was never planned, or another one of the same record types is open.
    """
    with engine.begin() as connection:
        serialise(connection)
        current = store.find_job(connection, job.import_id)
        if current is None or current.state in OPEN_IMPORTS:
            raise RefusedError(f"{job.import_id} is not over: there is nothing to resume")
        batches = store.batches(connection, job.import_id)
        if not batches:
            raise RefusedError(f"{job.import_id} has no batches to go on with: start the import again")
        plans = store.type_plans(connection, job.import_id)
        taken = store.open_import_of(connection, [plan.record_type for plan in plans])
        if taken is not None:
            raise RefusedError(f"{taken[1]} is being imported by {taken[0]}: wait for it or cancel it first")
        if not store.move_import(connection, job.import_id, ImportState.RUNNING, now):
            raise RefusedError(f"{job.import_id} cannot be resumed from state {current.state.value}")
        store.forget_failure(connection, job.import_id)
        store.reopen_batches(connection, job.import_id, (BatchState.FAILED, BatchState.CANCELLED))
        waiting = [b for b in store.batches(connection, job.import_id) if b.state is BatchState.PENDING]
        number = max((wave.number for wave in store.waves(connection, job.import_id)), default=0) + 1
        store.forget_checks(connection, job.import_id, {batch.record_type for batch in waiting})
        levels = {batch.record_type: batch.level for batch in waiting}
        ranges = {name: [batch.range for batch in batches if batch.record_type == name] for name in levels}
        store.pin_ranges(connection, job.import_id, ranges)
        for wave in plan_waves((batch.range for batch in waiting), levels, job.wave_size, number):
            store.regroup(connection, job.import_id, wave, now)
        store.record_event(connection, job.import_id, "import_resumed", now, message=f"{len(waiting)} batches")
    return len(waiting)
