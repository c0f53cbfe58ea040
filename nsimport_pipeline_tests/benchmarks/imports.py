"""Whole imports, measured against the bound that NetSuite's slots set, and beside dlt.

Belongs here: starting the parts, measuring, the numbers. Does not belong here: pass or fail; times depend on the
machine, so every claim is a ratio of two measurements of one run.
"""

import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import sqlalchemy as sa
import yaml

from nsimport_pipeline.simulator.options import SimulatorOptions
from nsimport_pipeline.simulator.process import SimulatorProcess
from nsimport_pipeline_tests.mysql_server import fresh_database, mysql_server


@dataclass(frozen=True)
class Measured:
    """One import, from its first dispatch to its end."""

    records: int
    batches: int
    seconds: float
    first_batch_after: float
    """Seconds from the dispatch to the first batch's start: the run's process starting."""
    last_batch_to_end: float
    slot_seconds: float
    """Sum of the time batches held a slot."""
    phases: Mapping[str, float]
    """Seconds summed over batches: fetch, transform, write, slot_wait."""
    statements_per_batch: float
    peak_megabytes: float
    """Largest resident set of a run's process."""
    max_in_flight: int
    refused: int


@contextmanager
def simulated(rows: Mapping[str, int], *, latency: float, slots: int) -> Iterator[SimulatorProcess]:
    with tempfile.TemporaryDirectory() as directory:
        options = SimulatorOptions(
            rows={"*": 10, **rows}, latency=latency, slots=slots, credentials=Path(directory) / "simulator"
        )
        with SimulatorProcess(options) as simulator:
            yield simulator


@contextmanager
def database() -> Iterator[str]:
    """URL of an empty MariaDB database of a server of its own, durable at every commit."""
    given = os.environ.get("NSIMPORT_TEST_MYSQL_URL")
    if given:
        with fresh_database(given) as url:
            yield url
        return
    # dlt makes a staging database of its own, in the default character set of the server.
    with mysql_server("--character-set-server=utf8mb4") as server, fresh_database(server.url()) as url:
        yield url


def environment_of(simulator: SimulatorProcess, warehouse_url: str, *, slots: int, directory: Path) -> dict[str, str]:
    """An installation in ``directory`` with a tenant ``demo``: the environment of its commands."""
    tenants = yaml.safe_load(simulator.tenants_file.read_text())
    tenant = tenants["tenants"]["demo"]
    tenant |= {"warehouse_url": warehouse_url, "slots": slots}
    tenant["auth"]["private_key_file"] = str(simulator.credentials.rsa_key)
    (directory / "tenants.yaml").write_text(yaml.safe_dump(tenants))
    return {
        **os.environ,
        "NSIMPORT_TENANTS": str(directory / "tenants.yaml"),
        "DAGSTER_HOME": str(directory / "dagster"),
    }


def measure_import(
    simulator: SimulatorProcess, warehouse_url: str, record_type: str, *, slots: int, directory: Path
) -> Measured:
    """Import ``record_type`` alone through the command line and the real daemon."""
    environment = environment_of(simulator, warehouse_url, slots=slots, directory=directory)
    command = [sys.executable, "-m", "nsimport_pipeline", "import", record_type, "--tenant", "demo"]
    simulator.reset_stats()
    with peak_memory() as peaks:
        done = subprocess.run(
            [*command, "--no-dependencies", "--wait"], env=environment, cwd=directory, capture_output=True, text=True
        )
    if done.returncode:
        raise RuntimeError(f"the import ended with {done.returncode}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    stats = simulator.stats(log=False)
    return _read(warehouse_url, done.stdout.split()[0], peaks["run"] / 2**20, stats)


def _read(url: str, import_id: str, peak: float, stats: Mapping[str, Any]) -> Measured:
    engine = sa.create_engine(url)
    with engine.connect() as connection:
        row = connection.execute(
            sa.text(
                "SELECT SUM(rows_upserted), COUNT(*), MIN(started_at), MAX(finished_at), SUM(fetch_seconds),"
                " SUM(transform_seconds), SUM(write_seconds), SUM(slot_wait_seconds), AVG(statements),"
                " MIN(dispatched_at) FROM wave_batches WHERE import_id = :id"
            ),
            {"id": import_id},
        ).one()
        over = connection.execute(
            sa.text("SELECT finished_at FROM import_jobs WHERE import_id = :id"), {"id": import_id}
        ).scalar_one()
    engine.dispose()
    records, batches, started, ended, fetch, transform, write, waited, statements, dispatched = row
    return Measured(
        records=int(records),
        batches=batches,
        seconds=(over - dispatched).total_seconds(),
        first_batch_after=(started - dispatched).total_seconds(),
        last_batch_to_end=(over - ended).total_seconds(),
        slot_seconds=fetch + transform + write + waited,
        phases={"fetch": fetch, "transform": transform, "write": write, "slot_wait": waited},
        statements_per_batch=float(statements),
        peak_megabytes=peak,
        max_in_flight=int(stats["max_in_flight"]),
        refused=int(stats["statuses"].get("429", 0)),
    )


@contextmanager
def peak_memory() -> Iterator[dict[str, int]]:
    """The largest resident set of any process below this one, by what it is, while the block lasts."""
    peaks: dict[str, int] = {}
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(0.2):
            for process in psutil.Process().children(recursive=True):
                try:
                    name = _kind(process.cmdline())
                    peaks[name] = max(peaks.get(name, 0), process.memory_info().rss)
                except psutil.Error:
                    continue

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield peaks
    finally:
        stop.set()
        thread.join()


def _kind(command: list[str]) -> str:
    """What a process is; a run is one that Dagster's code server spawns."""
    text = " ".join(command)
    kinds = {"mariadbd": "database", "mysqld": "database", " simulate": "simulator", "spawn_main": "run"}
    return next((kind for word, kind in kinds.items() if word in text), "service")


def bound(batches: int, slots: int, latency: float) -> float:
    """Seconds that ``batches`` requests of ``latency`` seconds take at least, ``slots`` at a time."""
    return batches / slots * latency


def slot_bound(records: int = 137_705, slots: int = 5, latency: float = 1.0) -> list[str]:
    """One record type at NetSuite's pace: how close to the slots' bound?"""
    with (
        tempfile.TemporaryDirectory() as directory,
        simulated({"customer": records}, latency=latency, slots=slots) as sim,
        database() as url,
    ):
        got = measure_import(sim, url, "customer", slots=slots, directory=Path(directory))
    least = bound(got.batches, slots, latency)
    work = got.seconds - got.first_batch_after - got.last_batch_to_end
    return [
        f"{got.records:,} customers, {got.batches} batches, {slots} slots, {latency:g} s a request",
        f"bound {least:.1f} s, took {got.seconds:.1f} s: {got.seconds / least:.2f} x the bound",
        f"  until the first batch began {got.first_batch_after:.1f} s, batches {work:.1f} s ({work / least:.2f} x), "
        f"after the last one {got.last_batch_to_end:.1f} s",
        "  summed over batches: " + ", ".join(f"{name} {value:.1f} s" for name, value in got.phases.items()),
        f"  slots in use {got.slot_seconds / (work * slots):.0%} of the time; most in flight {got.max_in_flight}, "
        f"refused {got.refused}",
        f"  statements per batch {got.statements_per_batch:.1f}; a run's peak memory {got.peak_megabytes:.0f} MB",
    ]


def memory_growth() -> list[str]:
    """Does a run need more memory for a larger import?"""
    lines = []
    for records in (20_000, 200_000):
        with (
            tempfile.TemporaryDirectory() as directory,
            simulated({"customer": records}, latency=0, slots=5) as simulator,
            database() as url,
        ):
            got = measure_import(simulator, url, "customer", slots=5, directory=Path(directory))
        rate = got.records / (got.seconds - got.first_batch_after)
        lines.append(
            f"{got.records:,} records without latency: {rate:,.0f} rows/s once begun, "
            f"a run's peak memory {got.peak_megabytes:.0f} MB"
        )
    return lines
