"""Telling which tenants are behind their schedules, and why: the sensor ``behind``, and what it and a command read.

Belongs here: how Dagster has the schedules, reading a tenant's tables, the freshness policies. Does not belong here:
the judgement (``imports/behind.py``).

Dagster's freshness policies go by the last materialization. An incremental import that finds nothing changed
materializes nothing, so for record types they hold only where full imports are scheduled. What is true at any time,
that nothing is behind, is reported for each tenant's overview, and its policy fails when that report stays away.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import islice, pairwise
from typing import Any

import dagster as dg
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from nsimport_pipeline.cron import spread, ticks_after
from nsimport_pipeline.defs import names, resources, schedules
from nsimport_pipeline.defs.each_tenant import EachTenant, Look, ticked
from nsimport_pipeline.defs.saying import in_words
from nsimport_pipeline.defs.tenants import read_tenant
from nsimport_pipeline.errors import ConfigurationError, NsimportError, RefusedError
from nsimport_pipeline.imports import store
from nsimport_pipeline.imports.behind import Pace, Runs, Tables, Tick, due_at, judge, lagging
from nsimport_pipeline.imports.plan import chosen_types
from nsimport_pipeline.imports.records import ImportJob
from nsimport_pipeline.imports.rollout import Switch, switch
from nsimport_pipeline.record_types.criteria import Catalog
from nsimport_pipeline.schedule_settings import Schedule
from nsimport_pipeline.settings import Settings, Tenant
from nsimport_pipeline.warehouse.engine import read_only

LOOK_SECONDS = 30
REPORT_EVERY = timedelta(minutes=15)
"""How often it is reported again that a tenant is in step."""
UNREPORTED = timedelta(minutes=45)
"""After so long without that report its overview is not fresh."""
SPARE = timedelta(hours=6)
"""How long a scheduled full import may take until the record type's own policy fails."""


def behind_sensor(jobs: Sequence[dg.JobDefinition]) -> dg.SensorDefinition:
    """The sensor that tells which tenants are behind their schedules, and makes up for moments that began nothing.

    ``jobs``: those whose runs schedules ask for are among them.
    """
    each = EachTenant()

    @dg.sensor(
        name="behind",
        jobs=jobs,
        minimum_interval_seconds=LOOK_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Tells which tenants and record types are behind their schedules, why, and what to type.",
    )
    def sensor(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        now, runs = datetime.now(UTC), runs_of_schedules(context.instance)
        before: dict[str, str] = json.loads(context.cursor or "{}")

        def look_at(tenant: str) -> Look:
            return look(runs, tenant, before.get(tenant), now)

        def after(looks: Mapping[str, Look]) -> str:
            return json.dumps(before | {tenant: one.cursor for tenant, one in looks.items() if one.cursor is not None})

        return ticked(context, each, look_at, nothing="nobody is behind", cursor=after)

    return sensor


def look(runs: Mapping[str, Runs], tenant: str, reported: str | None, now: datetime) -> Look:
    """Who of a tenant is behind. ``reported``: when it was last reported to be in step, ISO 8601; "" if it is not."""
    found = [pace for pace in paces(runs, tenant, now) if pace.state != "off"]
    told = tuple(str(pace) for pace in found if pace.state != "in_step")
    requests = tuple(request for pace in found if pace.owed for request in _made_up_for(pace, now))
    if told or requests or not found:
        return Look(told or tuple(f"{tenant}: begun again" for _ in requests), requests, cursor="")
    if reported and now - datetime.fromisoformat(reported) < REPORT_EVERY:
        return Look()
    return Look(events=(_in_step(tenant, found),), cursor=now.isoformat())


def _made_up_for(pace: Pace, now: datetime) -> list[dg.RunRequest]:
    """The run that a schedule would have asked for, if it may begin now; tried again each hour."""
    asked = schedules.look(pace.schedule, pace.tenant, now).requests
    key = f"{pace.tenant}.{pace.schedule}.{pace.owed:%Y%m%d%H%M}.{now:%Y%m%d%H}"
    job = schedules.job_of(pace.mode)
    return [dg.RunRequest(run_key=key, job_name=job, run_config=one.run_config, tags=one.tags) for one in asked]


def paces(runs: Mapping[str, Runs], tenant: str, now: datetime) -> list[Pace]:
    """How each schedule of a tenant stands. Raises ConfigurationError if its schedules are wrong.

    ``runs``: as ``runs_of_schedules`` has them.
    """
    found = []
    for name, schedule in resources.settings().schedules(tenant).items():
        seen = runs.get(names.schedule(tenant, name), Runs(on=None))
        seen = replace(seen, on=schedule.enabled) if seen.on is None else seen
        found.append(_pace(seen, tenant, name, schedule, now))
    return found


def runs_of_schedules(instance: dg.DagsterInstance) -> dict[str, Runs]:
    """The schedules that a daemon has seen, by their names in Dagster."""
    found = {}
    for state in instance.all_instigator_state():
        if state.instigator_type.value != "SCHEDULE":
            continue
        began = getattr(state.instigator_data, "start_timestamp", None)
        # One by one, by an index: asked for together, all ticks there ever were are ranked.
        last = next(iter(instance.get_ticks(state.instigator_origin_id, state.selector_id, limit=1)), None)
        found[state.instigator_name] = Runs(
            on={"RUNNING": True, "STOPPED": False}.get(state.status.value),
            since=None if began is None else datetime.fromtimestamp(began, UTC),
            tick=None if last is None else Tick(datetime.fromtimestamp(last.timestamp, UTC), _said(last)),
        )
    return found


def freshness(settings: Settings, catalog: Catalog, tenant: str) -> dict[str, dg.FreshnessPolicy]:
    """The freshness policies of a tenant's assets, by record type, and of its overview. Needs no secret.

    A record type has one if full imports of it are scheduled: these write all that there is.
    """
    try:
        enabled = [one for one in settings.schedules(tenant).values() if one.enabled]
    except ConfigurationError:
        return {}
    found: dict[str, dg.FreshnessPolicy] = {}
    if enabled:
        found[names.OVERVIEW] = dg.FreshnessPolicy.time_window(fail_window=UNREPORTED, warn_window=2 * REPORT_EVERY)
    for one in enabled:
        if one.mode == "full":
            window = timedelta(seconds=_longest_interval(spread(one.cron, ""), str(one.timezone))) + SPARE
            chosen = chosen_types(catalog, one.record_types or catalog, with_dependencies=one.dependencies)
            found |= dict.fromkeys(chosen, dg.FreshnessPolicy.time_window(fail_window=window))
    return found


@lru_cache(maxsize=1024)
def _longest_interval(cron: str, zone: str, among: int = 40) -> float:
    """Seconds between neighbouring moments at most."""
    moments = islice(ticks_after(cron, datetime(2024, 1, 1, tzinfo=UTC), zone), among)
    return max((later - earlier).total_seconds() for earlier, later in pairwise(moments))


def _said(tick: Any) -> str | None:
    return tick.skip_reason or (None if tick.error is None else "the tick failed: the daemon's log says why")


def _in_step(tenant: str, found: Sequence[Pace]) -> dg.AssetMaterialization:
    """What says in Dagster that nothing of a tenant is behind."""
    rows = [f"| {one.schedule} | {one.mode} | {_minute(one.in_step_until)} | {_minute(one.next_at)} |" for one in found]
    table = ["| schedule | mode | in step until | next |", "| --- | --- | --- | --- |", *rows]
    return dg.AssetMaterialization(
        asset_key=names.overview_key(tenant),
        description="no schedule is behind",
        metadata={"schedules": dg.MetadataValue.md("\n".join(table))},
    )


def _minute(moment: datetime | None) -> str:
    return "" if moment is None else f"{moment:%Y-%m-%d %H:%M} UTC"


def _pace(runs: Runs, tenant: str, name: str, schedule: Schedule, now: datetime) -> Pace:
    if not runs.on and not schedule.enabled:
        return judge(tenant, name, schedule, runs, None, None, now)
    try:
        tables, last = _tables(tenant, name, schedule, runs, now)
    except (NsimportError, SQLAlchemyError) as error:
        unknown = judge(tenant, name, schedule, runs, None, None, now)
        return replace(unknown, why=in_words(error), command=f"nsimport doctor --tenant {tenant}")
    return judge(tenant, name, schedule, runs, tables, last, now)


def _wanted(connection: Connection, schedule: Schedule, tenant: Tenant) -> list[str]:
    """The record types that a schedule is about, of those that the account has."""
    catalog, known = resources.catalog(), store.account_types(connection)
    wanted = schedules.imported(schedule, tenant, catalog)
    if schedule.mode == "sweep":
        there = store.watermarks(connection)
        wanted = schedules.requested(schedule, tenant, catalog)
        wanted = [name for name in wanted if name in there and not catalog[name].derived_from]
    return [name for name in wanted if name not in known or known[name].state == "available"]


def _reached(connection: Connection, schedule: Schedule) -> dict[str, datetime]:
    """Up to when each record type is as a schedule means it to be; those that never were are missing."""
    if schedule.mode == "full":
        return store.last_whole(connection)
    if schedule.mode == "sweep":
        swept = store.last_sweeps(connection)
        return {name: one.started_at for name, one in swept.items() if one.finished_at and not one.failure}
    return {name: mark.modified_at for name, mark in store.watermarks(connection).items()}


def _tables(tenant: str, name: str, schedule: Schedule, runs: Runs, now: datetime) -> tuple[Tables, ImportJob | None]:
    """What is known of a schedule's record types, and the latest import of the one that is the farthest behind."""
    try:
        resources.settings().enabled_tenant(tenant)
    except RefusedError as refused:  # it may have no database
        return Tables({}, Switch(False, str(refused))), None
    owner, engine = read_tenant(tenant)
    with read_only(engine).connect() as connection:
        at = _reached(connection, schedule)
        tables = Tables(
            {name: at.get(name) for name in _wanted(connection, schedule, owner)},
            switch=switch(engine, owner),
            by_flag=owner.enabled == "database",
            circuit=store.circuit_of(connection, tenant),
        )
        late = lagging(due_at(tenant, name, schedule, runs.since, now), tables.reached)
        return tables, store.latest_import_of(connection, late[0]) if late and schedule.mode != "sweep" else None
