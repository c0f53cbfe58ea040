"""``nsimport prune``: forgetting finished imports.

Belongs here: what is asked and said, Dagster's runs. Does not belong here: which imports may go (``imports/prune.py``).
"""

import re
from datetime import UTC, datetime, timedelta

import click
import dagster as dg

from nsimport_pipeline.commands.options import json_option, print_json, tenant_option
from nsimport_pipeline.commands.session import dagster_instance
from nsimport_pipeline.defs import names
from nsimport_pipeline.defs.tenants import only_tenant, read_tenant
from nsimport_pipeline.imports import store
from nsimport_pipeline.imports.prune import prunable
from nsimport_pipeline.warehouse.engine import read_only

_UNITS = {"d": 1, "w": 7}


def _age(_context: click.Context, _parameter: click.Parameter, value: str) -> timedelta:
    match = re.fullmatch(r"(\d{1,5})([dw])", value)
    if match is None:
        raise click.BadParameter(f"{value!r} is no age: write days or weeks, such as 90d or 12w")
    return timedelta(days=int(match[1]) * _UNITS[match[2]])


@click.command()
@click.option("--older-than", "age", callback=_age, required=True, metavar="AGE", help="90d or 12w: ended longer ago.")
@click.option("--yes", is_flag=True, help="Delete. Without it, only what would go is shown.")
@tenant_option
@json_option
def prune(age: timedelta, yes: bool, tenant: str | None, as_json: bool) -> None:
    """Forget finished imports: their batches, events, errors, rejected rows, and their runs in Dagster.

    Shows what would go; --yes deletes it. Imported tables are never touched, nor the newest whole import of a record
    type, an open one, key ranges or watermarks. May be broken off and run again at any time.
    """
    owner, engine = read_tenant(only_tenant(tenant))
    with read_only(engine).connect() as connection:
        chosen = prunable(store.finished_imports(connection), datetime.now(UTC) - age)
    rows = runs = 0
    with dagster_instance() as instance:
        for number, import_id in enumerate(chosen, 1):
            if not yes:
                runs += len(_runs(instance, import_id))
                continue
            # Dagster's first: as long as the import is there, the next prune finds what is left.
            runs += _delete_runs(instance, import_id)
            with engine.begin() as connection:
                rows += store.delete_import(connection, import_id)
            if not as_json:
                click.echo(f"{number} of {len(chosen)}: {import_id} forgotten")
    if as_json:
        print_json({"tenant": owner.name, "imports": chosen, "runs": runs, "rows": rows, "deleted": yes})
    elif yes:
        click.echo(f"{owner.name}: {len(chosen)} imports, {runs} runs and {rows} control rows deleted")
    else:
        for import_id in chosen:
            click.echo(import_id)
        click.echo(f"{owner.name}: {len(chosen)} imports with {runs} runs would be deleted; --yes does it")


def _runs(instance: dg.DagsterInstance, import_id: str) -> list[dg.DagsterRun]:
    """Those that worked for an import, and those that started, cancelled or resumed it."""
    return [
        run for tag in (names.IMPORT, names.STEERS) for run in instance.get_runs(dg.RunsFilter(tags={tag: import_id}))
    ]


def _delete_runs(instance: dg.DagsterInstance, import_id: str) -> int:
    found = _runs(instance, import_id)
    for run in found:
        instance.delete_run(run.run_id)
    return len(found)
