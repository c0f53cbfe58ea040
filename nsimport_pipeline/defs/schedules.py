"""The schedules of a tenant in Dagster: each asks for an import, or a sweep, by a run of the job for it.

Belongs here: the schedules, and a tick that is skipped with its reason. Does not belong here: whether one is due
(``imports/due.py``), what the run does (``steering_jobs.py``), or telling who is behind (``behind.py``). A tick reads
the tenant's database only, never NetSuite.

However many moments were missed, Dagster makes one tick of them: its scheduler catches up for partitioned jobs only.
"""

import logging
from datetime import UTC, datetime
from functools import partial
from typing import Any

import dagster as dg

from nsimport_pipeline.defs import names, resources
from nsimport_pipeline.defs.each_tenant import EachTenant, Look, in_short
from nsimport_pipeline.defs.run_queue import ALIVE
from nsimport_pipeline.defs.tenants import read_tenant
from nsimport_pipeline.errors import ConfigurationError
from nsimport_pipeline.imports.due import due, find_out
from nsimport_pipeline.imports.plan import chosen_types
from nsimport_pipeline.record_types.criteria import Catalog
from nsimport_pipeline.schedule_settings import Schedule
from nsimport_pipeline.settings import Settings, Tenant

PATIENCE_SECONDS = 30.0

logger = logging.getLogger("nsimport.schedules")


def tenant_schedules(settings: Settings, tenant: str) -> list[dg.ScheduleDefinition]:
    """A tenant's schedules; none, with a word in the log, where its settings of them are wrong. Needs no secret."""
    try:
        schedules = settings.schedules(tenant)
    except ConfigurationError as error:
        # The other tenants' are not to suffer; the sensor `behind` says so in the UI.
        logger.warning("no schedule of %s is there: %s", tenant, error)
        return []
    return [_schedule(tenant, name, schedule) for name, schedule in schedules.items()]


def _schedule(tenant: str, name: str, schedule: Schedule) -> dg.ScheduleDefinition:
    def tick(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        if (run := _not_over(context.instance, tenant, name)) is not None:
            return dg.SkipReason(f"the run {run[:8]} that it asked for last has not ended yet")
        # Dagster gives a tick a minute; a database may take longer to say nothing.
        found = EachTenant(patience=PATIENCE_SECONDS).ask([tenant], partial(look, name, now=datetime.now(UTC)))
        asked = found.get(tenant, Look((f"{tenant}: this machine is too busy to look at it",)))
        return asked.requests[0] if asked.requests else dg.SkipReason(in_short(asked.said))

    what = "sweep" if schedule.mode == "sweep" else f"{schedule.mode} import"
    of = ", ".join(schedule.record_types) or "every enabled record type"
    quiet = f"; nothing begins in {', '.join(schedule.quiet_hours)}" if schedule.quiet_hours else ""
    on = dg.DefaultScheduleStatus.RUNNING if schedule.enabled else dg.DefaultScheduleStatus.STOPPED
    return dg.ScheduleDefinition(
        name=names.schedule(tenant, name),
        cron_schedule=schedule.plain_cron(tenant, name),
        execution_timezone=schedule.timezone,
        job_name=job_of(schedule.mode),
        execution_fn=tick,
        default_status=on,
        tags={names.TENANT: tenant},
        description=f"{tenant}: {what} of {of} at {schedule.cron} {schedule.timezone}{quiet}.",
    )


def _not_over(instance: dg.DagsterInstance, tenant: str, name: str) -> str | None:
    """The run that a schedule asked for and that is not over, if there is one: on a busy machine they would pile up."""
    tags = {names.TENANT: tenant, names.SCHEDULE: name}
    runs = instance.get_runs(dg.RunsFilter(tags=tags, statuses=ALIVE), limit=1)
    return runs[0].run_id if runs else None


def look(name: str, tenant: str, now: datetime) -> Look:
    """What a tenant's schedule ``name`` does at ``now``: it asks for a run that starts the import, or says why not.

    Raises ConfigurationError, RefusedError, TimedOut if the tenant's settings or database are not there.
    """
    schedule = resources.settings().schedules(tenant).get(name)
    if schedule is None:
        return Look((f"the tenants file has no schedule {name} of {tenant} any more: reload the code location",))
    resources.settings().enabled_tenant(tenant)  # one that is switched off may have no database
    owner, engine = read_tenant(tenant)
    sweeps = schedule.mode == "sweep"
    # A sweep is safe beside imports.
    beside = [] if sweeps else imported(schedule, owner, resources.catalog())
    reason = due(schedule, find_out(engine, owner, beside), now)
    if reason is not None:
        return Look((reason,))
    config: dict[str, Any] = {"tenant": tenant, "record_types": list(schedule.record_types), "if_possible": True}
    if not sweeps:
        config["record_types"] = requested(schedule, owner, resources.catalog())
        config |= {"mode": schedule.mode, "dependencies": schedule.dependencies}
    run_config = {"ops": {"sweep" if sweeps else "start": {"config": config}}}
    return Look(requests=(dg.RunRequest(run_config=run_config, tags={names.TENANT: tenant, names.SCHEDULE: name}),))


def job_of(mode: str) -> str:
    """The job whose runs a schedule of this mode asks for."""
    return "sweep_records" if mode == "sweep" else "start_import"


def requested(schedule: Schedule, tenant: Tenant, catalog: Catalog) -> list[str]:
    """What a schedule asks for: the record types it names, or all that are enabled for the tenant."""
    return list(schedule.record_types) or [name for name in catalog if tenant.options(name).enabled]


def imported(schedule: Schedule, tenant: Tenant, catalog: Catalog) -> list[str]:
    """All record types that a schedule's imports have. Raises ConfigurationError if it names an unknown one."""
    chosen = chosen_types(catalog, requested(schedule, tenant, catalog), with_dependencies=schedule.dependencies)
    return [name for name in chosen if tenant.options(name).enabled]
