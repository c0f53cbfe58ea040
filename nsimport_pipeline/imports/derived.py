"""Planning a derived record type: late, when its parents are in, from the parents that are really in the database.

Belongs here: one attempt at it, from the question whether it is still wanted to waves written down, or its failure.
Does not belong here: when it is tried (``decide.py``), or the questions asked of NetSuite (``plan.py``).

However often it is tried, at once or one after another: the first that comes to its end counts, the others change
nothing. An attempt has a number; one that was given up meanwhile is too late.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta

from sqlalchemy import Connection, Engine

from nsimport_pipeline.errors import AccessDenied, ImportFailure, RefusedError
from nsimport_pipeline.imports import store
from nsimport_pipeline.imports.changes import Changes, derived_since
from nsimport_pipeline.imports.deletions import deleted_ids
from nsimport_pipeline.imports.failures import after_failure
from nsimport_pipeline.imports.plan import PlannedType, Querier, plan_type
from nsimport_pipeline.imports.records import ImportJob, TypePlan
from nsimport_pipeline.imports.states import ACTIVE_IMPORTS, ImportState
from nsimport_pipeline.imports.waves import plan_waves
from nsimport_pipeline.netsuite.suiteql import among_parents
from nsimport_pipeline.record_types.criteria import RecordType
from nsimport_pipeline.retry_settings import Retries
from nsimport_pipeline.warehouse.engine import read_only
from nsimport_pipeline.warehouse.migrate import serialise
from nsimport_pipeline.warehouse.parents import delete_bereft, delete_beyond, highest_rows, parents_there
from nsimport_pipeline.warehouse.schema import target_table


def narrowed(record_type: RecordType, parents: Sequence[RecordType], highest: Mapping[str, int]) -> RecordType:
    """A derived record type with the records only of the parents that were in the database when it was planned."""
    return among_parents(record_type, [(p, highest[p.name]) for p in parents if p.name in highest])


def plan_derived(
    engine: Engine,
    import_id: str,
    record_type: RecordType,
    parents: Sequence[RecordType],
    *,
    attempt: int,
    client: Querier,
    batch_size: int,
    now: datetime,
) -> PlannedType | None:
    """Plan a derived record type of an import and write its waves down. None if it is not wanted (any more).

    Raises ImportFailure if NetSuite cannot be asked; ``record_failure`` keeps that.
    """
    with read_only(engine).connect() as connection:
        wanted = _wanted(connection, import_id, record_type.name, attempt)
        if wanted is None:
            return None
        highest = highest_rows(connection, {parent.name: target_table(parent) for parent in parents})
        plans = {plan.record_type: plan for plan in store.type_plans(connection, import_id)}
        pinned = store.pinned_ranges(connection, record_type.name)
        then = store.pinned_parents(connection, record_type.name)
    plan, changes = wanted[1], None
    since = derived_since(plan.changed_since, then, highest, plans)
    if since is not None and plan.changed_until is not None and pinned:
        there = tuple(parent for parent in parents if parent.name in highest)
        changes = Changes(since, plan.changed_until, tuple(pinned), there)
    planned = plan_type(
        narrowed(record_type, parents, highest), plan.level, client=client, batch_size=batch_size, changes=changes
    )
    bereft = _bereft(engine, changes, client)
    written = write_derived(engine, import_id, record_type, planned, highest, attempt, bereft=bereft, now=now)
    return planned if written else None


def _bereft(engine: Engine, changes: Changes | None, client: Querier) -> set[int]:
    """Parents deleted in NetSuite that are not in the database; asked for only where their rows would stay."""
    ids = deleted_ids(client, changes.since, changes.until) if changes is not None else None
    if changes is None or not ids:
        return set()
    # Only those that have a table: a record type may be one to derive from, and not be imported for this tenant.
    tables = [target_table(parent) for parent in changes.parents]
    with read_only(engine).connect() as connection:
        return set(ids) - parents_there(connection, tables, ids)


def write_derived(
    engine: Engine,
    import_id: str,
    record_type: RecordType,
    planned: PlannedType,
    highest: Mapping[str, int],
    attempt: int,
    *,
    bereft: Collection[int] = (),
    now: datetime,
) -> bool:
    """Write record type, waves, batches and partitions in one transaction. False if it is too late for that.

    Rows of parents beyond the plan's upper bound are deleted, as no batch would come across them; not by changes,
    but for those of the parents ``bereft``, which are gone.
    """
    with engine.begin() as connection:
        serialise(connection)
        wanted = _wanted(connection, import_id, record_type.name, attempt)
        if wanted is None:
            return False
        job, plan = wanted
        table, column = target_table(record_type), record_type.range_column
        deleted_at = None if record_type.removes else now.replace(tzinfo=None)
        deleted = delete_bereft(connection, table, column, bereft, deleted_at=deleted_at) if bereft else 0
        store.set_derived_plan(
            connection,
            import_id,
            TypePlan(
                record_type.name,
                plan.level,
                planned.records,
                planned.upper_bound,
                planned.unavailable,
                planned.denied,
                parents=dict(highest),
                changed_since=planned.since,
                deleted=deleted,
            ),
        )
        if planned.unavailable is None:
            assert record_type.parent_field is not None  # noqa: S101 checked as the catalogue is loaded
            if planned.since is None:
                delete_beyond(connection, table, column, planned.upper_bound, deleted_at=deleted_at)
            if planned.pins is not None:
                store.pin_ranges(connection, import_id, {record_type.name: planned.pins})
            if not planned.ranges:
                store.record_checks(
                    connection, import_id, record_type.name, (), source_count=0, table_count=0, in_sync=True, now=now
                )
        first = max((wave.number for wave in store.waves(connection, import_id)), default=0) + 1
        waves = plan_waves(planned.ranges, {record_type.name: plan.level}, job.wave_size, first)
        store.insert_waves(connection, import_id, waves)
        store.record_event(
            connection,
            import_id,
            "derived_planned",
            now,
            record_type=record_type.name,
            message=f"{planned.records} records in {len(planned.ranges)} batches and {len(waves)} waves",
        )
    return True


def record_failure(
    engine: Engine,
    import_id: str,
    record_type: str,
    attempt: int,
    failure: ImportFailure,
    *,
    rules: Retries,
    now: datetime,
) -> bool:
    """Keep that this attempt failed: there is another one after a while, or none if they are used up.

    False if it does not count, because the attempt was given up already.
    """
    with engine.begin() as connection:
        serialise(connection)
        wanted = _wanted(connection, import_id, record_type, attempt)
        if wanted is None:
            return False
        job, plan = wanted
        verdict = after_failure(failure.category, plan.attempts + 1, job.retry_attempts, rules)
        store.fail_planning(
            connection,
            import_id,
            record_type,
            attempt,
            attempts=verdict.attempts,
            not_before=now + timedelta(seconds=verdict.delay),
            failure=None if verdict.retry else str(failure),
        )
        store.record_error(
            connection,
            import_id,
            failure.category,
            f"planning: {failure}",
            now,
            record_type=record_type,
            attempt=plan.attempts + verdict.attempts,
            final=not verdict.retry,
        )
        if isinstance(failure, AccessDenied):
            store.move_import(connection, import_id, ImportState.CANCELLING, now, str(failure))
    return True


def _wanted(
    connection: Connection, import_id: str, record_type: str, attempt: int
) -> tuple[ImportJob, TypePlan] | None:
    """The import and what it means to do for the record type, if this attempt at planning it is the current one."""
    job = store.find_job(connection, import_id)
    if job is None:
        raise RefusedError(f"there is no import {import_id!r} to plan {record_type} for")
    plan = next((p for p in store.type_plans(connection, import_id) if p.record_type == record_type), None)
    if job.state not in ACTIVE_IMPORTS or plan is None or not plan.to_plan or plan.attempt_number != attempt:
        return None
    return None if store.unfinished_below(connection, import_id, plan.level) else (job, plan)
