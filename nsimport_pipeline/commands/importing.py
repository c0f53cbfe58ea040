"""``nsimport plan``, ``import``, ``cancel``, ``resume`` and ``reconcile``: asking for an import and steering it."""

import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import click
import dagster as dg
from rich.table import Table
from sqlalchemy import Engine

from nsimport_pipeline.commands.options import console, json_option, print_json, tenant_option, tenant_required
from nsimport_pipeline.commands.processes import daemon_runs
from nsimport_pipeline.commands.session import dagster_instance, find_import, only_tenant, open_tenant
from nsimport_pipeline.commands.waiting import wait_for
from nsimport_pipeline.defs import resources
from nsimport_pipeline.defs.slots import SlottedClient, set_limit
from nsimport_pipeline.defs.wave_sensor import repair
from nsimport_pipeline.errors import ConfigurationError, RefusedError
from nsimport_pipeline.imports import store
from nsimport_pipeline.imports.plan import Plan, PlannedType, chosen_types, make_plan
from nsimport_pipeline.imports.records import ImportJob
from nsimport_pipeline.imports.settle import settle
from nsimport_pipeline.imports.start import Request, abandon, open_import, write_plan
from nsimport_pipeline.imports.states import OPEN_IMPORTS
from nsimport_pipeline.imports.steer import cancel_import, resume_import
from nsimport_pipeline.netsuite.client import NetSuiteClient
from nsimport_pipeline.netsuite.retrying import RetryPolicy
from nsimport_pipeline.record_types.criteria import Catalog
from nsimport_pipeline.settings import Tenant
from nsimport_pipeline.warehouse.engine import read_only
from nsimport_pipeline.warehouse.schema import ensure_table, target_table

ASKING = RetryPolicy(attempts=3, max_delay=2.0)
CONNECT_SECONDS = 5.0
"""Somebody waits for the plan: an account that cannot be reached is soon said to be so."""

record_types_argument = click.argument("record_types", nargs=-1, required=True)
no_dependencies_option = click.option(
    "--no-dependencies", is_flag=True, help="Only these record types, not those they depend on."
)
wave_size_option = click.option(
    "--wave-size",
    type=click.IntRange(1, 10_000),
    metavar="N",
    help="Batches per wave, instead of the tenant's setting.",
)
wait_option = click.option(
    "--wait", is_flag=True, help="Show progress until it is over; starts Dagster's daemon if none runs."
)


@click.command()
@record_types_argument
@tenant_required
@no_dependencies_option
@wave_size_option
@json_option
def plan(
    record_types: tuple[str, ...], tenant: str, no_dependencies: bool, wave_size: int | None, as_json: bool
) -> None:
    """Show what an import of RECORD_TYPES would do: counts, partitions, waves, requests, time. Writes nothing."""
    asked = _ask(record_types, tenant, no_dependencies, dry=True)
    with dagster_instance() as instance:
        set_limit(instance, asked.tenant.name, asked.tenant.slots)
        started = time.monotonic()
        made = _make_plan(asked, instance, wave_size, lambda planned: None)
        questions = sum(planned.requests for planned in made.types)
        # Questions are asked side by side; how long one took says how long a batch will.
        per_request = (time.monotonic() - started) / max(1, questions) * min(asked.tenant.slots, len(made.types) or 1)
    document = _plan_document(made, asked.tenant, per_request)
    if as_json:
        print_json(document)
    else:
        _print_plan(made, document)


@click.command("import")
@record_types_argument
@tenant_required
@click.option(
    "--mode", type=click.Choice(["full", "incremental"]), default="full", show_default=True, help="What to import."
)
@no_dependencies_option
@wave_size_option
@wait_option
def import_(
    record_types: tuple[str, ...], tenant: str, mode: str, no_dependencies: bool, wave_size: int | None, wait: bool
) -> int:
    """Import RECORD_TYPES and everything they depend on. Prints the import's id first.

    \b
    nsimport import sales_order --tenant acme --wait
    """
    if mode == "incremental":
        raise ConfigurationError("incremental imports are not available in this version: leave --mode out")
    asked = _ask(record_types, tenant, no_dependencies)
    with dagster_instance() as instance:
        job = start(asked, instance, wave_size)
        if wait:
            return wait_for(instance, asked.engine, asked.tenant, job.import_id)
        _say_who_carries_it_out(instance)
    return 0


@dataclass(frozen=True)
class Asked:
    """A checked request."""

    tenant: Tenant
    engine: Engine
    catalog: Catalog
    requested: tuple[str, ...]
    chosen: tuple[str, ...]


def start(asked: Asked, instance: dg.DagsterInstance, wave_size: int | None) -> ImportJob:
    """Open, plan and write down an import; it is carried out by whatever daemon runs. Prints id and plan."""
    tenant, engine = asked.tenant, asked.engine
    request = Request(asked.requested, asked.chosen, wave_size=wave_size)
    job = open_import(engine, tenant, request, now=_now(), suffix=secrets.token_hex(2))
    click.echo(job.import_id)
    try:
        set_limit(instance, tenant.name, tenant.slots)
        tables = {}
        for name in asked.chosen:
            record_type = resources.record_type(tenant, name)
            ensure_table(engine, record_type)
            tables[name] = target_table(record_type)
        made = _make_plan(asked, instance, wave_size, _tell_planned)
    except BaseException as error:
        abandon(engine, job, str(error) or "planning was interrupted", now=_now())
        raise
    job = write_plan(engine, job, made, tables=tables, now=_now())
    settle(engine, job.import_id, slots=tenant.slots, now=_now)
    console.print(
        f"planned: {made.records:,} records in {made.batches} batches and {len(made.waves)} waves", style="bold"
    )
    return job


def _ask(record_types: Sequence[str], tenant_name: str, no_dependencies: bool, *, dry: bool = False) -> Asked:
    """Check a request. ``dry``: without a look at the tenant's database, as opening it may create it."""
    catalog = resources.catalog()
    chosen = chosen_types(catalog, record_types, with_dependencies=not no_dependencies)
    if dry:
        tenant = resources.settings().enabled_tenant(tenant_name)
        engine = resources.warehouse(tenant)
    else:
        tenant, engine = open_tenant(tenant_name)
    for name in record_types:
        if not tenant.options(name).enabled:
            raise RefusedError(
                f"{name} is not enabled for tenant {tenant.name!r}: see record_types in the tenants file"
            )
    enabled = tuple(name for name in chosen if tenant.options(name).enabled)
    return Asked(tenant, engine, catalog, tuple(record_types), enabled)


def _make_plan(
    asked: Asked, instance: dg.DagsterInstance, wave_size: int | None, on_planned: Callable[[PlannedType], None]
) -> Plan:
    answer_seconds = float(asked.tenant.batch_timeout)
    with NetSuiteClient(asked.tenant, policy=ASKING, timeouts=(CONNECT_SECONDS, answer_seconds)) as client:
        return make_plan(
            asked.catalog,
            asked.chosen,
            client=SlottedClient(client, instance, asked.tenant.name, name=secrets.token_hex(4)),
            wave_size=wave_size or asked.tenant.wave_size,
            batch_sizes={name: asked.tenant.options(name).batch_size for name in asked.chosen},
            workers=asked.tenant.slots,
            on_planned=on_planned,
        )


def _tell_planned(planned: PlannedType) -> None:
    if planned.unavailable:
        console.print(f"  {planned.record_type}: left out: {planned.unavailable}", markup=False)
    else:
        console.print(f"  {planned.record_type}: {planned.records:,} records, {len(planned.ranges)} batches")


def _say_who_carries_it_out(instance: dg.DagsterInstance) -> None:
    if not daemon_runs(instance, time.time()):
        console.print("no Dagster daemon runs for this DAGSTER_HOME: `nsimport up` starts one and carries it out")


def _plan_document(made: Plan, tenant: Tenant, seconds_per_request: float) -> dict[str, object]:
    return {
        "tenant": tenant.name,
        "records": made.records,
        "partitions": made.batches,
        "waves": [{"number": wave.number, "level": wave.level, "batches": len(wave.ranges)} for wave in made.waves],
        "requests": made.requests,
        "planning_requests": sum(planned.requests for planned in made.types),
        "estimated_seconds": round(made.estimate(tenant.slots, seconds_per_request), 1),
        "record_types": [
            {
                "name": planned.record_type,
                "level": planned.level,
                "records": planned.records,
                "partitions": len(planned.ranges),
                "planning_requests": planned.requests,
                "unavailable": planned.unavailable,
            }
            for planned in made.types
        ],
    }


def _print_plan(made: Plan, document: dict[str, object]) -> None:
    table = Table("level", "record type", "records", "partitions", "", box=None)
    for planned in made.types:
        note = f"left out: {planned.unavailable}" if planned.unavailable else ""
        table.add_row(str(planned.level), planned.record_type, f"{planned.records:,}", str(len(planned.ranges)), note)
    console.print(table)
    console.print(
        f"\n{made.records:,} records, {made.batches} partitions, {len(made.waves)} waves, {made.requests} requests, "
        f"about {document['estimated_seconds']} s at the pace NetSuite answers now. Nothing was written."
    )


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
        repair(instance, tenant, engine, import_id, terminate=now)
    click.echo(f"{import_id} is being cancelled; `nsimport resume {import_id}` goes on with it")


@click.command()
@click.argument("import_id", metavar="IMPORT")
@wait_option
def resume(import_id: str, wait: bool) -> int:
    """Go on with a cancelled, failed or partly failed import from its last good batch."""
    tenant, engine, job = find_import(import_id)
    if not tenant.enabled:
        raise RefusedError(f"tenant {tenant.name!r} is not enabled")
    with dagster_instance() as instance:
        reopened = resume_import(engine, job, now=_now())
        click.echo(f"{import_id}: {reopened} batches to do")
        if wait:
            return wait_for(instance, engine, tenant, import_id)
        _say_who_carries_it_out(instance)
    return 0


@click.command()
@click.argument("import_id", metavar="[IMPORT]", required=False)
@tenant_option
@json_option
def reconcile(import_id: str | None, tenant: str | None, as_json: bool) -> None:
    """Compare every state with what is really so and repair it. Safe at any time; does again what the daemon does."""
    if import_id is not None:
        owner, engine, job = find_import(import_id)
        jobs = [job]
    else:
        owner, engine = open_tenant(only_tenant(tenant))
        with read_only(engine).connect() as connection:
            jobs = store.open_jobs(connection)
    with dagster_instance() as instance:
        report = {job.import_id: repair(instance, owner, engine, job.import_id, terminate=False) for job in jobs}
    if as_json:
        print_json(report)
        return
    for name, lines in report.items():
        for line in lines or ["nothing to repair"]:
            click.echo(f"{name}: {line}")
    if not report:
        click.echo("no import is open")


def _now() -> datetime:
    return datetime.now(UTC)
