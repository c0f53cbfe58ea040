"""Why an open import is where it is, in a person's words.

Belongs here: the one line that ``status`` and the sensor's ticks say. Does not belong here: what is done about it
(``decide.py``).
"""

from datetime import datetime

from nsimport_pipeline.imports.records import TypePlan
from nsimport_pipeline.imports.snapshot import Snapshot
from nsimport_pipeline.imports.states import FINISHED_WAVES, BatchState, ImportState, WaveState


def explain(snapshot: Snapshot, now: datetime) -> str:
    """Why the import is where it is, in one line."""
    place = _with_planning(snapshot, now)
    waits = any(not batch.terminal for batch in snapshot.batches) and snapshot.circuit.confirmed
    return f"{snapshot.circuit}; {place}" if waits else place


def _with_planning(snapshot: Snapshot, now: datetime) -> str:
    where = _place(snapshot, now)
    if snapshot.job.state is ImportState.CANCELLING or snapshot.job.state is ImportState.PLANNING:
        return where
    due = snapshot.plannable
    told = [_planning(plan, now) for plan in due]
    told += [
        f"{p.record_type} is planned when its parents are done" for p in snapshot.types if p.to_plan and p not in due
    ]
    if told and all(batch.terminal for batch in snapshot.batches):
        return "; ".join(told)
    return "; ".join([where, *told])


def _planning(plan: TypePlan, now: datetime) -> str:
    if plan.not_before is not None and plan.not_before > now:
        return f"planning {plan.record_type} failed and is tried again at {plan.not_before:%H:%M:%S} UTC"
    return f"its parents are done: {plan.record_type} is being planned"


def _place(snapshot: Snapshot, now: datetime) -> str:
    job = snapshot.job
    open_batches = [batch for batch in snapshot.batches if not batch.terminal]
    if job.state is ImportState.PLANNING:
        return "being planned"
    if job.state is ImportState.CANCELLING:
        busy = sum(1 for batch in open_batches if batch.state is BatchState.PROCESSING)
        return f"winding down: {busy} batches in flight" + (f"; {job.failure_reason}" if job.failure_reason else "")
    if not open_batches:
        return "every batch is settled; the final counts are being taken" if snapshot.batches else "nothing to import"
    level = min(batch.level for batch in open_batches)
    waves = [wave for wave in snapshot.waves if wave.level == level]
    retrying = [batch for batch in open_batches if batch.level == level and batch.state is BatchState.RETRYING]
    if retrying and len(retrying) == sum(1 for batch in open_batches if batch.level == level):
        due = min((batch.not_before for batch in retrying if batch.not_before), default=now)
        return f"level {level}: {len(retrying)} failed batches are tried again at {due:%H:%M:%S} UTC"
    current = next((wave for wave in waves if wave.state not in FINISHED_WAVES), None)
    if current is None:
        return f"level {level}: {len(open_batches)} batches left"
    members = [batch for batch in snapshot.batches if batch.wave == current.number]
    done = sum(1 for batch in members if batch.terminal)
    place = f"level {level}: wave {current.number} of {len(snapshot.waves)}"
    if current.state in (WaveState.PENDING, WaveState.DISPATCHING):
        return f"{place} is being dispatched"
    begun = done or any(batch.state is BatchState.PROCESSING for batch in members)
    return f"{place} {'running' if begun else 'waiting for its runs to start'}, {done} of {len(members)} batches done"
