"""A life carried out: what happens, an import after each stretch of time, and a look at every quiet moment.

Belongs here: the order of things, and what must be true. Does not belong here: what happens (``events.py``,
``company.py``), or how an import works (``importer.py``).
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Engine

from nsimport_pipeline.errors import ImportFailure
from nsimport_pipeline.imports.states import ImportState
from nsimport_pipeline.record_types.criteria import load_catalog
from nsimport_pipeline.simulator.options import SimulatorOptions
from nsimport_pipeline.simulator.process import SimulatorProcess
from nsimport_pipeline_tests.acceptance.reference import Row, differences, expected_rows, stored_value
from nsimport_pipeline_tests.life.company import Company
from nsimport_pipeline_tests.life.events import SWEPT, Life, Step
from nsimport_pipeline_tests.life.importer import Done, Importer
from nsimport_pipeline_tests.simulated_tenant import simulated_tenant

CATALOG = load_catalog()
RECORD_TYPES = (
    "customer", "customer_subsidiary", "non_inventory_item", "sales_order", "invoice", "transaction_line",
)  # fmt: skip
ROWS = {
    "*": 0, "subsidiary": 5, "employee": 20, "customer": 5500, "customer_subsidiary": 300, "non_inventory_item": 300,
    "sales_order": 300, "invoice": 400, "transaction_line": 3000,
}  # fmt: skip
"""Customers enough for five thousand of them to change in one second."""
PLAIN = frozenset(("string", "text", "integer", "reference", "json"))
"""Types whose values a driver gives as they are."""
OURS_AHEAD = timedelta(seconds=41)
"""Our clock is not NetSuite's."""
AGAIN = timedelta(minutes=2)
"""After which an import that failed at a quiet moment is made again."""
MOST_PROBLEMS = 20
Say = Callable[[str], None]


@dataclass
class Story:
    """What came of a life."""

    imports: Counter[str] = field(default_factory=Counter)
    """By state."""
    looks: int = 0
    rows_compared: int = 0
    rows_read: int = 0
    rows_written: int = 0
    deleted: int = 0
    sweeps: int = 0
    swept: int = 0
    """Rows that sweeps found to be gone."""
    requests: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    seconds: float = 0.0


def options(**more: Any) -> SimulatorOptions:
    """The simulated account of a life."""
    return SimulatorOptions(rows=ROWS | more.pop("rows", {}), **more)


class Course:
    """One company, one database, and the time."""

    def __init__(
        self, life: Life, simulator: SimulatorProcess, engine: Engine, *, overlap: timedelta, say: Say
    ) -> None:
        self.life, self.simulator, self.engine, self._say = life, simulator, engine, say
        self.story = Story()
        self._ever: dict[str, set[int]] = {name: set() for name in RECORD_TYPES}
        """The ids that each table had at a look."""
        self._now = life.begins
        """By NetSuite's clock."""
        tenant = simulated_tenant(
            simulator,
            timezone=simulator.options.timezone,
            slots=1,
            overlap=int(overlap.total_seconds()),
            retry_attempts=6,
        )
        self.importer = Importer(engine, tenant, RECORD_TYPES, now=lambda: self._now + OURS_AHEAD, wait=self._wait)

    def run(self) -> Story:
        """Everything, to the end or to the first moment at which something is wrong."""
        began = time.monotonic()
        self.company = Company(self.simulator)
        self._move(self.life.begins)
        self._note(self.importer.run("full"), None)
        self._look("after the full import")
        for number, step in enumerate(self.life.steps, start=1):
            self._step(step)
            if step.look:
                self._tell(step, number, (time.monotonic() - began) / 60)
            if self.story.problems:
                break
        self.story.seconds = time.monotonic() - began
        self.importer.close()
        return self.story

    def _tell(self, step: Step, number: int, minutes: float) -> None:
        story = self.story
        self._say(
            f"{step.at:%Y-%m-%d %H:%M} UTC: {number}/{len(self.life.steps)} imports, {story.rows_written:,} rows"
            f" written of {story.rows_read:,} read, {len(story.problems)} problems, {minutes:.1f} min"
        )

    def _step(self, step: Step) -> None:
        self.company.live(step.before)
        if step.at > self._now:
            self._move(step.at)
        self.simulator.set_faults(step.faults)
        if step.sweep:
            self._sweep(step)
        done = self.importer.run(meanwhile=lambda: self.company.live(step.meanwhile))
        self.simulator.set_faults("")
        self._note(done, step)
        if not step.look:
            return
        for _ in range(3):
            if done.state is ImportState.COMPLETED:
                break
            self._wait(AGAIN)
            done = self.importer.run()
            self._note(done, step)
        self._look(f"{step.at:%Y-%m-%d %H:%M} UTC")

    def _sweep(self, step: Step) -> None:
        try:
            self.story.swept += self.importer.sweep(SWEPT)
        except ImportFailure:
            self.simulator.set_faults("")
            self.story.swept += self.importer.sweep(SWEPT)
        self.simulator.set_faults(step.faults)
        self.story.sweeps += 1
        self.company.untold = set()

    def _note(self, done: Done, step: Step | None) -> None:
        story = self.story
        story.imports[done.state.value] += 1
        story.rows_read += done.rows_read
        story.rows_written += done.rows_written
        story.deleted += done.deleted
        stats = self.simulator.stats(log=False)
        story.requests += stats["requests"]
        story.statuses.update(stats["statuses"])
        self.simulator.reset_stats()
        if done.checks_failed:
            story.problems += [f"{done.import_id}: {check}" for check in done.checks_failed]
        elif done.state is not ImportState.COMPLETED and not (step and step.faults):
            story.problems.append(f"{done.import_id} ended as {done.state.value} without a fault: {done.reason}")

    def _look(self, when: str) -> None:
        """Compare every table with the source, value by value."""
        self.story.looks += 1
        # The independent reader signs by the machine's clock.
        self.simulator.set_clock(None)
        source = {name: expected_rows(self.simulator, CATALOG[name]) for name in RECORD_TYPES}
        self.simulator.set_clock(self._now)
        orders = source["sales_order"].keys() | source["invoice"].keys()
        lines = source["transaction_line"]
        source["transaction_line"] = {key: row for key, row in lines.items() if row["transaction_id"] in orders}
        problems = [f"{when}: {text}" for name in RECORD_TYPES for text in self._compare(name, source[name])]
        self.story.problems += problems[:MOST_PROBLEMS]
        self.simulator.reset_stats()

    def _compare(self, name: str, source: dict[int, Row]) -> Iterable[str]:
        record_type = CATALOG[name]
        with self.engine.connect() as connection:
            found = connection.execute(sa.text(f"SELECT * FROM {record_type.table}")).mappings()
            stored = [dict(row) for row in found]
        live = {row["refid"]: row for row in stored if row["deleted_at"] is None}
        for column in [one.name for one in record_type.fields if one.type not in PLAIN]:
            for row in live.values():
                row[column] = stored_value(record_type, column, row[column])
        marked = {row["refid"] for row in stored if row["deleted_at"] is not None}
        self.story.rows_compared += len(source)
        # What NetSuite does not tell is known after the next sweep, and no harm before.
        untold = self.company.untold if name == SWEPT else set()
        told = [{refid: row for refid, row in rows.items() if refid not in untold} for rows in (source, live)]
        yield from (f"{name}: {text}" for text in differences(*told))
        if len(stored) != len(live) + len(marked):
            yield f"{name}: {len(stored) - len(live) - len(marked)} rows are there twice"
        # Of a record that came and went between two imports nothing is known; all others that went are marked.
        if name in self.company.ever:
            unknown = marked - self.company.ever[name]
            yield from (
                f"{name}: {refid} is marked deleted, and never was in NetSuite" for refid in sorted(unknown)[:3]
            )
            self._ever[name] |= live.keys()
            lost = self._ever[name] - live.keys() - marked
            yield from (f"{name}: {refid} was there once, and is not marked but gone" for refid in sorted(lost)[:3])

    def _move(self, to: datetime) -> None:
        self._now = to
        self.simulator.set_clock(to)

    def _wait(self, time_of_it: timedelta) -> None:
        self._move(self._now + time_of_it)
