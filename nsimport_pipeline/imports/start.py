"""Starting an import: one open import for a tenant's record type, planned and written down.

Belongs here: the life of an import until its first wave can be dispatched. Does not belong here: the questions asked
of NetSuite (``plan.py``), or anything after (``decide.py``).
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from types import MappingProxyType

from sqlalchemy import Connection, Engine, Table

from nsimport_pipeline.errors import Category, RefusedError
from nsimport_pipeline.imports import store
from nsimport_pipeline.imports.plan import Plan, PlannedType
from nsimport_pipeline.imports.records import ImportJob, Mode, Origin, RunSpec, TypePlan, new_import_id
from nsimport_pipeline.imports.states import ImportState, WaveState
from nsimport_pipeline.imports.waves import PlannedWave
from nsimport_pipeline.settings import Tenant
from nsimport_pipeline.warehouse.deletes import live_rows, mark_absent_above, mark_gone
from nsimport_pipeline.warehouse.migrate import serialise

MANY_ROWS = 10
"""Fewer records may well have been deleted, all of them, since the last import."""


@dataclass(frozen=True, slots=True)
class Request:
    """What a user asks for."""

    record_types: tuple[str, ...]
    """As named by the user."""
    chosen: tuple[str, ...]
    """With their dependencies, unless these were left out."""
    mode: Mode = "full"
    wave_size: int | None = None
    """Instead of the tenant's."""


def open_import(engine: Engine, tenant: Tenant, request: Request, *, now: datetime, suffix: str) -> ImportJob:
    """Write down that an import is being planned, and return it.

    Raises RefusedError with the other's id if one of its record types is already being imported.
    """
    job = new_job(tenant, request, new_import_id(tenant.name, now, suffix), now=now, origin="import")
    with engine.begin() as connection:
        serialise(connection)
        taken = store.open_import_of(connection, request.chosen)
        if taken is not None:
            raise RefusedError(
                f"{taken[1]} is already being imported for tenant {tenant.name!r} by {taken[0]}: wait for it, or "
                f"`nsimport cancel {taken[0]}`"
            )
        store.insert_job(connection, job)
        store.insert_type_plans(
            connection,
            job.import_id,
            [TypePlan(name, level=0, expected=0, upper_bound=None) for name in request.chosen],
        )
        store.record_event(connection, job.import_id, "import_created", now)
    return job


def new_job(tenant: Tenant, request: Request, import_id: str, *, now: datetime, origin: Origin) -> ImportJob:
    return ImportJob(
        import_id=import_id,
        tenant=tenant.name,
        mode=request.mode,
        origin=origin,
        state=ImportState.PLANNING,
        requested=request.record_types,
        wave_size=request.wave_size or tenant.wave_size,
        completion_threshold=tenant.completion_threshold,
        retry_attempts=tenant.retry_attempts,
        continue_on_permanent=tenant.continue_on_permanent,
        created_at=now,
    )


def write_plan(
    engine: Engine,
    job: ImportJob,
    plan: Plan,
    *,
    tables: Mapping[str, Table] | None = None,
    until: datetime | None = None,
    gone: Mapping[str, Sequence[int]] = MappingProxyType({}),
    removed: Collection[str] = (),
    now: datetime,
) -> ImportJob:
    """Write record types, waves, batches and partitions in one transaction; the import is then pending.

    ``tables``: the imported tables by record type. Their rows beyond the plan's upper bound are marked deleted: no
    batch would come across them, and NetSuite no longer has them. ``until``: when NetSuite was asked, by its clock: the
    watermark of what arrives whole. ``gone``: ids by record type that NetSuite does not have any more. ``removed``:
    record types whose deleted rows are removed, not marked.

    Raises RefusedError, with nothing written, if it was cancelled or given up while it was being planned.
    """
    with engine.begin() as connection:
        if not store.move_import(connection, job.import_id, ImportState.PENDING, now):
            raise RefusedError(f"{job.import_id} was cancelled, or given up, while it was being planned")
        types = [_doubted(connection, planned, tables) for planned in plan.types]
        stamps = {p.record_type: None if p.record_type in removed else now.replace(tzinfo=None) for p in types}
        deleted = {
            name: mark_gone(connection, tables[name], ids, deleted_at=stamps[name])
            for name, ids in gone.items()
            if tables
        }
        store.update_type_plans(
            connection,
            job.import_id,
            [
                TypePlan(
                    p.record_type,
                    p.level,
                    p.records,
                    p.upper_bound,
                    p.unavailable,
                    p.denied,
                    planned=p.planned,
                    changed_since=p.since,
                    changed_until=until,
                    deleted=deleted.get(p.record_type, 0),
                )
                for p in types
            ],
        )
        for planned in types:
            if planned.denied:
                store.record_error(
                    connection,
                    job.import_id,
                    Category.PERMANENT_ERROR,
                    planned.unavailable or "",
                    now,
                    record_type=planned.record_type,
                    final=True,
                )
            if planned.unavailable or not planned.planned:
                continue
            if tables is not None and planned.since is None:
                name = planned.record_type
                mark_absent_above(connection, tables[name], planned.upper_bound, deleted_at=stamps[name])
            if not planned.ranges:
                store.record_checks(
                    connection,
                    job.import_id,
                    planned.record_type,
                    (),
                    source_count=0,
                    table_count=0,
                    in_sync=True,
                    now=now,
                )
        store.insert_waves(connection, job.import_id, plan.waves)
        store.pin_ranges(connection, job.import_id, {p.record_type: p.pins for p in plan.types if p.pins is not None})
        store.record_event(
            connection,
            job.import_id,
            "import_planned",
            now,
            message=f"{plan.records} records in {plan.batches} batches and {len(plan.waves)} waves",
        )
    return replace(job, state=ImportState.PENDING)


def _doubted(connection: Connection, planned: PlannedType, tables: Mapping[str, Table] | None) -> PlannedType:
    """``planned``; denied if NetSuite shows no record where there were many: a role that lost a right looks so too."""
    if (
        tables is None
        or planned.since is not None
        or planned.upper_bound is not None
        or planned.unavailable
        or not planned.planned
    ):
        return planned
    rows = live_rows(connection, tables[planned.record_type], None)
    if rows < MANY_ROWS:
        return planned
    reason = (
        f"NetSuite shows none of the {rows} records there were, so the role may not see them any more: give it back "
        "the right. Nothing was marked deleted; if they are really gone, set deleted_at of these rows"
    )
    return replace(planned, unavailable=reason, denied=True)


def abandon(engine: Engine, job: ImportJob, reason: str, *, now: datetime) -> None:
    """Planning did not come to an end: the import failed before it began."""
    with engine.begin() as connection:
        store.move_import(connection, job.import_id, ImportState.FAILED, now, reason)
        store.record_event(connection, job.import_id, "import_failed", now, message=reason)


def manual_import(
    engine: Engine,
    tenant: Tenant,
    record_type: str,
    level: int,
    partition_keys: Sequence[str],
    *,
    import_id: str,
    now: datetime,
) -> ImportJob:
    """Write down the import that a run started by hand carries out: these partitions, one wave, its run number 1.

    Raises RefusedError if a partition has no key range: nothing was planned for it yet.
    """
    request = Request((record_type,), (record_type,))
    job = replace(
        new_job(tenant, request, import_id, now=now, origin="manual"), state=ImportState.RUNNING, started_at=now
    )
    with engine.begin() as connection:
        existing = store.find_job(connection, job.import_id)
        if existing is not None:
            return existing
        ranges = store.pinned_ranges(connection, record_type, partition_keys)
        missing = set(partition_keys) - {r.partition_key for r in ranges}
        if missing:
            raise RefusedError(
                f"partition {sorted(missing)[0]} of {record_type} is not planned: run "
                f"`nsimport import {record_type} --tenant {tenant.name}` first"
            )
        store.insert_job(connection, job)
        store.insert_type_plans(
            connection,
            job.import_id,
            [
                TypePlan(
                    record_type,
                    level,
                    sum(r.expected for r in ranges),
                    max(r.high for r in ranges),
                    parents=store.pinned_parents(connection, record_type),
                )
            ],
        )
        store.insert_waves(connection, job.import_id, [PlannedWave(1, level, tuple(ranges))])
        store.move_wave(connection, job.import_id, 1, WaveState.DISPATCHING, now)
        keys = tuple(r.partition_key for r in ranges)
        store.dispatch_batches(connection, job.import_id, [RunSpec(1, 1, record_type, level, keys)], now)
        store.move_wave(connection, job.import_id, 1, WaveState.PROCESSING, now)
        store.record_event(connection, job.import_id, "import_created", now, message="partitions launched by hand")
    return job
