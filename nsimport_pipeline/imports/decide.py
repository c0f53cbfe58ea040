"""What to do next about one open import: a pure function of what the databases say.

Belongs here: the reconciler's decisions. Does not belong here: reading the snapshot or carrying actions out
(``settle.py`` for the control tables, ``defs/reconcile.py`` for Dagster), what is said meanwhile (``explain.py``), or
which queued runs may start (``gate.py``).

Level-triggered: nothing depends on having seen an event. Deciding twice about the same state gives the same actions,
and an action that was carried out is not decided again.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from nsimport_pipeline.errors import Category
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
from nsimport_pipeline.imports.explain import explain
from nsimport_pipeline.imports.failures import after_failure
from nsimport_pipeline.imports.records import COUNT_OWED, Batch, Hold, PlanSpec, RunSpec, RunView, TypePlan, Wave
from nsimport_pipeline.imports.snapshot import Snapshot
from nsimport_pipeline.imports.states import FINISHED_WAVES, BatchState, ImportState, WaveState
from nsimport_pipeline.imports.waves import PlannedWave, plan_runs, plan_waves

NOT_BEGUN = "its run ended before it was begun"
PLANNING_PATIENCE = timedelta(minutes=30)
"""An import still being planned after so long was left behind by a process that died, if on another host."""
BROKEN_OFF = "planning was broken off: the process that did it is gone. Nothing was imported; ask for it again"


@dataclass(frozen=True, slots=True)
class Decision:
    actions: tuple[Action, ...]
    reason: str
    """Why the import is where it is, in a person's words."""


def decide(snapshot: Snapshot, now: datetime) -> Decision:
    """The actions that bring an open import one step on, and why it waits if there are none."""
    job = snapshot.job
    if job.state is ImportState.PLANNING:
        if snapshot.planner_gone or now - job.created_at > PLANNING_PATIENCE:
            return Decision((FinishImport(ImportState.FAILED, BROKEN_OFF),), "")
        return Decision((), "being planned")
    actions: list[Action] = [*_fold(snapshot, now)]
    if job.state is ImportState.CANCELLING:
        actions += _wind_down(snapshot)
    else:
        actions += _stop(snapshot)
        if not actions:
            actions += _go_on(snapshot, now)
    actions += _release(snapshot)
    return Decision(tuple(actions), explain(snapshot, now))


def _fold(snapshot: Snapshot, now: datetime) -> Iterable[Action]:
    """Batches whose run is over without having settled them."""
    if snapshot.runs is None:
        return
    alive = {run.run_id for run in snapshot.runs if not run.ended}
    by_place: dict[tuple[int | None, int | None], list[RunView]] = defaultdict(list)
    for run in snapshot.runs:
        by_place[run.wave, run.number].append(run)
    began = {batch.run_id for batch in snapshot.batches}
    for batch in snapshot.batches:
        if batch.state is BatchState.PROCESSING and batch.run_id not in alive:
            yield _folded(snapshot, batch, 1, "its run ended before it was finished", now)
        elif batch.state is BatchState.DISPATCHED:
            runs = by_place[batch.wave, batch.run_number]
            if runs and all(run.ended for run in runs):
                # A run that died over one batch does not count against those it had not come to.
                failed = any(run.outcome == "failed" and run.run_id not in began for run in runs)
                # Left once for no reason may be bad luck; twice in a row counts, or it might go on for ever.
                reason = COUNT_OWED if batch.owes_count else NOT_BEGUN
                again = batch.failure_reason == reason
                yield _folded(snapshot, batch, int(failed or again), reason, now)


def _folded(snapshot: Snapshot, batch: Batch, attempts: int, reason: str, now: datetime) -> Fold:
    # A run that dies is retried like a timeout: the batch itself may be without fault.
    verdict = after_failure(
        Category.TIMEOUT, batch.attempts + attempts, snapshot.job.retry_attempts, snapshot.rules.retries
    )
    if attempts and not verdict.retry:
        return Fold(batch, BatchState.FAILED, attempts, reason)
    not_before = now + timedelta(seconds=verdict.delay) if attempts else None
    return Fold(batch, BatchState.RETRYING, attempts, reason, not_before)


def _stop(snapshot: Snapshot) -> Iterable[Action]:
    job = snapshot.job
    left = {(batch.wave, batch.run_number) for batch in snapshot.batches if not batch.terminal}
    # Only a run that still has something to do: not one that was cancelled before the import was resumed.
    if any(run.outcome == "cancelled" and (run.wave, run.number) in left for run in snapshot.runs or ()):
        yield Stop(None)
        return
    wanted = {(plan.record_type, plan.attempt_number) for plan in snapshot.types if plan.to_plan}
    if any(run.outcome == "cancelled" and run.plans in wanted for run in snapshot.runs or ()):
        yield Stop(None)
        return
    if not job.continue_on_permanent:
        failed = next((batch for batch in snapshot.batches if batch.state is BatchState.FAILED), None)
        if failed is not None:
            yield Stop(
                f"{failed.record_type} batch {failed.range.partition_key} failed for good "
                f"({failed.failure_reason}) and continue_on_permanent is off"
            )
            return
        unplanned = next((plan for plan in snapshot.types if plan.failure), None)
        if unplanned is not None:
            yield Stop(f"{_not_planned(unplanned)} and continue_on_permanent is off")


def _wind_down(snapshot: Snapshot) -> Iterable[Action]:
    waiting = {BatchState.PENDING, BatchState.DISPATCHED, BatchState.RETRYING}
    if any(batch.state in waiting for batch in snapshot.batches):
        yield CancelWaiting()
    working = {batch.run_id for batch in snapshot.batches if batch.state is BatchState.PROCESSING}
    for run in snapshot.runs or ():
        if not run.ended and run.run_id not in working:
            yield CancelRun(run.run_id)
    yield from _finish_waves(snapshot)
    # Only where its runs are known, so that those in the queue are taken out first.
    if snapshot.runs is None:
        return
    if all(batch.terminal for batch in snapshot.batches) and all(w.state in FINISHED_WAVES for w in snapshot.waves):
        reason = snapshot.job.failure_reason
        yield FinishImport(ImportState.FAILED if reason else ImportState.CANCELLED, reason)


def _go_on(snapshot: Snapshot, now: datetime) -> Iterable[Action]:
    finished = list(_finish_waves(snapshot))
    yield from finished
    yield from _plan_derived(snapshot, now)
    over = {action.wave for action in finished}
    unfinished = sorted(
        (wave for wave in snapshot.waves if wave.state not in FINISHED_WAVES and wave.number not in over),
        key=lambda wave: (wave.level, wave.number),
    )
    if not unfinished:
        if not any(plan.to_plan for plan in snapshot.types):
            yield from _finish_import(snapshot)
        return
    yield from _regroup(snapshot, now, unfinished)
    if snapshot.runs is not None:
        yield from _dispatch(snapshot, unfinished)


def _plan_derived(snapshot: Snapshot, now: datetime) -> Iterable[Action]:
    """Derived record types whose parents are in: whatever of a lower level was to be done is done."""
    if snapshot.runs is None:
        return
    for plan in snapshot.plannable:
        spec = PlanSpec(plan.record_type, plan.level, plan.attempt_number)
        runs = [run for run in snapshot.runs if run.plans == (spec.record_type, spec.attempt)]
        if runs and all(run.ended for run in runs):
            # As for batches: a process that dies is tried again like a timeout.
            verdict = after_failure(
                Category.TIMEOUT, plan.attempts + 1, snapshot.job.retry_attempts, snapshot.rules.retries
            )
            failure = None if verdict.retry else "its runs ended before it was planned"
            yield FoldPlanning(spec, now + timedelta(seconds=verdict.delay), failure)
        elif not runs and (plan.not_before is None or plan.not_before <= now):
            yield PlanDerived(spec)


def _not_planned(plan: TypePlan) -> str:
    return f"{plan.record_type} could not be planned ({plan.failure})"


def _finish_waves(snapshot: Snapshot) -> Iterable[FinishWave]:
    by_wave: dict[int, list[Batch]] = defaultdict(list)
    for batch in snapshot.batches:
        by_wave[batch.wave].append(batch)
    for wave in snapshot.waves:
        members = by_wave[wave.number]
        if wave.state in FINISHED_WAVES or not all(batch.terminal for batch in members):
            continue
        states = {batch.state for batch in members}
        if BatchState.CANCELLED in states:
            yield FinishWave(wave.number, WaveState.CANCELLED)
        elif states == {BatchState.FAILED}:
            yield FinishWave(wave.number, WaveState.FAILED)
        else:
            yield FinishWave(wave.number, WaveState.COMPLETED)


def _regroup(snapshot: Snapshot, now: datetime, unfinished: list[Wave]) -> Iterable[Action]:
    level = unfinished[0].level
    if any(wave.state in (WaveState.PENDING, WaveState.DISPATCHING) for wave in unfinished if wave.level == level):
        return
    due = [
        batch
        for batch in snapshot.batches
        if batch.level == level
        and batch.state is BatchState.RETRYING
        and (batch.not_before is None or batch.not_before <= now)
    ]
    if due:
        number = max(wave.number for wave in snapshot.waves) + 1
        ranges = [batch.range for batch in due[: snapshot.job.wave_size]]
        yield Regroup(PlannedWave(number, level, tuple(ranges)))


def _dispatch(snapshot: Snapshot, unfinished: list[Wave]) -> Iterable[Action]:
    """The first unfinished wave, and early those after it, up to one wave's worth of batches.

    The gate holds their runs until it is their turn. Early, so that no time is lost between waves; no more than that,
    so that the queue stays short.
    """
    open_ones = {BatchState.PENDING, BatchState.DISPATCHED, BatchState.PROCESSING}
    by_wave: dict[int, list[Batch]] = defaultdict(list)
    for batch in snapshot.batches:
        if batch.state in open_ones:
            by_wave[batch.wave].append(batch)
    first, ahead = True, 0
    for wave in unfinished:
        # Batches that wait to be tried again keep nobody waiting: that comes when all others are dispatched.
        members = by_wave[wave.number]
        if members and not first:
            ahead += len(members)
        if ahead > snapshot.job.wave_size:
            return
        first = first and not members
        if wave.state is WaveState.PENDING:
            ranges = [batch.range for batch in members]
            yield Dispatch(wave.number, tuple(plan_runs(wave.number, wave.level, ranges, snapshot.rules.slots)))
            continue
        seen = {(run.wave, run.number) for run in snapshot.runs or ()}
        missing = [run for run in _dispatched_runs(wave, members) if (run.wave, run.number) not in seen]
        if missing:
            yield Submit(tuple(missing))
        elif wave.state is WaveState.DISPATCHING:
            yield MarkProcessing(wave.number)


def _dispatched_runs(wave: Wave, members: Iterable[Batch]) -> list[RunSpec]:
    """The runs that the dispatched batches of a wave were given to."""
    by_run: dict[int, list[Batch]] = defaultdict(list)
    for batch in members:
        if batch.state is BatchState.DISPATCHED and batch.run_number is not None:
            by_run[batch.run_number].append(batch)
    return [
        RunSpec(wave.number, number, group[0].record_type, wave.level, tuple(b.range.partition_key for b in group))
        for number, group in sorted(by_run.items())
    ]


def _finish_import(snapshot: Snapshot) -> Iterable[Action]:
    unchecked = _unchecked(snapshot)
    # The run that settles a record type's last batch counts and checks it; only when none is left is that looked after.
    if unchecked and (snapshot.runs is None or any(not run.ended for run in snapshot.runs)):
        return
    # Where batches failed it is known that something is missing.
    uncounted = {
        name: max(members, key=lambda batch: batch.range.number)
        for name, members in unchecked.items()
        if all(batch.state is BatchState.COMPLETED for batch in members)
    }
    again = tuple(batch for batch in uncounted.values() if batch.attempts <= snapshot.job.retry_attempts)
    if again:
        levels = {batch.record_type: batch.level for batch in again}
        number = max(wave.number for wave in snapshot.waves) + 1
        waves = plan_waves((batch.range for batch in again), levels, snapshot.job.wave_size, number)
        yield CountAgain(again, tuple(waves))
        return
    failed = sum(1 for batch in snapshot.batches if batch.state is BatchState.FAILED)
    cancelled = sum(1 for batch in snapshot.batches if batch.state is BatchState.CANCELLED)
    incomplete = [plan.record_type for plan in snapshot.types if plan.incomplete]
    reasons = [_unfinished(failed, cancelled, incomplete, list(uncounted))]
    reasons += [_not_planned(plan) for plan in snapshot.types if plan.failure]
    if denied := [plan.record_type for plan in snapshot.types if plan.denied]:
        reasons.append(f"the role may not see {', '.join(denied)}")
    reasons += [f"{plan.record_type}: {check.detail}" for plan in snapshot.types if (check := plan.too_many_rejected)]
    if reason := "; ".join(filter(None, reasons)):
        yield FinishImport(ImportState.COMPLETED_WITH_FAILURES, reason)
    else:
        yield FinishImport(ImportState.COMPLETED, None)


def _unfinished(failed: int, cancelled: int, incomplete: list[str], uncounted: list[str]) -> str | None:
    """What of the batches did not come to a good end, the gravest first."""
    if failed:
        return f"{failed} batches failed"
    if cancelled:
        # Some of a cancelled import were retried, the others are still to be done.
        return f"{cancelled} batches were cancelled: `nsimport resume` goes on with them"
    if incomplete:
        return f"NetSuite has more records than arrived: {', '.join(incomplete)}"
    if uncounted:
        return f"the final count could not be taken: {', '.join(uncounted)}"
    return None


def _unchecked(snapshot: Snapshot) -> dict[str, list[Batch]]:
    """The batches of each record type that nobody has compared with NetSuite yet.

    Partitions launched by hand are not compared.
    """
    if snapshot.job.origin == "manual":
        return {}
    members: dict[str, list[Batch]] = defaultdict(list)
    for batch in snapshot.batches:
        members[batch.record_type].append(batch)
    unchecked = (plan.record_type for plan in snapshot.types if plan.in_sync is None)
    return {record_type: members[record_type] for record_type in unchecked if members[record_type]}


def _release(snapshot: Snapshot) -> Iterable[Action]:
    """Ended runs that need not hold back others any more: see ``Release``."""
    alive = {(run.wave, run.number) for run in snapshot.runs or () if not run.ended}
    left = [batch for batch in snapshot.batches if not batch.terminal]
    working = {(b.wave, b.run_number) for b in left if b.state in (BatchState.DISPATCHED, BatchState.PROCESSING)}
    uncovered = {batch.level for batch in left if (batch.wave, batch.run_number) not in alive}
    level_of = {wave.number: wave.level for wave in snapshot.waves}
    for run in snapshot.runs or ():
        if not run.ended or run.hold == "none" or (run.wave, run.number) in working - alive:
            continue
        hold: Hold = "level" if level_of.get(run.wave or 0) in uncovered else "none"
        if hold != run.hold:
            yield Release(run.run_id, hold)
