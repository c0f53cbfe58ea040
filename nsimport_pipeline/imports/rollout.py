"""The rollout switch: whether new imports of a tenant may begin.

Belongs here: what ``enabled`` in the tenants file and the flag in the tenant's database mean together. Does not belong
here: the setting itself (``settings.py``) or the statements (``store/flags.py``). An import that is open goes on
whatever the switch says.
"""

from dataclasses import dataclass
from datetime import datetime

import orjson
from sqlalchemy import Engine

from nsimport_pipeline.errors import RefusedError
from nsimport_pipeline.imports import store
from nsimport_pipeline.imports.store.flags import FlagRow
from nsimport_pipeline.settings import Tenant
from nsimport_pipeline.warehouse.engine import read_only
from nsimport_pipeline.warehouse.migrate import ensure_control_tables, serialise

FLAG = "nsimport"
"""Name of the flag in ``feature_flags``."""
EVERYONE = "*"


@dataclass(frozen=True, slots=True)
class Switch:
    """Whether a tenant may begin imports, and what decided it, in a person's words."""

    on: bool
    why: str


def read_flag(tenant: str, row: FlagRow | None) -> Switch:
    """What the flag in the database says of a tenant. Anything unclear means off, and is said."""
    if row is None:
        return Switch(False, f"there is no flag {FLAG!r} in feature_flags")
    if row.enabled is None:
        return Switch(False, "the flag's enabled is NULL")
    if row.enabled != 1:
        return Switch(False, "the flag is off")
    if row.tenant_ids is None:
        return Switch(False, "the flag's tenant_ids is NULL")
    try:
        listed = orjson.loads(row.tenant_ids)
    except orjson.JSONDecodeError:
        return Switch(False, "the flag's tenant_ids is not valid JSON")
    if not isinstance(listed, list) or not all(isinstance(name, str) for name in listed):
        return Switch(False, 'the flag\'s tenant_ids is not a JSON list of names, such as ["acme"]')
    if EVERYONE in listed:
        return Switch(True, "the flag is on for everyone")
    if tenant in listed:
        return Switch(True, "the flag is on for this tenant")
    return Switch(False, "the flag is on, but not for this tenant")


def switch(engine: Engine, tenant: Tenant) -> Switch:
    """The switch of a tenant as it is now; looks into the database only where the tenants file says so."""
    if tenant.enabled != "database":
        return Switch(tenant.enabled, f"enabled: {str(tenant.enabled).lower()} in the tenants file")
    ensure_control_tables(engine)
    with read_only(engine).connect() as connection:
        return read_flag(tenant.name, store.find_flag(connection, FLAG))


def require_on(engine: Engine, tenant: Tenant) -> None:
    """Raise RefusedError, which says what decided it and what to do, if the tenant may not begin imports."""
    found = switch(engine, tenant)
    if not found.on:
        mend = f"`nsimport flags --tenant {tenant.name} --on`" if tenant.enabled == "database" else "set enabled: true"
        raise RefusedError(f"tenant {tenant.name!r} is not enabled ({found.why}): {mend} switches it on")


def set_flag(engine: Engine, tenant: str, on: bool, *, now: datetime) -> Switch:
    """Switch a tenant on or off in the database; others listed there stay as they are."""
    ensure_control_tables(engine)
    with engine.begin() as connection:
        serialise(connection)
        row = store.find_flag(connection, FLAG)
        listed = _listed(row) - {tenant} | ({tenant} if on else set())
        enabled = on or bool(row is not None and row.enabled == 1)
        store.put_flag(connection, FLAG, FlagRow(int(enabled), orjson.dumps(sorted(listed)).decode()), now)
        return read_flag(tenant, store.find_flag(connection, FLAG))


def _listed(row: FlagRow | None) -> set[str]:
    """Those the flag is on for; nobody where that cannot be read."""
    try:
        listed = orjson.loads((row and row.tenant_ids) or "[]")
    except orjson.JSONDecodeError:
        return set()
    return {name for name in listed if isinstance(name, str)} if isinstance(listed, list) else set()
