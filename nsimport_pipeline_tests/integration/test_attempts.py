"""Attempts are counted for failures only: whatever an import waits for, and however long, its batches pay nothing."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from nsimport_pipeline.errors import Category
from nsimport_pipeline.imports import store
from nsimport_pipeline.imports.actions import CountAgain
from nsimport_pipeline.imports.states import OPEN_IMPORTS, BatchState, ImportState
from nsimport_pipeline.warehouse.engine import make_engine
from nsimport_pipeline.warehouse.migrate import ensure_control_tables
from nsimport_pipeline_tests.integration.imports_world import FakeRun, World

RETRIES = 2


class Waiting(RuleBasedStateMachine):
    """Runs that wait at the gate, in the queue, for slots, for a NetSuite that is down; now and then a batch fails."""

    empty: Path

    def __init__(self) -> None:
        super().__init__()
        self.directory = TemporaryDirectory()
        file = Path(self.directory.name) / "control.db"
        shutil.copy(self.empty, file)
        self.engine = make_engine(f"sqlite:///{file}", pool_size=2)
        self.failures: dict[int, int] = {}

    def teardown(self) -> None:
        self.engine.dispose()
        self.directory.cleanup()

    @initialize(wave_size=st.sampled_from([1, 2, 300]), threshold=st.sampled_from([1, 50, 100]))
    def plan(self, wave_size: int, threshold: float) -> None:
        batches = [("a", 0, 3), ("b", 1, 2)]
        self.world = World(
            self.engine, batches, wave_size=wave_size, threshold=threshold, retry_attempts=RETRIES
        ).plan()
        self.daemon()

    def run(self, choice: int, wanted: Callable[[FakeRun], Any]) -> FakeRun | None:
        runs = [run for run in self.world.alive() if wanted(run)]
        return runs[choice % len(runs)] if runs else None

    # ------------------------------------------------------------ waiting

    @rule()
    def daemon(self) -> None:
        self.world.tick()
        self.world.ask_gate()

    @rule(seconds=st.sampled_from([1.0, 90.0, 4000.0]))
    def wait(self, seconds: float) -> None:
        self.world.wait(seconds)

    @rule(choice=st.integers(0, 9))
    def refused_for_lack_of_a_slot(self, choice: int) -> None:
        if run := self.run(choice, lambda run: run.held):
            self.world.fail(run, run.held[0], Category.API_RATE_LIMIT)

    @rule(choice=st.integers(0, 9))
    def put_off_as_netsuite_is_down(self, choice: int) -> None:
        if run := self.run(choice, lambda run: run.held):
            batch = run.held[0]
            self.world.release(run, batch)
            assert run.todo is not None
            run.todo.insert(0, replace(batch, state=BatchState.DISPATCHED, run_id=None))

    # ------------------------------------------------------------ working

    @rule(choice=st.integers(0, 9))
    def begin_claim_or_end(self, choice: int) -> None:
        if run := self.run(choice, lambda run: run.phase == "open"):
            if run.todo is None:
                self.world.begin(run)
            if run.todo:
                self.world.claim(run)
            elif run.alive and not run.held:
                self.world.end(run)

    @rule(choice=st.integers(0, 9))
    def complete(self, choice: int) -> None:
        if run := self.run(choice, lambda run: run.held):
            self.world.complete(run, run.held[0])

    @rule(choice=st.integers(0, 9), category=st.sampled_from([Category.TIMEOUT, Category.API_UNAVAILABLE]))
    def fail(self, choice: int, category: Category) -> None:
        if run := self.run(choice, lambda run: run.held):
            batch = run.held[0]
            self.failures[batch.id] = self.failures.get(batch.id, 0) + 1
            self.world.fail(run, batch, category)

    # ------------------------------------------------------------ steering

    @precondition(lambda self: self.world.job.state in (ImportState.PENDING, ImportState.RUNNING))
    @rule()
    def cancel(self) -> None:
        self.world.cancel()

    @precondition(lambda self: self.world.job.state not in OPEN_IMPORTS)
    @rule()
    def resume(self) -> None:
        self.world.resume()
        for batch in self.world.stored():
            if batch.state is BatchState.PENDING:
                self.failures.pop(batch.id, None)

    @precondition(lambda self: self.world.job.state is ImportState.RUNNING)
    @rule()
    def reset_the_wave_at_work(self) -> None:
        with self.engine.connect() as connection:
            begun = [w.number for w in store.waves(connection, self.world.id) if w.state.value == "processing"]
        if begun:
            self.world.reset(begun[0])

    # ------------------------------------------------------------ what must be true

    @invariant()
    def only_failures_are_counted(self) -> None:
        if not hasattr(self, "world"):
            return
        counted = {batch.id: batch.attempts for batch in self.world.stored()}
        assert counted == {key: self.failures.get(key, 0) for key in counted}
        repairs = [repair for outcome in self.world.outcomes for repair in outcome.repairs]
        assert not any(isinstance(repair, CountAgain) for repair in repairs), "a count was lost though nothing broke"


def test_whatever_an_import_waits_for_only_failures_are_counted(tmp_path: Path) -> None:
    Waiting.empty = tmp_path / "empty.db"
    engine = make_engine(f"sqlite:///{Waiting.empty}", pool_size=2)
    ensure_control_tables(engine)
    engine.dispose()
    run_state_machine_as_test(
        Waiting,
        settings=settings(
            max_examples=30,
            stateful_step_count=40,
            deadline=None,
            derandomize=True,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )
