"""Sweeps and imports of changes whose process dies, at every change that they make to a real database in turn."""

from collections.abc import Iterator
from datetime import timedelta

import pytest
import sqlalchemy as sa

from nsimport_pipeline.simulator.process import SimulatorThread
from nsimport_pipeline.warehouse.control import sync_watermarks
from nsimport_pipeline_tests.integration.changes_bench import (
    DAY,
    MIDNIGHT,
    TABLE,
    Bench,
    killed_at,
    marked,
    start_simulator,
    started_bench,
)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimulatorThread]:
    with start_simulator(tmp_path_factory.mktemp("simulator"), records=60) as simulator:
        yield simulator


@pytest.fixture
def bench(running: SimulatorThread, warehouse_url: str) -> Iterator[Bench]:
    yield from started_bench(running, warehouse_url)


def test_a_sweep_that_dies_at_any_statement_is_finished_by_the_next(bench: Bench) -> None:
    ids = sorted(bench.stored())
    gone = [ids[3], ids[50]]
    bench.vanish(gone)
    step, times, died = 0, set(), True
    while died:
        step += 1
        with bench.engine.begin() as connection:
            connection.execute(sa.update(TABLE).values(deleted_at=None).where(TABLE.c.refid.in_(gone)))
        with killed_at(bench.engine, step) as death:
            bench.sweep(MIDNIGHT, most=5)
        died, first = death.came, marked(bench)
        assert set(first) <= set(gone)
        times.add(len(first))
        swept = bench.sweep(MIDNIGHT + DAY, most=5)
        # What the first has marked is not marked again, nor counted.
        assert swept.deleted == len(gone) - len(first)
        after = marked(bench)
        assert (set(after), {refid: at for refid, at in after.items() if refid in first}) == (set(gone), first)
    assert times == {0, 1, 2}
    assert bench.stored() == bench.at_netsuite()


def test_an_import_of_changes_that_dies_at_any_statement_leaves_no_gap_and_nothing_twice(bench: Bench) -> None:
    bench.run(MIDNIGHT)
    at, wanted = MIDNIGHT + timedelta(minutes=1), set(sorted(bench.stored())[5:8])
    bench.change(f"id IN ({', '.join(map(str, wanted))})", at - timedelta(seconds=30), "new")
    step, seen, died = 0, set(), True
    while died:
        step += 1
        with bench.engine.begin() as connection:
            connection.execute(sa.update(TABLE).values(phone="old").where(TABLE.c.refid.in_(wanted)))
            connection.execute(sa.update(sync_watermarks).values(modified_at=MIDNIGHT.replace(tzinfo=None)))
        assert bench.plan(at, overlap=timedelta(0)).records == 3
        with killed_at(bench.engine, step) as death:
            bench.work(at)
        died, mark = death.came, bench.watermark()
        arrived = {refid for refid, phone in bench.stored().items() if phone == "new"}
        assert arrived in (set(), wanted)
        assert mark in (MIDNIGHT, at)
        assert arrived or mark == MIDNIGHT, "the watermark is ahead of what is stored"
        seen.add((bool(arrived), mark == at, bench.over))
        for later in range(1, 5):
            if not bench.over:
                bench.work(at + later * timedelta(seconds=10))
        assert (bench.over, bench.watermark(), bench.imported()) == (True, at, 3)
        assert {refid for refid, phone in bench.stored().items() if phone == "new"} == wanted
    # Nothing yet; rows and no watermark; both, and no word that it is over; all of it.
    assert seen == {(False, False, False), (True, False, False), (True, True, False), (True, True, True)}
    assert bench.stored() == bench.at_netsuite()
