"""Incremental imports of a simulated account into real databases: what was changed arrives, and nothing else moves."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from random import Random

import pytest
import sqlalchemy as sa

from nsimport_pipeline.imports.states import ImportState
from nsimport_pipeline.imports.steer import resume_import
from nsimport_pipeline.simulator.process import SimulatorThread
from nsimport_pipeline.warehouse.schema import target_table
from nsimport_pipeline_tests.integration.changes_bench import (
    CUSTOMER,
    DAY,
    LINKS,
    MIDNIGHT,
    TABLE,
    Bench,
    changed,
    moment,
    start_simulator,
    started_bench,
)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimulatorThread]:
    with start_simulator(tmp_path_factory.mktemp("simulator")) as simulator:
        yield simulator


@pytest.fixture
def bench(running: SimulatorThread, warehouse_url: str) -> Iterator[Bench]:
    yield from started_bench(running, warehouse_url)


def test_nothing_changed_nothing_done(bench: Bench) -> None:
    assert bench.watermark() == MIDNIGHT - 30 * DAY
    before = bench.stored("imported_at"), bench.pinned()
    plan, results = bench.run(MIDNIGHT)
    assert (plan.batches, results, bench.requests) == (0, [], 2)
    assert bench.state is ImportState.COMPLETED
    assert bench.watermark() == MIDNIGHT
    assert (bench.stored("imported_at"), bench.pinned()) == before


def test_few_changes_among_many_records_cost_few_requests_and_touch_few_partitions(bench: Bench) -> None:
    bench.run(MIDNIGHT)
    before = bench.stored("imported_at")
    ids = sorted(bench.stored())
    wanted = {ids[5], ids[6], ids[1500], ids[3299]}
    bench.change(f"id IN ({', '.join(map(str, wanted))})", MIDNIGHT + timedelta(minutes=5))
    plan, results = bench.run(MIDNIGHT + timedelta(minutes=15))
    assert (plan.batches, bench.requests) == (1, 3)
    assert changed(results) == {"0": 2, "1000": 1, "3000": 1}
    assert results[0].stats.rows_upserted == 4
    now = bench.stored("imported_at")
    assert {refid for refid, at in now.items() if at != before[refid]} == wanted
    assert bench.stored() == bench.at_netsuite()

    # Once more: the overlap has them read again, and not written again.
    plan, results = bench.run(MIDNIGHT + timedelta(minutes=30))
    assert plan.records == 4
    assert (changed(results), results[0].stats.rows_read, results[0].stats.rows_upserted) == ({}, 4, 0)
    assert bench.stored("imported_at") == now
    assert bench.state is ImportState.COMPLETED


def test_new_records_fill_the_last_partition_and_open_others(bench: Bench) -> None:
    first = bench.pinned()
    top = first[-1][2]
    bench.add(range(1_000_000, 1_000_100), MIDNIGHT)
    _, results = bench.run(MIDNIGHT + timedelta(minutes=1))
    assert bench.pinned() == [*first[:-1], ("3000", first[-1][1], 1_000_099)]
    assert changed(results) == {"3000": 100}
    assert bench.requests == 4
    bench.add(range(1_001_000, 1_003_000), MIDNIGHT + timedelta(minutes=2))
    _, results = bench.run(MIDNIGHT + timedelta(minutes=3))
    # 600 of the 2000 fill it up.
    opened = bench.pinned()[-3:]
    assert opened == [
        ("3000", first[-1][1], 1_001_599),
        ("4000", 1_001_599, 1_002_599),
        ("5000", 1_002_599, 1_002_999),
    ]
    assert changed(results) == {"3000": 600, "4000": 1000, "5000": 400}
    assert bench.stored() == bench.at_netsuite()
    assert top < 1_000_000


def test_thousands_changed_in_one_second_all_arrive(bench: Bench) -> None:
    bench.run(MIDNIGHT)
    count = bench.change("id % 8 <> 1", MIDNIGHT + timedelta(seconds=1), "9")
    _, results = bench.run(MIDNIGHT + timedelta(minutes=15), overlap=timedelta(0))
    assert sum(changed(results).values()) == count > 2500
    assert bench.stored() == bench.at_netsuite()
    assert bench.requests <= 3 + -(-count // 800)


def test_no_hour_of_the_account_is_lost(bench: Bench) -> None:
    """Without any overlap: a change belongs to the import at whose bound it was made, or to the one after."""
    ids = sorted(bench.stored())
    back, forward = datetime(2031, 11, 2, 9, tzinfo=UTC), datetime(2032, 3, 14, 10, tzinfo=UTC)
    for around in (MIDNIGHT, back, forward):
        for minutes in (-30, 30):
            edge = around + timedelta(minutes=minutes)
            bench.run(edge - timedelta(seconds=1), overlap=timedelta(0))
            bench.change(f"id = {ids[0]}", edge, f"at {edge:%d %H:%M}")
            bench.change(f"id = {ids[1]}", edge + timedelta(seconds=1), f"after {edge:%d %H:%M}")
            _, results = bench.run(edge, overlap=timedelta(0))
            assert sum(changed(results).values()) == 1
            _, results = bench.run(edge + timedelta(seconds=1), overlap=timedelta(0))
            assert sum(changed(results).values()) == 1
    assert bench.stored() == bench.at_netsuite()


def test_what_is_committed_late_is_caught_by_the_overlap(bench: Bench) -> None:
    bench.run(MIDNIGHT)
    bench.run(MIDNIGHT + timedelta(minutes=15))
    (late,) = sorted(bench.stored())[7:8]
    bench.change(f"id = {late}", MIDNIGHT + timedelta(minutes=1), "late")
    bench.run(MIDNIGHT + timedelta(minutes=30))
    assert bench.stored()[late] == "late"


def test_a_record_that_comes_back_is_undeleted(bench: Bench) -> None:
    (gone,) = sorted(bench.stored())[3:4]
    with bench.engine.begin() as connection:
        connection.execute(sa.update(TABLE).where(TABLE.c.refid == gone).values(deleted_at=datetime(2031, 1, 1)))
    bench.simulator.sql(f"UPDATE customer SET lastmodifieddate = {moment(MIDNIGHT)} WHERE id = {gone}")
    bench.run(MIDNIGHT + timedelta(minutes=1))
    assert gone in bench.stored()


def test_what_netsuite_deleted_is_marked_and_no_other_record_with_its_id(bench: Bench) -> None:
    bench.run(MIDNIGHT)
    ids = sorted(bench.stored())
    lost, other = ids[10:13], ids[20]
    bench.remove(lost, MIDNIGHT + timedelta(minutes=1), and_not=[other])
    _, results = bench.run(MIDNIGHT + timedelta(minutes=15))
    assert results == []
    assert set(ids) - set(bench.stored()) == set(lost)
    assert bench.planned().deleted == 3
    bench.run(MIDNIGHT + timedelta(minutes=30))
    assert bench.planned().deleted == 0
    bench.restore(lost, MIDNIGHT + timedelta(minutes=40))
    bench.run(MIDNIGHT + timedelta(minutes=45))
    assert bench.stored() == bench.at_netsuite()
    assert set(bench.stored()) == set(ids)


def test_deleted_rows_are_removed_where_that_is_wanted(bench: Bench) -> None:
    ids = sorted(bench.stored())
    bench.remove(ids[5:7], MIDNIGHT)
    bench.run(MIDNIGHT)
    assert bench.rows() == len(ids)
    bench.types["customer"] = CUSTOMER.adapted(deletes="remove")
    bench.remove(ids[10:13], MIDNIGHT + timedelta(minutes=1))
    bench.run(MIDNIGHT + timedelta(minutes=15))
    assert (bench.rows(), bench.planned().deleted) == (len(ids) - 3, 3)

    # Nothing says that these are gone, one of them the last; and those marked before the change go now.
    bench.remove([ids[20], ids[-1]], MIDNIGHT - 9 * DAY)
    bench.run(MIDNIGHT + timedelta(minutes=30), mode="full")
    assert bench.rows() == len(bench.stored()) == len(ids) - 7
    assert bench.stored() == bench.at_netsuite()
    bench.restore(ids[10:13], MIDNIGHT + timedelta(minutes=40))
    bench.run(MIDNIGHT + timedelta(minutes=45))
    assert bench.stored() == bench.at_netsuite()


def test_a_record_that_comes_back_just_as_it_was_is_undeleted_when_it_is_reloaded(bench: Bench) -> None:
    name, table = LINKS.name, target_table(LINKS)
    bench.run(MIDNIGHT, mode="full", name=name)
    before = bench.stored("imported_at", table)
    (back, other) = sorted(before)[7:9]
    with bench.engine.begin() as connection:
        connection.execute(sa.update(table).where(table.c.refid == back).values(deleted_at=datetime(2031, 1, 1)))
    _, results = bench.run(MIDNIGHT + DAY, name=name)
    assert changed(results) == {"0": 1}
    after = bench.stored("imported_at", table)
    assert (after[back] > before[back], after[other]) == (True, before[other])


def test_days_of_a_company_s_life_are_followed_step_by_step(bench: Bench) -> None:
    """Every quarter of an hour around midnight and both changes of the clock, with much of what happens to records."""
    random, removed, top = Random(1), set[int](), 1_000_000
    back, forward = datetime(2031, 11, 2, 9, tzinfo=UTC), datetime(2032, 3, 14, 10, tzinfo=UTC)
    for around in (MIDNIGHT, back, forward):
        for quarter in range(-2, 3):
            at = around + quarter * timedelta(minutes=15)
            for _ in range(random.randrange(4)):
                moment_of_it = at - timedelta(seconds=random.choice([0, 1, 600, 3600, 5 * 3600]))
                there = sorted(bench.at_netsuite())
                some = random.sample(there, random.choice([1, 3, 40]))
                match random.choice(["edit", "edit", "bulk", "add", "remove", "restore"]):
                    case "edit":
                        bench.change(f"id IN ({', '.join(map(str, some))})", moment_of_it, f"{random.random()}")
                    case "bulk":
                        bench.change(f"id % 3 = {random.randrange(3)}", moment_of_it, f"{random.random()}")
                    case "add":
                        number = random.choice([1, 7, 700])
                        bench.add(range(top, top + number), moment_of_it)
                        top += number
                    case "remove":
                        bench.remove(some, moment_of_it)
                        removed |= set(some)
                    case "restore" if removed:
                        back_again = random.sample(sorted(removed), min(5, len(removed)))
                        bench.restore(back_again, moment_of_it)
                        removed -= set(back_again)
            bench.run(at)
            assert bench.state is ImportState.COMPLETED
            assert bench.stored() == bench.at_netsuite(), at
        sizes = [(r.low, r.high) for r in bench.partitions()]
        assert all(one[1] == other[0] for one, other in pairwise(sizes))


def test_the_watermark_waits_for_batches_that_failed_and_they_are_no_partitions(bench: Bench) -> None:
    bench.run(MIDNIGHT)
    bench.change("id % 2 = 0", MIDNIGHT + timedelta(minutes=1), "2")
    partitions = bench.pinned()
    bench.run(MIDNIGHT + timedelta(minutes=15), fail=1)
    assert (bench.state, bench.watermark()) == (ImportState.COMPLETED_WITH_FAILURES, MIDNIGHT)
    resume_import(bench.engine, bench.job, now=MIDNIGHT + timedelta(minutes=16))
    bench.work(MIDNIGHT + timedelta(minutes=17))
    assert (bench.state, bench.watermark()) == (ImportState.COMPLETED, MIDNIGHT + timedelta(minutes=15))
    assert bench.pinned() == partitions
    assert bench.stored() == bench.at_netsuite()


def test_a_type_that_does_not_say_when_is_reloaded_whole_and_written_where_it_differs(bench: Bench) -> None:
    table, name = target_table(LINKS), LINKS.name
    bench.run(MIDNIGHT, mode="full", name=name)
    before = bench.stored("imported_at", table)
    bench.run(MIDNIGHT + DAY, name=name)
    assert bench.stored("imported_at", table) == before
    ids = sorted(before)
    bench.simulator.sql(f"DELETE FROM {LINKS.source.from_} WHERE {LINKS.source.key} = {ids[1200]}")
    _, results = bench.run(MIDNIGHT + 2 * DAY, name=name)
    assert changed(results) == {"1000": 1}
    assert set(bench.stored("refid", table)) == set(ids) - {ids[1200]}
    assert bench.watermark(name) == MIDNIGHT + 2 * DAY
