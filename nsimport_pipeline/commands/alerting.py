"""``nsimport alerts``: which alerts fire, and whether notices arrive.

Belongs here: the command. Does not belong here: rules and notices (``telemetry/``), or judging them (the alert sensor).
"""

from dataclasses import asdict
from datetime import UTC

import click

from nsimport_pipeline.commands.options import json_option, print_json, tenant_option
from nsimport_pipeline.defs import resources
from nsimport_pipeline.defs.tenants import read_tenant
from nsimport_pipeline.errors import ConfigurationError, NsimportError
from nsimport_pipeline.imports import store
from nsimport_pipeline.telemetry.alerts import Standing, body
from nsimport_pipeline.telemetry.notify import place, send
from nsimport_pipeline.warehouse.engine import read_only


class _Alerts(click.Group):
    """``alerts`` alone lists them."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        own = {"--help", "-h", *self.commands}
        return super().parse_args(ctx, args if args and args[0] in own else ["list", *args])


@click.group(cls=_Alerts, options_metavar="", subcommand_metavar="[list] [--tenant NAME] [--all] [--json] | test …")
def alerts() -> None:
    """Show the alerts that fire, or try whether notices arrive. docs/runbook.md says what each alert means.

    The daemon judges the rules every 30 seconds and sends what is new to the addresses under `alerts` in the tenants
    file.
    """


@alerts.command("list")
@tenant_option
@click.option("--all", "resolved", is_flag=True, help="Those of the last 30 days that are over, too.")
@json_option
def list_(tenant: str | None, resolved: bool, as_json: bool) -> int:
    """Show the alerts that fire, of all tenants or one."""
    found: list[tuple[str, Standing]] = []
    unread = False
    for name in _names(tenant):
        try:
            found += [(name, standing) for standing in _standing(name, resolved)]
        except NsimportError as error:
            if tenant is not None:
                raise
            unread = True
            click.echo(f"warning: tenant {name} cannot be read: {error}", err=True)
    if as_json:
        print_json([_document(name, standing) for name, standing in found])
    elif found:
        click.echo("\n\n".join(body(name, [standing]) for name, standing in found))
    else:
        click.echo("no alert is firing")
    return 1 if unread else 0


@alerts.command()
@tenant_option
@json_option
def test(tenant: str | None, as_json: bool) -> int:
    """Send a test notice to every address, of all tenants or one, and say for each whether it arrived."""
    addresses = [
        (name, number, secret.get_secret_value())
        for name in _names(tenant)
        for number, secret in enumerate(resources.settings().tenant(name).alerts, start=1)
    ]
    if not addresses:
        of = "any tenant" if tenant is None else f"tenant {tenant!r}"
        raise ConfigurationError(f"no address to send alerts of {of} to: name some under `alerts` in the tenants file")
    results = [
        {"tenant": name, "number": number, "address": place(to), "wrong": _try(name, to)}
        for name, number, to in addresses
    ]
    if as_json:
        print_json(results)
    else:
        for each in results:
            click.echo(f"{each['tenant']}: address {each['number']}, {each['address']}: {each['wrong'] or 'ok'}")
    return 1 if any(each["wrong"] for each in results) else 0


def _try(tenant: str, address: str) -> str | None:
    said = f"This is a test: alerts of tenant {tenant} arrive here. There is nothing to do."
    return send(address, f"nsimport {tenant}: test", said, None)


def _names(tenant: str | None) -> list[str]:
    return [tenant] if tenant is not None else resources.settings().tenant_names


def _standing(name: str, resolved: bool) -> list[Standing]:
    _, engine = read_tenant(name)
    with read_only(engine).connect() as connection:
        return list(store.standing_alerts(connection, name, resolved=resolved).values())


def _document(tenant: str, standing: Standing) -> dict[str, object]:
    values = asdict(standing)
    alert = values.pop("alert")
    moments = {
        name: None if at is None else f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%S}Z"
        for name in ("first_at", "last_at", "resolved_at")
        for at in [values.pop(name)]
    }
    return {"tenant": tenant, **alert, "severity": standing.alert.severity, **values, **moments}
