"""An account that is too slow for full pages, over real HTTP: imported whole in smaller ones, which are remembered."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy import Engine

from nsimport_pipeline.imports import store
from nsimport_pipeline.imports.climb import Climber
from nsimport_pipeline.imports.sizes import pace_of
from nsimport_pipeline.imports.states import ImportState, WaveState
from nsimport_pipeline.netsuite.client import NetSuiteClient
from nsimport_pipeline.netsuite.retrying import RetryPolicy
from nsimport_pipeline.netsuite.sizing import Answer, Sizing
from nsimport_pipeline.simulator.options import SimulatorOptions
from nsimport_pipeline.simulator.process import SimulatorThread
from nsimport_pipeline.telemetry.facts import Event
from nsimport_pipeline.telemetry.performance import measure
from nsimport_pipeline.warehouse.engine import make_engine
from nsimport_pipeline.warehouse.migrate import ensure_control_tables
from nsimport_pipeline_tests.integration.imports_world import START
from nsimport_pipeline_tests.integration.test_imports_batch import SLOTS, Bench, MemorySlots

RECORDS = 2300


@pytest.fixture(scope="module")
def simulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimulatorThread]:
    options = SimulatorOptions(
        credentials=tmp_path_factory.mktemp("simulator"), slots=4 * SLOTS, rows={"*": 20, "customer": RECORDS}
    )
    with SimulatorThread(options) as running:
        yield running


@pytest.fixture
def bench(tmp_path: Path, simulator: SimulatorThread) -> Iterator[Bench]:
    engine = make_engine(f"sqlite:///{tmp_path / 'target.db'}", pool_size=8)
    made = Bench(engine, simulator, batch=1000, request_timeout=1)
    yield made
    made.stop.set()
    made.client.close()
    engine.dispose()


def changes(engine: Engine, import_id: str) -> list[Event]:
    with engine.connect() as connection:
        return [event for event in store.events(connection, import_id) if event.name == store.SIZING_CHANGED]


def test_an_account_that_is_too_slow_for_full_pages_is_imported_in_smaller_ones(bench: Bench) -> None:
    """Of 1000 rows an answer takes at least three times as long as it may; of 250 it takes less than that."""
    columns = len(bench.shop().columns.selected)
    bench.simulator.set_faults(f"slowrows:{3 * 20 / columns}")

    def work(client: NetSuiteClient) -> int:
        """Requests that it took, nothing having failed."""
        bench.stop.clear()
        pace = pace_of(bench.engine, bench.job.import_id, "customer", lambda: START)
        results = list(bench.execute(bench.shop(client=client, pace=pace), MemorySlots(SLOTS - 1)))
        assert [result.outcome for result in results] == ["completed"] * 3
        assert [batch.attempts for batch in bench.batches()] == [0] * 3
        return sum(result.stats.requests for result in results)

    # However slow the machine of the test is, patience alone would not do: a full page never comes.
    patient = RetryPolicy(attempts=100, base_delay=0.01, max_delay=0.02)
    requests = work(bench.client.following(patient))

    assert len(bench.ids()) == RECORDS
    told = changes(bench.engine, bench.job.import_id)
    with bench.engine.connect() as connection:
        learnt = store.sizes(connection)["customer"]
        statistics = bench.simulator.stats()
    assert learnt.sizing.rows <= 333
    assert requests >= 3 + RECORDS // 333
    assert (told[-1].message, told[-1].record_type) == (learnt.reason, "customer")
    assert len(told) < requests / 2
    assert statistics["max_in_flight"] <= 4 * SLOTS
    with bench.engine.connect() as connection:
        facts = store.import_facts(connection, bench.job.import_id)
    assert facts is not None
    assert facts.sizes == (f"customer: {learnt.reason}",)
    assert measure(facts, START).lines[1] == f"customer: {learnt.reason}"

    # The next import begins with what is known, though the account may have all the time it wants by now.
    with bench.engine.begin() as connection:
        store.move_wave(connection, bench.job.import_id, 1, WaveState.COMPLETED, START)
        store.move_import(connection, bench.job.import_id, ImportState.COMPLETED, START)
    bench.simulator.set_faults("")
    bench.clock += timedelta(hours=1)
    bench.job = bench.start("0002")
    with bench.engine.connect() as connection:
        facts = store.import_facts(connection, bench.job.import_id)
    assert facts is not None
    assert facts.sizes == (f"customer: {learnt.reason} (since 2026-03-01)",)
    with NetSuiteClient(bench.tenant, timeouts=(10, 300)) as unhurried:
        assert work(unhurried) > 3
    grown = [event.message or "" for event in changes(bench.engine, bench.job.import_id)]
    assert all(f"instead of {learnt.sizing}: " in message for message in grown[:1])
    assert all("in a row" in message for message in grown)


class Told(Climber):
    """Has only one request under way at a time, and keeps what it saw."""

    def __init__(self) -> None:
        super().__init__(SLOTS)
        self.rows: list[int] = []

    def saw(self, rows: int, seconds: float, began: float) -> None:
        assert seconds > 0 < began
        self.rows.append(rows)

    def adjust(self, now: float, fetchers: int) -> int:
        return 1


def test_no_more_is_asked_at_a_time_than_is_worth_having(tmp_path: Path, simulator: SimulatorThread) -> None:
    simulator.reset_stats()
    simulator.set_faults("")
    engine, slots, climber = make_engine(f"sqlite:///{tmp_path / 'target.db'}", pool_size=8), MemorySlots(9), Told()
    bench = Bench(engine, simulator, batch=500)
    try:
        results = list(bench.execute(slots=slots, climber=climber))
    finally:
        bench.client.close()
        engine.dispose()

    assert [result.outcome for result in results] == ["completed"] * 5
    assert sorted(climber.rows) == [300, 500, 500, 500, 500]
    assert slots.most == 0
    assert simulator.stats()["max_in_flight"] == 1


def test_what_was_learnt_is_kept_for_whoever_comes_next(warehouse_url: str) -> None:
    engine = make_engine(warehouse_url, pool_size=2)
    ensure_control_tables(engine)
    try:
        pace = pace_of(engine, "acme-1", "customer", lambda: START)
        pace.saw(Answer(1000, 40, 60, 60, came=False))
        pace.saw(Answer(500, 40, 45, 60))
        for _ in range(5):
            pace.saw(Answer(250, 40, 10, 60))
        pace.saw(Answer(350, 40, 40, 60))

        assert pace_of(engine, "acme-2", "customer", lambda: START).sizing == Sizing(175, patience=10)
        assert pace_of(engine, "acme-2", "vendor", lambda: START).sizing == Sizing()
        assert [event.message for event in changes(engine, "acme-1")] == [
            "pages of 500 records, since 1,000 records with 40 columns were not answered in 60 s",
            "pages of 250 records, since 500 records with 40 columns took 45.0 s of the 60 s there are",
            "pages of 350 records instead of 250 records: 5 answers in a row each took less than 12 s",
            "pages of 175 records, since 350 records with 40 columns took 40.0 s of the 60 s there are",
        ]
        sa.event.listen(engine, "begin", _out_of_order)
        assert pace.saw(Answer(175, 40, 60, 60, came=False)).rows == 87  # told or not
    finally:
        engine.dispose()


def _out_of_order(_: object) -> None:
    raise sa.exc.OperationalError("BEGIN", {}, Exception("gone"))
