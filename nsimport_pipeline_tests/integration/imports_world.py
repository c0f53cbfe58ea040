"""A world to try the reconciler in: a real control database, the real gate, and a Dagster that is a list of runs.

Belongs here: runs that start, work, crash, vanish and are cancelled around the real ``settle``, ``gate`` and ``store``.
Does not belong here: what must be true (the tests say that), or NetSuite.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from random import Random

import sqlalchemy as sa
from sqlalchemy import Engine

from nsimport_pipeline.errors import Category, ImportFailure
from nsimport_pipeline.imports import store
from nsimport_pipeline.imports.actions import CountAgain
from nsimport_pipeline.imports.derived import record_failure, write_derived
from nsimport_pipeline.imports.failures import after_failure
from nsimport_pipeline.imports.gate import GateRun, admit
from nsimport_pipeline.imports.plan import Plan, PlannedType, key_ranges
from nsimport_pipeline.imports.records import Batch, BatchStats, Hold, ImportJob, PlanSpec, RunSpec, RunView, TypePlan
from nsimport_pipeline.imports.settle import Outcome, settle
from nsimport_pipeline.imports.snapshot import Rules
from nsimport_pipeline.imports.start import Request, open_import, write_plan
from nsimport_pipeline.imports.states import ACTIVE_IMPORTS, OPEN_IMPORTS, TERMINAL_BATCHES, BatchState
from nsimport_pipeline.imports.steer import Retried, cancel_import, reset_wave, resume_import, retry_import
from nsimport_pipeline.imports.waves import plan_waves
from nsimport_pipeline.record_types.criteria import load_catalog
from nsimport_pipeline.settings import Tenant
from nsimport_pipeline.warehouse.control import control

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
SLOTS = 5


def tenant(name: str = "acme", **more: object) -> Tenant:
    document: dict[str, object] = {
        "name": name,
        "account": "TSTDRV1",
        "auth": {
            "method": "tba",
            "consumer_key": "a",
            "consumer_secret": "b",
            "token_id": "c",
            "token_secret": "d",
        },
        "warehouse_url": "sqlite:///x.db",
    }
    return Tenant.model_validate(document | more)


LINES = load_catalog()["transaction_line"]
"""The record type of a world that is derived: planned when all others are done."""


def planned_of(name: str, level: int, batches: int) -> PlannedType:
    """So many full batches of a record type."""
    ranges = key_ranges(name, 0, batches * 1000, range(1000, batches * 1000, 1000), batches * 1000, 1000)
    return PlannedType(name, level, batches * 1000, batches * 1000 or None, ranges if batches else (), 1)


def plan_of(batches: Sequence[tuple[str, int, int]], wave_size: int) -> Plan:
    """A plan with so many full batches of each (record type, level, batches)."""
    types = [
        PlannedType(name, level, n * 1000, None, (), 1, planned=False)
        if name == LINES.name
        else planned_of(name, level, n)
        for name, level, n in batches
    ]
    ranges = [key_range for planned in types for key_range in planned.ranges]
    return Plan(tuple(types), tuple(plan_waves(ranges, {name: level for name, level, _ in batches}, wave_size)))


@dataclass
class FakeRun:
    """A run as Dagster would keep it, and what its process knows while it lives."""

    run_id: str
    spec: RunSpec
    key: str
    phase: str = "shut"
    outcome: str = "alive"
    hold: Hold = "wave"
    done: int = 0
    todo: list[Batch] | None = None
    """What its process has left to do; None until it has begun."""
    held: list[Batch] = field(default_factory=list)
    """Batches it has claimed and not settled."""
    charged: bool = False
    plans: tuple[str, int] | None = None

    @property
    def alive(self) -> bool:
        return self.outcome == "alive"

    def view(self) -> RunView:
        return RunView(self.run_id, self.spec.wave, self.spec.number, self.outcome, self.hold, self.plans)  # type: ignore[arg-type]


class World:
    """One import in one database. Time passes only when ``now`` is moved."""

    def __init__(
        self,
        engine: Engine,
        batches: Sequence[tuple[str, int, int]],
        *,
        wave_size: int = 4,
        threshold: float = 90,
        retry_attempts: int = 2,
        continue_on_permanent: bool = True,
        random: Random | None = None,
        suffix: str = "0001",
        at: datetime = START,
    ) -> None:
        self.engine = engine
        self.now = at
        self.random = random or Random(0)
        self.runs: list[FakeRun] = []
        self.failures: dict[str, int] = {}
        """Failures that each batch may be charged with, since it was last resumed."""
        self.batches = batches
        self.outcomes: list[Outcome] = []
        self.lost_counts = 0.0
        """Share of final counts that come to nothing."""
        owner = tenant(
            wave_size=wave_size,
            completion_threshold=threshold,
            retry_attempts=retry_attempts,
            continue_on_permanent=continue_on_permanent,
        )
        self.rules = Rules.of(owner)
        request = Request(tuple(n for n, _, _ in batches), tuple(n for n, _, _ in batches))
        self.opened = open_import(engine, owner, request, now=self.now, suffix=suffix)

    def plan(self) -> "World":
        write_plan(self.engine, self.opened, plan_of(self.batches, self.opened.wave_size), now=self.now)
        return self

    # ------------------------------------------------------------ looking

    @property
    def id(self) -> str:
        return self.opened.import_id

    @property
    def job(self) -> ImportJob:
        with self.engine.connect() as connection:
            job = store.find_job(connection, self.id)
        assert job is not None
        return job

    def stored(self) -> list[Batch]:
        with self.engine.connect() as connection:
            return store.batches(connection, self.id)

    def lines(self) -> TypePlan:
        """What the import means to do for its derived record type."""
        with self.engine.connect() as connection:
            return next(p for p in store.type_plans(connection, self.id) if p.record_type == LINES.name)

    def states(self) -> dict[str, int]:
        counted: dict[str, int] = {}
        for batch in self.stored():
            counted[batch.state.value] = counted.get(batch.state.value, 0) + 1
        return counted

    def dump(self) -> dict[str, list[tuple[object, ...]]]:
        """Everything in the control tables."""
        with self.engine.connect() as connection:
            return {
                table.name: [tuple(row) for row in connection.execute(sa.select(table))]
                for table in control.sorted_tables
            }

    def views(self) -> list[RunView]:
        return [run.view() for run in self.runs]

    def alive(self) -> list[FakeRun]:
        return [run for run in self.runs if run.alive]

    # ------------------------------------------------------------ the sensor and the gate

    def settle(self, views: Sequence[RunView] | None) -> Outcome:
        outcome = settle(
            self.engine, self.id, rules=self.rules, now=lambda: self.now, runs=None if views is None else lambda: views
        )
        self.outcomes.append(outcome)
        for repair in outcome.repairs:
            if isinstance(repair, CountAgain):
                for batch in repair.batches:
                    self.charge(batch, 1)
        return outcome

    def tick(self, *, killed_after: int | None = None) -> Outcome:
        """A tick of the sensor; ``killed_after`` so many of the things it had to ask of Dagster."""
        outcome = self.look()
        self.tell(outcome, killed_after)
        if self.job.state not in OPEN_IMPORTS:
            for run in self.runs:
                self.take_out(run.run_id)
        return outcome

    def look(self) -> Outcome:
        """The first half of a tick: settle, if the import is open."""
        with self.engine.connect() as connection:
            open_now = [job.import_id for job in store.open_jobs(connection)]
        return self.settle(self.views()) if self.id in open_now else Outcome()

    def tell(self, outcome: Outcome, most: int | None = None) -> None:
        """The other half: ask Dagster for what there is to ask, or ``most`` of it."""
        asks: list[Callable[[], None]] = []
        asks += [partial(self._hold, *released) for released in outcome.release]
        asks += [partial(self.take_out, run_id) for run_id in outcome.cancel]
        asks += [partial(self.submit, spec) for spec in outcome.submit]
        asks += [partial(self.submit_planning, spec) for spec in outcome.plan]
        for ask in asks[:most]:
            ask()

    def submit(self, spec: RunSpec) -> None:
        key = f"{self.id}.{spec.wave}.{spec.number}.1"
        if all(run.key != key for run in self.runs):
            self.runs.append(FakeRun(f"run-{len(self.runs)}-{self.random.randrange(10**6)}", spec, key))

    def submit_planning(self, spec: PlanSpec) -> None:
        key = f"{self.id}.plan.{spec.record_type}.{spec.attempt}"
        if all(run.key != key for run in self.runs):
            run = RunSpec(0, 0, spec.record_type, spec.level, ())
            plans = (spec.record_type, spec.attempt)
            self.runs.append(FakeRun(f"plan-{len(self.runs)}-{self.random.randrange(10**6)}", run, key, plans=plans))

    def _hold(self, run_id: str, hold: Hold) -> None:
        for run in self.runs:
            if run.run_id == run_id:
                run.hold = hold

    def take_out(self, run_id: str) -> None:
        for run in self.runs:
            if run.run_id == run_id and run.alive and run.todo is None:
                run.outcome = "cancelled"

    def ask_gate(self) -> list[str]:
        job = self.opened
        let_in, _ = admit(
            GateRun(
                run.run_id, job.tenant, self.id, run.spec.level, run.spec.wave, len(run.spec.partition_keys), run.done,
                ("open" if run.phase == "open" else "shut") if run.alive else "ended", run.hold,
                job.completion_threshold, job.wave_size,
            )
            for run in self.runs
        )  # fmt: skip
        for run in self.runs:
            if run.run_id in let_in:
                run.phase = "open"
        return let_in

    # ------------------------------------------------------------ runs

    def begin(self, run: FakeRun) -> None:
        """The run's process starts: it reads its batches, as the run's body does."""
        if self.job.state not in ACTIVE_IMPORTS:
            run.outcome = "succeeded"
            return
        place = (self.id, run.spec.record_type, run.spec.partition_keys)
        with self.engine.begin() as connection:
            store.complete_counted(connection, store.batches_of(connection, *place), run.run_id, self.now)
        with self.engine.connect() as connection:
            batches = store.batches_of(connection, *place)
            below = store.unfinished_below(connection, self.id, run.spec.level)
        run.done += sum(batch.state is BatchState.COMPLETED for batch in batches)
        run.todo = [] if below else [batch for batch in batches if not batch.terminal]

    def plan_late(self, run: FakeRun, batches: int | None = None) -> bool:
        """A planning run comes to its end: it writes down what NetSuite said."""
        assert run.plans is not None
        name, attempt = run.plans
        if batches is None:
            batches = next(n for known, _, n in self.batches if known == name)
        planned = planned_of(name, run.spec.level, batches)
        return write_derived(self.engine, self.id, LINES, planned, {"invoice": 9}, attempt, now=self.now)

    def fail_late(self, run: FakeRun, failure: ImportFailure) -> bool:
        assert run.plans is not None
        return record_failure(
            self.engine, self.id, run.plans[0], run.plans[1], failure, rules=self.rules.retries, now=self.now
        )

    def claim(self, run: FakeRun) -> Batch | None:
        assert run.todo is not None
        batch = run.todo.pop(0)
        with self.engine.begin() as connection:
            if not store.claim_batch(connection, batch, run.run_id, self.now):
                return None
        batch = replace(batch, state=BatchState.PROCESSING, run_id=run.run_id)
        run.held.append(batch)
        return batch

    def complete(self, run: FakeRun, batch: Batch, *, rejected: int = 0) -> bool:
        run.held.remove(batch)
        stats = BatchStats(1000, 1000 - rejected, rows_rejected=rejected)
        with self.engine.begin() as connection:
            done = store.complete_batch(connection, batch, run.run_id, stats, self.now)
        run.done += done
        return done

    def fail(self, run: FakeRun, batch: Batch, category: Category) -> None:
        """As ``batch.py`` records it."""
        run.held.remove(batch)
        verdict = after_failure(category, batch.attempts + 1, self.opened.retry_attempts, self.rules.retries)
        to = BatchState.RETRYING if verdict.retry else BatchState.FAILED
        with self.engine.begin() as connection:
            taken = store.fail_batch(
                connection, batch, to=to, category=category, reason="it failed", now=self.now,
                not_before=self.now + timedelta(seconds=verdict.delay) if verdict.retry else None,
                attempts=verdict.attempts,
            )  # fmt: skip
        if taken:
            self.charge(batch, verdict.attempts)
            run.done += to is BatchState.FAILED

    def release(self, run: FakeRun, batch: Batch) -> None:
        run.held.remove(batch)
        with self.engine.begin() as connection:
            store.release_batch(connection, batch, run.run_id)

    def end(self, run: FakeRun, outcome: str = "succeeded") -> None:
        """The process ends in good order: batches in hand are given back, and the control tables settled."""
        for batch in list(run.held):
            self.release(run, batch)
        self.count(run)
        for batch in self.stored():
            # A run that leaves batches without having begun them may be counted.
            if batch.state is BatchState.DISPATCHED and (batch.wave, batch.run_number) == (
                run.spec.wave,
                run.spec.number,
            ):
                self.charge(batch, 1)
        self.settle(None)
        run.outcome = outcome

    def count(self, run: FakeRun) -> None:
        """The final count of a record type, if this run settled its last batch; one that fails is not missed."""
        name = run.spec.record_type
        with self.engine.begin() as connection:
            left = store.unfinished_batches(connection, self.id, name)
            if run.todo is not None and not left and self.random.random() >= self.lost_counts:
                check = {"source_count": 0, "table_count": 0, "in_sync": True}
                store.record_checks(connection, self.id, name, (), **check, now=self.now)  # type: ignore[arg-type]

    def crash(self, run: FakeRun) -> None:
        """The process is gone, whatever it was doing."""
        run.outcome = "failed"
        for batch in run.held:
            self.charge(batch, 1)
        if not run.held:
            # A run that dies without having had a batch in hand may charge those it was given.
            for batch in self.stored():
                if (batch.wave, batch.run_number) == (run.spec.wave, run.spec.number):
                    self.charge(batch, 1)
        run.held = []

    def charge(self, batch: Batch, failures: int) -> None:
        key = f"{batch.record_type}:{batch.range.partition_key}"
        self.failures[key] = self.failures.get(key, 0) + failures

    def work_through(self, run: FakeRun, besides: Iterable[str] = ()) -> None:
        """A run from begin to end without a fault; partitions in ``besides`` time out."""
        failing = set(besides)
        run.phase = "open"
        if run.todo is None:
            self.begin(run)
        if run.plans and run.alive:
            self.plan_late(run)
        while run.alive and run.todo:
            batch = self.claim(run)
            if batch is None:
                continue
            if batch.range.partition_key in failing:
                self.fail(run, batch, Category.TIMEOUT)
            else:
                self.complete(run, batch)
        if run.alive:
            self.end(run)

    # ------------------------------------------------------------ steering

    def cancel(self) -> None:
        cancel_import(self.engine, self.job, now=self.now)

    def resume(self) -> None:
        resume_import(self.engine, self.job, now=self.now)
        self.forgive()

    def retry(self, category: Category | None = None, *, rejected: bool = False) -> Retried:
        retried = retry_import(self.engine, self.job, category=category, rejected=rejected, now=self.now)
        self.forgive()
        return retried

    def reset(self, wave: int) -> int:
        """As ``nsimport waves reset``: its runs lose their batches, then they are ended."""
        batches = reset_wave(self.engine, self.job, wave, now=self.now)
        for run in self.alive() if batches else ():
            if run.spec.wave == wave:
                run.held = []
                run.outcome = "cancelled"
        return batches

    def forgive(self) -> None:
        """Batches that are pending start afresh."""
        for batch in self.stored():
            if batch.state is BatchState.PENDING:
                self.failures.pop(f"{batch.record_type}:{batch.range.partition_key}", None)

    def wait(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    def calm(self, rounds: int = 400) -> None:
        """From now on nothing goes wrong. Returns when the import is over; it has to be, some time."""
        self.lost_counts = 0.0
        for _ in range(rounds):
            if self.job.state not in OPEN_IMPORTS and not self.alive():
                return
            self.tick()
            self.ask_gate()
            for run in self.alive():
                if run.phase == "open":
                    for batch in list(run.held):
                        self.complete(run, batch)
                    self.work_through(run)
            self.wait(60)
        last = self.outcomes[-1]
        raise AssertionError(f"it does not end: {self.job.state}, {self.states()}, {last}, {self.views()}")

    @property
    def finished(self) -> bool:
        return all(batch.state in TERMINAL_BATCHES for batch in self.stored())
