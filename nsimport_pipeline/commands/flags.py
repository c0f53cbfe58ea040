"""``nsimport flags``: the rollout switch of each tenant."""

from dataclasses import asdict
from datetime import UTC, datetime

import click
from rich.table import Table
from sqlalchemy.exc import SQLAlchemyError

from nsimport_pipeline.commands.options import console, json_option, print_json, tenant_option
from nsimport_pipeline.defs import resources
from nsimport_pipeline.defs.tenants import only_tenant, read_tenant
from nsimport_pipeline.errors import ConfigurationError, NsimportError
from nsimport_pipeline.imports.rollout import Switch, set_flag, switch
from nsimport_pipeline.warehouse.errors import classify


@click.command()
@tenant_option
@click.option("--on/--off", "on", default=None, help="Switch the tenant on or off in its database.")
@json_option
def flags(tenant: str | None, on: bool | None, as_json: bool) -> None:
    """Show which tenants may begin imports and what decides it; switch one on or off.

    \b
    enabled: true | false     the tenants file decides
    enabled: database         the flag in the tenant's database does: --on, --off

    Open imports go on either way; cancel them with `nsimport cancel`.
    """
    if on is not None:
        _set(only_tenant(tenant), on)
    names = [tenant] if tenant is not None else resources.settings().tenant_names
    found = {name: _switch(name) for name in names}
    if as_json:
        print_json([{"tenant": name, **asdict(state)} for name, state in found.items()])
        return
    table = Table("tenant", "imports", "decided by", box=None)
    for name, state in found.items():
        table.add_row(name, "on" if state.on else "off", state.why)
    console.print(table)


def _set(name: str, on: bool) -> None:
    tenant, engine = read_tenant(name)
    if tenant.enabled != "database":
        raise ConfigurationError(
            f"tenant {name!r} has enabled: {str(tenant.enabled).lower()} in the tenants file, which decides; "
            "set it to `enabled: database` to have the flag decide"
        )
    set_flag(engine, name, on, now=datetime.now(UTC))


def _switch(name: str) -> Switch:
    """The switch of a tenant; off, with the cause, where it cannot be looked at."""
    try:
        tenant = resources.settings().tenant(name)
        return switch(resources.warehouse(tenant), tenant)
    except NsimportError as error:
        return Switch(False, str(error))
    except SQLAlchemyError as error:
        return Switch(False, str(classify(error)))
