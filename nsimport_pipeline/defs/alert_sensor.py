"""The alert sensor: one for each tenant, judging its rules now and then and telling who is to be told.

Belongs here: the sensor. Does not belong here: rules, their state, or notices (``imports/alerting.py``). A tick never
fails for a destination that is down, and starts no runs.
"""

from datetime import UTC, datetime

import dagster as dg

from nsimport_pipeline.defs import resources
from nsimport_pipeline.defs.saying import Ticked, or_skipped
from nsimport_pipeline.imports.alerting import deliver, evaluate
from nsimport_pipeline.telemetry.notify import send
from nsimport_pipeline.warehouse.migrate import current_revision, ensure_control_tables

TICK_SECONDS = 30
MOST_NAMED = 10


def alert_sensor(tenant: str) -> dg.SensorDefinition:
    """The sensor that watches over a tenant's imports."""

    @dg.sensor(
        name=f"alerts_{tenant}",
        minimum_interval_seconds=TICK_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"Judges {tenant}'s alert rules and sends what is new to the addresses in `alerts`.",
    )
    def sensor(context: dg.SensorEvaluationContext) -> Ticked:
        return or_skipped(tenant, lambda: dg.SkipReason(tick(tenant)))

    return sensor


def tick(tenant_name: str) -> str:
    """Judge a tenant's rules and tell what is new. Returns what was found and who was told, in one line."""
    tenant = resources.settings().tenant(tenant_name)
    engine = resources.warehouse(tenant)
    if current_revision(engine) is None:
        return "nothing was ever imported"
    ensure_control_tables(engine)
    firing = evaluate(engine, tenant, datetime.now(UTC))
    found = ", ".join(f"{each.alert.rule} ({each.alert.subject})" for each in firing[:MOST_NAMED])
    found += f" and {len(firing) - MOST_NAMED} more" if len(firing) > MOST_NAMED else ""
    found = found or "no alert is firing"
    if not tenant.alerts:
        return f"{found}; nobody is told: the tenants file names no address under `alerts`"
    told = deliver(engine, tenant, send, lambda: datetime.now(UTC))
    failed = [f"{each} (tried again)" for each in told.failed]
    return "; ".join([found, *told.sent, *failed])
