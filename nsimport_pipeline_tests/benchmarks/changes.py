"""A few changed records among ever more: what does an incremental import cost?

Belongs here: filling tables of several sizes by a full import, and counting what an incremental one does. Does not
belong here: whether what it did is right (``life/``).

Imports are made in this process, without Dagster (``life/importer.py``).
"""

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Engine

from nsimport_pipeline.simulator.options import SimulatorOptions
from nsimport_pipeline.simulator.process import SimulatorProcess
from nsimport_pipeline.warehouse.engine import make_engine
from nsimport_pipeline_tests.benchmarks.imports import database
from nsimport_pipeline_tests.life.importer import Importer
from nsimport_pipeline_tests.simulated_tenant import simulated_tenant

RECORD_TYPE, TABLE = "inventory_item", "item"
CHANGED = 50
BEGAN = datetime(2031, 7, 2, 7, tzinfo=UTC)
"""Later than any record that the simulated account has at first."""
OF_ALL_TYPES = 2
"""Requests of an import that are not for a record type: what time it is, and what was deleted."""


@dataclass
class Measured:
    """One incremental import."""

    rows: int
    written: int
    requests: int
    statements: int
    fetched: int
    """Rows that the database sent."""
    looked_at: int
    """Rows that the database read for that, by its own count."""
    seconds: float
    """Processor time of this process, which does not depend on what else the machine does."""


def changes(sizes: str = "10000,100000,1000000") -> list[str]:
    """Change records spread over the whole table, and follow; for tables of these sizes."""
    lines = []
    measured = [one for size in sizes.split(",") for one in _measure(int(size))]
    for what, found in (("50 changed", measured[::2]), ("nothing changed", measured[1::2])):
        lines.append(f"{what}:")
        for one in found:
            lines.append(
                f"  among {one.rows:>9,}: {one.requests} requests for the record type, {one.statements} statements,"
                f" {one.fetched:,} rows fetched from the database, {one.looked_at:,} looked at by it,"
                f" {one.written} written, {one.seconds / found[0].seconds:.2f} x the processor time of the first"
            )
    return lines


def _measure(size: int) -> Iterator[Measured]:
    with tempfile.TemporaryDirectory() as directory, database() as url:
        options = SimulatorOptions(rows={"*": 0, RECORD_TYPE: size}, credentials=Path(directory) / "simulator")
        with SimulatorProcess(options) as simulator:
            engine = make_engine(url, pool_size=8)
            moment = [BEGAN]

            def wait(seconds: timedelta) -> None:
                moment[0] += seconds

            importer = Importer(
                engine,
                simulated_tenant(simulator, timezone=simulator.options.timezone, slots=2),
                [RECORD_TYPE],
                now=lambda: moment[0],
                wait=wait,
            )

            def at(later: timedelta) -> None:
                moment[0] = BEGAN + later
                simulator.set_clock(moment[0])

            at(timedelta(0))
            began = time.perf_counter()
            done = importer.run("full")
            if done.rows_written != size or done.checks_failed:
                raise RuntimeError(f"{done.state.value}: {done.rows_written} of {size} rows, {done.checks_failed}")
            print(f"full import of {size:,}: {time.perf_counter() - began:.0f} s", flush=True)
            at(timedelta(minutes=15))
            importer.run()  # whatever is done only once
            stamp = f"TIMESTAMP '{BEGAN + timedelta(minutes=20):%Y-%m-%d %H:%M:%S}'"
            numbered = f"(SELECT id, row_number() OVER (ORDER BY id) AS n FROM {TABLE})"
            changed = simulator.sql(
                f"UPDATE {TABLE} SET mpn = 'changed', lastmodifieddate = {stamp} WHERE id IN"
                f" (SELECT id FROM {numbered} WHERE n % ({size} // {CHANGED}) = 1)"
            )
            if changed != [CHANGED]:
                raise RuntimeError(f"{changed} records were changed, and not {CHANGED}")
            at(timedelta(minutes=30))
            yield _counted(importer, simulator, engine, size, CHANGED)
            at(timedelta(days=3))
            importer.run()  # the last one for which the overlap reaches back to them
            at(timedelta(days=3, minutes=15))
            yield _counted(importer, simulator, engine, size, 0)
            importer.close()


def _counted(importer: Importer, simulator: SimulatorProcess, engine: Engine, size: int, changed: int) -> Measured:
    simulator.reset_stats()
    with engine.connect() as connection:
        before = _looked_at(connection)
        connection.rollback()
        with _watched(engine) as counted:
            began = time.process_time()
            done = importer.run()
            seconds = time.process_time() - began
            statements, fetched = counted
        looked_at = _looked_at(connection) - before
    if done.rows_written != changed:
        raise RuntimeError(f"{done.rows_written} rows were written where {changed} had changed: {done}")
    requests = simulator.stats(log=False)["requests"] - OF_ALL_TYPES
    return Measured(size, done.rows_written, requests, statements, fetched, looked_at, seconds)


def _looked_at(connection: sa.Connection) -> int:
    """Rows that the server has read so far, for whomever; that costs some itself."""
    found = connection.exec_driver_sql("SHOW GLOBAL STATUS LIKE 'Handler_read%%'")
    return sum(int(value) for name, value in found if name != "Handler_read_rnd_deleted")


@contextmanager
def _watched(engine: Engine) -> Iterator[list[int]]:
    """Statements and the rows they brought, in two numbers that grow."""
    counted = [0, 0]

    def after(_connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        counted[0] += 1
        counted[1] += max(0, cursor.rowcount) if statement.lstrip()[:6].upper() == "SELECT" else 0

    sa.event.listen(engine, "after_cursor_execute", after)
    try:
        yield counted
    finally:
        sa.event.remove(engine, "after_cursor_execute", after)
