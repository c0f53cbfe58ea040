"""``nsimport record-types`` and ``nsimport graph``: what can be imported, and in which order."""

from typing import Any

import click
from rich.table import Table

from nsimport_pipeline.commands.options import console, json_option, print_json, tenant_option
from nsimport_pipeline.commands.probing import account_of, print_account
from nsimport_pipeline.defs import resources
from nsimport_pipeline.errors import ConfigurationError, RefusedError
from nsimport_pipeline.record_types.criteria import RecordType
from nsimport_pipeline.record_types.graph import closure, generations, levels


@click.command()
@click.argument("name", required=False)
@tenant_option
@click.option("--probe", is_flag=True, help="Ask the tenant's account again what it has, and keep the answers.")
@json_option
def record_types(name: str | None, tenant: str | None, probe: bool, as_json: bool) -> None:
    """List record types with level, dependencies, table and key; with NAME, one and its columns.

    The built-in ones, and those in the directory that NSIMPORT_CRITERIA_PATH names. With --tenant, what its account is
    known to have of them: available, unavailable (a feature is off), denied (the role may not see it), and the columns
    that are left out, each with why; and how much is asked for at once, if full pages were too slow. Every import asks
    about what was not asked before; --probe asks again.
    """
    if probe and tenant is None:
        raise ConfigurationError("--probe needs --tenant: whose account is to be asked?")
    catalog = resources.catalog()
    level_of = levels(catalog)
    chosen = [catalog.require(name)] if name else sorted(catalog.values(), key=lambda r: (level_of[r.name], r.name))
    account = None
    if tenant is not None:
        options = resources.settings().tenant(tenant)
        chosen = [resources.record_type(options, one.name) for one in chosen if options.options(one.name).enabled]
        if not chosen:
            raise RefusedError(f"{name} is not enabled for tenant {tenant!r}: see record_types in the tenants file")
        account = account_of(tenant, chosen, probe=probe)
    if as_json:
        documents = [
            _document(one, level_of[one.name]) | ({"account": account[one.name]} if account is not None else {})
            for one in chosen
        ]
        print_json(documents[0] if name else documents)
        return
    headings = ("record type", "level", "family", "table", "from", "key", "depends on")
    table = Table(*headings, *(("account",) if account is not None else ()), box=None)
    for one in chosen:
        row = (one.name, str(level_of[one.name]), one.family, one.table, one.source.from_, one.source.key)
        state = (account[one.name]["state"],) if account is not None else ()
        table.add_row(*row, ", ".join(one.upstream) or "-", *state)
    console.print(table)
    if account is not None:
        print_account(account)
    if name:
        _print_fields(chosen[0])


def _print_fields(record_type: RecordType) -> None:
    console.print(f"\n{record_type.description}\n", markup=False)
    table = Table("column", "type", "NetSuite", "references", "description", box=None)
    for field in record_type.fields:
        source = field.expression or field.source or field.name
        table.add_row(field.name, field.type, source, field.references or "", field.description)
    console.print(table)


def _document(record_type: RecordType, level: int) -> dict[str, Any]:
    return {
        "name": record_type.name,
        "level": level,
        "family": record_type.family,
        "table": record_type.table,
        "key": record_type.source.key,
        "source": record_type.source.from_,
        "dependencies": list(record_type.dependencies),
        "derived_from": list(record_type.derived_from),
        "description": record_type.description,
        "fields": [field.model_dump(exclude_none=True) for field in record_type.fields],
    }


@click.command()
@click.argument("record_types", nargs=-1, required=True)
@click.option("--mermaid", is_flag=True, help="Print a Mermaid flowchart.")
@json_option
def graph(record_types: tuple[str, ...], mermaid: bool, as_json: bool) -> None:
    """Show the dependency levels of RECORD_TYPES and everything they need.

    A level is imported when all levels below it are finished.
    """
    catalog = resources.catalog()
    names = closure(catalog, record_types)
    groups = generations(catalog, names)
    edges = [(upstream, name) for name in names for upstream in catalog[name].upstream]
    if as_json:
        print_json(
            {
                "levels": [{"level": level, "record_types": group} for level, group in enumerate(groups)],
                "edges": [list(edge) for edge in edges],
            }
        )
    elif mermaid:
        click.echo("flowchart LR")
        for upstream, name in edges:
            click.echo(f"  {upstream} --> {name}")
        for name in names:
            if not any(name in edge for edge in edges):
                click.echo(f"  {name}")
    else:
        for level, group in enumerate(groups):
            click.echo(f"level {level}: {', '.join(group)}")
