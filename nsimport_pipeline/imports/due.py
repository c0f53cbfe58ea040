"""Whether a schedule whose moment has come begins its import, or why not.

Belongs here: the decision, pure, and reading what it looks at. Does not belong here: when the moment comes
(``cron.py``, Dagster's scheduler), or beginning (``defs/schedules.py``).
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import Engine

from nsimport_pipeline.imports import store
from nsimport_pipeline.imports.explain import Cause
from nsimport_pipeline.imports.rollout import Switch, switch
from nsimport_pipeline.netsuite.circuit import Circuit, verdict
from nsimport_pipeline.schedule_settings import Schedule
from nsimport_pipeline.settings import Tenant
from nsimport_pipeline.warehouse.engine import read_only
from nsimport_pipeline.warehouse.migrate import ensure_control_tables


@dataclass(frozen=True, slots=True)
class Found:
    """What is so at a tenant when the moment of a schedule has come."""

    switch: Switch
    taken: tuple[str, str] | None = None
    """An open import that has one of the schedule's record types, and which."""
    circuit: Circuit = field(default_factory=Circuit)


def due(schedule: Schedule, found: Found, now: datetime) -> str | None:
    """None if the import is to begin now; else why not, for people."""
    if not found.switch.on:
        return f"the tenant {Cause.SWITCHED_OFF} ({found.switch.why})"
    if (hours := schedule.is_quiet(now, str(schedule.timezone))) is not None:
        return f"quiet hours: {hours} {schedule.timezone}"
    if found.taken is not None:
        import_id, record_type = found.taken
        return f"{import_id} is still importing {record_type}: `nsimport status {import_id}`"
    if found.circuit.confirmed and verdict(found.circuit, now) != "probe":
        return str(found.circuit)
    return None


def find_out(engine: Engine, tenant: Tenant, record_types: Iterable[str]) -> Found:
    """Read what ``due`` looks at. ``record_types``: all that the schedule's import would have."""
    state = switch(engine, tenant)
    if not state.on:
        return Found(state)
    ensure_control_tables(engine)
    with read_only(engine).connect() as connection:
        taken = store.open_import_of(connection, record_types)
        return Found(state, taken, store.circuit_of(connection, tenant.name))
