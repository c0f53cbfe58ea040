"""Invoices with their items, customers and lines: is every line there, and in how much memory?

Belongs here: the largest import there is, with derived types. Does not belong here: single record types
(``imports.py``).
"""

import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import sqlalchemy as sa

from nsimport_pipeline.netsuite.client import NetSuiteClient
from nsimport_pipeline.settings import Settings
from nsimport_pipeline.simulator.process import SimulatorProcess
from nsimport_pipeline_tests.benchmarks.imports import database, environment_of, peak_memory, simulated

LINES_PER_PARENT = 8
PARENTS_AT_ONCE = 2000
"""Ids whose lines are counted in one request; NetSuite answers with at most 1000 of them at a time."""
PARENTS = "t.type IN ('SalesOrd', 'CustInvc', 'ItemShip')"


def lines(count: int = 100_000) -> list[str]:
    """Import ``count`` transaction lines with all they need, through the command line and the real daemon."""
    parents = count // LINES_PER_PARENT
    rows = {
        "customer": parents // 10,
        "sales_order": parents // 4,
        "invoice": parents // 2,
        "item_fulfillment": parents // 4,
        "transaction_line": count,
    }
    with (
        tempfile.TemporaryDirectory() as directory,
        simulated(rows, latency=0, slots=5) as simulator,
        database() as url,
        peak_memory() as peaks,
    ):
        environment = environment_of(simulator, url, slots=5, directory=Path(directory))
        command = [sys.executable, "-m", "nsimport_pipeline", "import", "invoice", "transaction_line"]
        started = time.perf_counter()
        done = subprocess.run(
            [*command, "--tenant", "demo", "--wait"], env=environment, cwd=directory, capture_output=True, text=True
        )
        seconds = time.perf_counter() - started
        if done.returncode:
            raise RuntimeError(f"the import ended with {done.returncode}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
        there = lines_in_table(url)
        expected = lines_at_netsuite(simulator, Path(environment["NSIMPORT_TENANTS"]))
    different = sum(there[parent] != expected[parent] for parent in there.keys() | expected.keys())
    if different:
        raise RuntimeError(f"{different} of {len(expected)} parents have other lines than NetSuite")
    memory = ", ".join(f"{name} {size / 2**20:.0f} MB" for name, size in sorted(peaks.items()))
    return [
        f"{there.total():,} lines of {len(there):,} parents in {seconds:.0f} s; each parent has the lines NetSuite has",
        f"peak memory of one process: {memory}",
    ]


def lines_in_table(url: str) -> Counter[int]:
    """Lines of each parent in the database."""
    engine = sa.create_engine(url)
    with engine.connect() as connection:
        statement = sa.text("SELECT transaction_id, COUNT(*) FROM transaction_lines GROUP BY transaction_id")
        counted = Counter(dict(connection.execute(statement).all()))  # type: ignore[arg-type]
    engine.dispose()
    return counted


def lines_at_netsuite(simulator: SimulatorProcess, tenants: Path) -> Counter[int]:
    """Lines of each parent at the simulator."""
    counted: Counter[int] = Counter()
    with NetSuiteClient(Settings.load(tenants).tenant("demo")) as client:
        highest = int(client.query("SELECT MAX(t.transaction) AS high FROM transactionline t").items[0]["high"])
        for low in range(0, highest, PARENTS_AT_ONCE):
            statement = (
                "SELECT l.transaction AS parent, COUNT(*) AS n FROM transactionline l INNER JOIN transaction t"
                f" ON t.id = l.transaction WHERE {PARENTS} AND l.transaction > {low}"
                f" AND l.transaction <= {low + PARENTS_AT_ONCE} GROUP BY l.transaction ORDER BY l.transaction ASC"
            )
            for page in client.pages(statement):
                counted.update({int(item["parent"]): int(item["n"]) for item in page.items})
    return counted
