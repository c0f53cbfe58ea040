"""Why an open import is where it is, in a person's words.

Belongs here: the one line that ``status`` and the sensor's ticks say, and the list of all that may be said. Does not
belong here: what is done about it, by itself (``decide.py``) or by a person (``next_steps.py``).
"""

from collections import Counter
from datetime import datetime
from enum import StrEnum

from nsimport_pipeline.imports.records import TypePlan
from nsimport_pipeline.imports.snapshot import Snapshot
from nsimport_pipeline.imports.states import FINISHED_WAVES, BatchState, ImportState, WaveState

MOST_OF_A_REASON = 300
"""Characters of a failure's message that are repeated."""


class Cause(StrEnum):
    """What keeps an import where it is, in the words of ``status``: each is a heading of docs/runbook.md."""

    # An open import is at work, or waits for something that comes by itself.
    PLANNING = "being planned"
    DISPATCHING = "is being dispatched"
    QUEUED = "waiting for its runs to start"
    RUNNING = "running"
    LEFT = "batches left"
    TRIED_AGAIN = "tried again at"
    COUNTING = "the final counts are being taken"
    NOTHING = "nothing to import"
    WINDING_DOWN = "winding down"
    PARENTS_FIRST = "is planned when its parents are done"
    PARENTS_DONE = "its parents are done"
    # Something is wrong, and there is a command that mends it.
    NO_DAEMON = "no Dagster daemon runs"
    NETSUITE_DOWN = "NetSuite is not answering"
    DATABASE_DOWN = "the database does not answer"
    DISK_FULL = "has no space left"
    STUCK = "is stuck"
    SLOTS_LEAKED = "held by dead runs"
    SWITCHED_OFF = "is not enabled"
    NOT_PLANNED = "it was never planned"
    STOPPED = "it stopped"
    CANCELLED = "it was cancelled"
    OUT_OF_SYNC = "is not in sync"
    FAILED_BATCHES = "batches failed"
    REJECTED_ROWS = "rows rejected"
    DENIED = "denied"
    FEATURE_OFF = "left out"
    COLUMNS_LEFT_OUT = "columns left out"
    PARTIAL_PARENTS = "built on partial data"
    MISSING = "records missing"


def explain(snapshot: Snapshot, now: datetime) -> str:
    """Why the import is where it is, in one line."""
    place = _with_planning(snapshot, now)
    left = any(not batch.terminal for batch in snapshot.batches) or any(plan.to_plan for plan in snapshot.types)
    return f"{snapshot.circuit}; {place}" if left and snapshot.circuit.confirmed else place


def _with_planning(snapshot: Snapshot, now: datetime) -> str:
    where = _place(snapshot, now)
    if snapshot.job.state is ImportState.CANCELLING or snapshot.job.state is ImportState.PLANNING:
        return where
    due = snapshot.plannable
    told = [_planning(plan, now) for plan in due]
    told += [f"{p.record_type} {Cause.PARENTS_FIRST}" for p in snapshot.types if p.to_plan and p not in due]
    if told and all(batch.terminal for batch in snapshot.batches):
        return "; ".join(told)
    return "; ".join([where, *told])


def _planning(plan: TypePlan, now: datetime) -> str:
    if plan.not_before is not None and plan.not_before > now:
        return f"planning {plan.record_type} failed and is {Cause.TRIED_AGAIN} {plan.not_before:%H:%M:%S} UTC"
    return f"{Cause.PARENTS_DONE}: {plan.record_type} is being planned"


def _place(snapshot: Snapshot, now: datetime) -> str:
    job = snapshot.job
    open_batches = [batch for batch in snapshot.batches if not batch.terminal]
    if job.state is ImportState.PLANNING:
        return Cause.PLANNING.value
    if job.state is ImportState.CANCELLING:
        busy = sum(1 for batch in open_batches if batch.state is BatchState.PROCESSING)
        return f"{Cause.WINDING_DOWN}: {busy} batches in flight" + (
            f"; {job.failure_reason}" if job.failure_reason else ""
        )
    if not open_batches:
        return f"every batch is settled; {Cause.COUNTING}" if snapshot.batches else Cause.NOTHING.value
    level = min(batch.level for batch in open_batches)
    waves = [wave for wave in snapshot.waves if wave.level == level]
    retrying = [batch for batch in open_batches if batch.level == level and batch.state is BatchState.RETRYING]
    if retrying and len(retrying) == sum(1 for batch in open_batches if batch.level == level):
        due = min((batch.not_before for batch in retrying if batch.not_before), default=now)
        reasons = Counter(batch.failure_reason for batch in retrying if batch.failure_reason)
        why = f" ({reasons.most_common(1)[0][0][:MOST_OF_A_REASON]})" if reasons else ""
        return f"level {level}: {len(retrying)} failed batches are {Cause.TRIED_AGAIN} {due:%H:%M:%S} UTC{why}"
    current = next((wave for wave in waves if wave.state not in FINISHED_WAVES), None)
    if current is None:
        return f"level {level}: {len(open_batches)} {Cause.LEFT}"
    members = [batch for batch in snapshot.batches if batch.wave == current.number]
    done = sum(1 for batch in members if batch.terminal)
    place = f"level {level}: wave {current.number} of {len(snapshot.waves)}"
    if current.state in (WaveState.PENDING, WaveState.DISPATCHING):
        return f"{place} {Cause.DISPATCHING}"
    begun = done or any(batch.state is BatchState.PROCESSING for batch in members)
    return f"{place} {Cause.RUNNING if begun else Cause.QUEUED}, {done} of {len(members)} batches done"
