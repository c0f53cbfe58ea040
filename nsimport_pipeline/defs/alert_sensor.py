"""The alert sensor: one for all tenants, judging their rules now and then and telling who is to be told.

Belongs here: the sensor. Does not belong here: rules, their state, or notices (``imports/alerting.py``). A tick never
fails for a destination that is down, and starts no runs.
"""

from collections.abc import Mapping
from datetime import UTC, datetime

import dagster as dg

from nsimport_pipeline.defs import resources
from nsimport_pipeline.defs.behind import paces, runs_of_schedules
from nsimport_pipeline.defs.each_tenant import EachTenant, Look, ticked
from nsimport_pipeline.errors import ConfigurationError
from nsimport_pipeline.imports.alerting import deliver, evaluate
from nsimport_pipeline.imports.behind import Runs
from nsimport_pipeline.telemetry.notify import send
from nsimport_pipeline.telemetry.watched import Behind
from nsimport_pipeline.warehouse.migrate import current_revision, ensure_control_tables

TICK_SECONDS = 30
MOST_NAMED = 10


def alert_sensor() -> dg.SensorDefinition:
    """The sensor that watches over all tenants' imports."""
    each = EachTenant()

    @dg.sensor(
        name="alerts",
        minimum_interval_seconds=TICK_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Judges the alert rules and sends what is new to the addresses in `alerts`.",
    )
    def sensor(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        runs = runs_of_schedules(context.instance)
        return ticked(context, each, lambda tenant: look(runs, tenant), nothing="no alert is firing")

    return sensor


def look(runs: Mapping[str, Runs], tenant_name: str) -> Look:
    """Judge a tenant's rules and tell what is new: what was found and who was told.

    ``runs``: as ``runs_of_schedules`` has them.
    """
    tenant = resources.settings().tenant(tenant_name)
    engine = resources.warehouse(tenant)
    if current_revision(engine) is None:  # nothing was ever imported
        return Look()
    ensure_control_tables(engine)
    now = datetime.now(UTC)
    firing = evaluate(engine, tenant, now, _behind(runs, tenant_name, now))
    found = ", ".join(f"{each.alert.rule} ({each.alert.subject})" for each in firing[:MOST_NAMED])
    found += f" and {len(firing) - MOST_NAMED} more" if len(firing) > MOST_NAMED else ""
    if not tenant.alerts:
        unheard = "nobody is told: the tenants file names no address under `alerts`"
        return Look((f"{tenant.name}: {found}; {unheard}",) if found else ())
    told = deliver(engine, tenant, send, lambda: datetime.now(UTC))
    failed = [f"{each} (tried again)" for each in told.failed]
    said = [*([found] if found else []), *told.sent, *failed]
    return Look((f"{tenant.name}: {'; '.join(said)}",) if said else ())


def _behind(runs: Mapping[str, Runs], tenant: str, now: datetime) -> list[Behind]:
    """The schedules that a tenant is behind, but for what somebody switched off."""
    try:
        found = paces(runs, tenant, now)
    except ConfigurationError:
        return []  # the sensor `behind` says so; the other rules are judged all the same
    late = [pace for pace in found if pace.state == "behind" and not pace.meant]
    return [Behind(pace.schedule, pace.said, pace.command) for pace in late]
