"""``nsimport plan`` and ``import``: asking for an import.

Belongs here: options and what is said. Does not belong here: checking, planning and starting it
(``defs/starting.py``), or what is done to an import that is there (``steering.py``).
"""

import time

import click
import dagster as dg
from rich.table import Table

from nsimport_pipeline.commands.options import console, json_option, print_json, tell, tenant_required, wait_option
from nsimport_pipeline.commands.session import dagster_instance
from nsimport_pipeline.commands.waiting import say_who_carries_it_out, wait_for
from nsimport_pipeline.defs.starting import MOST_BATCHES, Asked, ask, in_short, start
from nsimport_pipeline.defs.starting import plan as make_plan
from nsimport_pipeline.defs.tenants import asking
from nsimport_pipeline.imports.plan import Plan
from nsimport_pipeline.imports.records import ImportJob, Mode
from nsimport_pipeline.settings import Tenant

record_types_argument = click.argument("record_types", nargs=-1, required=True)
no_dependencies_option = click.option(
    "--no-dependencies", is_flag=True, help="Only these record types, not those they depend on."
)
wave_size_option = click.option(
    "--wave-size",
    type=click.IntRange(1, MOST_BATCHES),
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
    asked = ask(record_types, tenant, dependencies=not no_dependencies, wave_size=wave_size, dry=True)
    with dagster_instance() as instance:
        started = time.monotonic()
        with asking(asked.tenant, instance, None) as (_, client):
            made = make_plan(asked, client, on_planned=lambda planned: None)
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
    "--mode",
    type=click.Choice(["full", "incremental"]),
    default="full",
    show_default=True,
    help="Every record, or only those changed since the last import.",
)
@no_dependencies_option
@wave_size_option
@wait_option
def import_(
    record_types: tuple[str, ...], tenant: str, mode: Mode, no_dependencies: bool, wave_size: int | None, wait: bool
) -> int:
    """Import RECORD_TYPES and everything they depend on. Prints the import's id first.

    \b
    nsimport import sales_order --tenant acme --wait
    """
    asked = ask(record_types, tenant, mode=mode, dependencies=not no_dependencies, wave_size=wave_size)
    with dagster_instance() as instance:
        job = begin(asked, instance)
        if wait:
            return wait_for(instance, asked.engine, asked.tenant, job.import_id)
        say_who_carries_it_out(instance)
    return 0


def begin(asked: Asked, instance: dg.DagsterInstance) -> ImportJob:
    """Start an import and print its id and its plan."""
    try:
        job, made = start(asked, instance, on_opened=tell, say=lambda line: console.print(line, markup=False))
    except KeyboardInterrupt:
        click.echo("\nit was still being planned: nothing was imported, ask for it again", err=True)
        raise
    console.print(in_short(made), style="bold")
    return job


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
