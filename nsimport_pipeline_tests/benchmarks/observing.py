"""What looking at an import costs it, and whether the time left that is shown is true.

Belongs here: the same steady import, looked at and not, in turns. Does not belong here: how fast it is
(``imports.py``).
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from statistics import mean
from typing import Any

import requests
import sqlalchemy as sa
import yaml

from nsimport_pipeline.commands.processes import free_port
from nsimport_pipeline.imports.progress import status
from nsimport_pipeline.record_types.criteria import load_catalog
from nsimport_pipeline_tests.benchmarks.imports import database, environment_of, simulated

RECORDS, BATCH_SIZE, SLOTS, LATENCY = 60_000, 100, 5, 0.5
ROUNDS = 3
LOOK_SECONDS, SCRAPE_SECONDS = 2.0, 5.0
MARKS = (0.25, 0.50, 0.75)
COMMAND = (sys.executable, "-m", "nsimport_pipeline")


def observing() -> list[str]:
    """Imports beside ``watch``, ``events --follow`` and a scraped ``metrics --serve``, and as many alone."""
    with (
        tempfile.TemporaryDirectory() as temporary,
        simulated({"customer": RECORDS}, latency=LATENCY, slots=SLOTS) as simulator,
        database() as url,
    ):
        directory = Path(temporary)
        environment = environment_of(simulator, url, slots=SLOTS, directory=directory)
        _set_batch_size(Path(environment["NSIMPORT_TENANTS"]))
        engine = sa.create_engine(url, poolclass=sa.NullPool)
        _import(engine, environment, directory, watched=False)  # the tables are made, and caches filled
        alone, watched, told = [], [], []
        for _ in range(ROUNDS):
            alone.append(_import(engine, environment, directory, watched=False)[0])
            seconds, samples = _import(engine, environment, directory, watched=True)
            watched.append(seconds)
            told.append(samples)
        engine.dispose()
    lines = [
        f"{RECORDS:,} customers in batches of {BATCH_SIZE}, {SLOTS} slots, {LATENCY:g} s a request, {ROUNDS} of each",
        f"alone {mean(alone):.1f} s ({min(alone):.1f} to {max(alone):.1f}), looked at {mean(watched):.1f} s "
        f"({min(watched):.1f} to {max(watched):.1f}): {mean(watched) / mean(alone) - 1:+.1%}",
    ]
    for mark in MARKS:
        ratios = ", ".join(f"{said / true:.2f}" for said, true in (samples[mark] for samples in told))
        lines.append(f"at {mark:.0%} the time left was said to be {ratios} times what it was")
    return lines


def _set_batch_size(tenants: Path) -> None:
    document = yaml.safe_load(tenants.read_text())
    document["tenants"]["demo"]["record_types"] = {"customer": {"batch_size": BATCH_SIZE}}
    tenants.write_text(yaml.safe_dump(document))


def _import(
    engine: sa.Engine, environment: Mapping[str, str], directory: Path, *, watched: bool
) -> tuple[float, dict[float, tuple[float, float]]]:
    """Seconds from the first dispatch to the end; at each mark the seconds left that were told, and the true ones."""
    command = [*COMMAND, "import", "customer", "--tenant", "demo", "--no-dependencies", "--wait"]
    samples: list[tuple[datetime, float, float]] = []
    with subprocess.Popen(
        command, env=dict(environment), cwd=directory, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        import_id = process.stdout.readline().strip()
        with _observers(environment, directory, import_id) if watched else ExitStack():
            while watched and process.poll() is None:
                samples += _sample(engine, import_id)
                time.sleep(LOOK_SECONDS)
            rest = process.stdout.read()
        if process.wait():
            raise RuntimeError(f"the import ended with {process.returncode}: {import_id} {rest[-2000:]}")
    with engine.connect() as connection:
        began, over = connection.execute(
            sa.text(
                "SELECT MIN(b.dispatched_at), MAX(j.finished_at) FROM wave_batches b"
                " JOIN import_jobs j ON j.import_id = b.import_id WHERE j.import_id = :id"
            ),
            {"id": import_id},
        ).one()
    told = {}
    for mark in MARKS if watched else ():
        at, _, left = next(sample for sample in samples if sample[1] >= mark)
        told[mark] = left, (over - at.replace(tzinfo=None)).total_seconds()
    return (over - began).total_seconds(), told


def _sample(engine: sa.Engine, import_id: str) -> list[tuple[datetime, float, float]]:
    """When, how much was done, and how many seconds were said to be left."""
    now = datetime.now(UTC)
    with engine.connect() as connection:
        found: Any = status(connection, import_id, now, catalog=load_catalog(), slots={"limit": SLOTS})
    known = found is not None and found["eta_seconds"] is not None
    return [(now, found["progress"], float(found["eta_seconds"]))] if known else []


@contextmanager
def _observers(environment: Mapping[str, str], directory: Path, import_id: str) -> Iterator[None]:
    """All that an operator may have open on an import."""
    port = free_port()
    commands = (("watch", import_id), ("events", import_id, "--follow"), ("metrics", "--serve", str(port)))
    processes = [
        subprocess.Popen(
            [*COMMAND, *command],
            env=dict(environment),
            cwd=directory,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for command in commands
    ]
    scraping = subprocess.Popen([sys.executable, "-c", _SCRAPER, f"http://127.0.0.1:{port}/metrics"])
    try:
        yield
    finally:
        answer = requests.get(f"http://127.0.0.1:{port}/metrics", timeout=30)
        for process in (*processes, scraping):
            process.terminate()
            process.wait()
        if "nsimport_" not in answer.text:
            raise RuntimeError("the metrics were not there to be scraped")


_SCRAPER = f"""
import sys, time, urllib.request
while True:
    time.sleep({SCRAPE_SECONDS})
    try:
        urllib.request.urlopen(sys.argv[1], timeout=30).read()
    except OSError:
        pass
"""
