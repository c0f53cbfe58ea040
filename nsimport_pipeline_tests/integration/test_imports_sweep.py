"""Sweeps of a simulated account's tables in real databases: what is gone is marked, whatever happens meanwhile."""

from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest
import sqlalchemy as sa

from nsimport_pipeline.errors import PermanentError
from nsimport_pipeline.imports.records import Sweep
from nsimport_pipeline.netsuite.client import Page
from nsimport_pipeline.simulator.process import SimulatorThread
from nsimport_pipeline.warehouse.control import rejected_records
from nsimport_pipeline_tests.integration.changes_bench import (
    CUSTOMER,
    DAY,
    MIDNIGHT,
    TABLE,
    Bench,
    marked,
    start_simulator,
    started_bench,
)

LONG_AGO = MIDNIGHT - 100 * DAY


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimulatorThread]:
    with start_simulator(tmp_path_factory.mktemp("simulator")) as simulator:
        yield simulator


@pytest.fixture
def bench(running: SimulatorThread, warehouse_url: str) -> Iterator[Bench]:
    yield from started_bench(running, warehouse_url)


class Between:
    """A client beside which something happens before its request of one kind is sent."""

    def __init__(self, bench: Bench, word: str, happens: str) -> None:
        self.bench, self.word, self.happens = bench, word, happens

    def query(self, statement: str, *, limit: int = 1000, offset: int = 0) -> Page:
        if self.word in statement:
            with self.bench.engine.begin() as connection:
                connection.execute(sa.text(self.happens))
        return self.bench.client.query(statement, limit=limit, offset=offset)


def test_a_table_in_step_costs_one_request_and_what_is_gone_a_few(bench: Bench) -> None:
    ids = sorted(bench.stored())
    assert bench.sweep(MIDNIGHT) == Sweep("customer", MIDNIGHT, MIDNIGHT, requests=1, compared=len(ids))
    gone = [ids[0], *ids[40:43], ids[2000], ids[-1]]
    bench.vanish(gone)
    swept = bench.sweep(MIDNIGHT + DAY)
    assert (swept.deleted, swept.missing, swept.drifted, swept.compared) == (6, 0, 0, len(ids))
    # The whole, its parts, and for each of three or four places the keys, and once more those that are not there.
    assert swept.requests <= 2 + 2 * 4
    assert marked(bench) == dict.fromkeys(gone, (MIDNIGHT + DAY).replace(tzinfo=None))
    assert bench.stored() == bench.at_netsuite()
    assert bench.sweep(MIDNIGHT + 2 * DAY).requests == 1

    # New records are for the next import, not for a sweep.
    bench.add(range(1_000_000, 1_000_005), MIDNIGHT + 2 * DAY)
    assert bench.sweep(MIDNIGHT + 2 * DAY).requests == 1


def test_rows_are_removed_where_that_is_wanted(bench: Bench) -> None:
    ids = sorted(bench.stored())
    bench.types["customer"] = CUSTOMER.adapted(deletes="remove")
    bench.vanish(ids[100:1700])
    assert bench.sweep(MIDNIGHT).deleted == 1600
    assert bench.rows() == len(ids) - 1600
    assert bench.stored() == bench.at_netsuite()


def test_records_that_the_database_did_not_take_are_not_missing(bench: Bench) -> None:
    (refused, gone) = sorted(bench.stored())[50:52]
    row = {"import_id": "x", "record_type": "customer", "partition_key": "0", "fingerprint": "f", "reason": "r"}
    with bench.engine.begin() as connection:
        connection.execute(sa.delete(TABLE).where(TABLE.c.refid == refused))
        values = row | {"raw": "{}", "rejected_at": datetime(2031, 1, 1)}
        connection.execute(sa.insert(rejected_records), [values | {"refid": refused}] * 2)
    assert bench.sweep(MIDNIGHT).requests == 1
    bench.vanish([gone])
    swept = bench.sweep(MIDNIGHT + DAY)
    assert (swept.deleted, swept.missing) == (1, 0)


def test_what_the_next_import_brings_is_missing_and_does_not_have_all_loaded(bench: Bench) -> None:
    bench.run(MIDNIGHT)
    late = sorted(bench.stored())[70:73]
    with bench.engine.begin() as connection:
        connection.execute(sa.delete(TABLE).where(TABLE.c.refid.in_(late)))
    bench.change(f"id IN ({', '.join(map(str, late))})", MIDNIGHT + timedelta(minutes=1))
    swept = bench.sweep(MIDNIGHT + timedelta(minutes=2))
    assert (swept.deleted, swept.missing, swept.drifted) == (0, 3, 0)
    plan, _ = bench.run(MIDNIGHT + timedelta(minutes=15))
    assert plan.records == 3
    assert bench.stored() == bench.at_netsuite()


def test_a_record_that_comes_back_unchanged_has_the_next_import_load_all(bench: Bench) -> None:
    ids = sorted(bench.stored())
    bench.vanish(ids[5:9])
    assert bench.sweep(MIDNIGHT).deleted == 4
    bench.run(MIDNIGHT + timedelta(minutes=1))
    bench.restore(ids[5:9], LONG_AGO)
    bench.run(MIDNIGHT + timedelta(minutes=15))
    assert bench.stored() != bench.at_netsuite()

    swept = bench.sweep(MIDNIGHT + timedelta(minutes=20))
    assert (swept.deleted, swept.missing, swept.drifted) == (0, 4, 4)
    before = bench.stored("imported_at")
    plan, results = bench.run(MIDNIGHT + timedelta(minutes=30))
    assert plan.records == len(ids)
    assert sum(result.stats.rows_upserted for result in results) == 4
    assert bench.stored() == bench.at_netsuite()
    assert {refid: at for refid, at in bench.stored("imported_at").items() if refid in before} == before
    assert (bench.swept().missing, bench.swept().drifted) == (0, 0)
    assert bench.run(MIDNIGHT + timedelta(minutes=45))[0].records == 0
    assert bench.sweep(MIDNIGHT + timedelta(minutes=50)).requests == 1


def test_many_that_are_missing_are_counted_without_being_read(bench: Bench) -> None:
    ids = sorted(bench.stored())
    with bench.engine.begin() as connection:
        connection.execute(sa.delete(TABLE).where(TABLE.c.refid > ids[10], TABLE.c.refid < ids[-1]))
    swept = bench.sweep(MIDNIGHT)
    assert (swept.missing, swept.drifted, swept.deleted) == (len(ids) - 12, len(ids) - 12, 0)
    bench.run(MIDNIGHT + timedelta(minutes=1))
    assert bench.stored() == bench.at_netsuite()


def test_what_comes_back_or_is_imported_meanwhile_is_not_marked(bench: Bench) -> None:
    gone, other = sorted(bench.stored())[30:32]
    bench.vanish([gone, other])
    again = f"UPDATE customers SET imported_at = '2031-07-01 00:00:00' WHERE refid = {gone}"
    assert bench.sweep(MIDNIGHT, Between(bench, " IN (", again)).deleted == 1
    assert set(marked(bench)) == {other}
    assert bench.sweep(MIDNIGHT).deleted == 1


def test_a_role_that_sees_nothing_any_more_has_nothing_marked(bench: Bench) -> None:
    bench.vanish(sorted(bench.stored()))
    with pytest.raises(PermanentError, match=r"NetSuite shows none of the 3300 records of customer there were"):
        bench.sweep(MIDNIGHT)
    assert marked(bench) == {}
    kept = bench.swept()
    assert kept.finished_at == MIDNIGHT
    assert "the role may not see them any more" in (kept.failure or "")
