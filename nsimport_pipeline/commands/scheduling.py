"""``nsimport schedules``: when imports begin by themselves, and who is behind."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import click
from rich.table import Column, Table

from nsimport_pipeline.commands.options import console, json_option, print_json, tenant_option
from nsimport_pipeline.commands.session import dagster_instance
from nsimport_pipeline.defs import resources
from nsimport_pipeline.defs.behind import paces, runs_of_schedules
from nsimport_pipeline.errors import ConfigurationError
from nsimport_pipeline.imports.behind import Pace, Runs

AT_ONCE = 32
"""Tenants looked at side by side: a database that does not answer keeps nobody else waiting."""


@click.command()
@tenant_option
@json_option
def schedules(tenant: str | None, as_json: bool) -> None:
    """Show schedules: when each begins next, up to when its tables are in step, who is behind, why, and what to type.

    \b
    in step    what was changed by the last moment that is long enough ago is in the tables
    behind     it is not
    off        nothing begins: not enabled, or switched off
    unknown    the tenant's database does not answer
    """
    names = [tenant] if tenant is not None else resources.settings().tenant_names
    now = datetime.now(UTC)
    with dagster_instance() as instance:
        runs = runs_of_schedules(instance)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        looks = list(pool.map(lambda name: _look(runs, name, now), names))
    found = [pace for look in looks if not isinstance(look, ConfigurationError) for pace in look]
    wrong = [look for look in looks if isinstance(look, ConfigurationError)]
    if tenant is not None and wrong:
        raise wrong[0]
    if as_json:
        print_json([pace.document(now) for pace in found])
    elif found:
        _print(found)
    else:
        console.print("no schedule: `schedules` in the tenants file is empty (docs/configuration.md)")
    for error in wrong:
        click.echo(f"error: {error}", err=True)


def _look(runs: Mapping[str, Runs], tenant: str, now: datetime) -> list[Pace] | ConfigurationError:
    try:
        return paces(runs, tenant, now)
    except ConfigurationError as error:
        return error


def _print(found: list[Pace]) -> None:
    name = Column("schedule", no_wrap=True)
    table = Table(name, "mode", "cron", "state", "next", "in step until", "last tick", box=None)
    for pace in found:
        tick = pace.last_tick
        table.add_row(
            f"{pace.tenant}/{pace.schedule}",
            pace.mode,
            f"{pace.cron} {pace.timezone}",
            pace.state.replace("_", " "),
            _minute(pace.next_at),
            _minute(pace.in_step_until),
            "-" if tick is None else f"{_minute(tick.at)}{'' if tick.said is None else ' skipped'}",
        )
    console.print(table)
    for pace in found:
        if pace.why:
            console.print(str(pace), style="yellow", markup=False, soft_wrap=True)


def _minute(moment: datetime | None) -> str:
    return "-" if moment is None else f"{moment:%Y-%m-%d %H:%M}Z"
