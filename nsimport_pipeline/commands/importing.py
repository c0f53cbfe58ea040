"""``nsimport plan`` and ``import``: asking for an import.

Belongs here: checking a request, planning it, writing it down. Does not belong here: what is done to an import that
is there (``steering.py``).
"""

import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import click
import dagster as dg
from rich.table import Table
from sqlalchemy import Engine

from nsimport_pipeline.commands.options import console, json_option, print_json, tenant_required, wait_option
from nsimport_pipeline.commands.probing import probe_planned
from nsimport_pipeline.commands.session import asking, dagster_instance, open_tenant
from nsimport_pipeline.commands.waiting import say_who_carries_it_out, wait_for
from nsimport_pipeline.defs import resources
from nsimport_pipeline.defs.slots import SlottedClient
from nsimport_pipeline.errors import ConfigurationError, RefusedError
from nsimport_pipeline.imports.plan import Plan, PlannedType, chosen_types, make_plan
from nsimport_pipeline.imports.records import ImportJob
from nsimport_pipeline.imports.settle import settle
from nsimport_pipeline.imports.snapshot import Rules
from nsimport_pipeline.imports.start import Request, abandon, open_import, write_plan
from nsimport_pipeline.record_types.criteria import Catalog
from nsimport_pipeline.settings import Tenant
from nsimport_pipeline.warehouse.schema import ensure_table, target_table

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
        started = time.monotonic()
        with asking(asked.tenant, instance, None) as (_, client):
            made = _make_plan(asked, client, wave_size, lambda planned: None)
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
        say_who_carries_it_out(instance)
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
    try:
        click.echo(job.import_id)
        tables = {}
        for name in asked.chosen:
            record_type = resources.record_type(tenant, name)
            for change in ensure_table(engine, record_type):
                if change.kind != "created":
                    console.print(str(change), markup=False)
            tables[name] = target_table(record_type)
        with asking(tenant, instance, engine) as clients:
            made = _make_plan(asked, clients[1], wave_size, _tell_planned, late=True)
            probe_planned(engine, tenant, job, made, instance, clients)
    except BaseException as error:
        abandon(engine, job, str(error) or "planning was interrupted", now=_now())
        if isinstance(error, KeyboardInterrupt):
            click.echo("\nit was still being planned: nothing was imported, ask for it again", err=True)
        raise
    job = write_plan(engine, job, made, tables=tables, now=_now())
    settle(engine, job.import_id, rules=Rules.of(tenant), now=_now)
    console.print(
        f"planned: {made.records:,} records in {made.batches} batches and {len(made.waves)} waves",
        style="bold",
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
    asked: Asked,
    client: SlottedClient,
    wave_size: int | None,
    on_planned: Callable[[PlannedType], None],
    *,
    late: bool = False,
) -> Plan:
    return make_plan(
        asked.catalog,
        asked.chosen,
        client=client,
        wave_size=wave_size or asked.tenant.wave_size,
        batch_sizes={name: asked.tenant.options(name).batch_size for name in asked.chosen},
        workers=asked.tenant.slots,
        late=late,
        on_planned=on_planned,
    )


def _tell_planned(planned: PlannedType) -> None:
    if planned.unavailable:
        state = "denied" if planned.denied else "left out"
        console.print(f"  {planned.record_type}: {state}: {planned.unavailable}", markup=False)
    elif not planned.planned:
        console.print(f"  {planned.record_type}: about {planned.records:,} records, planned when its parents are in")
    else:
        console.print(f"  {planned.record_type}: {planned.records:,} records, {len(planned.ranges)} batches")


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
                "denied": planned.denied,
            }
            for planned in made.types
        ],
    }


def _print_plan(made: Plan, document: dict[str, object]) -> None:
    table = Table("level", "record type", "records", "partitions", "", box=None)
    for planned in made.types:
        note = f"{'denied' if planned.denied else 'left out'}: {planned.unavailable}" if planned.unavailable else ""
        table.add_row(str(planned.level), planned.record_type, f"{planned.records:,}", str(len(planned.ranges)), note)
    console.print(table)
    console.print(
        f"\n{made.records:,} records, {made.batches} partitions, {len(made.waves)} waves, {made.requests} requests, "
        f"about {document['estimated_seconds']} s at the pace NetSuite answers now. Nothing was written."
    )


def _now() -> datetime:
    return datetime.now(UTC)
