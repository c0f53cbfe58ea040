"""How far an import is: the status document, from the control tables alone.

Belongs here: counting, weighing by records, rate and time left. Does not belong here: printing it (``commands/``).
The document's shape is the outside contract; its keys keep their meaning.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.engine import RowMapping

from nsimport_pipeline.imports import estimate, store
from nsimport_pipeline.imports.explain import Cause, explain
from nsimport_pipeline.imports.next_steps import FailedBatches, of_import
from nsimport_pipeline.imports.partial import lacking_types, partial_parents
from nsimport_pipeline.imports.records import AccountType, ImportJob, Sweep, TypePlan, Wave
from nsimport_pipeline.imports.snapshot import Snapshot
from nsimport_pipeline.imports.states import OPEN_IMPORTS, TERMINAL_BATCHES, BatchState, ImportState
from nsimport_pipeline.imports.stuck import stuck_since
from nsimport_pipeline.netsuite.circuit import Circuit
from nsimport_pipeline.record_types.criteria import RecordType

RECENT = timedelta(seconds=30)
"""Throughput is taken over this long."""
_TERMINAL = {state.value for state in TERMINAL_BATCHES}

Status = dict[str, Any]


def status(
    connection: Connection,
    import_id: str,
    now: datetime,
    *,
    catalog: Mapping[str, RecordType],
    slots: Mapping[str, int] | None = None,
) -> Status | None:
    """The status document of an import; None if there is none with that id. ``slots``: limit, in_use, waiting."""
    job = store.find_job(connection, import_id)
    if job is None:
        return None
    types, waves = store.type_plans(connection, import_id), store.waves(connection, import_id)
    counts = store.batch_counts(connection, import_id)
    account, swept = store.account_types(connection), store.last_sweeps(connection)
    recent = store.recent_work(connection, import_id, now - RECENT)
    circuit = store.circuit_of(connection, job.tenant)
    rate = _rate(job, counts, recent[0], now)
    expected = sum(int(row["expected"]) for row in counts)
    expected += sum(plan.expected for plan in types if plan.to_plan)
    settled = sum(int(row["expected"]) for row in counts if row["status"] in _TERMINAL)
    is_open = job.state in OPEN_IMPORTS
    stuck = stuck_since(connection, job, waves, circuit) if is_open else None
    upstream = {name: record_type.upstream for name, record_type in catalog.items()}
    partial = partial_parents(types, lacking_types(counts), upstream)
    document: Status = {
        "import_id": job.import_id,
        "tenant": job.tenant,
        "mode": job.mode,
        "state": job.state.value,
        "reason": _reason(connection, job, types, waves, circuit, stuck, now)
        if is_open
        else _ending(job, types, counts),
        "created_at": iso(job.created_at),
        "finished_at": iso(job.finished_at),
        "progress": _progress(job, expected, settled),
        "records_per_second": round(rate, 1),
        "eta_seconds": _time_left(job, types, counts, recent[1], now, slots) if is_open else 0,
        "record_types": [
            _type_status(plan, counts, job, account.get(plan.record_type), partial.get(plan.record_type, ()))
            | {"sweep": _sweep_status(swept.get(plan.record_type))}
            for plan in types
        ],
        "waves": [_wave_status(wave, counts, stuck) for wave in waves],
        "circuit": _circuit_status(circuit),
        "slots": dict(slots or {"limit": 0, "in_use": 0, "waiting": 0}),
        "failures": {category.value: n for category, n in store.error_counts(connection, import_id).items()},
    }
    failed = [
        FailedBatches(row["record_type"], row["batches"], row["failure_reason"] or "no reason is known")
        for row in store.failed_batches(connection, import_id)
    ]
    steps = of_import(document, job.requested, failed, is_open=is_open)
    return document | {"next_steps": [step.document() for step in steps]}


def _progress(job: ImportJob, expected: int, settled: int) -> float:
    if expected:
        return round(settled / expected, 4)
    return 0.0 if job.state in OPEN_IMPORTS else 1.0


def _rate(job: ImportJob, counts: Iterable[RowMapping], recent: int, now: datetime) -> float:
    """Rows a second: lately while it runs, on the whole when it is over."""
    if job.started_at is None:
        return 0.0
    if job.state in OPEN_IMPORTS:
        return estimate.rate(recent, RECENT.total_seconds(), _since_first(counts, now))
    seconds = ((job.finished_at or now) - job.started_at).total_seconds()
    return sum(int(row["imported"]) for row in counts) / seconds if seconds > 0 else 0.0


def _since_first(counts: Iterable[RowMapping], now: datetime) -> float:
    """Seconds since the first batch began; 0 if none has."""
    first = min((row["first_start"] for row in counts if row["first_start"] is not None), default=None)
    return 0.0 if first is None else max(0.0, (now - first.replace(tzinfo=UTC)).total_seconds())


def _time_left(
    job: ImportJob,
    types: Sequence[TypePlan],
    counts: Sequence[RowMapping],
    recent_seconds: float,
    now: datetime,
    slots: Mapping[str, int] | None,
) -> int | None:
    """Seconds until an open import has settled its batches; None as long as that cannot be told."""
    since_first = _since_first(counts, now)
    if job.started_at is None or job.state is ImportState.CANCELLING:
        return None
    started = (now - job.started_at).total_seconds()
    work = []
    for plan in types:
        done = [row for row in counts if row["record_type"] == plan.record_type and row["status"] == "completed"]
        left = [row for row in counts if row["record_type"] == plan.record_type and row["status"] not in _TERMINAL]
        to_plan = plan.expected if plan.to_plan else 0
        work.append(
            estimate.Work(
                level=plan.level,
                done=sum(int(row["batches"]) for row in done),
                done_records=sum(int(row["imported"]) for row in done),
                done_seconds=sum(float(row["seconds"]) for row in done),
                left=sum(int(row["batches"]) for row in left) + to_plan // 1000 + bool(to_plan % 1000),
                left_records=sum(int(row["expected"]) for row in left) + to_plan,
            )
        )
    pause = max(0.0, started - since_first)
    limit = slots["limit"] if slots else None
    seconds = estimate.time_left(work, recent_seconds, RECENT.total_seconds(), since_first, pause, limit)
    return round(seconds) if seconds < float("inf") else None


def _reason(
    connection: Connection,
    job: ImportJob,
    types: Sequence[TypePlan],
    waves: Sequence[Wave],
    circuit: Circuit,
    stuck: tuple[int, datetime] | None,
    now: datetime,
) -> str:
    """Why an open import is where it is; takes every batch to tell."""
    batches = store.batches(connection, job.import_id)
    reason = explain(Snapshot(job, tuple(types), tuple(waves), tuple(batches), None, circuit=circuit), now)
    if stuck is None:
        return reason
    wave, since = stuck
    return f"{reason}; wave {wave} {Cause.STUCK}: nothing has moved since {since:%H:%M:%S} UTC"


def _ending(job: ImportJob, types: Sequence[TypePlan], counts: Sequence[RowMapping]) -> str:
    step = job.mode == "incremental"
    moved = any(int(row["imported"]) or int(row["deleted"]) for row in counts) or any(plan.deleted for plan in types)
    reasons = {
        ImportState.COMPLETED: "nothing was changed since the last import"
        if step and not moved
        else "everything was imported",
        ImportState.COMPLETED_WITH_FAILURES: "some records did not arrive",
        ImportState.CANCELLED: "cancelled on request",
        ImportState.FAILED: "failed",
    }
    return job.failure_reason or reasons.get(job.state, job.state.value)


def _type_status(
    plan: TypePlan, counts: Sequence[RowMapping], job: ImportJob, account: AccountType | None, partial: Sequence[str]
) -> Status:
    own = [row for row in counts if row["record_type"] == plan.record_type]
    batches = _by_state(own)
    return {
        "name": plan.record_type,
        "level": plan.level,
        "state": _type_state(plan, batches, job),
        "unavailable": plan.unavailable,
        "partial_parents": list(partial),
        "columns_left_out": [one.column for one in account.left_out] if account else [],
        "batches": batches,
        "records": {
            "expected": plan.expected,
            "imported": sum(int(row["imported"]) for row in own),
            "rejected": sum(int(row["rejected"]) for row in own),
            "deleted": plan.deleted + sum(int(row["deleted"]) for row in own),
        },
        "in_sync": plan.in_sync,
        "checks": {
            check.name: {"passed": check.passed, "detail": check.detail, "facts": check.facts} for check in plan.checks
        },
    }


def _sweep_status(sweep: Sweep | None) -> Status | None:
    """What the last sweep came to, whichever import it was before or after; ``at`` is None if it did not end."""
    if sweep is None:
        return None
    found = {"deleted": sweep.deleted, "missing": sweep.missing, "drifted": sweep.drifted}
    return {"at": iso(sweep.finished_at), **found, "failure": sweep.failure}


def _by_state(rows: Iterable[RowMapping]) -> dict[str, int]:
    batches = {"total": 0, **{state.value: 0 for state in BatchState}}
    for row in rows:
        batches[row["status"]] += int(row["batches"])
        batches["total"] += int(row["batches"])
    return batches


def _type_state(plan: TypePlan, batches: Mapping[str, int], job: ImportJob) -> str:
    if plan.unavailable:
        return "denied" if plan.denied else "unavailable"
    total = batches["total"]
    if plan.failure:
        return "failed"
    dropped = job.state in (ImportState.FAILED, ImportState.CANCELLED) and not total and plan.in_sync is None
    if dropped or (not plan.planned and job.state not in OPEN_IMPORTS):
        return "cancelled"
    if job.state is ImportState.PLANNING or not plan.planned:
        return "pending"
    if batches["completed"] == total:
        return "completed"
    if batches["completed"] + batches["failed"] + batches["cancelled"] == total:
        if batches["cancelled"]:
            return "cancelled"
        return "completed_with_failures" if batches["completed"] else "failed"
    return "pending" if batches["pending"] + batches["dispatched"] == total else "running"


def _wave_status(wave: Wave, counts: Iterable[RowMapping], stuck: tuple[int, datetime] | None) -> Status:
    own = _by_state(row for row in counts if row["wave_number"] == wave.number)
    return {
        "number": wave.number,
        "level": wave.level,
        "state": wave.state.value,
        "batches": own["total"] + wave.retried,
        "completed": own["completed"],
        "failed": own["failed"],
        "retried": wave.retried,
        "stuck": stuck is not None and stuck[0] == wave.number,
        "dispatched_at": iso(wave.dispatched_at),
        "completed_at": iso(wave.completed_at),
    }


def _circuit_status(circuit: Circuit) -> Status:
    return {
        "state": circuit.state.value,
        "since": iso(circuit.opened_at),
        "next_probe_at": iso(circuit.next_probe_at),
        "failed_probes": circuit.probes,
    }


def iso(moment: datetime | None) -> str | None:
    """A moment as the documents of ``--json`` have it: UTC, to the millisecond."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z") if moment else None
