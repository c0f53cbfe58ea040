"""What a tenant's account has, for ``nsimport record-types --probe``.

Belongs here: putting it together, and saying what came of it. Does not belong here: the asking itself
(``imports/account.py``), or that before an import (``defs/starting.py``).
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from nsimport_pipeline.commands.options import console
from nsimport_pipeline.commands.session import dagster_instance
from nsimport_pipeline.defs.tenants import asking, brisk, open_tenant, read_tenant
from nsimport_pipeline.imports import store
from nsimport_pipeline.imports.account import keep, probe_account
from nsimport_pipeline.imports.records import AccountType, Learnt
from nsimport_pipeline.record_types.criteria import RecordType
from nsimport_pipeline.warehouse.engine import read_only
from nsimport_pipeline.warehouse.schema import leftover_columns


def account_of(tenant_name: str, record_types: Sequence[RecordType], *, probe: bool) -> dict[str, dict[str, Any]]:
    """What is known of a tenant's account, by record type, as it is shown; ``probe``: after asking it again.

    Raises ConfigurationError, RefusedError, and ImportFailure if NetSuite refuses the login.
    """
    failures: dict[str, str | None] = {}
    if probe:
        tenant, engine = open_tenant(tenant_name)
        with dagster_instance() as instance, asking(tenant, instance, engine) as (raw, patient):
            probed = probe_account(
                record_types,
                patient=patient,
                brisk=brisk(raw, instance, tenant),
                workers=tenant.slots,
                now=_now,
            )
        keep(engine, [one.found for one in probed if one.found])
        failures = {one.record_type: one.failure for one in probed}
    else:
        tenant, engine = read_tenant(tenant_name)
    with read_only(engine).connect() as connection:
        known, sizes = store.account_types(connection), store.sizes(connection)
    return {
        one.name: {
            **_shown(known.get(one.name)),
            "failure": failures.get(one.name),
            "at_once": _at_once(sizes.get(one.name)),
            "columns_kept": leftover_columns(engine, one),
        }
        for one in record_types
    }


def print_account(account: Mapping[str, Mapping[str, Any]]) -> None:
    """What is not there in an account, and why."""
    lines: list[str] = []
    for name, known in account.items():
        if known["failure"]:
            lines.append(f"{name}: could not be asked: {known['failure']}")
        if known["reason"]:
            lines.append(f"{name}: {known['state']}: {known['reason']} (checked {known['checked_at']})")
        lines += [
            f"{name}.{one['column']}: left out: {one['reason']} (checked {known['checked_at']})"
            for one in known["columns_left_out"]
        ]
        if size := known["at_once"]:
            lines.append(f"{name}: {size['reason']} (learnt {size['changed_at']})")
        lines += [
            f"{name}: table column {column} is not in the criteria: it stays as it is, and nothing writes it"
            for column in known["columns_kept"]
        ]
    for line in ["", *lines]:
        console.print(line, markup=False)


def _shown(known: AccountType | None) -> dict[str, Any]:
    if known is None:
        return {"state": "unknown", "reason": None, "checked_at": None, "columns_left_out": []}
    return {
        "state": known.state,
        "reason": known.reason,
        "checked_at": _iso(known.checked_at),
        "columns_left_out": [
            {"column": one.column, "category": one.category.value, "reason": one.reason} for one in known.left_out
        ],
    }


def _at_once(known: Learnt | None) -> dict[str, Any] | None:
    """How much is asked for at once; None if nothing was ever too much."""
    if known is None:
        return None
    sizing = known.sizing
    changed = _iso(known.changed_at)
    return {"rows": sizing.rows, "columns": sizing.columns, "reason": known.reason, "changed_at": changed}


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _now() -> datetime:
    return datetime.now(UTC)
