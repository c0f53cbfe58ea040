"""The reconciler on a real control database: whatever happens to runs, ticks and processes, an import ends sanely."""

import re
import shutil
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest
from sqlalchemy import Engine

from nsimport_pipeline.errors import (
    AccessDenied,
    ApiUnavailable,
    Category,
    PermanentError,
    RateLimited,
    RefusedError,
    TimedOut,
)
from nsimport_pipeline.imports import store
from nsimport_pipeline.imports.decide import PLANNING_PATIENCE
from nsimport_pipeline.imports.partial import partial_parents_of
from nsimport_pipeline.imports.progress import status
from nsimport_pipeline.imports.records import TypePlan
from nsimport_pipeline.imports.settle import Outcome
from nsimport_pipeline.imports.start import manual_import
from nsimport_pipeline.imports.states import (
    FINISHED_WAVES,
    OPEN_IMPORTS,
    TERMINAL_BATCHES,
    BatchState,
    ImportState,
)
from nsimport_pipeline.imports.steer import Retried, resume_import
from nsimport_pipeline.imports.stuck import note_stuck_wave
from nsimport_pipeline.record_types.criteria import load_catalog
from nsimport_pipeline.warehouse.engine import make_engine
from nsimport_pipeline.warehouse.migrate import ensure_control_tables
from nsimport_pipeline.warehouse.schema import ensure_table
from nsimport_pipeline_tests.integration.imports_world import LINES, START, FakeRun, World, tenant

CATALOG = load_catalog()


@pytest.fixture(scope="module")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file with empty control tables."""
    file = tmp_path_factory.mktemp("migrated") / "empty.db"
    engine = make_engine(f"sqlite:///{file}", pool_size=2)
    ensure_control_tables(engine)
    ensure_table(engine, LINES)
    engine.dispose()
    return file


@pytest.fixture
def engine(migrated: Path, tmp_path: Path) -> Iterator[Engine]:
    file = tmp_path / "control.db"
    shutil.copy(migrated, file)
    engine = make_engine(f"sqlite:///{file}", pool_size=2)
    yield engine
    engine.dispose()


# ---------------------------------------------------------------- anything at all


class Chaos:
    """Random events around one import, and what must be true after each of them."""

    def __init__(self, engine: Engine, seed: int) -> None:
        self.random = random = Random(seed)
        batches, level = [], 0
        for number in range(random.randint(1, 4)):
            level += number > 0 and random.random() < 0.6
            batches.append((f"t{number}", level, random.choice([0, 1, 1, 2, 5, 9])))
        if random.random() < 0.6:
            batches.append((LINES.name, level + 1, random.choice([0, 1, 3, 5])))
        self.world = World(
            engine,
            batches,
            wave_size=random.choice([1, 2, 3, 4, 300]),
            threshold=random.choice([1, 50, 90, 100]),
            retry_attempts=random.randint(0, 3),
            continue_on_permanent=random.random() < 0.8,
            random=random,
        ).plan()
        self.world.lost_counts = random.choice([0.0, 0.5])
        self.late = Outcome()
        self.told: list[str] = []

    def step(self) -> None:
        world, random = self.world, self.random
        run = random.choice(world.alive()) if world.alive() else None
        event = random.choices(
            ["tick", "killed", "look", "tell", "gate", "work", "end", "crash", "vanish", "wait", "terminate", "steer"],
            [12, 3, 2, 2, 12, 40, 6, 3, 1, 4, 0.5, 1.5],
        )[0]
        self.told.append(event)
        if event == "tick":
            world.tick()
            self.check_settled()
        elif event == "killed":
            world.tick(killed_after=random.randint(0, 3))
        elif event == "look":
            self.late = world.look()
        elif event == "tell":
            # A daemon so slow that other things have happened between its looking and its asking.
            world.tell(self.late)
        elif event == "gate":
            world.ask_gate()
        elif event == "wait":
            world.wait(random.choice([1, 20, 400]))
        elif event == "steer":
            self.steer()
        elif event == "vanish":
            gone = [r for r in world.runs if not r.alive or r.todo is None]
            if gone:
                world.runs.remove(random.choice(gone))
        elif run is not None and event == "terminate":
            world.end(run, "cancelled") if run.todo is not None else world.take_out(run.run_id)
        elif run is not None and event == "crash":
            world.crash(run)
        elif run is not None and run.phase == "open":
            if event == "end":
                if run.todo == [] and not run.held:
                    world.end(run)
            else:
                self.work(run)

    def work(self, run: object) -> None:
        world, random = self.world, self.random
        run = next(r for r in world.runs if r is run)
        if run.todo is None:
            world.begin(run)
        elif run.plans:
            self.plan(run)
        elif run.held and (random.random() < 0.6 or not run.todo):
            batch = random.choice(run.held)
            done = random.random()
            if done < 0.8:
                assert world.complete(run, batch), "a live run lost a batch that it had claimed"
            elif done < 0.97:
                world.fail(run, batch, random.choice(list(Category)))
            else:
                world.release(run, batch)
        elif run.todo:
            batch = world.claim(run)
            if batch is not None:
                self.check_level(batch.level)
        else:
            world.end(run)

    def plan(self, run: FakeRun) -> None:
        world, random = self.world, self.random
        if random.random() < 0.3:
            world.fail_late(run, random.choice([TimedOut, RateLimited, PermanentError, ApiUnavailable])("it failed"))
            world.end(run, "failed")
            return
        if world.plan_late(run):
            below = [b for b in world.stored() if b.level < run.spec.level and not b.terminal]
            assert not below, "planned before its parents were done"
        assert not world.plan_late(run), "planned twice"
        if random.random() < 0.8:
            world.end(run)

    def steer(self) -> None:
        world, random = self.world, self.random
        if world.job.state not in OPEN_IMPORTS:
            try:
                world.resume() if random.random() < 0.5 else world.retry(random.choice([None, *Category]))
            except RefusedError:
                assert not world.stored()
        elif world.job.state is not ImportState.CANCELLING and random.random() < 0.5:
            with world.engine.connect() as connection:
                numbers = [wave.number for wave in store.waves(connection, world.id)]
            world.reset(random.choice(numbers)) if numbers else None
        else:
            world.cancel()

    # ------------------------------------------------------------ what must be true

    def check(self) -> None:
        world = self.world
        batches = {(b.record_type, b.range.partition_key): b for b in world.stored()}
        for run in world.alive():
            for held in run.held:
                now = batches[held.record_type, held.range.partition_key]
                assert (now.state, now.run_id) == (BatchState.PROCESSING, run.run_id), "taken from a live run"
        for key, batch in batches.items():
            assert batch.attempts <= world.opened.retry_attempts + 1, "attempts exceed the budget"
            assert batch.attempts <= world.failures.get(":".join(key), 0), "waiting cost an attempt"
        by_wave: dict[int, list[int]] = {}
        for batch in batches.values():
            by_wave.setdefault(batch.wave, []).append(batch.level)
        for levels in by_wave.values():
            assert len(set(levels)) == 1
            assert len(levels) <= world.opened.wave_size
        keys = [run.key for run in world.alive()]
        assert len(keys) == len(set(keys))

    def check_level(self, level: int) -> None:
        below = [b for b in self.world.stored() if b.level < level and b.state not in TERMINAL_BATCHES]
        assert not below, f"a batch of level {level} was begun before level {below[0].level} was finished"

    def check_settled(self) -> None:
        """A second look at the same runs changes nothing, and what was asked of Dagster is soon known."""
        views = self.world.views()
        self.world.settle(views)
        before = self.world.dump()
        self.world.settle(views)
        assert self.world.dump() == before
        for _ in range(4):
            before, outcome = self.world.dump(), self.world.tick()
            if not (outcome.submit or outcome.plan or outcome.release) and self.world.dump() == before:
                return
        raise AssertionError("ticks alone keep changing things")

    def plans(self) -> list[TypePlan]:
        with self.world.engine.connect() as connection:
            return store.type_plans(connection, self.world.id)

    def check_over(self) -> None:
        world = self.world
        with world.engine.connect() as connection:
            assert all(wave.state in FINISHED_WAVES for wave in store.waves(connection, world.id))
        assert world.finished
        assert world.job.state not in OPEN_IMPORTS
        states = world.states()
        if world.job.state is ImportState.COMPLETED:
            assert set(states) <= {"completed"}
            with world.engine.connect() as connection:
                assert all(plan.in_sync for plan in store.type_plans(connection, world.id))
            assert all(plan.planned for plan in self.plans())
        elif world.job.state is ImportState.COMPLETED_WITH_FAILURES and any(plan.failure for plan in self.plans()):
            assert "could not be planned" in (world.job.failure_reason or "")
        elif world.job.state is ImportState.COMPLETED_WITH_FAILURES:
            # Cancelled ones only if others of a cancelled import were retried.
            assert {"failed", "cancelled"} & set(states) <= set(states) <= {"completed", "failed", "cancelled"}


@pytest.mark.parametrize("seed", range(60))
def test_whatever_happens_an_import_ends_and_no_rule_is_broken_on_the_way(engine: Engine, seed: int) -> None:
    chaos = Chaos(engine, seed)
    for _ in range(chaos.random.choice([20, 80, 200])):
        chaos.step()
        chaos.check()
    chaos.world.calm()
    chaos.check()
    chaos.check_over()


# ---------------------------------------------------------------- what went wrong before, by name


def states_of_waves(world: World) -> list[str]:
    with world.engine.connect() as connection:
        return [wave.state.value for wave in store.waves(connection, world.id)]


def run_of(world: World, wave: int, number: int = 1) -> FakeRun:
    return next(run for run in world.runs if (run.spec.wave, run.spec.number) == (wave, number))


def levels_of(world: World, states: Sequence[str]) -> set[int]:
    return {batch.level for batch in world.stored() if batch.state.value in states}


def test_a_wave_whose_last_batch_completed_with_no_event_after_it_is_finished_by_the_next_tick(engine: Engine) -> None:
    world = World(engine, [("a", 0, 2), ("b", 1, 1)]).plan()
    world.tick()
    world.ask_gate()
    run = run_of(world, 1)
    world.begin(run)
    for _ in range(2):
        batch = world.claim(run)
        assert batch is not None
        world.complete(run, batch)
    run.outcome = "failed"  # killed before it could say so to anybody

    world.tick()

    assert states_of_waves(world)[0] == "completed"
    assert world.ask_gate() == [run_of(world, 2).run_id]
    world.calm()
    assert world.job.state is ImportState.COMPLETED


def test_thirty_waves_are_never_in_the_queue_at_once(engine: Engine) -> None:
    world = World(engine, [("a", 0, 120)], wave_size=4).plan()
    deepest = 0
    for _ in range(100):
        world.tick()
        deepest = max(deepest, len({run.spec.wave for run in world.alive()}))
        world.ask_gate()
        for run in world.alive():
            if run.phase == "open":
                world.work_through(run)
    assert deepest == 2
    assert world.job.state is ImportState.COMPLETED
    assert len(states_of_waves(world)) == 30


def test_waves_follow_one_another_although_each_of_them_waits_to_try_a_batch_again(engine: Engine) -> None:
    """Two waves with a batch each in ``retrying`` must not keep the third from starting, or nothing would ever move."""
    world = World(engine, [("a", 0, 12)], wave_size=4).plan()
    world.tick()
    world.work_through(run_of(world, 1), besides=["1000"])
    world.tick()
    world.work_through(run_of(world, 2), besides=["5000"])
    world.tick()

    assert states_of_waves(world) == ["processing"] * 3
    world.calm()
    assert world.job.state is ImportState.COMPLETED


def test_an_import_without_a_single_record_is_completed(engine: Engine) -> None:
    world = World(engine, [("a", 0, 0), ("b", 1, 0)]).plan()
    assert world.tick().finished is ImportState.COMPLETED


def test_an_empty_record_type_holds_up_nothing(engine: Engine) -> None:
    world = World(engine, [("a", 0, 0), ("b", 1, 1), ("c", 2, 0), ("d", 3, 1)]).plan()
    world.calm()
    assert world.job.state is ImportState.COMPLETED
    assert world.states() == {"completed": 2}


def test_a_wave_whose_runs_vanished_gets_them_again(engine: Engine) -> None:
    world = World(engine, [("a", 0, 3)]).plan()
    world.tick()
    world.runs.clear()

    assert [spec.partition_keys for spec in world.tick().submit] == [("0", "1000", "2000")]
    world.calm()
    assert world.job.state is ImportState.COMPLETED


def test_a_flag_that_dagster_lost_is_set_again(engine: Engine) -> None:
    """Nothing hangs on a tag: what it stands for is decided at each tick, until the tag says it."""
    world = World(engine, [("a", 0, 8)]).plan()
    world.tick()
    world.ask_gate()
    dead = run_of(world, 1)
    world.begin(dead)
    world.claim(dead)
    world.crash(dead)

    first, second = world.look(), world.look()  # and nobody tells Dagster

    assert dict(first.release) == dict(second.release) == {dead.run_id: "level"}
    world.calm()
    assert world.job.state is ImportState.COMPLETED


def test_a_run_that_vanished_with_batches_in_hand_costs_those_one_attempt(engine: Engine) -> None:
    world = World(engine, [("a", 0, 3)]).plan()
    world.tick()
    world.ask_gate()
    run = run_of(world, 1)
    world.begin(run)
    world.claim(run)
    world.runs.clear()
    world.tick()

    assert [(b.state.value, b.attempts) for b in world.stored()] == [
        ("retrying", 1),
        ("dispatched", 0),
        ("dispatched", 0),
    ]
    world.calm()
    assert world.job.state is ImportState.COMPLETED


def test_the_next_level_waits_for_the_last_batch_of_the_one_below_whatever_the_threshold(engine: Engine) -> None:
    world = World(engine, [("a", 0, 20), ("b", 1, 1)], wave_size=300, threshold=90).plan()
    world.tick()
    world.ask_gate()
    run = run_of(world, 1)
    world.begin(run)
    for _ in range(19):
        batch = world.claim(run)
        assert batch is not None
        world.complete(run, batch)
    world.tick()

    assert run_of(world, 2).phase == "shut"  # dispatched already, for when its time comes
    assert world.ask_gate() == []
    world.work_through(run)
    assert world.ask_gate() == [run_of(world, 2).run_id]


def test_the_next_level_waits_for_retries_of_the_one_below(engine: Engine) -> None:
    world = World(engine, [("a", 0, 3), ("b", 1, 1)], threshold=50).plan()
    world.tick()
    world.ask_gate()
    world.work_through(run_of(world, 1), besides=["1000"])
    for _ in range(3):
        world.tick()
        assert world.ask_gate() == []
    world.wait(60)
    world.tick()
    assert world.ask_gate() == [run_of(world, 3).run_id]
    assert levels_of(world, ["pending", "dispatched", "retrying"]) == {0, 1}
    world.work_through(run_of(world, 3))
    world.tick()
    assert world.ask_gate() == [run_of(world, 2).run_id]


def test_waiting_for_a_slot_costs_no_attempt_however_often(engine: Engine) -> None:
    world = World(engine, [("a", 0, 1)], retry_attempts=0).plan()
    for _ in range(10):
        world.tick()
        world.ask_gate()
        (run,) = world.alive()
        world.begin(run)
        batch = world.claim(run)
        assert batch is not None
        world.fail(run, batch, Category.API_RATE_LIMIT)
        world.end(run, "failed")
        world.tick()
        world.wait(60)
    assert [(b.state, b.attempts) for b in world.stored()] == [(BatchState.RETRYING, 0)]
    world.calm()
    assert world.job.state is ImportState.COMPLETED


def test_waiting_in_the_queue_costs_no_attempt(engine: Engine) -> None:
    world = World(engine, [("a", 0, 3)]).plan()
    for _ in range(50):
        world.tick()
        world.wait(3600)
    assert {(b.state, b.attempts) for b in world.stored()} == {(BatchState.DISPATCHED, 0)}
    assert len(world.runs) == 1


def test_a_batch_that_kills_its_process_does_not_take_its_neighbours_along(engine: Engine) -> None:
    world = World(engine, [("a", 0, 4)], retry_attempts=1).plan()
    for _ in range(20):
        world.tick()
        world.ask_gate()
        for run in world.alive():
            world.begin(run)
            while run.alive and run.todo:
                batch = world.claim(run)
                if batch is not None and batch.range.partition_key == "1000":
                    world.crash(run)
                elif batch is not None:
                    world.complete(run, batch)
            if run.alive:
                world.end(run)
        world.wait(60)
    assert world.job.state is ImportState.COMPLETED_WITH_FAILURES
    assert [(b.range.partition_key, b.state.value, b.attempts) for b in sorted(world.stored(), key=lambda b: b.id)] == [
        ("0", "completed", 0),
        ("1000", "failed", 2),
        ("2000", "completed", 0),
        ("3000", "completed", 0),
    ]


def test_runs_that_die_before_they_begin_anything_are_not_started_for_ever(engine: Engine) -> None:
    world = World(engine, [("a", 0, 2)], retry_attempts=2).plan()
    for _ in range(10):
        world.tick()
        for run in world.alive():
            world.crash(run)
        world.wait(60)
    assert world.job.state is ImportState.COMPLETED_WITH_FAILURES
    assert len(world.runs) == 3


def test_a_run_that_succeeds_without_taking_its_batches_is_not_started_for_ever(engine: Engine) -> None:
    world = World(engine, [("a", 0, 2)], retry_attempts=2).plan()
    attempts = []
    for _ in range(10):
        world.tick()
        for run in world.alive():
            run.outcome = "succeeded"
        world.wait(60)
        attempts.append(world.stored()[0].attempts)
    assert sorted(set(attempts)) == [0, 1, 2, 3]
    assert attempts[:2] == [0, 0]  # the first time is not counted
    assert world.job.state is ImportState.COMPLETED_WITH_FAILURES
    assert len(world.runs) == 4


# ---------------------------------------------------------------- the final count


def all_in_but_not_counted(world: World) -> None:
    """Every batch of the first record type is completed by a run that is killed before it could count them."""
    world.tick()
    world.ask_gate()
    run = run_of(world, 1)
    world.begin(run)
    while run.todo:
        batch = world.claim(run)
        assert batch is not None
        world.complete(run, batch)
    run.outcome = "failed"


def test_a_final_count_that_was_lost_with_its_run_is_taken_again_and_no_batch_is_fetched_for_it(engine: Engine) -> None:
    world = World(engine, [("a", 0, 3), ("b", 1, 1)]).plan()
    all_in_but_not_counted(world)
    world.work_through(run_of(world, 2))
    world.tick()

    assert world.job.state is ImportState.RUNNING
    again = [(b.record_type, b.range.partition_key) for b in world.stored() if not b.terminal]
    assert again == [("a", "2000")]
    world.ask_gate()
    counting = world.alive()[0]
    world.begin(counting)
    assert counting.todo == []
    assert counting.done == 1
    assert all(batch.terminal for batch in world.stored())
    world.calm()
    assert world.job.state is ImportState.COMPLETED
    assert [batch.failure_reason for batch in world.stored()] == [None] * 4
    with engine.connect() as connection:
        assert [plan.in_sync for plan in store.type_plans(connection, world.id)] == [True, True]


def test_a_run_that_dies_before_it_could_take_a_lost_count_makes_no_batch_be_fetched_again(engine: Engine) -> None:
    world = World(engine, [("a", 0, 3)]).plan()
    all_in_but_not_counted(world)
    world.tick()
    (starting,) = world.alive()
    world.crash(starting)
    while not world.alive():
        world.tick()
        world.now += timedelta(minutes=1)

    (counting,) = world.alive()
    world.begin(counting)
    assert (counting.todo, counting.done) == ([], 1)
    world.calm()
    assert world.job.state is ImportState.COMPLETED


def test_an_import_whose_count_can_never_be_taken_does_not_end_as_completed(engine: Engine) -> None:
    world = World(engine, [("a", 0, 2)], retry_attempts=2).plan()
    world.lost_counts = 1.0
    for _ in range(20):
        world.tick()
        for run in world.alive():
            world.work_through(run)
    assert world.job.state is ImportState.COMPLETED_WITH_FAILURES
    assert world.job.failure_reason == "the final count could not be taken: a"
    assert len(world.runs) == 4


def test_an_import_with_failed_batches_ends_only_after_the_run_that_compares_it_with_netsuite(engine: Engine) -> None:
    world = World(engine, [("a", 0, 2)], retry_attempts=0).plan()
    world.tick()
    (run,) = world.alive()
    world.begin(run)
    for partition in ("0", "1000"):
        batch = world.claim(run)
        assert batch is not None
        if partition == "0":
            world.complete(run, batch)
        else:
            world.fail(run, batch, Category.TIMEOUT)
    assert world.finished

    # A tick between the last batch and the comparison; a run that dies there is not waited for.
    world.tick()
    assert world.job.state is ImportState.RUNNING
    world.end(run)
    assert world.job.state is ImportState.COMPLETED_WITH_FAILURES
    with engine.connect() as connection:
        assert [plan.in_sync is not None for plan in store.type_plans(connection, world.id)] == [True]


# ---------------------------------------------------------------- steering


def test_an_import_whose_run_was_terminated_in_the_ui_is_cancelled_and_can_be_resumed(engine: Engine) -> None:
    world = World(engine, [("a", 0, 3), ("b", 1, 1)]).plan()
    world.tick()
    world.ask_gate()
    run = run_of(world, 1)
    world.begin(run)
    batch = world.claim(run)
    assert batch is not None
    world.complete(run, batch)
    world.end(run, "cancelled")
    world.tick()
    assert world.job.state is ImportState.CANCELLED
    assert world.states() == {"completed": 1, "cancelled": 3}
    assert not world.alive()

    world.resume()
    world.calm()
    assert world.job.state is ImportState.COMPLETED


def test_cancelling_lets_batches_in_flight_finish_and_starts_nothing_new(engine: Engine) -> None:
    world = World(engine, [("a", 0, 6)]).plan()
    world.tick()
    world.ask_gate()
    run = run_of(world, 1)
    world.begin(run)
    batch = world.claim(run)
    assert batch is not None
    world.cancel()
    assert world.tick().finished is None
    assert world.claim(run) is None
    assert world.complete(run, batch)
    world.end(run)
    assert world.job.state is ImportState.CANCELLING  # a run does not know what else is in the queue
    world.tick()
    assert world.job.state is ImportState.CANCELLED
    assert world.states() == {"completed": 1, "cancelled": 5}


def test_a_run_submitted_while_its_import_was_being_cancelled_leaves_the_queue(engine: Engine) -> None:
    world = World(engine, [("a", 0, 6)]).plan()
    outcome = world.look()
    world.cancel()
    world.tick()
    world.tell(outcome)
    assert len(world.alive()) == 2
    world.tick()
    assert world.job.state is ImportState.CANCELLED
    assert not world.alive()


def test_a_run_left_over_from_before_a_resumption_cannot_take_batches_of_the_new_waves(engine: Engine) -> None:
    world = World(engine, [("a", 0, 3), ("b", 1, 3)]).plan()
    world.tick()
    world.ask_gate()
    old = run_of(world, 1)
    world.begin(old)
    world.cancel()
    world.tick()
    world.resume()
    world.tick()
    assert world.states() == {"dispatched": 6}
    assert world.claim(old) is None


def test_resuming_puts_the_partitions_of_its_plan_back(engine: Engine) -> None:
    world = World(engine, [("a", 0, 5)]).plan()
    world.cancel()
    world.tick()
    # A newer import of the same type, when there were fewer records, has run since.
    later = World(engine, [("a", 0, 2)], suffix="0002").plan()
    later.calm()

    world.resume()

    with engine.connect() as connection:
        pinned = [r.partition_key for r in store.pinned_ranges(connection, "a")]
    assert pinned == ["0", "1000", "2000", "3000", "4000"]


def test_an_import_that_was_never_planned_is_not_resumed_into_a_success(engine: Engine) -> None:
    world = World(engine, [("a", 0, 5)])
    world.wait(PLANNING_PATIENCE.total_seconds() + 1)
    world.tick()
    assert world.job.state is ImportState.FAILED
    with pytest.raises(RefusedError, match="start the import again"):
        world.resume()
    assert world.job.state is ImportState.FAILED


@pytest.mark.parametrize("ending", ["cancelled", "given up"])
def test_a_plan_that_comes_too_late_is_not_written(engine: Engine, ending: str) -> None:
    world = World(engine, [("a", 0, 5)])
    if ending == "cancelled":
        world.cancel()
    else:
        world.wait(PLANNING_PATIENCE.total_seconds() + 1)
    world.tick()
    with pytest.raises(RefusedError, match="while it was being planned"):
        world.plan()
    assert world.stored() == []
    with engine.connect() as connection:
        assert store.pinned_ranges(connection, "a") == []


def test_one_failure_stops_everything_where_that_is_asked_for(engine: Engine) -> None:
    world = World(engine, [("a", 0, 8)], continue_on_permanent=False).plan()
    world.tick()
    world.ask_gate()
    run = run_of(world, 1)
    world.begin(run)
    batch = world.claim(run)
    assert batch is not None
    world.fail(run, batch, Category.PERMANENT_ERROR)
    world.tick()
    assert world.claim(run) is None
    world.end(run)
    world.tick()
    assert world.job.state is ImportState.FAILED
    assert "continue_on_permanent is off" in (world.job.failure_reason or "")

    world.resume()
    assert world.job.failure_reason is None
    world.calm()
    assert world.job.state is ImportState.COMPLETED


def ended_with_failures(engine: Engine) -> World:
    """One batch timed out for good, one was refused, one holds two rejected rows."""
    world = World(engine, [("a", 0, 3), ("b", 1, 1)], retry_attempts=0).plan()
    world.tick()
    run = run_of(world, 1)
    world.begin(run)
    for category in (Category.TIMEOUT, Category.PERMANENT_ERROR, None):
        batch = world.claim(run)
        assert batch is not None
        if category is not None:
            world.fail(run, batch, category)
        else:
            world.complete(run, batch, rejected=2)
    world.end(run)
    world.calm()
    assert world.job.state is ImportState.COMPLETED_WITH_FAILURES
    return world


def test_retry_does_the_failed_batches_again_and_no_others(engine: Engine) -> None:
    world = ended_with_failures(engine)
    assert world.retry().batches == 2
    assert world.states() == {"completed": 2, "pending": 2}
    world.calm()
    assert world.job.state is ImportState.COMPLETED


def test_retry_can_be_held_to_one_category_and_counts_afresh(engine: Engine) -> None:
    world = ended_with_failures(engine)
    assert world.retry(Category.TIMEOUT).batches == 1
    (again,) = [batch for batch in world.stored() if batch.state is BatchState.PENDING]
    assert (again.range.partition_key, again.attempts, again.failure_category) == ("0", 0, None)
    world.calm()
    assert world.job.state is ImportState.COMPLETED_WITH_FAILURES
    assert world.states() == {"completed": 3, "failed": 1}


def test_retry_of_rejected_rows_opens_the_batches_that_hold_them(engine: Engine) -> None:
    world = ended_with_failures(engine)
    retried = world.retry(rejected=True)
    assert (retried.batches, retried.rejected) == (1, 2)
    (again,) = [batch for batch in world.stored() if batch.state is BatchState.PENDING]
    assert (again.range.partition_key, again.rejected) == ("2000", 2)
    world.calm()
    assert not world.retry(rejected=True).batches


def test_with_nothing_to_retry_an_import_stays_as_it_is(engine: Engine) -> None:
    world = World(engine, [("a", 0, 2)]).plan()
    world.calm()
    before = world.dump()
    assert not world.retry().batches
    assert not world.retry(Category.TIMEOUT).batches
    assert world.dump() == before


def test_retrying_some_of_a_cancelled_import_does_not_make_it_complete(engine: Engine) -> None:
    world = World(engine, [("a", 0, 3)], retry_attempts=0).plan()
    world.tick()
    run = run_of(world, 1)
    world.begin(run)
    batch = world.claim(run)
    assert batch is not None
    world.fail(run, batch, Category.TIMEOUT)
    world.cancel()
    world.end(run)
    world.tick()
    assert world.job.state is ImportState.CANCELLED
    assert world.retry().batches == 1
    world.calm()
    assert world.job.state is ImportState.COMPLETED_WITH_FAILURES
    assert "2 batches were cancelled" in (world.job.failure_reason or "")
    world.resume()
    world.calm()
    assert world.job.state is ImportState.COMPLETED


@pytest.mark.parametrize("ask", ["resume", "retry"])
def test_an_import_that_is_running_is_neither_resumed_nor_retried(engine: Engine, ask: str) -> None:
    world = World(engine, [("a", 0, 3)]).plan()
    world.tick()
    before = world.dump()
    with pytest.raises(RefusedError, match="is not over"):
        world.resume() if ask == "resume" else world.retry()
    assert world.dump() == before


def test_a_wave_that_is_reset_goes_into_a_new_one_and_its_runs_lose_their_batches(engine: Engine) -> None:
    world = World(engine, [("a", 0, 6)], wave_size=4).plan()
    world.tick()
    run = run_of(world, 1)
    world.begin(run)
    done, stuck = world.claim(run), world.claim(run)
    assert done is not None
    assert stuck is not None
    world.complete(run, done)

    assert world.reset(1) == 3

    assert [(b.range.partition_key, b.state.value, b.wave, b.attempts) for b in world.stored() if b.wave != 2] == [
        ("0", "completed", 1, 0),
        ("1000", "pending", 3, 0),
        ("2000", "pending", 3, 0),
        ("3000", "pending", 3, 0),
    ]
    run.held = [stuck]
    assert not world.complete(run, stuck), "the run that was ended could still settle its batch"
    world.calm()
    assert world.job.state is ImportState.COMPLETED
    assert world.states() == {"completed": 6}


def test_only_a_wave_that_has_begun_can_be_reset(engine: Engine) -> None:
    world = World(engine, [("a", 0, 6), ("b", 1, 1)], wave_size=2).plan()
    world.tick()
    assert world.reset(4) == 0
    with pytest.raises(RefusedError, match="has no wave 9: its waves are 1 to 4"):
        world.reset(9)
    world.calm()
    with pytest.raises(RefusedError, match="only waves of a running import"):
        world.reset(1)


def test_resuming_partitions_launched_by_hand_leaves_the_others_pinned(engine: Engine) -> None:
    World(engine, [("a", 0, 3)]).plan().calm()
    job = manual_import(engine, tenant(), "a", 0, ["1000"], import_id="t-by-hand", now=START)
    with engine.begin() as connection:
        store.cancel_batches(connection, job.import_id, START, list(BatchState))
        store.move_import(connection, job.import_id, ImportState.CANCELLING, START)
        store.move_import(connection, job.import_id, ImportState.CANCELLED, START)

    assert resume_import(engine, job, now=START) == 1

    with engine.connect() as connection:
        assert [r.partition_key for r in store.pinned_ranges(connection, "a")] == ["0", "1000", "2000"]


def test_partitions_launched_by_hand_can_be_worked_on_at_once(engine: Engine) -> None:
    World(engine, [("a", 2, 3)]).plan().calm()
    later = START + timedelta(days=1)
    job = manual_import(engine, tenant(), "a", 2, ["1000", "2000"], import_id="t-by-hand", now=later)

    with engine.begin() as connection:
        first, second = store.batches(connection, job.import_id)
        assert (first.wave, first.run_number, first.level) == (1, 1, 2)
        assert store.claim_batch(connection, first, "run", later)
        assert store.claim_batch(connection, second, "run", later)
    assert (
        manual_import(engine, tenant(), "a", 2, ["1000", "2000"], import_id="t-by-hand", now=later).state is job.state
    )
    with pytest.raises(RefusedError, match="partition 9000 of a is not planned"):
        manual_import(engine, tenant(), "a", 2, ["0", "9000"], import_id="t-other", now=later)


def test_a_batch_whose_process_died_is_tried_again_after_a_delay_only(engine: Engine) -> None:
    world = World(engine, [("a", 0, 2)]).plan()
    world.tick()
    run = run_of(world, 1)
    world.begin(run)
    world.claim(run)
    world.crash(run)
    world.tick()
    assert [(b.attempts, b.not_before) for b in sorted(world.stored(), key=lambda b: b.range.number)] == [
        (1, START + timedelta(seconds=5)),
        (0, None),
    ]


# ---------------------------------------------------------------- what status says


def document_of(world: World) -> dict[str, Any]:
    with world.engine.connect() as connection:
        document = status(connection, world.id, world.now, catalog=CATALOG)
    assert document is not None
    return document


def test_what_goes_on_although_a_parent_failed_is_marked_until_that_is_mended(engine: Engine) -> None:
    world = World(engine, [("subsidiary", 0, 2), ("customer", 1, 1), ("sales_order", 2, 1)], retry_attempts=0).plan()

    def marked() -> dict[str, list[str]]:
        return {entry["name"]: entry["partial_parents"] for entry in document_of(world)["record_types"]}

    world.tick()
    assert marked() == {"subsidiary": [], "customer": [], "sales_order": []}
    world.work_through(run_of(world, 1), besides=["1000"])
    world.calm()
    assert world.job.state is ImportState.COMPLETED_WITH_FAILURES
    assert marked() == {"subsidiary": [], "customer": ["subsidiary"], "sales_order": ["subsidiary"]}
    with engine.connect() as connection:
        assert partial_parents_of(connection, world.id, "customer", CATALOG) == ("subsidiary",)

    world.retry()
    world.calm()
    assert marked() == {"subsidiary": [], "customer": [], "sales_order": []}


def test_batches_that_wait_to_be_tried_again_say_why_they_failed(engine: Engine) -> None:
    world = World(engine, [("a", 0, 2)]).plan()
    world.tick()
    for run in world.alive():
        world.work_through(run, besides=["0", "1000"])
    assert re.fullmatch(
        r"level 0: 2 failed batches are tried again at \d\d:\d\d:\d\d UTC \(it failed\)", document_of(world)["reason"]
    )


def test_a_stuck_wave_is_marked_until_something_moves(engine: Engine) -> None:
    world = World(engine, [("a", 0, 3)]).plan()
    world.tick()
    run = run_of(world, 1)
    world.begin(run)
    batch = world.claim(run)
    assert batch is not None
    world.wait(2000)
    assert "stuck" not in document_of(world)["reason"]
    assert note_stuck_wave(engine, world.job, 1800, world.now) == 1
    world.wait(60)
    document = document_of(world)
    assert document["reason"].endswith("; wave 1 is stuck: nothing has moved since 12:00:00 UTC")
    assert [wave["stuck"] for wave in document["waves"]] == [True]

    world.complete(run, batch)
    assert "stuck" not in document_of(world)["reason"]
    assert [wave["stuck"] for wave in document_of(world)["waves"]] == [False]


# ---------------------------------------------------------------- derived record types


def parents_done(engine: Engine, lines: int = 3, **more: Any) -> tuple[World, FakeRun]:
    """An import whose parents are all in, and the run that is to plan its lines, just let in."""
    world = World(engine, [("invoice", 0, 2), (LINES.name, 1, lines)], **more).plan()
    world.tick()
    world.ask_gate()
    world.work_through(run_of(world, 1))
    world.tick()
    (run,) = world.alive()
    assert run.plans == (LINES.name, 1)
    assert world.ask_gate() == [run.run_id]
    world.begin(run)
    return world, run


def test_the_import_does_not_end_with_the_last_parent_batch_while_lines_are_not_planned(engine: Engine) -> None:
    world = World(engine, [("invoice", 0, 1), (LINES.name, 1, 3)]).plan()
    assert world.tick().reason.endswith("transaction_line is planned when its parents are done")
    assert not world.lines().planned
    world.ask_gate()
    world.work_through(run_of(world, 1))
    for _ in range(5):
        world.tick()
        world.wait(3600)
    assert world.job.state is ImportState.RUNNING  # its final main wave is done, and it has no batch left
    assert states_of_waves(world) == ["completed"]
    assert world.outcomes[-1].reason == "its parents are done: transaction_line is being planned"

    world.calm()
    assert world.job.state is ImportState.COMPLETED
    assert world.states() == {"completed": 4}


def test_nobody_counts_lines_that_are_not_planned_as_zero_batches_done(engine: Engine) -> None:
    world, _ = parents_done(engine)
    with engine.connect() as connection:
        document = status(connection, world.id, world.now, catalog=CATALOG)
    assert document is not None
    lines = document["record_types"][-1]
    assert (lines["state"], lines["batches"]["total"], lines["records"]["expected"]) == ("pending", 0, 3000)
    assert document["progress"] == 0.4


def test_planning_twice_or_after_a_crash_yields_the_same_batches(engine: Engine) -> None:
    world, run = parents_done(engine)
    assert world.plan_late(run)
    before = world.dump()
    assert not world.plan_late(run, batches=7)
    assert world.dump() == before
    world.crash(run)  # killed after the commit, before it could say so
    world.calm()
    assert world.job.state is ImportState.COMPLETED
    assert world.states() == {"completed": 5}


def test_a_planning_run_that_was_killed_is_followed_by_another_and_comes_too_late_itself(engine: Engine) -> None:
    world, run = parents_done(engine)
    world.crash(run)
    assert world.tick().plan == ()
    world.wait(60)
    world.tick()
    again = world.alive()[-1]
    assert again.plans == (LINES.name, 2)
    assert not world.plan_late(run)  # it was not dead after all
    assert world.plan_late(again)
    world.calm()
    assert world.job.state is ImportState.COMPLETED


def test_rate_limits_cost_planning_no_attempt(engine: Engine) -> None:
    world, run = parents_done(engine, retry_attempts=0)
    for _ in range(5):
        assert world.fail_late(run, RateLimited("too many requests"))
        world.end(run, "failed")
        world.wait(600)
        world.tick()
        run = world.alive()[-1]
    assert (world.lines().attempts, world.lines().attempt_number) == (0, 6)


@pytest.mark.parametrize("ask", ["resume", "retry"])
def test_planning_that_fails_for_good_is_named_at_the_end_and_tried_again_when_asked_for(
    engine: Engine, ask: str
) -> None:
    world, run = parents_done(engine, retry_attempts=1)
    for _ in range(2):
        assert world.fail_late(run, TimedOut("NetSuite did not answer"))
        world.end(run, "failed")
        world.wait(600)
        world.tick()
        run = world.runs[-1]
    assert world.job.state is ImportState.COMPLETED_WITH_FAILURES
    assert world.job.failure_reason == "transaction_line could not be planned (NetSuite did not answer)"

    if ask == "resume":
        world.resume()
    else:
        assert world.retry(Category.TIMEOUT) == world.retry(rejected=True) == Retried(0)
        assert world.retry() == Retried(0, (LINES.name,))
    world.calm()
    assert world.job.state is ImportState.COMPLETED
    assert world.states() == {"completed": 5}


def test_without_access_planning_stops_the_import(engine: Engine) -> None:
    world, run = parents_done(engine)
    world.fail_late(run, AccessDenied("the token is not valid any more"))
    world.end(run, "failed")
    world.tick()
    assert world.job.state is ImportState.FAILED


def test_cancelling_while_lines_are_being_planned_ends_it_and_resume_plans_them(engine: Engine) -> None:
    world, run = parents_done(engine)
    world.cancel()
    world.tick()
    assert world.job.state is ImportState.CANCELLED
    assert not world.plan_late(run)
    world.resume()
    assert not world.plan_late(run)
    world.end(run, "cancelled")
    world.calm()
    assert world.job.state is ImportState.COMPLETED
    assert world.states() == {"completed": 5}


def test_lines_are_planned_anew_when_parents_that_had_failed_come_in_later(engine: Engine) -> None:
    world = World(engine, [("invoice", 0, 2), (LINES.name, 1, 3)], retry_attempts=0).plan()
    world.tick()
    world.ask_gate()
    world.work_through(run_of(world, 1), besides=["1000"])
    world.calm()
    assert world.job.state is ImportState.COMPLETED_WITH_FAILURES
    assert world.states() == {"completed": 4, "failed": 1}

    world.resume()
    assert not world.lines().planned
    assert world.states() == {"completed": 1, "pending": 1}
    world.calm()
    assert world.job.state is ImportState.COMPLETED
    assert world.states() == {"completed": 5}
