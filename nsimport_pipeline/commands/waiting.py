"""Watching an import until it is over, live in a terminal, line by line elsewhere.

Belongs here: the loop, the picture, the summary. Does not belong here: counting (``imports/progress.py``).
"""

import contextlib
import fcntl
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from typing import IO, Any

import click
import dagster as dg
from rich.console import Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text
from sqlalchemy import Engine

from nsimport_pipeline.commands.options import console, tell
from nsimport_pipeline.commands.processes import LOGS, Services, daemon_command, daemon_runs, forget_daemons
from nsimport_pipeline.commands.session import ensure_dagster_home
from nsimport_pipeline.defs.resources import catalog
from nsimport_pipeline.defs.slots import slot_use
from nsimport_pipeline.errors import NsimportError
from nsimport_pipeline.imports.estimate import time_in_words
from nsimport_pipeline.imports.next_steps import in_words
from nsimport_pipeline.imports.progress import Status, status
from nsimport_pipeline.imports.states import OPEN_IMPORTS
from nsimport_pipeline.settings import Tenant
from nsimport_pipeline.warehouse.engine import read_only

REFRESH_SECONDS = 0.5
LINE_SECONDS = 5.0
"""Where there is no terminal, a line is printed this often at most."""
LOOK_SECONDS = 5.0
"""How often it is looked whether a daemon runs."""
_OPEN = {state.value for state in OPEN_IMPORTS}
_EXIT_CODES = {"completed": 0, "completed_with_failures": 3}


def wait_for(instance: dg.DagsterInstance, engine: Engine, tenant: Tenant, import_id: str) -> int:
    """Watch an import until it is over and print its summary. Returns the exit code its end stands for.

    Starts a daemon if none runs for this DAGSTER_HOME, and stops what it started, as soon as nobody else waits.
    """
    with _Daemon(instance) as daemon:
        try:
            daemon.ensure()
            document = follow(instance, engine, tenant, import_id, meanwhile=daemon.ensure)
        except KeyboardInterrupt:
            say_interrupted(import_id)
            code = 130
        else:
            print_summary(document)
            code = _EXIT_CODES.get(document["state"], 1)
        daemon.stay()
    return code


def say_interrupted(import_id: str) -> None:
    """Ctrl-C ends the looking; whoever pressed it is told that, and how to end the import."""
    click.echo(
        f"\ninterrupted; the import is not: it goes on as long as a Dagster daemon runs (`nsimport up`).\n"
        f"  nsimport watch {import_id}    looks at it again\n"
        f"  nsimport cancel {import_id}   ends it",
        err=True,
    )


def say_who_carries_it_out(instance: dg.DagsterInstance) -> None:
    """For a command that does not wait: nothing happens as long as no daemon runs."""
    if not daemon_runs(instance, time.time()):
        console.print("no Dagster daemon runs for this DAGSTER_HOME: `nsimport up` starts one and carries it out")


def follow(
    instance: dg.DagsterInstance,
    engine: Engine,
    tenant: Tenant,
    import_id: str,
    *,
    meanwhile: Callable[[], None] = lambda: None,
) -> Status:
    """Show progress until the import is over; returns its last status. ``meanwhile`` is called again and again."""
    if console.is_terminal:
        with Live(console=console, refresh_per_second=4, transient=True) as live:
            for document in _documents(instance, engine, tenant, import_id, meanwhile):
                live.update(picture(document, console.width, console.height))
        return document
    told, line = float("-inf"), ""
    for document in _documents(instance, engine, tenant, import_id, meanwhile):
        new = (
            f"{document['progress']:.0%} {document['state']}: {document['reason']} "
            f"({document['records_per_second']:,.0f} records/s{_left(document)}, slots {document['slots']['in_use']}"
            f"/{document['slots']['limit']})"
        )
        if new != line and time.monotonic() - told >= LINE_SECONDS:
            told, line = time.monotonic(), new
            tell(line)
    return document


def _documents(
    instance: dg.DagsterInstance, engine: Engine, tenant: Tenant, import_id: str, meanwhile: Callable[[], None]
) -> Iterator[dict[str, Any]]:
    while True:
        document = current_status(instance, engine, tenant, import_id)
        yield document
        if document["state"] not in _OPEN:
            return
        meanwhile()
        time.sleep(REFRESH_SECONDS)


def current_status(instance: dg.DagsterInstance, engine: Engine, tenant: Tenant, import_id: str) -> Status:
    """The status document of an import, with the tenant's slots. Raises NsimportError if the import is gone."""
    use = slot_use(instance, tenant)
    with read_only(engine).connect() as connection:
        document = status(connection, import_id, datetime.now(UTC), catalog=catalog(), slots=asdict(use))
    if document is None:
        raise NsimportError(f"import {import_id} is gone from the database")
    return document


class _Daemon:
    """A daemon as long as this lasts: one that is there, or our own once there is none or it has ended.

    Whoever waits holds a shared lock of this DAGSTER_HOME, which the system takes back however the process ends. Our
    own daemon is stopped under the exclusive one: it works for the others too. Another lock is held by whoever started
    a daemon, as that takes a while to show life.
    """

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self._instance = instance
        self._services = Services()
        self._looked_at = float("-inf")

    def __enter__(self) -> "_Daemon":
        home = ensure_dagster_home()
        self._lock, self._owner = (home / "waiting.lock").open("w"), (home / "daemon.lock").open("w")
        fcntl.flock(self._lock, fcntl.LOCK_SH)
        return self

    def __exit__(self, *_: object) -> None:
        if self._services.running:
            self._services.stop()
            forget_daemons(self._instance)
        self._owner.close()
        self._lock.close()

    def stay(self) -> None:
        """If the daemon is our own, keep it until no other command waits for an import. Ctrl-C ends that."""
        told = False
        with contextlib.suppress(KeyboardInterrupt):
            while self._services.running and not self._alone():
                if not told:
                    click.echo("another command waits for an import: the daemon stays until that is over", err=True)
                    told = True
                self.ensure()
                time.sleep(REFRESH_SECONDS)

    def _alone(self) -> bool:
        """Whether nobody else waits; then nobody else begins to before this is over."""
        fcntl.flock(self._lock, fcntl.LOCK_UN)
        return _locked(self._lock)

    def ensure(self) -> None:
        """Start a daemon if none shows life. Looks every few seconds."""
        if time.monotonic() - self._looked_at < LOOK_SECONDS:
            return
        self._looked_at = time.monotonic()
        if self._services.running:
            self._services.revive()
        elif not daemon_runs(self._instance, time.time()) and _locked(self._owner):
            home = ensure_dagster_home()
            console.print(f"starting Dagster's daemon (its log: {home / LOGS / 'daemon.log'})", style="dim")
            self._services.add("daemon", daemon_command(), home / LOGS)


def _locked(file: IO[str]) -> bool:
    """Take the exclusive lock of a file if nobody has one."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def picture(document: Status, width: int, height: int = 24) -> Group:
    """Bars for record types and waves, slots, rate and time left, within ``width`` columns and ``height`` lines."""
    bar = max(8, min(40, width - 62))
    shown, hidden = _most_telling(document["record_types"], max(3, height - 7))
    types = Table(box=None, padding=(0, 1, 0, 0), show_header=False)
    for _ in range(5):
        types.add_column(no_wrap=True, overflow="ellipsis")
    for record_type in shown:
        batches, records = record_type["batches"], record_type["records"]
        total = batches["total"]
        done = batches["completed"] + batches["failed"] + batches["cancelled"]
        waiting = record_type["state"] == "pending"
        types.add_row(
            f"{record_type['level']}",
            record_type["name"],
            ProgressBar(total=max(1, total), completed=done if total or waiting else 1, width=bar),
            Text(f"{records['imported']:,}/{records['expected']:,}", justify="right"),
            Text(record_type["state"].replace("completed_with_failures", "with failures"),
                 style=_style(record_type["state"])),
        )  # fmt: skip
    slots = document["slots"]
    line = Text.assemble(
        "slots  ",
        ("■" * slots["in_use"], "cyan"),
        ("□" * max(0, slots["limit"] - slots["in_use"]), "dim"),
        f"  {document['progress']:.0%}  {document['records_per_second']:,.0f} records/s{_left(document)}",
    )
    told = [Text(f"  and {hidden} more record types", style="dim")] if hidden else []
    return Group(
        Text(document["import_id"], style="bold"),
        types,
        *told,
        _waves_line(document["waves"], bar),
        line,
        Text(document["reason"], style="dim"),
    )


def _most_telling(types: list[Any], most: int) -> tuple[list[Any], int]:
    """As many record types as there is room for, in their order: those at work first, then those to come."""
    ranks = {"running": 0, "failed": 1, "completed_with_failures": 1, "pending": 2}
    chosen = sorted(range(len(types)), key=lambda place: (ranks.get(types[place]["state"], 3), place))[:most]
    return [types[place] for place in sorted(chosen)], len(types) - len(chosen)


def _waves_line(waves: list[Any], bar: int) -> Table:
    """How many waves are over, and those at work."""
    over = sum(wave["state"] in ("completed", "failed", "cancelled") for wave in waves)
    working = [wave for wave in waves if wave["state"] in ("dispatching", "processing")]
    told = "  ".join(f"{wave['number']} ({wave['completed']}/{wave['batches']})" for wave in working)
    line = Table(box=None, padding=(0, 1, 0, 0), show_header=False)
    for _ in range(3):
        line.add_column(no_wrap=True, overflow="ellipsis")
    bar_of_waves = ProgressBar(total=max(1, len(waves)), completed=over, width=bar)
    line.add_row("waves ", bar_of_waves, Text.assemble(f"{over} of {len(waves)}  ", (told, "cyan")))
    return line


def _left(document: Status) -> str:
    seconds = document["eta_seconds"]
    if seconds is None or document["state"] not in _OPEN:
        return ""
    return f", about {time_in_words(seconds)} left"


def print_summary(document: Status) -> None:
    """What came of an import: a table of record types, and one line."""
    table = Table("record type", "NetSuite", "imported", "rejected", "batches", "state", "complete", box=None)
    for column in table.columns[1:5]:
        column.justify = "right"
    for record_type in document["record_types"]:
        records, batches = record_type["records"], record_type["batches"]
        complete = {True: "yes", False: "NO", None: "-"}[record_type["in_sync"]]
        table.add_row(
            record_type["name"],
            f"{records['expected']:,}",
            f"{records['imported']:,}",
            f"{records['rejected']:,}",
            f"{batches['completed']}/{batches['total']}",
            Text(record_type["state"], style=_style(record_type["state"])),
            Text(complete, style="red" if complete == "NO" else ""),
        )
    console.print(table)
    for record_type in document["record_types"]:
        for key, check in record_type["checks"].items():
            if not check["passed"] and key != "complete":
                said = f"{record_type['name']}: {key}: {check['detail']}"
                console.print(said, style="yellow", markup=False, soft_wrap=True)
    console.print(
        f"{document['import_id']}: {document['state']}: {document['reason']} "
        f"({document['records_per_second']:,.0f} records/s)",
        style=_style(document["state"]),
        markup=False,
        soft_wrap=True,
    )
    for step in document["next_steps"]:
        console.print(in_words(step), style="yellow", markup=False, soft_wrap=True)


def _style(state: str) -> str:
    return {
        "completed": "green",
        "completed_with_failures": "yellow",
        "failed": "red",
        "denied": "red",
        "cancelled": "yellow",
        "running": "cyan",
        "processing": "cyan",
        "dispatching": "cyan",
    }.get(state, "dim")
