"""What a tenant's account has, as commands ask for it: before an import, and for ``nsimport record-types --probe``.

Belongs here: which record types have to be asked about, and saying what came of it. Does not belong here: the asking
itself (``imports/account.py``).
"""

import secrets
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import dagster as dg
from sqlalchemy import Engine

from nsimport_pipeline.commands.options import console
from nsimport_pipeline.commands.session import asking, dagster_instance, open_tenant, read_tenant
from nsimport_pipeline.defs import resources
from nsimport_pipeline.defs.slots import SlottedClient
from nsimport_pipeline.imports import store
from nsimport_pipeline.imports.account import Probed, Question, fingerprint, keep, probe, probe_account
from nsimport_pipeline.imports.columns import ONCE
from nsimport_pipeline.imports.plan import Plan
from nsimport_pipeline.imports.records import AccountType, ImportJob
from nsimport_pipeline.netsuite.client import NetSuiteClient
from nsimport_pipeline.record_types.criteria import RecordType
from nsimport_pipeline.settings import Tenant
from nsimport_pipeline.warehouse.engine import read_only
from nsimport_pipeline.warehouse.schema import leftover_columns


def probe_planned(
    engine: Engine,
    tenant: Tenant,
    job: ImportJob,
    plan: Plan,
    instance: dg.DagsterInstance,
    clients: tuple[NetSuiteClient, SlottedClient],
) -> None:
    """Probe the columns of an import's record types that were not yet, or for other columns, and keep the answers.

    What could not be found out is asked again by the next import; the runs of this one find out for themselves.
    """
    with read_only(engine).connect() as connection:
        known = store.account_types(connection)
    now = _now()
    found: list[AccountType] = []
    questions: list[Question] = []
    for planned in plan.types:
        if planned.unavailable:
            found.append(
                AccountType(
                    planned.record_type, "denied" if planned.denied else "unavailable", now, planned.unavailable
                )
            )
            continue
        record_type = resources.record_type(tenant, planned.record_type)
        before = known.get(planned.record_type)
        if before is None or before.probed_for != fingerprint(record_type):
            first = planned.ranges[0] if planned.ranges else None
            questions.append(Question(record_type, first.low, first.high) if first else Question(record_type))
    if questions:
        console.print(f"probing the columns of {len(questions)} record types that were not asked for before")
    raw, patient = clients
    probed = probe(
        questions,
        patient=patient,
        brisk=_brisk(raw, instance, tenant),
        workers=tenant.slots,
        now=_now,
        on_probed=tell_probed,
    )
    keep(engine, [*found, *(one.found for one in probed if one.found)], import_id=job.import_id)


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
                brisk=_brisk(raw, instance, tenant),
                workers=tenant.slots,
                now=_now,
            )
        keep(engine, [one.found for one in probed if one.found])
        failures = {one.record_type: one.failure for one in probed}
    else:
        tenant, engine = read_tenant(tenant_name)
    with read_only(engine).connect() as connection:
        known = store.account_types(connection)
    return {
        one.name: {
            **_shown(known.get(one.name)),
            "failure": failures.get(one.name),
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
        "checked_at": known.checked_at.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        "columns_left_out": [
            {"column": one.column, "category": one.category.value, "reason": one.reason} for one in known.left_out
        ],
    }


def tell_probed(probed: Probed) -> None:
    if probed.found is None:
        said = f"could not be probed, the next import tries again: {probed.failure}"
    elif probed.found.left_out:
        said = f"left out: {', '.join(one.column for one in probed.found.left_out)}"
    else:
        said = "every column is there"
    console.print(f"  probed {probed.record_type}: {said}", markup=False)


def _brisk(raw: NetSuiteClient, instance: dg.DagsterInstance, tenant: Tenant) -> SlottedClient:
    return SlottedClient(raw.following(ONCE), instance, tenant.name, name=secrets.token_hex(4))


def _now() -> datetime:
    return datetime.now(UTC)
