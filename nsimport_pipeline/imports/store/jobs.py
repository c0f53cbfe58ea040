"""Imports: writing them down, finding them, and moving them from state to state."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, delete, func, insert, select, update

from nsimport_pipeline.imports.prune import Finished
from nsimport_pipeline.imports.records import ImportJob
from nsimport_pipeline.imports.states import (
    ACTIVE_IMPORTS,
    IMPORT_STEPS,
    OPEN_IMPORTS,
    ImportState,
    sources,
)
from nsimport_pipeline.imports.store.rows import job_of, naive
from nsimport_pipeline.warehouse.control import (
    alert_notices,
    alerts,
    import_errors,
    import_jobs,
    import_record_types,
    job_events,
    rejected_records,
    wave_batches,
    wave_coordination,
)

OF_AN_IMPORT = (
    wave_batches,
    wave_coordination,
    rejected_records,
    import_errors,
    job_events,
    import_record_types,
    alert_notices,
    alerts,
)
"""Tables whose rows belong to one import each."""


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
            created_at=naive(job.created_at),
            started_at=naive(job.started_at),
        )
    )


def find_job(connection: Connection, import_id: str) -> ImportJob | None:
    row = connection.execute(select(import_jobs).where(import_jobs.c.import_id == import_id)).mappings().first()
    return job_of(row) if row else None


def is_active(connection: Connection, import_id: str) -> bool:
    """Whether batches of the import may be started: not if it is over, being cancelled, or unknown."""
    job = find_job(connection, import_id)
    return job is not None and job.state in ACTIVE_IMPORTS


def latest_jobs(connection: Connection, limit: int) -> list[ImportJob]:
    """The latest imports, newest first."""
    statement = select(import_jobs).order_by(import_jobs.c.created_at.desc(), import_jobs.c.import_id).limit(limit)
    return [job_of(row) for row in connection.execute(statement).mappings()]


def latest_import_of(connection: Connection, record_type: str) -> ImportJob | None:
    """The latest import that planned this record type; partitions launched by hand do not count."""
    planned = import_record_types
    statement = (
        select(import_jobs)
        .join(planned, planned.c.import_id == import_jobs.c.import_id)
        .where(planned.c.record_type == record_type, import_jobs.c.origin == "import")
        .order_by(import_jobs.c.created_at.desc(), import_jobs.c.import_id.desc())
        .limit(1)
    )
    row = connection.execute(statement).mappings().first()
    return job_of(row) if row else None


def open_jobs(connection: Connection) -> list[ImportJob]:
    """Imports that are not over, oldest first."""
    statement = (
        select(import_jobs)
        .where(import_jobs.c.state.in_([state.value for state in OPEN_IMPORTS]))
        .order_by(import_jobs.c.created_at, import_jobs.c.import_id)
    )
    return [job_of(row) for row in connection.execute(statement).mappings()]


def jobs_since(connection: Connection, moment: datetime) -> list[ImportJob]:
    """Imports that are not over, or were not yet at ``moment``; oldest first."""
    is_open = import_jobs.c.state.in_([state.value for state in OPEN_IMPORTS])
    statement = (
        select(import_jobs)
        .where(sa.or_(is_open, import_jobs.c.finished_at >= naive(moment)))
        .order_by(import_jobs.c.created_at, import_jobs.c.import_id)
    )
    return [job_of(row) for row in connection.execute(statement).mappings()]


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


def finished_imports(connection: Connection) -> list[Finished]:
    """All imports that are over, with the record types they planned."""
    planned: dict[str, set[str]] = {}
    table = import_record_types
    for import_id, record_type in connection.execute(select(table.c.import_id, table.c.record_type)):
        planned.setdefault(import_id, set()).add(record_type)
    over = select(import_jobs).where(import_jobs.c.state.not_in([state.value for state in OPEN_IMPORTS]))
    jobs = [job_of(row) for row in connection.execute(over).mappings()]
    ended = (ImportState.COMPLETED, ImportState.COMPLETED_WITH_FAILURES)
    return [
        Finished(
            import_id=job.import_id,
            finished_at=job.finished_at or job.created_at,
            record_types=frozenset(planned.get(job.import_id, ())),
            whole=job.mode == "full" and job.origin == "import" and job.state in ended,
        )
        for job in jobs
    ]


def delete_import(connection: Connection, import_id: str) -> int:
    """Delete all that the control tables hold of an import, but no key range that is pinned. Returns the rows.

    The import itself goes last, so that one that was broken off is found again.
    """
    rows = 0
    for table in (*OF_AN_IMPORT, import_jobs):
        rows += connection.execute(delete(table).where(table.c.import_id == import_id)).rowcount
    return rows


def move_import(
    connection: Connection, import_id: str, to: ImportState, now: datetime, reason: str | None = None
) -> bool:
    values: dict[str, Any] = {"state": to.value}
    if to is ImportState.RUNNING:
        values |= {"started_at": func.coalesce(import_jobs.c.started_at, naive(now)), "finished_at": None}
    if to not in OPEN_IMPORTS:
        values |= {"finished_at": naive(now)}
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
