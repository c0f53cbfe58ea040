"""``nsimport cancel``, ``resume``, ``retry`` and ``reconcile``: what is done to an import that is there.

Belongs here: options and what is said. Does not belong here: the steps in the control tables (``imports/steer.py``)
and in Dagster (``defs/reconcile.py``).
"""

from datetime import UTC, datetime, timedelta
from typing import Any

import click
import dagster as dg
from sqlalchemy import Engine

from nsimport_pipeline.commands.options import json_option, print_json, tenant_option, wait_option
from nsimport_pipeline.commands.session import dagster_instance, find_import, only_tenant, read_tenant
from nsimport_pipeline.commands.waiting import say_who_carries_it_out, wait_for
from nsimport_pipeline.defs import resources
from nsimport_pipeline.defs.reconcile import Findings, clear_vanished, reconcile, settle_import, withdraw
from nsimport_pipeline.errors import Category, NsimportError
from nsimport_pipeline.imports import store
from nsimport_pipeline.imports.rollout import require_on
from nsimport_pipeline.imports.states import OPEN_IMPORTS
from nsimport_pipeline.imports.steer import Retried, cancel_import, reset_wave, resume_import, retry_import
from nsimport_pipeline.settings import Tenant
from nsimport_pipeline.warehouse.engine import read_only

LATELY = timedelta(days=1)


@click.command()
@click.argument("import_id", metavar="IMPORT")
@click.option("--now", is_flag=True, help="Also terminate its runs: batches in flight are rolled back.")
def cancel(import_id: str, now: bool) -> None:
    """Cancel an import. Batches in flight finish and count; nothing new starts. `nsimport resume` goes on later."""
    tenant, engine, job = find_import(import_id)
    if job.state not in OPEN_IMPORTS:
        click.echo(f"{import_id} is over already: {job.state.value}")
        return
    cancel_import(engine, job, now=_now())
    with dagster_instance() as instance:
        settle_import(instance, tenant, engine, job, Findings())
        if now:
            withdraw(instance, import_id)
    click.echo(f"{import_id} is being cancelled; `nsimport resume {import_id}` goes on with it")


@click.command()
@click.argument("import_id", metavar="IMPORT")
@wait_option
def resume(import_id: str, wait: bool) -> int:
    """Go on with a cancelled, failed or partly failed import from its last good batch."""
    tenant, engine, job = find_import(import_id)
    require_on(engine, tenant)
    with dagster_instance() as instance:
        reopened = resume_import(engine, job, now=_now())
        click.echo(f"{import_id}: {reopened} batches to do")
        return _carry_out(instance, engine, tenant, import_id, wait=wait)


@click.command()
@click.argument("import_id", metavar="IMPORT")
@click.option(
    "--category",
    type=click.Choice([category.value for category in Category]),
    help="Only batches that failed in this way.",
)
@click.option("--rejected", is_flag=True, help="Not the failed batches: those with rejected rows, fetched again.")
@wait_option
def retry(import_id: str, category: str | None, rejected: bool, wait: bool) -> int:
    """Do the failed batches of an import that is over again, or its rejected rows.

    Batches that never began are left to `nsimport resume`. A batch is fetched whole: rows that fit the table now are
    written, the others are rejected again.
    """
    if rejected and category:
        raise click.UsageError("--category is about failed batches, --rejected about rows: give one of them")
    tenant, engine, job = find_import(import_id)
    require_on(engine, tenant)
    with dagster_instance() as instance:
        kind = Category(category) if category else None
        retried = retry_import(engine, job, category=kind, rejected=rejected, now=_now())
        click.echo(f"{import_id}: {_what(retried, category, rejected)}")
        if not retried.batches:
            return 0
        return _carry_out(instance, engine, tenant, import_id, wait=wait)


def _what(retried: Retried, category: str | None, rejected: bool) -> str:
    if rejected:
        if not retried.batches:
            return "nothing to retry: it holds no rejected rows"
        return f"{retried.batches} batches with {retried.rejected} rejected rows are fetched again"
    if not retried.batches:
        return f"nothing to retry: no batch failed{f' with {category}' if category else ''}"
    return f"{retried.batches} failed batches are tried again"


@click.command("reset")
@click.argument("import_id", metavar="IMPORT")
@click.argument("wave", type=click.IntRange(1))
def reset_waves(import_id: str, wave: int) -> None:
    """Put a stuck wave's unfinished batches back to pending; they go into a new wave.

    Its runs lose them and are ended; what they still do for one is rolled back. No attempt is counted.
    """
    tenant, engine, job = find_import(import_id)
    with dagster_instance() as instance:
        batches = reset_wave(engine, job, wave, now=_now())
        ended = withdraw(instance, import_id, wave) if batches else 0
        settle_import(instance, tenant, engine, job, Findings())
    if not batches:
        click.echo(f"{import_id}: wave {wave}: nothing to reset: it has not begun, or is done")
        return
    click.echo(f"{import_id}: wave {wave}: {batches} batches put back to pending, {ended} runs ended")


def _carry_out(instance: dg.DagsterInstance, engine: Engine, tenant: Tenant, import_id: str, *, wait: bool) -> int:
    if wait:
        return wait_for(instance, engine, tenant, import_id)
    say_who_carries_it_out(instance)
    return 0


@click.command("reconcile")
@click.argument("import_id", metavar="[IMPORT]", required=False)
@tenant_option
@json_option
def reconcile_(import_id: str | None, tenant: str | None, as_json: bool) -> int:
    """Compare every state with what is really so and mend it: one import, or all there is to compare.

    Safe at any time: the daemon does the same again and again. Imports that ended within a day are looked at too.
    """
    with dagster_instance() as instance:
        if import_id is not None:
            owner, engine, job = find_import(import_id)
            reports = [_report(owner.name, reconcile(instance, owner, engine, [job], finished_within=timedelta()))]
        else:
            known = resources.settings().tenant_names
            reports = [_reconciled(instance, name) for name in ([only_tenant(tenant)] if tenant else known)]
            everywhere = Findings()
            clear_vanished(instance, everywhere)
            reports += [_report("(not in the tenants file)", everywhere)] if everywhere.repairs else []
    if as_json:
        print_json(reports)
    else:
        for report in reports:
            _say(report)
    return 1 if any(report["error"] for report in reports) else 0


def _reconciled(instance: dg.DagsterInstance, name: str) -> dict[str, Any]:
    try:
        tenant, engine = read_tenant(name)
    except NsimportError as error:
        return {**_report(name, Findings()), "error": str(error)}
    with read_only(engine).connect() as connection:
        jobs = store.open_jobs(connection)
    return _report(name, reconcile(instance, tenant, engine, jobs, finished_within=LATELY))


def _report(tenant: str, found: Findings) -> dict[str, Any]:
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


def _say(report: dict[str, Any]) -> None:
    if report["error"]:
        click.echo(f"{report['tenant']}: {report['error']}", err=True)
        return
    compared = ", ".join(f"{count} {what}" for what, count in report["compared"].items())
    click.echo(f"{report['tenant']}: compared {compared or 'nothing'}")
    for line in report["repaired"] or ["nothing to repair"]:
        click.echo(f"  {line}")
    if report["to_start"]:
        click.echo(f"  {report['to_start']} runs to start: the wave sensor does it within seconds")
    for import_id, reason in report["imports"].items():
        click.echo(f"  {import_id}: {reason}")


def _now() -> datetime:
    return datetime.now(UTC)
