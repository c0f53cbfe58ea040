"""``nsimport sweep``: rows whose records NetSuite does not have any more.

Belongs here: options and what is said. Does not belong here: the doing (``defs/sweeping.py``).
"""

from collections.abc import Iterable

import click
from rich.table import Table

from nsimport_pipeline.commands.options import console, json_option, print_json, tenant_required
from nsimport_pipeline.commands.session import dagster_instance
from nsimport_pipeline.defs import sweeping
from nsimport_pipeline.defs.tenants import read_tenant
from nsimport_pipeline.imports.records import Sweep


@click.command()
@click.argument("record_types", nargs=-1)
@tenant_required
@click.option("--last", is_flag=True, help="Only show what the last sweeps came to; NetSuite is not asked.")
@json_option
def sweep(record_types: tuple[str, ...], tenant: str, last: bool, as_json: bool) -> int:
    """Mark rows deleted whose records NetSuite does not have any more, of RECORD_TYPES or all that can be swept.

    For deletions that NetSuite does not tell of in deletedrecord, which imports of changes go by. Keys are compared,
    by counts and sums of ranges first: a table that is in step costs one request. Each row is asked for by its id
    before it is marked. Safe beside imports, and after being interrupted: the next sweep does the rest.

    Records that NetSuite has and the table lacks are counted as missing; the next import brings them. Transaction
    lines go with their transactions.

    \b
    nsimport sweep --tenant acme
    nsimport sweep invoice customer --tenant acme
    """
    if last:
        found = sweeping.last(read_tenant(tenant)[1])
        done = [found[name] for name in record_types or found if name in found]
    else:
        asked = sweeping.ask(record_types, tenant)
        with dagster_instance() as instance:
            say = (lambda line: None) if as_json else (lambda line: console.print(line, markup=False, soft_wrap=True))
            done = sweeping.sweep_all(asked, instance, say=say)
    if as_json:
        print_json({"tenant": tenant, "record_types": [sweeping.document(one) for one in done]})
    else:
        console.print(_table(done) if done else f"tenant {tenant}: {_none(last)}")
    return 1 if any(one.failure for one in done) and not last else 0


def _none(last: bool) -> str:
    return "nothing was swept yet" if last else "no record type was imported whole yet, so there is nothing to sweep"


def _table(done: Iterable[Sweep]) -> Table:
    table = Table("record type", "swept", "rows", "deleted", "missing", "requests", "", box=None)
    for one in done:
        ended = "not at its end" if one.finished_at is None else f"{one.finished_at:%Y-%m-%d %H:%M:%S} UTC"
        numbers = (f"{number:,}" for number in (one.compared, one.deleted, one.missing, one.requests))
        note = one.failure or ("the next import loads all records" if one.drifted else "")
        table.add_row(one.record_type, ended, *numbers, note)
    return table
