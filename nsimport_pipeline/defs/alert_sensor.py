"""The alert sensor: one for all tenants, judging their rules now and then and telling who is to be told.

Belongs here: the sensor. Does not belong here: rules, their state, or notices (``imports/alerting.py``). A tick never
fails for a destination that is down, and starts no runs.
"""

from datetime import UTC, datetime

import dagster as dg

from nsimport_pipeline.defs import resources
from nsimport_pipeline.defs.each_tenant import EachTenant, Look, ticked
from nsimport_pipeline.imports.alerting import deliver, evaluate
from nsimport_pipeline.telemetry.notify import send
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
        return ticked(context, each, look, nothing="no alert is firing")

    return sensor


def look(tenant_name: str) -> Look:
    """Judge a tenant's rules and tell what is new: what was found and who was told."""
    tenant = resources.settings().tenant(tenant_name)
    engine = resources.warehouse(tenant)
    if current_revision(engine) is None:  # nothing was ever imported
        return Look()
    ensure_control_tables(engine)
    firing = evaluate(engine, tenant, datetime.now(UTC))
    found = ", ".join(f"{each.alert.rule} ({each.alert.subject})" for each in firing[:MOST_NAMED])
    found += f" and {len(firing) - MOST_NAMED} more" if len(firing) > MOST_NAMED else ""
    if not tenant.alerts:
        unheard = "nobody is told: the tenants file names no address under `alerts`"
        return Look((f"{tenant.name}: {found}; {unheard}",) if found else ())
    told = deliver(engine, tenant, send, lambda: datetime.now(UTC))
    failed = [f"{each} (tried again)" for each in told.failed]
    said = [*([found] if found else []), *told.sent, *failed]
    return Look((f"{tenant.name}: {'; '.join(said)}",) if said else ())
