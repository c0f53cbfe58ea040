"""Incremental imports of a simulated account into real databases: what was changed arrives, and nothing else moves."""

import threading
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from random import Random
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa
from sqlalchemy import Engine

from nsimport_pipeline.imports import store
from nsimport_pipeline.imports.batch import Result, RetryLog, Step, Workshop
from nsimport_pipeline.imports.changes import changes_since
from nsimport_pipeline.imports.columns import Columns
from nsimport_pipeline.imports.deletions import deleted_ids, gone
from nsimport_pipeline.imports.execute import Throttle, execute
from nsimport_pipeline.imports.finish import take_checks, take_checks_of_changes
from nsimport_pipeline.imports.plan import Plan, make_plan
from nsimport_pipeline.imports.records import KeyRange, Mode, TypePlan
from nsimport_pipeline.imports.settle import settle
from nsimport_pipeline.imports.snapshot import Rules
from nsimport_pipeline.imports.start import Request, open_import, write_plan
from nsimport_pipeline.imports.states import ImportState
from nsimport_pipeline.imports.steer import resume_import
from nsimport_pipeline.netsuite.client import NetSuiteClient
from nsimport_pipeline.netsuite.suiteql import changed_within, selected
from nsimport_pipeline.record_types.criteria import load_catalog
from nsimport_pipeline.settings import Tenant
from nsimport_pipeline.simulator.options import SimulatorOptions
from nsimport_pipeline.simulator.process import SimulatorThread
from nsimport_pipeline.warehouse.deletes import live_among
from nsimport_pipeline.warehouse.engine import make_engine
from nsimport_pipeline.warehouse.migrate import ensure_control_tables
from nsimport_pipeline.warehouse.schema import ensure_table, target_table

CATALOG = load_catalog()
CUSTOMER = CATALOG["customer"]
TABLE = target_table(CUSTOMER)
LINKS = CATALOG["customer_subsidiary"]
"""A record type that does not say when a record was changed."""
RECORDS = 3300
DAY = timedelta(days=1)
MIDNIGHT = datetime(2031, 7, 2, 7, tzinfo=UTC)
"""Where the account is. Later than any record there is at first."""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimulatorThread]:
    rows = {"*": 20, "customer": RECORDS, "customer_subsidiary": 1500}
    with SimulatorThread(SimulatorOptions(credentials=tmp_path_factory.mktemp("simulator"), rows=rows)) as simulator:
        yield simulator


class Bench:
    """One database that is kept in step; an import is planned, worked on and settled in one go."""

    def __init__(self, engine: Engine, simulator: SimulatorThread) -> None:
        self.engine = engine
        self.simulator = simulator
        document: dict[str, Any] = {
            "name": "acme",
            "account": simulator.options.account,
            "base_url": simulator.base_url,
            "auth": simulator.credentials.tba,
            "warehouse_url": "sqlite://",
        }
        self.tenant = Tenant.model_validate(document)
        self.client = NetSuiteClient(self.tenant)
        self.number = 0
        self.types = dict(CATALOG)
        ensure_control_tables(engine)
        for name in ("customer", LINKS.name):
            ensure_table(engine, CATALOG[name])

    def run(
        self,
        at: datetime,
        *,
        mode: Mode = "incremental",
        name: str = "customer",
        overlap: timedelta = DAY,
        fail: int = 0,
    ) -> tuple[Plan, list[Result]]:
        """An import at ``at`` by NetSuite's clock, from its plan to its end; ``fail`` of its batches do not make it."""
        self.number += 1
        self.job = open_import(
            self.engine, self.tenant, Request((name,), (name,), mode), now=at, suffix=f"{self.number:04}"
        )
        record_type = self.types[name]
        with self.engine.connect() as connection:
            mark, pinned = store.watermarks(connection).get(name), store.pinned_ranges(connection, name)
        changes = None
        if mode == "incremental":
            changes = changes_since(record_type, mark, pinned, until=at, overlap=overlap)
        before = self.simulator.stats(log=False)["requests"]
        ids = deleted_ids(self.client, changes.since, changes.until) if changes else None
        with self.engine.connect() as connection:
            live = live_among(connection, target_table(record_type), ids or [])
        missing = gone(self.client, record_type, live)
        plan = make_plan(
            CATALOG, [name], client=self.client, wave_size=300, batch_sizes={}, workers=1,
            changes={} if changes is None else {name: changes},
        )  # fmt: skip
        write_plan(
            self.engine, self.job, plan, tables={name: target_table(record_type)}, until=at, gone={name: missing},
            removed=[name] if record_type.removes else [], now=at,
        )  # fmt: skip
        results = self.work(at, fail)
        self.requests = self.simulator.stats(log=False)["requests"] - before
        return plan, results

    def work(self, at: datetime, fail: int = 0) -> list[Result]:
        settle(self.engine, self.job.import_id, rules=Rules(), now=lambda: at, runs=list)
        with self.engine.connect() as connection:
            (planned,) = store.type_plans(connection, self.job.import_id)
            pinned = store.pinned_ranges(connection, planned.record_type)
            batches = [b for b in store.batches(connection, self.job.import_id) if not b.terminal]
        whole = self.types[planned.record_type]
        record_type = whole
        if planned.changed_since and planned.changed_until:
            record_type = changed_within(whole, planned.changed_since, planned.changed_until)
        throttle = Throttle(1)
        step = Step(pinned, whole=planned.changed_since is None) if self.job.mode == "incremental" else None
        shop = Workshop(
            job=self.job, record_type=record_type, client=self.client, engine=self.engine, table=target_table(whole),
            columns=Columns(selected(record_type)), retries=RetryLog(throttle), run_id="run", timezone=ZoneInfo("UTC"),
            date_format="M/D/YYYY", store_raw=True, rules=self.tenant.retries, sleep=lambda seconds: None, step=step,
            now=lambda: at,
        )  # fmt: skip
        if fail:
            batches, lost = batches[fail:], batches[:fail]
            with self.engine.begin() as connection:
                store.cancel_batches(connection, self.job.import_id, at, [b.state for b in lost])
        results = list(execute(batches, shop, slots=None, throttle=throttle, stop=threading.Event()))
        assert {result.outcome for result in results} <= {"completed"}
        with self.engine.begin() as connection:
            if batches and planned.changed_since:
                checks = take_checks_of_changes(self.engine, self.job.import_id, whole, rejected_share=1)
                store.record_checks(
                    connection, self.job.import_id, whole.name, checks, source_count=None, table_count=None,
                    in_sync=True, now=at,
                )  # fmt: skip
            elif batches:
                source = self.client.count(whole, None, planned.upper_bound).n
                count, checks = take_checks(
                    self.engine, self.job.import_id, whole, CATALOG, source=source, rejected_share=1
                )
                assert count is not None
                store.record_checks(
                    connection, self.job.import_id, whole.name, checks, source_count=count.source,
                    table_count=count.table, in_sync=count.in_sync, now=at,
                )  # fmt: skip
        settle(self.engine, self.job.import_id, rules=Rules(), now=lambda: at, runs=list)
        return results

    @property
    def state(self) -> ImportState:
        with self.engine.connect() as connection:
            job = store.find_job(connection, self.job.import_id)
        assert job is not None
        return job.state

    def watermark(self, name: str = "customer") -> datetime | None:
        with self.engine.connect() as connection:
            mark = store.watermarks(connection).get(name)
        return mark and mark.modified_at

    def partitions(self) -> list[KeyRange]:
        with self.engine.connect() as connection:
            return store.pinned_ranges(connection, "customer")

    def pinned(self) -> list[tuple[str, int, int]]:
        return [(r.partition_key, r.low, r.high) for r in self.partitions()]

    def planned(self) -> TypePlan:
        with self.engine.connect() as connection:
            (planned,) = store.type_plans(connection, self.job.import_id)
        return planned

    def stored(self, column: str = "phone", table: sa.Table = TABLE) -> dict[int, Any]:
        with self.engine.connect() as connection:
            statement = sa.select(table.c.refid, table.c[column]).where(table.c.deleted_at.is_(None))
            return {row[0]: row[1] for row in connection.execute(statement)}

    def rows(self) -> int:
        """Rows there are, those marked deleted too."""
        with self.engine.connect() as connection:
            return connection.execute(sa.select(sa.func.count()).select_from(TABLE)).scalar_one()

    def at_netsuite(self) -> dict[int, Any]:
        statement = "SELECT t.id AS id, t.phone AS phone FROM customer t ORDER BY t.id ASC"
        return {int(i["id"]): i.get("phone") for page in self.client.pages(statement) for i in page.items}

    def change(self, where: str, at: datetime, phone: str = "1") -> int:
        """Give customers another telephone number at ``at``."""
        return self.simulator.sql(
            f"UPDATE customer SET phone = '{phone}', lastmodifieddate = {moment(at)} WHERE {where}"
        )[0]

    def add(self, ids: Sequence[int], at: datetime) -> None:
        """New customers, like one there is but for the id."""
        self.simulator.sql(
            f"INSERT INTO customer BY NAME (SELECT c.* REPLACE (n.id AS id, {moment(at)} AS lastmodifieddate) FROM"
            f" (SELECT * FROM customer ORDER BY id LIMIT 1) c, (SELECT unnest({list(ids)}) AS id) n)"
        )

    def remove(self, ids: Sequence[int], at: datetime, and_not: Sequence[int] = ()) -> None:
        """Delete customers; NetSuite also says it of records of another type with the ids ``and_not``."""
        numbers = ", ".join(map(str, ids))
        self.simulator.sql(
            f"INSERT INTO removed SELECT * FROM customer WHERE id IN ({numbers})",
            f"DELETE FROM customer WHERE id IN ({numbers})",
            f"INSERT INTO deletedrecord BY NAME (SELECT n.id AS recordid, n.id AS id, 'x' AS type, {moment(at)} AS"
            f" deleteddate FROM (SELECT unnest({[*ids, *and_not]}) AS id) n)",
        )

    def restore(self, ids: Sequence[int], at: datetime) -> None:
        """Deleted customers come back."""
        numbers = ", ".join(map(str, ids))
        self.simulator.sql(
            f"INSERT INTO customer SELECT * REPLACE ({moment(at)} AS lastmodifieddate) FROM removed WHERE id IN"
            f" ({numbers})",
            f"DELETE FROM removed WHERE id IN ({numbers})",
        )


def moment(at: datetime) -> str:
    return f"TIMESTAMP '{at.astimezone(UTC):%Y-%m-%d %H:%M:%S}'"


def changed(results: Sequence[Result]) -> dict[str, int]:
    """Rows changed by partition."""
    return {key: rows for result in results for key, rows in (result.stats.touched or {}).items()}


@pytest.fixture
def bench(running: SimulatorThread, warehouse_url: str) -> Iterator[Bench]:
    engine = make_engine(warehouse_url, pool_size=3)
    running.sql(
        "DELETE FROM customer WHERE id > 900000",
        "DELETE FROM deletedrecord WHERE type = 'x'",
        f"UPDATE customer SET lastmodifieddate = {moment(MIDNIGHT - 40 * DAY)}",
        "CREATE OR REPLACE TABLE removed AS SELECT * FROM customer WHERE false",
    )
    made = Bench(engine, running)
    made.run(MIDNIGHT - 30 * DAY, mode="full")
    yield made
    running.sql("INSERT INTO customer SELECT * FROM removed")
    made.client.close()
    engine.dispose()


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
