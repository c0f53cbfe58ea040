"""Events and facts of an import, from real control tables: each step of its life is told once, in order."""

from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from sqlalchemy import Engine

from nsimport_pipeline.errors import Category
from nsimport_pipeline.imports import store
from nsimport_pipeline.imports.stuck import note_stuck_wave
from nsimport_pipeline.netsuite.circuit import Circuit, CircuitState
from nsimport_pipeline.telemetry.events import document, line
from nsimport_pipeline.telemetry.facts import Event
from nsimport_pipeline.warehouse.control import job_events
from nsimport_pipeline.warehouse.engine import make_engine
from nsimport_pipeline.warehouse.migrate import ensure_control_tables
from nsimport_pipeline_tests.integration.imports_world import World


@pytest.fixture
def engine(warehouse_url: str) -> Iterator[Engine]:
    engine = make_engine(warehouse_url, pool_size=2)
    ensure_control_tables(engine)
    yield engine
    engine.dispose()


def told(world: World, **more: object) -> list[Event]:
    with world.engine.connect() as connection:
        return store.events(connection, world.id, **more)  # type: ignore[arg-type]


def test_the_life_of_an_import_is_told_in_order(engine: Engine) -> None:
    world = World(engine, [("customer", 0, 2), ("invoice", 1, 1)]).plan()
    world.wait(1)
    world.tick()
    run = world.runs[0]
    world.begin(run)
    first = world.claim(run)
    assert first is not None
    world.wait(1)
    world.fail(run, first, Category.TIMEOUT)
    world.work_through(run)
    world.wait(30)
    world.calm()
    events = told(world)
    assert [event.at for event in events] == sorted(event.at for event in events)
    names = [event.name for event in events]
    for name, times in {
        "import_created": 1, "import_planned": 1, "import_started": 1, "import_completed": 1, "batch_started": 3,
        "batch_completed": 3, "batch_retried": 1, "batches_retried": 1, "wave_dispatched": 3, "wave_completed": 3,
    }.items():  # fmt: skip
        assert names.count(name) == times, name
    assert names.index("import_planned") < names.index("import_started") < names.index("batch_retried")
    assert names[-1] == "import_completed"
    retried = next(event for event in events if event.name == "batch_retried")
    assert (retried.record_type, retried.partition, retried.run_id) == ("customer", "0", run.run_id)
    assert retried.message == "timeout: it failed"
    assert "wave 1, customer 0: timeout: it failed" in line(retried)
    assert document(retried)["at"].endswith("Z")


def test_following_sees_only_what_is_new(engine: Engine) -> None:
    world = World(engine, [("customer", 0, 1)]).plan()
    world.tick()
    world.wait(60)
    cut = world.now
    world.calm()
    new = told(world, since=cut)
    assert {event.name for event in new} >= {"batch_started", "batch_completed", "import_completed"}
    assert "import_planned" not in {event.name for event in new}
    assert [event for event in told(world) if event.at >= cut] == new


def test_a_clean_batch_writes_no_event_of_its_own(engine: Engine) -> None:
    world = World(engine, [("customer", 0, 3)]).plan()
    world.tick()

    def written() -> int:
        with engine.connect() as connection:
            return connection.execute(sa.select(sa.func.count()).select_from(job_events)).scalar_one()

    before = written()
    run = world.runs[0]
    world.begin(run)
    while run.todo:
        batch = world.claim(run)
        assert batch is not None
        world.complete(run, batch)
    assert written() == before


def test_a_standstill_is_noted_once_and_again_after_it_moved(engine: Engine) -> None:
    world = World(engine, [("customer", 0, 2)]).plan()
    assert note_stuck_wave(engine, world.job, 600, world.now) is None
    world.tick()
    world.wait(601)
    for _ in range(2):
        assert note_stuck_wave(engine, world.job, 600, world.now) == 1
    run = world.runs[0]
    world.begin(run)
    batch = world.claim(run)
    assert batch is not None
    world.complete(run, batch)
    assert note_stuck_wave(engine, world.job, 600, world.now) is None
    world.wait(601)
    assert note_stuck_wave(engine, world.job, 600, world.now) == 1
    stuck = [event for event in told(world) if event.name == "wave_stuck"]
    assert [event.wave for event in stuck] == [1, 1]
    assert f"nsimport waves reset {world.id} 1" in (stuck[0].message or "")


def test_waiting_for_netsuite_or_in_the_queue_is_no_standstill(engine: Engine) -> None:
    world = World(engine, [("customer", 0, 2)]).plan()
    world.tick()
    world.wait(601)
    down = Circuit(CircuitState.OPEN, 4, 1, world.now, world.now, world.now)
    with engine.begin() as connection:
        assert store.set_circuit(connection, "acme", Circuit(), down)
    assert note_stuck_wave(engine, world.job, 600, world.now) is None
    with engine.begin() as connection:
        assert store.set_circuit(connection, "acme", down, Circuit(changed_at=world.now))
    assert note_stuck_wave(engine, world.job, 600, world.now) is None  # it has only just come back
    world.wait(601)
    assert note_stuck_wave(engine, world.job, 600, world.now, queued=lambda wave: True) is None
    assert note_stuck_wave(engine, world.job, 600, world.now) == 1


def test_facts_say_what_the_tables_say(engine: Engine) -> None:
    world = World(engine, [("customer", 0, 2), ("invoice", 1, 1)]).plan()
    world.calm()
    with engine.connect() as connection:
        assert store.import_facts(connection, "acme-1-none") is None
        facts = store.import_facts(connection, world.id)
        marks = store.import_marks(connection)
        size, use = store.control_bytes(connection), store.connection_use(connection)
    assert facts is not None
    assert marks == [(world.id, "completed", world.job.finished_at)]
    assert (facts.state, facts.planned_at is not None, facts.reopened_at) == ("completed", True, None)
    assert {batch.record_type: batch.level for batch in facts.batches} == {"customer": 0, "invoice": 1}
    assert sum(batch.rows_upserted for batch in facts.batches) == 3000
    assert all(batch.seconds is not None for batch in facts.batches)
    assert facts.last_sign_at == max(batch.finished_at for batch in facts.batches if batch.finished_at)
    if engine.dialect.name == "sqlite":
        assert (size, use) == (None, None)
    else:
        assert size is not None
        assert size > 0
        assert use is not None
        assert 0 < use[0] <= use[1]
