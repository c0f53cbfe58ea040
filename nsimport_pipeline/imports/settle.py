"""Carrying decisions out in the control tables, until nothing more is to be done there.

Belongs here: reading a snapshot, applying actions. Does not belong here: deciding (``decide.py``), or anything in
Dagster: what has to be asked of it is returned to the caller.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, Engine

from nsimport_pipeline.errors import Category
from nsimport_pipeline.imports import store
from nsimport_pipeline.imports.actions import (
    Action,
    CancelRun,
    CancelWaiting,
    CountAgain,
    Dispatch,
    FinishImport,
    FinishWave,
    Fold,
    FoldPlanning,
    MarkProcessing,
    PlanDerived,
    Regroup,
    Release,
    Stop,
    Submit,
)
from nsimport_pipeline.imports.decide import decide
from nsimport_pipeline.imports.records import Hold, PlanSpec, RunSpec, RunView
from nsimport_pipeline.imports.snapshot import Rules, Snapshot
from nsimport_pipeline.imports.states import OPEN_IMPORTS, BatchState, ImportState, WaveState
from nsimport_pipeline.warehouse.migrate import serialise

MOST_ROUNDS = 20
"""Rounds of deciding in one go; what is left then is done by the next tick."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What is left to be asked of Dagster after the control tables are settled."""

    submit: tuple[RunSpec, ...] = ()
    cancel: tuple[str, ...] = ()
    """Ids of runs to take out of the queue."""
    release: tuple[tuple[str, Hold], ...] = ()
    """Ended runs and what they hold back from now on."""
    plan: tuple[PlanSpec, ...] = ()
    """Derived record types to have planned."""
    reason: str = ""
    """Why the import is where it is."""
    finished: ImportState | None = None
    repairs: tuple[Fold | CountAgain, ...] = ()
    """What was found broken, and mended."""


def settle(
    engine: Engine,
    import_id: str,
    *,
    rules: Rules,
    now: Callable[[], datetime],
    runs: Callable[[], Sequence[RunView]] | None = None,
    planner_gone: bool = False,
) -> Outcome:
    """Bring one import as far on as can be without waiting, and say what Dagster has to do for it.

    ``runs`` looks up its Dagster runs; None for a caller that does not know them. ``planner_gone``: the process that
    planned it is known to have ended. Safe to call at any time, from anywhere.
    """
    submit: dict[tuple[int, int], RunSpec] = {}
    cancel: dict[str, None] = {}
    release: dict[str, Hold] = {}
    repairs: list[Fold | CountAgain] = []
    plan: list[PlanSpec] = []
    reason = ""
    for _ in range(MOST_ROUNDS):
        moment = now()
        with engine.begin() as connection:
            serialise(connection)
            snapshot = read_snapshot(connection, import_id, runs, rules, planner_gone)
            if snapshot is None or snapshot.job.state not in OPEN_IMPORTS:
                state = snapshot.job.state if snapshot else None
                return Outcome((), tuple(cancel), tuple(release.items()), (), reason, state, tuple(repairs))
            decision = decide(snapshot, moment)
            reason = decision.reason
            changed = False
            submit.clear()
            plan.clear()
            for action in decision.actions:
                match action:
                    case Submit(specs):
                        submit |= {(spec.wave, spec.number): spec for spec in specs}
                    case CancelRun(run_id):
                        cancel[run_id] = None
                    case PlanDerived(spec):
                        plan.append(spec)
                    case Release(run_id, hold):
                        release[run_id] = hold
                    case _:
                        applied = _apply(connection, snapshot, action, moment)
                        changed |= applied
                        if applied and isinstance(action, Fold | CountAgain):
                            repairs.append(action)
        if not changed:
            break
    return Outcome(
        tuple(submit.values()), tuple(cancel), tuple(release.items()), tuple(plan), reason, repairs=tuple(repairs)
    )


def read_snapshot(
    connection: Connection,
    import_id: str,
    runs: Callable[[], Sequence[RunView]] | None,
    rules: Rules,
    planner_gone: bool = False,
) -> Snapshot | None:
    """All the control tables say about an import; None if there is no such import."""
    job = store.find_job(connection, import_id)
    if job is None:
        return None
    types = tuple(store.type_plans(connection, import_id))
    waves = tuple(store.waves(connection, import_id))
    batches = tuple(store.batches(connection, import_id))
    circuit = store.circuit_of(connection, job.tenant)
    # Runs last: whoever has a batch by now is among them. The other way round a run that began meanwhile would look
    # as if it had vanished.
    return Snapshot(job, types, waves, batches, None if runs is None else tuple(runs()), rules, circuit, planner_gone)


def _apply(connection: Connection, snapshot: Snapshot, action: Action, now: datetime) -> bool:
    """Carry one action out. False if somebody else did, or the state it was decided on is gone."""
    import_id = snapshot.job.import_id
    match action:
        case Dispatch(wave, specs):
            if not store.move_wave(connection, import_id, wave, WaveState.DISPATCHING, now):
                return False
            store.dispatch_batches(connection, import_id, specs, now)
            if store.move_import(connection, import_id, ImportState.RUNNING, now):
                store.record_event(connection, import_id, "import_started", now)
            batches = sum(len(spec.partition_keys) for spec in specs)
            message = f"{batches} batches in {len(specs)} runs"
            store.record_event(connection, import_id, "wave_dispatched", now, wave=wave, message=message)
        case MarkProcessing(wave):
            return store.move_wave(connection, import_id, wave, WaveState.PROCESSING, now)
        case Fold():
            return _fold(connection, import_id, action, now)
        case FoldPlanning():
            return _fold_planning(connection, snapshot, action, now)
        case Regroup(wave):
            moved = store.regroup(connection, import_id, wave, now)
            message = f"{moved} batches to be tried again"
            if moved:
                store.record_event(connection, import_id, "batches_retried", now, wave=wave.number, message=message)
            return bool(moved)
        case CountAgain(batches, waves):
            if store.count_again(connection, batches) != len(batches):
                raise RuntimeError("a batch was not as the snapshot of the same transaction had it")
            for planned in waves:
                store.regroup(connection, import_id, planned, now)
            missing = ", ".join(batch.record_type for batch in batches)
            store.record_event(connection, import_id, "count_lost", now, message=f"no final count of {missing}")
        case FinishWave(number, state):
            if not store.move_wave(connection, import_id, number, state, now):
                return False
            store.record_event(connection, import_id, f"wave_{state.value}", now, wave=number)
        case Stop(reason):
            if not store.move_import(connection, import_id, ImportState.CANCELLING, now, reason):
                return False
            store.record_event(connection, import_id, "import_cancelling", now, message=reason)
        case CancelWaiting():
            waiting = (BatchState.PENDING, BatchState.DISPATCHED, BatchState.RETRYING)
            return bool(store.cancel_batches(connection, import_id, now, waiting))
        case FinishImport(state, reason):
            if not store.move_import(connection, import_id, state, now, reason):
                return False
            store.record_event(connection, import_id, f"import_{state.value}", now, message=reason)
        case _:
            return False
    return True


def _fold(connection: Connection, import_id: str, fold: Fold, now: datetime) -> bool:
    batch = fold.batch
    folded = store.fail_batch(
        connection,
        batch,
        to=fold.to,
        category=Category.UNKNOWN,
        reason=fold.reason,
        now=now,
        not_before=fold.not_before,
        attempts=fold.attempts,
    )
    if folded and fold.attempts:
        store.record_error(
            connection,
            import_id,
            Category.UNKNOWN,
            fold.reason,
            now,
            record_type=batch.record_type,
            partition_key=batch.range.partition_key,
            attempt=batch.attempts + fold.attempts,
            final=fold.to is BatchState.FAILED,
        )
    return folded


def _fold_planning(connection: Connection, snapshot: Snapshot, fold: FoldPlanning, now: datetime) -> bool:
    import_id, spec = snapshot.job.import_id, fold.spec
    if not store.fail_planning(
        connection,
        import_id,
        spec.record_type,
        spec.attempt,
        attempts=1,
        not_before=fold.not_before,
        failure=fold.failure,
    ):
        return False
    reason = "the run that planned it ended before it was done"
    store.record_error(
        connection,
        import_id,
        Category.UNKNOWN,
        reason,
        now,
        record_type=spec.record_type,
        attempt=spec.attempt,
        final=fold.failure is not None,
    )
    store.record_event(connection, import_id, "planning_folded", now, record_type=spec.record_type, message=reason)
    return True
