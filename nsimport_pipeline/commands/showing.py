"""``nsimport status``, ``watch``, ``waves`` and ``slots``: looking at imports."""

import time
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from shutil import disk_usage
from typing import Any

import click
from rich.table import Table
from sqlalchemy import Engine

from nsimport_pipeline.commands.options import console, json_option, print_json, tenant_option, tenant_required
from nsimport_pipeline.commands.processes import daemon_runs
from nsimport_pipeline.commands.session import dagster_instance, ensure_dagster_home
from nsimport_pipeline.commands.steering import reset_waves
from nsimport_pipeline.commands.waiting import current_status, follow, print_summary, say_interrupted
from nsimport_pipeline.defs.resources import catalog
from nsimport_pipeline.defs.slots import free_slots_of_the_dead, slot_use, slots_of_the_dead
from nsimport_pipeline.defs.tenants import find_import, only_tenant, read_tenant
from nsimport_pipeline.imports import store
from nsimport_pipeline.imports.explain import Cause
from nsimport_pipeline.imports.next_steps import Step, in_words, of_surroundings
from nsimport_pipeline.imports.progress import Status
from nsimport_pipeline.imports.progress import status as status_of
from nsimport_pipeline.imports.rollout import switch
from nsimport_pipeline.settings import Tenant
from nsimport_pipeline.telemetry.performance import Performance, measure
from nsimport_pipeline.warehouse.engine import read_only

LATEST, MOST_NAMED = 20, 5
LEAST_FREE_BYTES = 1_000_000
"""A batch of rows takes about that much."""


@click.command()
@click.argument("import_id", metavar="[IMPORT]", required=False)
@tenant_option
@json_option
def status(import_id: str | None, tenant: str | None, as_json: bool) -> None:
    """Show one import, or the latest ones of a tenant: how far it is, and what it waits for."""
    if import_id is not None:
        found = _status(import_id)
        performance = _performance(import_id)
        found["performance"] = performance.document()
        if as_json:
            print_json(found)
        else:
            print_summary(found)
            click.echo(_slots_line(found["slots"]))
            click.echo("\n".join(performance.lines))
        return
    owner, engine = read_tenant(only_tenant(tenant))
    with read_only(engine).connect() as connection:
        jobs = store.latest_jobs(connection, LATEST)
        documents = [status_of(connection, job.import_id, datetime.now(UTC), catalog=catalog()) for job in jobs]
    if as_json:
        print_json(documents)
        return
    table = Table("import", "record types", "state", "progress", "started", box=None)
    table.columns[0].no_wrap = table.columns[4].no_wrap = True
    table.columns[0].overflow = table.columns[4].overflow = "ignore"
    for job, document in zip(jobs, documents, strict=True):
        if document is not None:
            table.add_row(
                job.import_id,
                _in_short(job.requested),
                document["state"],
                f"{document['progress']:.0%}",
                document["created_at"],
            )
    console.print(table if jobs else f"tenant {owner.name} has no imports yet")
    for step in _switched_off(owner, engine):
        console.print(in_words(step.document()), style="yellow", markup=False, soft_wrap=True)


@click.command()
@click.argument("import_id", metavar="IMPORT")
def watch(import_id: str) -> int:
    """Show an import's progress live until it is over. Ctrl-C stops watching, not the import."""
    tenant, engine, _ = find_import(import_id)
    with dagster_instance() as instance:
        try:
            print_summary(follow(instance, engine, tenant, import_id))
        except KeyboardInterrupt:
            say_interrupted(import_id)
            return 130
    return 0


class _Waves(click.Group):
    """``waves IMPORT`` shows them; ``waves reset`` is a command of its own."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        own = {"--help", "-h", *self.commands}
        return super().parse_args(ctx, args if not args or args[0] in own else ["show", *args])


@click.group(cls=_Waves, options_metavar="", subcommand_metavar="IMPORT [--stats] [--json] | reset IMPORT WAVE")
def waves() -> None:
    """Show the waves of an import, or put a stuck one's unfinished batches back to pending."""


waves.add_command(reset_waves)


@waves.command("show")
@click.argument("import_id", metavar="IMPORT")
@click.option("--stats", is_flag=True, help="Add how long waves took.")
@json_option
def show_waves(import_id: str, stats: bool, as_json: bool) -> None:
    """Show the waves of an import: level, state, batches done, failed and retried."""
    document = _status(import_id)
    if as_json:
        print_json(document["waves"])
        return
    headings = ["wave", "level", "state", "batches", "done", "failed", "retried", "dispatched", "finished"]
    table = Table(*headings, *(["seconds"] if stats else []), box=None)
    for wave in document["waves"]:
        row = [str(wave[key]) for key in ("number", "level", "state", "batches", "completed", "failed", "retried")]
        row += [wave["dispatched_at"] or "-", wave["completed_at"] or "-"]
        table.add_row(*row, *([_seconds(wave)] if stats else []))
    console.print(table)


@click.command()
@tenant_required
@click.option("--reset", is_flag=True, help="Free the slots of runs and commands that are dead.")
@json_option
def slots(tenant: str, reset: bool, as_json: bool) -> None:
    """Show a tenant's NetSuite slots: limit, in use, waiting, utilisation."""
    owner, _ = read_tenant(tenant)
    with dagster_instance() as instance:
        freed = free_slots_of_the_dead(instance, owner.name, time.time()) if reset else 0
        use = slot_use(instance, owner)
    document: dict[str, Any] = {
        "tenant": owner.name,
        **asdict(use),
        "utilisation": round(use.in_use / use.limit, 3),
        "freed": freed,
    }
    if as_json:
        print_json(document)
        return
    if reset:
        click.echo(f"{freed} slots of dead holders freed")
    click.echo(_slots_line(document))


def _status(import_id: str) -> Status:
    tenant, engine, _ = find_import(import_id)
    with dagster_instance() as instance:
        document = current_status(instance, engine, tenant, import_id)
        waiting = document["finished_at"] is None and not daemon_runs(instance, time.time())
        leaked = slots_of_the_dead(instance, tenant.name, time.time())
    if waiting:
        document["reason"] = f"{Cause.NO_DAEMON}; {document['reason']}"
    full = full_disks([ensure_dagster_home(), *([Path(str(engine.url.database))] if engine.name == "sqlite" else [])])
    around = of_surroundings(tenant.name, waiting=waiting, full_disks=full, leaked_slots=leaked)
    around += _switched_off(tenant, engine)
    document["next_steps"] = [*(step.document() for step in around), *document["next_steps"]]
    return document


def full_disks(places: Sequence[Path], least_bytes: int = LEAST_FREE_BYTES) -> list[str]:
    """Those of the files and directories whose disk has less than so much left: nothing can be written there."""
    return [str(place) for place in places if place.exists() and disk_usage(place).free < least_bytes]


def _in_short(record_types: Sequence[str]) -> str:
    """A schedule asks for all there are, and their names would fill the table."""
    more = len(record_types) - MOST_NAMED
    return ", ".join(record_types[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def _switched_off(tenant: Tenant, engine: Engine) -> list[Step]:
    found = switch(engine, tenant)
    why = None if found.on else found.why
    return of_surroundings(tenant.name, switched_off=why, by_flag=tenant.enabled == "database")


def _performance(import_id: str) -> Performance:
    tenant, engine, _ = find_import(import_id)
    with read_only(engine).connect() as connection:
        facts = store.import_facts(connection, import_id)
    assert facts is not None  # noqa: S101 it was found
    return measure(facts, datetime.now(UTC), slots=tenant.slots)


def _slots_line(slots: dict[str, Any]) -> str:
    return f"slots: {slots['in_use']} of {slots['limit']} in use, {slots['waiting']} waiting"


def _seconds(wave: dict[str, Any]) -> str:
    if not (wave["dispatched_at"] and wave["completed_at"]):
        return "-"
    took = datetime.fromisoformat(wave["completed_at"]) - datetime.fromisoformat(wave["dispatched_at"])
    return f"{took.total_seconds():.1f}"
