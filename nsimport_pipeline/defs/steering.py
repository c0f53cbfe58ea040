"""Steering an import that is there: cancelling, resuming, reconciling. For the commands and the UI's jobs alike.

Belongs here: doing it in the control tables and in Dagster. Does not belong here: the steps of each side
(``imports/steer.py``, ``reconcile.py``), options and output.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
from sqlalchemy import Engine

from nsimport_pipeline.defs import resources
from nsimport_pipeline.defs.reconcile import (
    Findings,
    clear_vanished,
    reconcile,
    runs_waiting,
    settle_import,
    withdraw,
)
from nsimport_pipeline.defs.tenants import ask_whether_it_answers, find_import, only_tenant, read_tenant
from nsimport_pipeline.errors import NsimportError
from nsimport_pipeline.imports import store
from nsimport_pipeline.imports.records import ImportJob
from nsimport_pipeline.imports.rollout import require_on
from nsimport_pipeline.imports.states import OPEN_IMPORTS
from nsimport_pipeline.imports.steer import cancel_import, resume_import
from nsimport_pipeline.settings import Tenant
from nsimport_pipeline.warehouse.engine import read_only

LATELY = timedelta(days=1)
"""Imports that ended within it are reconciled too."""

Report = dict[str, Any]
"""What was compared and repaired for one tenant: ``tenant, compared, repaired, to_start, imports, error``."""


def cancel(
    instance: dg.DagsterInstance, tenant: Tenant, engine: Engine, job: ImportJob, *, terminate: bool = False
) -> bool:
    """Begin to wind an import down; ``terminate``: its runs too. False if it is over already: then nothing is done."""
    if job.state not in OPEN_IMPORTS:
        return False
    cancel_import(engine, job, now=datetime.now(UTC))
    settle_import(instance, tenant, engine, job, Findings())
    if terminate:
        withdraw(instance, job.import_id)
    return True


def resume(tenant: Tenant, engine: Engine, job: ImportJob) -> int:
    """Go on with an import that is over. Returns how many batches are to be done; raises RefusedError."""
    require_on(engine, tenant)
    return resume_import(engine, job, now=datetime.now(UTC))


def reconciled(instance: dg.DagsterInstance, import_id: str | None, tenant: str | None) -> list[Report]:
    """Compare and mend one import, or all there is of one tenant, or of every tenant.

    What keeps a tenant's from being done is in its report; raises ConfigurationError for an import that is not there.
    """
    waiting = runs_waiting(instance)
    if import_id is not None:
        owner, engine, job = find_import(import_id)
        told = _ask_netsuite(instance, owner, engine)
        found = reconcile(instance, owner, engine, [job], waiting.get(owner.name, ()), finished_within=timedelta())
        found.repairs[:0] = told
        return [_report(owner.name, found)]
    known = [only_tenant(tenant)] if tenant else resources.settings().tenant_names
    reports = [_reconciled(instance, name, waiting.get(name, ())) for name in known]
    everywhere = Findings(repairs=clear_vanished(instance, waiting))
    return [*reports, *([_report("(not in the tenants file)", everywhere)] if everywhere.repairs else [])]


def in_lines(report: Report) -> list[str]:
    """A report for people."""
    if report["error"]:
        return [f"{report['tenant']}: {report['error']}"]
    compared = ", ".join(f"{count} {what}" for what, count in report["compared"].items())
    lines = [f"{report['tenant']}: compared {compared or 'nothing'}"]
    lines += [f"  {line}" for line in report["repaired"] or ["nothing to repair"]]
    if report["to_start"]:
        lines.append(f"  {report['to_start']} runs to start: the wave sensor does it within seconds")
    return lines + [f"  {import_id}: {reason}" for import_id, reason in report["imports"].items()]


def _reconciled(instance: dg.DagsterInstance, name: str, waiting: Sequence[dg.DagsterRun]) -> Report:
    try:
        tenant, engine = read_tenant(name)
    except NsimportError as error:
        return {**_report(name, Findings()), "error": str(error)}
    with read_only(engine).connect() as connection:
        jobs = store.open_jobs(connection)
    told = _ask_netsuite(instance, tenant, engine)
    found = reconcile(instance, tenant, engine, jobs, waiting, finished_within=LATELY)
    found.repairs[:0] = told
    return _report(name, found)


def _ask_netsuite(instance: dg.DagsterInstance, tenant: Tenant, engine: Engine) -> list[str]:
    """What is to be said of asking NetSuite whether it answers again, if it was taken to be down."""
    circuit = ask_whether_it_answers(instance, tenant, engine)
    return [] if circuit is None else [f"NetSuite was asked whether it answers again: {circuit}"]


def _report(tenant: str, found: Findings) -> Report:
    imports = {
        import_id: outcome.reason or str(outcome.finished and outcome.finished.value)
        for import_id, outcome in found.outcomes.items()
    }
    return {
        "tenant": tenant,
        "compared": dict(found.compared),
        "repaired": found.repairs,
        "to_start": sum(len(outcome.submit) for outcome in found.outcomes.values()),
        "imports": imports,
        "error": None,
    }
