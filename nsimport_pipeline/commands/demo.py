"""``nsimport demo``: a whole import with nothing but this project, and a check that all of it arrived."""

import click
from rich.table import Table
from sqlalchemy import Engine

from nsimport_pipeline.commands.importing import begin
from nsimport_pipeline.commands.options import console
from nsimport_pipeline.commands.processes import LOGS, Services
from nsimport_pipeline.commands.services import use_simulator
from nsimport_pipeline.commands.session import dagster_instance, ensure_dagster_home
from nsimport_pipeline.commands.waiting import wait_for
from nsimport_pipeline.defs.starting import ask
from nsimport_pipeline.record_types.criteria import Catalog
from nsimport_pipeline.warehouse.deletes import live_rows
from nsimport_pipeline.warehouse.engine import location, read_only
from nsimport_pipeline.warehouse.schema import target_table

WAVE_SIZE = 10
"""Small, so that there are waves to be seen."""


@click.command()
@click.option("--scale", default=1.0, show_default=True, help="Company size; 1 is about 30,000 records.")
@click.option("--latency", default=0.2, show_default=True, metavar="SECONDS", help="Simulated time of one request.")
def demo(scale: float, latency: float) -> int:
    """Import a simulated company's sales orders and all they depend on, and check that every record arrived.

    Starts a NetSuite simulator and Dagster's daemon, and stops them at the end. `nsimport up --simulator` shows the
    result in Dagster's UI.
    """
    home = ensure_dagster_home()
    services = Services()
    try:
        console.print("starting a NetSuite simulator", style="dim")
        address = use_simulator(services, scale=scale, latency=latency, slots=5)
        asked = ask(["sales_order"], "demo", wave_size=WAVE_SIZE)
        engine = asked.engine
        with dagster_instance() as instance:
            job = begin(asked, instance)
            code = wait_for(instance, engine, asked.tenant, job.import_id)
        complete = _check(engine, asked.catalog, asked.request.chosen, address) if code == 0 else False
    finally:
        services.stop()
    if not complete:
        console.print(f"the demo did not arrive at a complete copy; logs: {home / LOGS}", style="red")
        return code or 1
    console.print(f"\nThe data:  {location(engine.url)}")
    console.print("Look at it in Dagster's UI:  make up   then open http://127.0.0.1:3000")
    return 0


def _check(engine: Engine, catalog: Catalog, chosen: tuple[str, ...], address: str) -> bool:
    """Whether every table has as many rows as the simulated account has records."""
    from nsimport_pipeline.simulator.process import SimulatorControl

    there = SimulatorControl(address).record_types()
    complete = True
    table = Table("table", "NetSuite", "here", "", box=None)
    with read_only(engine).connect() as connection:
        for name in chosen:
            here = live_rows(connection, target_table(catalog[name]), None)
            good = here == there[name]
            complete &= good
            table.add_row(catalog[name].table, f"{there[name]:,}", f"{here:,}", "complete" if good else "INCOMPLETE")
    console.print()
    console.print(table)
    return complete
