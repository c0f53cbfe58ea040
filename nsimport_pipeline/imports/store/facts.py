"""What telemetry is made of: everything known of an import, and the events of its life.

Belongs here: reading them. Does not belong here: what they mean (``telemetry/``).
"""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection, func, or_, select, text
from sqlalchemy.engine import RowMapping

from nsimport_pipeline.imports.records import ImportJob
from nsimport_pipeline.imports.states import BatchState
from nsimport_pipeline.imports.store.account import sizes
from nsimport_pipeline.imports.store.jobs import find_job
from nsimport_pipeline.imports.store.journal import error_groups, rejected_groups
from nsimport_pipeline.imports.store.plans import type_plans
from nsimport_pipeline.imports.store.rows import aware, naive
from nsimport_pipeline.imports.store.wave_steps import waves
from nsimport_pipeline.telemetry.facts import BatchFact, ErrorFact, Event, ImportFacts, RejectFact, TypeFact, WaveFact
from nsimport_pipeline.warehouse.control import control, import_jobs, job_events, wave_batches

MOST_GROUPS = 1000
"""Kinds of failures, and of rejected rows, that are told apart at most."""
SIZING_CHANGED = "sizing_changed"
"""How much is asked for at once has changed; the message says to what, and why."""
WORKERS_CHANGED = "workers_changed"
"""A run has another number of requests under way at a time; the message says how many, and why."""
_REOPENING = ("import_resumed", "import_retried")


def import_facts(connection: Connection, import_id: str) -> ImportFacts | None:
    """Everything known of an import; None if there is none with that id."""
    job = find_job(connection, import_id)
    if job is None:
        return None
    moments = {
        name: aware(at)
        for name, at in connection.execute(
            select(job_events.c.event, func.max(job_events.c.at))
            .where(job_events.c.import_id == import_id, job_events.c.event.in_(("import_planned", *_REOPENING)))
            .group_by(job_events.c.event)
        )
    }
    return ImportFacts(
        import_id=job.import_id,
        tenant=job.tenant,
        state=job.state.value,
        requested=job.requested,
        wave_size=job.wave_size,
        completion_threshold=job.completion_threshold,
        created_at=job.created_at,
        mode=job.mode,
        planned_at=moments.get("import_planned"),
        started_at=job.started_at,
        finished_at=job.finished_at,
        reopened_at=max((moment for name in _REOPENING if (moment := moments.get(name))), default=None),
        last_sign_at=last_sign_of_life(connection, import_id),
        reason=job.failure_reason,
        types=tuple(
            TypeFact(p.record_type, p.level, p.expected, p.unavailable, p.source_count, p.table_count, p.in_sync)
            for p in type_plans(connection, import_id)
        ),
        waves=tuple(
            WaveFact(w.number, w.level, w.state.value, w.retried, w.dispatched_at, w.completed_at)
            for w in waves(connection, import_id)
        ),
        batches=_batch_facts(connection, import_id),
        errors=tuple(
            ErrorFact(
                category=group["category"],
                record_type=group["record_type"],
                column=group["column_name"],
                count=int(group["count"]),
                final=int(group["final"]),
                sample=group["sample"],
            )
            for group in error_groups(connection, import_id, MOST_GROUPS)
        ),
        rejects=tuple(
            RejectFact(group["record_type"], group["column_name"], group["reason"], int(group["count"]))
            for group in rejected_groups(connection, import_id, MOST_GROUPS)
        ),
        sizes=_sizes(connection, job),
    )


def _sizes(connection: Connection, job: ImportJob) -> tuple[str, ...]:
    """What was decided last for each record type, by the import itself or before it."""
    table = job_events
    decided = table.c.event.in_((SIZING_CHANGED, WORKERS_CHANGED))
    statement = select(table).where(table.c.import_id == job.import_id, decided).order_by(table.c.id)
    planned = {plan.record_type for plan in type_plans(connection, job.import_id)}
    said = {
        (name, SIZING_CHANGED): f"{learnt.reason} (since {learnt.changed_at:%Y-%m-%d})"
        for name, learnt in sizes(connection).items()
        if name in planned and learnt.changed_at < job.created_at and not learnt.sizing.full
    }
    said |= {(row["record_type"], row["event"]): row["message"] for row in connection.execute(statement).mappings()}
    return tuple(f"{name}: {why}" for (name, _), why in sorted(said.items()))


def _batch_facts(connection: Connection, import_id: str) -> tuple[BatchFact, ...]:
    table = wave_batches
    statement = (
        select(
            table.c.record_type, table.c.partition_key, table.c.wave_number, table.c.dependency_level,
            table.c.status, table.c.expected, table.c.attempts, table.c.run_id, table.c.failure_category,
            table.c.dispatched_at, table.c.started_at, table.c.finished_at,
            table.c.rows_read, table.c.rows_upserted, table.c.rows_rejected, table.c.requests, table.c.retries,
            table.c.slot_wait_seconds, table.c.fetch_seconds, table.c.transform_seconds, table.c.write_seconds,
        )
        .where(table.c.import_id == import_id)
        .order_by(table.c.wave_number, table.c.record_type, table.c.batch_number)
    )  # fmt: skip
    return tuple(
        BatchFact(*row[:9], aware(row[9]), aware(row[10]), aware(row[11]), *row[12:])
        for row in connection.execute(statement)
    )


def last_sign_of_life(connection: Connection, import_id: str) -> datetime | None:
    """When a batch was last dispatched, begun or settled, or is to be tried again; None if none ever was."""
    table = wave_batches
    moments = (table.c.dispatched_at, table.c.started_at, table.c.finished_at, table.c.not_before)
    row = connection.execute(
        select(*(func.max(moment) for moment in moments)).where(table.c.import_id == import_id)
    ).one()
    return aware(max((moment for moment in row if moment is not None), default=None))


def import_marks(connection: Connection) -> list[tuple[str, str, datetime | None]]:
    """Id, state and end of every import there is, oldest first: what tells whether anything about one has changed."""
    table = import_jobs
    statement = select(table.c.import_id, table.c.state, table.c.finished_at).order_by(table.c.created_at)
    return [(import_id, state, aware(end)) for import_id, state, end in connection.execute(statement)]


_AT_ONE_MOMENT = {"batch_started": 1, "slot_wait": 2, "batch_completed": 2} | dict.fromkeys(
    ("import_completed", "import_completed_with_failures", "import_failed", "import_cancelled"), 3
)
"""What comes after what where the clock shows no difference."""


def events(connection: Connection, import_id: str, since: datetime | None = None) -> list[Event]:
    """What happened to an import (from ``since`` on), in the order of time.

    A batch's start and its completion are told by the batch itself, and so is its waiting for NetSuite; everything
    else was written down with the state it speaks of.
    """
    table = job_events
    statement = select(table).where(table.c.import_id == import_id).order_by(table.c.at, table.c.id)
    if since is not None:
        statement = statement.where(table.c.at >= naive(since))
    written = [_event(row) for row in connection.execute(statement).mappings()]
    told = [*written, *_batch_events(connection, import_id, since)]
    return sorted(told, key=lambda event: (event.at, _AT_ONE_MOMENT.get(event.name, 0)))


def _event(row: RowMapping) -> Event:
    at = aware(row["at"])
    assert at is not None  # noqa: S101 the column is NOT NULL
    place = (row["wave_number"], row["record_type"], row["partition_key"], row["run_id"])
    return Event(at, row["event"], *place, row["message"])


def _batch_events(connection: Connection, import_id: str, since: datetime | None) -> Sequence[Event]:
    table = wave_batches
    statement = select(
        table.c.started_at, table.c.finished_at, table.c.status, table.c.wave_number, table.c.record_type,
        table.c.partition_key, table.c.run_id, table.c.rows_upserted, table.c.rows_rejected, table.c.slot_wait_seconds,
    ).where(table.c.import_id == import_id, table.c.started_at.is_not(None))  # fmt: skip
    if since is not None:
        statement = statement.where(or_(table.c.started_at >= naive(since), table.c.finished_at >= naive(since)))
    found: list[Event] = []
    for started, finished, status, wave, record_type, partition, run_id, rows, rejected, waited in connection.execute(
        statement
    ):
        place = (wave, record_type, partition, run_id)
        begun, done = aware(started), aware(finished)
        if begun and (since is None or begun >= since):
            found.append(Event(begun, "batch_started", *place))
        if status == BatchState.COMPLETED.value and done and (since is None or done >= since):
            told = f"{rows} rows" + (f", {rejected} rejected" if rejected else "")
            if waited > 0:
                found.append(Event(done, "slot_wait", *place, f"waited {waited:.1f} s for NetSuite to take requests"))
            found.append(Event(done, "batch_completed", *place, told))
    return found


def has_event(connection: Connection, import_id: str, event: str, wave: int, since: datetime) -> bool:
    """Whether such an event of a wave was written after ``since``."""
    table = job_events
    statement = select(table.c.id).where(
        table.c.import_id == import_id, table.c.event == event, table.c.wave_number == wave, table.c.at > naive(since)
    )
    return connection.execute(statement.limit(1)).first() is not None


def control_bytes(connection: Connection) -> int | None:
    """What the control tables take on disk; None where the database does not say."""
    if connection.dialect.name == "sqlite":
        return None
    names = {table.name for table in control.sorted_tables}
    statement = text(
        "SELECT table_name, data_length + index_length FROM information_schema.tables WHERE table_schema = DATABASE()"
    )
    return sum(int(size or 0) for name, size in connection.execute(statement) if name in names)


def connection_use(connection: Connection) -> tuple[int, int] | None:
    """Connections open at the database's server, and the most it takes; None for SQLite, which has no server."""
    if connection.dialect.name == "sqlite":
        return None
    status = connection.execute(text("SHOW GLOBAL STATUS LIKE 'Threads_connected'")).one()
    most = connection.execute(text("SELECT @@max_connections")).scalar_one()
    return int(status[1]), int(most)
