"""``nsimport cancel``, ``resume``, ``retry`` and ``reconcile``: what is done to an import that is there.

Belongs here: options and what is said. Does not belong here: the doing (``defs/steering.py``).
"""

from datetime import UTC, datetime

import click
import dagster as dg
from sqlalchemy import Engine

from nsimport_pipeline.commands.options import json_option, print_json, tenant_option, wait_option
from nsimport_pipeline.commands.session import dagster_instance
from nsimport_pipeline.commands.waiting import say_who_carries_it_out, wait_for
from nsimport_pipeline.defs import steering
from nsimport_pipeline.defs.reconcile import Findings, settle_import
from nsimport_pipeline.defs.standstill import put_anew
from nsimport_pipeline.defs.tenants import find_import
from nsimport_pipeline.errors import Category
from nsimport_pipeline.imports.rollout import require_on
from nsimport_pipeline.imports.steer import Retried, retry_import
from nsimport_pipeline.settings import Tenant


@click.command()
@click.argument("import_id", metavar="IMPORT")
@click.option("--now", is_flag=True, help="Also terminate its runs: batches in flight are rolled back.")
def cancel(import_id: str, now: bool) -> None:
    """Cancel an import. Batches in flight finish and count; nothing new starts. `nsimport resume` goes on later."""
    tenant, engine, job = find_import(import_id)
    with dagster_instance() as instance:
        if steering.cancel(instance, tenant, engine, job, terminate=now):
            click.echo(f"{import_id} is being cancelled; `nsimport resume {import_id}` goes on with it")
        else:
            click.echo(f"{import_id} is over already: {job.state.value}")


@click.command()
@click.argument("import_id", metavar="IMPORT")
@wait_option
def resume(import_id: str, wait: bool) -> int:
    """Go on with a cancelled, failed or partly failed import from its last good batch."""
    tenant, engine, job = find_import(import_id)
    with dagster_instance() as instance:
        reopened = steering.resume(tenant, engine, job)
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

    A derived record type that could not be planned is planned anew. Batches that never began are left to
    `nsimport resume`. A batch is fetched whole: rows that fit the table now are written, the others are rejected again.
    """
    if rejected and category:
        raise click.UsageError("--category is about failed batches, --rejected about rows: give one of them")
    tenant, engine, job = find_import(import_id)
    require_on(engine, tenant)
    with dagster_instance() as instance:
        kind = Category(category) if category else None
        retried = retry_import(engine, job, category=kind, rejected=rejected, now=_now())
        click.echo(f"{import_id}: {_what(retried, category, rejected)}")
        if not retried.batches and not retried.planned_anew:
            return 0
        return _carry_out(instance, engine, tenant, import_id, wait=wait)


def _what(retried: Retried, category: str | None, rejected: bool) -> str:
    if rejected:
        if not retried.batches:
            return "nothing to retry: it holds no rejected rows"
        return f"{retried.batches} batches with {retried.rejected} rejected rows are fetched again"
    if retried.planned_anew:
        return f"{retried.batches} failed batches are tried again; planned anew: {', '.join(retried.planned_anew)}"
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
        batches, ended = put_anew(instance, engine, job, wave)
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
        reports = steering.reconciled(instance, import_id, tenant)
    if as_json:
        print_json(reports)
    else:
        for report in reports:
            for line in steering.in_lines(report):
                click.echo(line, err=report["error"] is not None)
    return 1 if any(report["error"] for report in reports) else 0


def _now() -> datetime:
    return datetime.now(UTC)
