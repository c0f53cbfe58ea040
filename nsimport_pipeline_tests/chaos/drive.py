"""Carrying a schedule out: one import on one lane of an installation, struck as planned, mended as a person would.

Belongs here: starting, striking, resuming, waiting for the end, keeping a log of it. Does not belong here: what is
drawn (``plan.py``), processes (``installation.py``), or what must hold afterwards (``verify.py``).
"""

import json
import re
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import sqlalchemy as sa

from nsimport_pipeline.record_types.criteria import load_catalog
from nsimport_pipeline.simulator.options import SimulatorOptions
from nsimport_pipeline.simulator.process import SimulatorProcess
from nsimport_pipeline_tests.acceptance.reference import Row, expected_rows, read_suiteql
from nsimport_pipeline_tests.chaos.installation import Installation
from nsimport_pipeline_tests.chaos.plan import DENIED, LINES, REQUEST_TIMEOUT, SOURCES, Blow, Plan

IMPATIENCE: dict[str, Any] = {
    "wave_timeout": 300,
    "retries": {
        "timeout": {"in_run_delay": 0.3, "later_delay": 1},
        "api_unavailable": {"in_run_delay": 0.3, "later_delay": 1},
        "unknown": {"later_delay": 1},
        "longest_delay": 5,
    },
    "circuit": {"probe_delay": 1, "longest_probe_delay": 3},
}
"""Settings of every tenant here: what takes minutes otherwise takes seconds, and nothing else is different."""
OVER = {"completed", "completed_with_failures", "failed", "cancelled"}
PATIENCE = 600.0
"""Seconds that an import may take; on a machine with nothing else to do the slowest took a fifth of it."""
WIND_DOWN = 150.0
"""Seconds that a cancelled import may take to be over: a code server that was killed just then, without which no tick
says so, is replaced by Dagster's daemon a minute later."""
PAST_THE_END = 50_000_000
"""Ids beyond any that the simulator gives."""
LINES_PER_ORDER = 3
EDITED = "edited while it was imported"
Rows = dict[str, dict[int, Row]]


@dataclass
class Story:
    """What was done, and what came of it: all that ``verify.py`` looks at."""

    plan: Plan
    lane: str
    url: str
    import_id: str = ""
    before: Rows = field(default_factory=dict)
    """Rows that the tables would have held before the import began, by record type and id."""
    after: Rows = field(default_factory=dict)
    statistics: dict[str, Any] = field(default_factory=dict)
    """The simulator's, from the beginning of the import."""
    began: float = 0.0
    """When the statistics began, in seconds since the epoch."""
    planning_requests: int = 0
    status: dict[str, Any] = field(default_factory=dict)
    struck: list[Blow] = field(default_factory=list)
    killed: int = 0
    """Runs whose process was killed."""
    resumed: int = 0
    cancels: list[tuple[bool, float, float]] = field(default_factory=list)
    """For each cancel: whether with ``--now``, when the command was given, and when the import was over."""
    problems: list[str] = field(default_factory=list)
    log: list[str] = field(default_factory=list)
    seconds: float = 0.0


class TooLateError(Exception):
    """A blow came when the import was over, and began another one: what there is now says nothing about the first."""


class Drive:
    """One seed on one lane."""

    def __init__(self, plan: Plan, installation: Installation, lane: str, url: str) -> None:
        self.plan, self.installation, self.lane = plan, installation, lane
        self.story = Story(plan, lane, url)
        self._engine = sa.create_engine(url, pool_size=1)
        self._random = Random(f"drive {plan.seed}")
        self._started = time.monotonic()
        self._denied = plan.denied

    def run(self) -> Story:
        """Everything from the simulator's start to the end of the import. Problems on the way are in the story."""
        plan, story = self.plan, self.story
        directory = self.installation.directory / plan.name.replace(" ", "-")
        options = SimulatorOptions(
            credentials=Path(directory),
            rows={"*": 8, **plan.rows, **({LINES: LINES_PER_ORDER * plan.rows["sales_order"]} if plan.derived else {})},
            latency=plan.latency,
            slots=plan.slots + plan.spare,
            seed=plan.seed,
        )
        with SimulatorProcess(options) as self.simulator:
            story.before = self._source()
            self._gaps = {table: self._free_ids(table) for table, _ in {SOURCES[name] for name in plan.rows}}
            self.tell("the account is there")
            self.installation.occupy(self.lane, self._settings(options))
            try:
                story.began = time.time()
                self.simulator.reset_stats()
                if self._begin():
                    self._go_on()
                story.statistics = self.simulator.stats()
                self.simulator.set_faults("")
                story.after = self._source() if plan.edits else story.before
                self._engine.dispose()
            finally:
                story.seconds = time.monotonic() - self._started
        return story

    def tell(self, text: str) -> None:
        self.story.log.append(f"{time.monotonic() - self._started:7.2f}  {text}")

    def _source(self) -> Rows:
        catalog = load_catalog()
        found = {name: expected_rows(self.simulator, catalog[name]) for name in self.plan.record_types}
        if self.plan.derived:
            orders = found["sales_order"]
            found[LINES] = {refid: row for refid, row in found[LINES].items() if row["transaction_id"] in orders}
        return found

    def _free_ids(self, table: str) -> set[int]:
        """Ids that no row of a NetSuite table has, between the first and the last."""
        if not self.plan.edits:
            return set()
        ids = [
            int(row["id"])
            for row in read_suiteql(self.simulator, f"SELECT t.id AS id FROM {table} t ORDER BY t.id ASC")
        ]
        return set(range(ids[0], ids[-1])) - set(ids)

    def _settings(self, options: SimulatorOptions) -> dict[str, Any]:
        plan = self.plan
        return {
            "account": options.account,
            "base_url": self.simulator.base_url,
            "auth": getattr(self.simulator.credentials, plan.auth),
            "warehouse_url": self.story.url,
            "slots": plan.slots,
            "timezone": options.timezone,
            "wave_size": plan.wave_size,
            "completion_threshold": plan.completion_threshold,
            "retry_attempts": plan.retry_attempts,
            "request_timeout": REQUEST_TIMEOUT,
            **IMPATIENCE,
            "record_types": {name: {"batch_size": plan.batch_size} for name in plan.record_types},
        }

    # The import

    def _begin(self) -> bool:
        """Ask for the import until it is planned."""
        if self.plan.early:
            self._set_faults()
        arguments = ("import", *self.plan.record_types, "--no-dependencies", "--tenant", self.lane)
        for _ in range(8):
            code, output, errors = self.installation.nsimport(*arguments)
            if code == 0:
                self.story.import_id = output.splitlines()[0]
                self.story.planning_requests = self.simulator.stats(log=False)["kinds"].get("suiteql", 0)
                self.tell(f"planned {self.story.import_id}")
                if not self.plan.early:
                    self._set_faults()
                return True
            self.tell(f"not planned ({code}): {errors.strip()}")
            if self._denied and "login" in errors:
                self._allow()
            left_behind = re.search(r"already being imported .* by (\S+):", errors)
            if left_behind:
                # Planned by a command that had no database any more to say that it gave up.
                self.tell(f"cancel: {self.installation.nsimport('cancel', left_behind[1])}")
            time.sleep(1.5)
        self.story.problems.append(f"the import could not be planned: {errors.strip()}")
        return False

    def _set_faults(self) -> None:
        self.simulator.set_faults(",".join([*([DENIED] if self._denied else []), *self.plan.faults]))

    def _allow(self) -> None:
        """Mend the login, as an operator does who was told."""
        self._denied = False
        self._set_faults()

    def _go_on(self) -> None:
        waiting = list(self.plan.blows)
        deadline = time.monotonic() + PATIENCE
        due: float | None = None
        while time.monotonic() < deadline:
            found = self._look()
            if found is None:
                time.sleep(0.3)
                continue
            state, settled = found
            if state in OVER and self._ended(state):
                return
            if waiting and settled >= waiting[0].at:
                due = due if due is not None else time.monotonic() + waiting[0].after
                if time.monotonic() >= due:
                    self._strike(waiting.pop(0))
                    due = None
                    continue
            time.sleep(0.2)
        _, output, errors = self.installation.nsimport("status", self.story.import_id)
        seen = self.installation.seen(self.lane)
        self.story.problems.append(f"it does not end, after {PATIENCE:g} s:\n{output}{errors}{seen}")

    def _look(self) -> tuple[str, float] | None:
        """State and settled share of the import; None while the database is away."""
        try:
            with self._engine.connect() as connection:
                state = connection.execute(
                    sa.text("SELECT state FROM import_jobs WHERE import_id = :id"), {"id": self.story.import_id}
                ).scalar_one()
                counts = connection.execute(
                    sa.text("SELECT status, COUNT(*) FROM wave_batches WHERE import_id = :id GROUP BY status"),
                    {"id": self.story.import_id},
                ).all()
        except sa.exc.SQLAlchemyError:
            return None
        total = sum(n for _, n in counts)
        return state, sum(n for status, n in counts if status in OVER) / max(1, total)

    def _ended(self, state: str) -> bool:
        """What a person does when the import is over. Whether that was the end of the story."""
        story = self.story
        status = self._json("status", story.import_id)
        self.tell(f"{state}: {status.get('reason')}")
        if state == "failed" and self._denied:
            if "login" not in str(status.get("reason")).lower():
                story.problems.append(f"refused logins stopped it, but status says only: {status.get('reason')}")
            self._allow()
        elif state != "cancelled":
            story.status = status
            return True
        time.sleep(self._random.uniform(0.0, 2.0))
        self.tell(f"resume: {self._insist('resume', story.import_id).strip()}")
        story.resumed += 1
        return False

    def _json(self, *arguments: str) -> dict[str, Any]:
        """What a command says with ``--json``."""
        document: dict[str, Any] = json.loads(self._insist(*arguments, "--json"))
        return document

    def _insist(self, *arguments: str) -> str:
        """What a command says; asked again while the database is away, maybe struck for another import."""
        for _ in range(20):
            code, output, errors = self.installation.nsimport(*arguments)
            if code == 0:
                return output
            self.tell(f"{arguments[0]} ({code}): {errors.strip()}")
            time.sleep(1)
        raise AssertionError(f"nsimport {' '.join(arguments)}: {errors}")

    # Blows

    def _strike(self, blow: Blow) -> None:
        self.tell(f"strikes: {blow}")
        strikes: Mapping[str, Callable[[], object]] = {
            "kill run": self._kill_run,
            "kill daemon": self.installation.kill_daemon,
            "kill code server": self.installation.kill_code_server,
            "kill all": self._kill_all,
            "kill database": lambda: self.installation.restart_database(blow.lasting),
            "cut connections": lambda: self.installation.cut_connections(str(self._engine.url.database)),
            "revoke tokens": lambda: self.simulator.revoke_tokens(),
            "cancel": lambda: self._cancel(now=False),
            "cancel now": lambda: self._cancel(now=True),
            "ask again": self._ask_again,
            "edit": self._edit,
        }
        self.tell(f"  {strikes[blow.kind]()}")
        self.story.struck.append(blow)

    def _kill_run(self) -> str | None:
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            with suppress(Exception):
                killed = self.installation.kill_run(self.lane, self._random)
                if killed:
                    self.story.killed += 1
                    return killed
            if (self._look() or ("", 0))[0] in OVER:
                return None
            time.sleep(0.05)
        return None

    def _kill_all(self) -> None:
        self.story.killed += 1
        self.installation.kill_everything()

    def _cancel(self, *, now: bool) -> str:
        """Cancel, and wait until the import is over."""
        began = time.time()
        code, output, errors = self.installation.nsimport("cancel", self.story.import_id, *(["--now"] if now else []))
        if code:
            return f"({code}) {errors.strip()}"
        deadline = time.monotonic() + WIND_DOWN
        while time.monotonic() < deadline:
            found = self._look()
            if found is not None and found[0] in OVER:
                if "is over already" not in output:
                    self.story.cancels.append((now, began, time.time()))
                return f"{output.strip()}; over {time.time() - began:.2f} s after the command was given"
            time.sleep(0.1)
        self.story.problems.append(f"cancelled{' --now' if now else ''}, and not over after {WIND_DOWN:g} s")
        return output.strip()

    def _ask_again(self) -> str:
        """The same import once more, while it runs."""
        arguments = ("import", self.plan.record_types[0], "--no-dependencies", "--tenant", self.lane)
        code, output, errors = self.installation.nsimport(*arguments)
        if code:
            return f"({code}) {errors.strip()}"
        found = self._look()
        if found is not None and found[0] not in OVER:
            self.story.problems.append("a second import of the same record type was let in")
            return output.strip()
        raise TooLateError

    def _edit(self) -> str:
        """Change, insert and delete rows of each record type, no row twice; some are inserted past the last one."""
        for name, rows in self.story.before.items():
            picked = self._random.sample(sorted(rows), min(len(rows), 3 * self.plan.edits))
            changed, deleted, like = picked[::3], picked[1::3], picked[2::3]
            table, column = SOURCES[name]
            gaps = [refid for refid in self._gaps[table] if min(rows) < refid < max(rows)]
            inside = self._random.sample(gaps, min(len(gaps), len(like) // 2))
            fresh = [*inside, *(PAST_THE_END + number for number in range(len(like) - len(inside)))]
            self._gaps[table] -= set(inside)
            pairs = ", ".join(f"({old}, {new})" for old, new in zip(like, fresh, strict=True))
            self.simulator.sql(
                f"UPDATE {table} SET {column} = '{EDITED}' WHERE id IN ({_list(changed)})",
                f"INSERT INTO {table} SELECT t.* REPLACE (n.id AS id) FROM {table} t, (VALUES {pairs}) n(old, id) "
                f"WHERE t.id = n.old",
            )
            self.simulator.delete(table, f"id IN ({_list(deleted)})")
        return f"{self.plan.edits} rows of each record type"


def _list(ids: list[int]) -> str:
    return ", ".join(map(str, ids))
