"""``nsimport events`` and ``report``: what happened to an import, in the order of time, and as a page."""

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
import orjson
from sqlalchemy import Engine

from nsimport_pipeline.commands.options import json_option, print_json
from nsimport_pipeline.defs.tenants import find_import
from nsimport_pipeline.errors import ConfigurationError
from nsimport_pipeline.imports import store
from nsimport_pipeline.imports.states import OPEN_IMPORTS
from nsimport_pipeline.telemetry import events as shown
from nsimport_pipeline.telemetry.facts import Event
from nsimport_pipeline.warehouse.engine import read_only

FOLLOW_SECONDS = 1.0
LATE = timedelta(minutes=2)
"""An event is told that late at most after the moment it bears: that of its transaction's beginning, not its end."""


@click.command()
@click.argument("import_id", metavar="IMPORT")
@click.option("--follow", is_flag=True, help="Go on with what happens until the import is over.")
@click.option("--last", metavar="N", type=click.IntRange(1), help="Only the last N of what has happened so far.")
@json_option
def events(import_id: str, follow: bool, last: int | None, as_json: bool) -> None:
    """Show what happened to an import: plan, waves, batches, retries, waits, its end.

    With --follow and --json each event is one line of JSON.
    """
    _, engine, _ = find_import(import_id)
    found, is_open = _read(engine, import_id, None)
    seen = set(found)
    if as_json and not follow:
        print_json([shown.document(event) for event in found[-(last or 0) :]])
        return
    _print(found[-(last or 0) :], as_json)
    while follow and is_open:
        time.sleep(FOLLOW_SECONDS)
        since = datetime.now(UTC) - LATE
        found, is_open = _read(engine, import_id, since)
        _print([event for event in found if event not in seen], as_json)
        seen = {event for event in seen if event.at >= since} | set(found)


@click.command()
@click.argument("import_id", metavar="IMPORT")
@click.option("--html", "file", metavar="FILE", required=True, type=click.Path(dir_okay=False, path_type=Path))
def report(import_id: str, file: Path) -> None:
    """Write a self-contained page about an import: totals, timeline, throughput, failures, rejected rows."""
    from nsimport_pipeline.telemetry.report import report as page

    tenant, engine, _ = find_import(import_id)
    with read_only(engine).connect() as connection:
        facts = store.import_facts(connection, import_id)
    assert facts is not None  # noqa: S101 it was found
    text = page(facts, datetime.now(UTC), slots=tenant.slots)
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"--html {file}: cannot be written: {error.strerror}") from None
    click.echo(f"{file} ({len(text) / 1000:,.0f} kB)")


def _read(engine: Engine, import_id: str, since: datetime | None) -> tuple[list[Event], bool]:
    with read_only(engine).connect() as connection:
        # The state first: what was written before the end is then among the events.
        job = store.find_job(connection, import_id)
    with read_only(engine).connect() as connection:
        return store.events(connection, import_id, since), job is not None and job.state in OPEN_IMPORTS


def _print(events: list[Event], as_json: bool) -> None:
    for event in events:
        click.echo(orjson.dumps(shown.document(event)).decode() if as_json else shown.line(event))
