"""Lines of a simulated account into a real database: whole transactions, replaced as sets."""

import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa
from sqlalchemy import Engine

from nsimport_pipeline.imports import store
from nsimport_pipeline.imports.batch import Result, RetryLog, Step, Workshop
from nsimport_pipeline.imports.changes import changes_since
from nsimport_pipeline.imports.columns import Columns
from nsimport_pipeline.imports.derived import narrowed, plan_derived
from nsimport_pipeline.imports.execute import Throttle, execute
from nsimport_pipeline.imports.finish import take_checks
from nsimport_pipeline.imports.plan import make_plan
from nsimport_pipeline.imports.records import ImportJob, KeyRange, Mode, TypePlan
from nsimport_pipeline.imports.settle import settle
from nsimport_pipeline.imports.snapshot import Rules
from nsimport_pipeline.imports.start import Request, open_import, write_plan
from nsimport_pipeline.imports.sweep import Family, sweep
from nsimport_pipeline.netsuite.client import NetSuiteClient
from nsimport_pipeline.netsuite.suiteql import changed_within, selected
from nsimport_pipeline.record_types.criteria import load_catalog
from nsimport_pipeline.simulator.options import SimulatorOptions
from nsimport_pipeline.simulator.process import SimulatorThread
from nsimport_pipeline.warehouse.control import sync_watermarks
from nsimport_pipeline.warehouse.engine import make_engine
from nsimport_pipeline.warehouse.migrate import ensure_control_tables
from nsimport_pipeline.warehouse.schema import ensure_table, target_table
from nsimport_pipeline_tests.integration.imports_world import START
from nsimport_pipeline_tests.simulated_tenant import simulated_tenant

CATALOG = load_catalog()
LINES = CATALOG["transaction_line"]
TABLE = target_table(LINES)
PARENTS = [CATALOG[name] for name in LINES.derived_from]
BATCH = 100
LARGE = 2500


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimulatorThread]:
    rows = {"*": 20, "sales_order": 120, "invoice": 90, "item_fulfillment": 40, "transaction_line": 1200}
    options = SimulatorOptions(credentials=tmp_path_factory.mktemp("simulator"), rows=rows)
    with SimulatorThread(options) as simulator:
        one = "SELECT MIN(transaction) FROM transactionline WHERE transaction > 150"
        simulator.sql(
            "INSERT INTO transactionline BY NAME (SELECT l.* REPLACE (1000000 + g AS uniquekey) FROM (SELECT * FROM"
            f" transactionline WHERE transaction = ({one}) LIMIT 1) l, range({LARGE}) r(g))"
        )
        yield simulator


class Bench:
    """One database; an import is planned, worked on and counted in one go."""

    def __init__(self, engine: Engine, simulator: SimulatorThread) -> None:
        self.engine = engine
        self.simulator = simulator
        self.tenant = simulated_tenant(simulator)
        self.client = NetSuiteClient(self.tenant)
        self.number = 0
        self.lines = LINES
        ensure_control_tables(engine)
        for record_type in (LINES, *PARENTS):
            ensure_table(engine, record_type)

    def have(self, record_type: str, where: str = "1 = 1") -> None:
        """Put parents into the database, as bare rows."""
        table = target_table(CATALOG[record_type])
        own = f"{CATALOG[record_type].source.where} AND {where}"
        statement = f"SELECT t.id AS id FROM transaction t WHERE {own} ORDER BY t.id ASC"
        with self.engine.begin() as connection:
            connection.execute(sa.delete(table))
            rows = [{"refid": int(item["id"]), "import_id": "before"} for item in self.client.query(statement).items]
            connection.execute(sa.insert(table), rows)

    def run(self, until: datetime | None = None) -> tuple[ImportJob, TypePlan, list[Result]]:
        """An import of the lines alone, from its plan to its final count; of what was changed ``until`` then, if so."""
        self.number += 1
        mode: Mode = "full" if until is None else "incremental"
        request = Request((LINES.name,), (LINES.name,), mode)
        job = open_import(self.engine, self.tenant, request, now=START, suffix=f"{self.number:04}")
        with self.engine.connect() as connection:
            mark, pinned = store.watermarks(connection).get(LINES.name), store.pinned_ranges(connection, LINES.name)
        changes = until and changes_since(LINES, mark, pinned, until=until, overlap=timedelta(0), parents=PARENTS)
        plan = make_plan(
            CATALOG, [LINES.name], client=self.client, wave_size=300, batch_sizes={}, workers=1, late=True,
            changes={LINES.name: changes} if changes else {},
        )  # fmt: skip
        write_plan(self.engine, job, plan, until=until or START, now=START)
        plan_derived(
            self.engine, job.import_id, self.lines, PARENTS, attempt=1, client=self.client, batch_size=BATCH, now=START
        )
        settle(self.engine, job.import_id, rules=Rules(), now=lambda: START, runs=list)
        with self.engine.connect() as connection:
            (planned,) = store.type_plans(connection, job.import_id)
            batches = store.batches(connection, job.import_id)
        highest = planned.parents or {}
        whole = record_type = narrowed(self.lines, PARENTS, highest)
        step = None
        if until is not None:
            step = Step(self.pinned(), LINES.range_column, whole=planned.changed_since is None)
        if planned.changed_since and until:
            there = [parent for parent in PARENTS if parent.name in highest]
            record_type = changed_within(whole, planned.changed_since, until, there)
        throttle = Throttle(1)
        shop = Workshop(
            job=job,
            record_type=record_type,
            client=self.client,
            engine=self.engine,
            table=TABLE,
            columns=Columns(selected(record_type)),
            retries=RetryLog(throttle),
            run_id="run",
            timezone=ZoneInfo("UTC"),
            date_format="M/D/YYYY",
            store_raw=False,
            rules=self.tenant.retries,
            sleep=lambda seconds: None,
            parents=[target_table(parent) for parent in PARENTS if parent.name in highest],
            step=step,
        )
        results = list(execute(batches, shop, slots=None, throttle=throttle, stop=threading.Event()))
        source = self.client.count(whole, None, planned.upper_bound).n
        count, checks = take_checks(self.engine, job.import_id, whole, CATALOG, source=source, rejected_share=1.0)
        assert count is not None
        assert count.in_sync, count
        with self.engine.begin() as connection:
            store.record_checks(
                connection, job.import_id, LINES.name, checks, source_count=count.source, table_count=count.table,
                in_sync=True, now=START,
            )  # fmt: skip
        settle(self.engine, job.import_id, rules=Rules(), now=lambda: START, runs=list)
        return job, planned, results

    def pinned(self) -> list[KeyRange]:
        with self.engine.connect() as connection:
            return store.pinned_ranges(connection, LINES.name)

    def marked(self, names: Iterable[str], at: datetime) -> None:
        """Say that these record types are in step with NetSuite."""
        with self.engine.begin() as connection:
            connection.execute(sa.delete(sync_watermarks))
            rows = [
                {"record_type": name, "modified_at": at.replace(tzinfo=None), "refid": 0, "import_id": "before"}
                for name in names
            ]
            connection.execute(sa.insert(sync_watermarks).values(updated_at=at.replace(tzinfo=None)), rows)

    def stored(self) -> Counter[int]:
        column = TABLE.c.transaction_id
        with self.engine.connect() as connection:
            live = sa.select(column, sa.func.count()).where(TABLE.c.deleted_at.is_(None)).group_by(column)
            return Counter(dict(connection.execute(live).all()))

    def at_netsuite(self, where: str) -> Counter[int]:
        statement = (
            "SELECT l.transaction AS id, COUNT(*) AS n FROM transactionline l INNER JOIN transaction t"
            f" ON t.id = l.transaction WHERE {where} GROUP BY l.transaction ORDER BY l.transaction ASC"
        )
        return Counter({int(item["id"]): int(item["n"]) for item in self.client.query(statement).items})


@pytest.fixture
def bench(running: SimulatorThread, warehouse_url: str) -> Iterator[Bench]:
    engine = make_engine(warehouse_url, pool_size=3)
    yield Bench(engine, running)
    engine.dispose()


ALL = "t.type IN ('SalesOrd', 'CustInvc', 'ItemShip')"


def test_a_transaction_is_never_split_and_one_of_2500_lines_is_read_on(bench: Bench) -> None:
    for name in LINES.derived_from:
        bench.have(name)
    _, planned, results = bench.run()
    expected = bench.at_netsuite(ALL)
    assert bench.stored() == expected
    assert max(expected.values()) > LARGE
    assert planned.expected == expected.total()
    ranges = [result.batch.range for result in results]
    assert sum(r.expected for r in ranges) == expected.total()
    assert len({r.partition_key for r in ranges}) == len(ranges)
    for parent in expected:
        assert sum(r.low < parent <= r.high for r in ranges) == 1
    assert max(result.stats.requests for result in results) == 3
    # Room is left for the rest of the last transaction: one request is enough for all others.
    assert Counter(result.stats.requests for result in results)[1] == len(results) - 1


def test_only_lines_of_parents_in_the_database_are_stored_and_none_is_lost_silently(bench: Bench) -> None:
    bench.have("invoice")
    bench.have("sales_order", "MOD(t.id, 3) = 0")
    job, planned, results = bench.run()
    assert planned.parents is not None
    assert set(planned.parents) == {"invoice", "sales_order"}
    kept = bench.at_netsuite("t.type = 'CustInvc' OR (t.type = 'SalesOrd' AND MOD(t.id, 3) = 0)")
    lost = bench.at_netsuite(f"t.type = 'SalesOrd' AND MOD(t.id, 3) <> 0 AND t.id <= {planned.parents['sales_order']}")
    assert bench.stored() == kept
    assert sum(result.stats.rows_rejected for result in results) == lost.total()
    with bench.engine.connect() as connection:
        (group,) = store.rejected_groups(connection, job.import_id, 5)
    assert (group["column_name"], group["count"]) == ("transaction_id", lost.total())
    assert group["reason"].endswith("it belongs to was not imported")


def test_lines_and_parents_that_are_gone_take_their_rows_along(bench: Bench) -> None:
    for name in LINES.derived_from:
        bench.have(name)
    bench.run()
    gone = bench.simulator.delete("transactionline", "uniquekey % 7 = (SELECT MIN(uniquekey) % 7 FROM transactionline)")
    assert gone
    bench.have("item_fulfillment", "MOD(t.id, 2) = 0 AND t.id < (SELECT MAX(x.id) FROM transaction x)")
    _, _, results = bench.run()
    assert sum(result.stats.rows_deleted for result in results)
    assert set(bench.stored()) <= set(bench.at_netsuite(ALL))
    with bench.engine.connect() as connection:
        there = set(connection.scalars(sa.select(target_table(CATALOG["item_fulfillment"]).c.refid)))
    for parent, lines in bench.at_netsuite("t.type = 'ItemShip'").items():
        assert bench.stored()[parent] == (lines if parent in there else 0)


def test_lines_are_marked_where_that_is_wanted_and_come_back(bench: Bench) -> None:
    bench.lines = LINES.adapted(deletes="mark")
    for name in LINES.derived_from:
        bench.have(name)
    bench.run()
    there = bench.stored()
    lost = bench.simulator.sql(
        "CREATE OR REPLACE TABLE lost AS SELECT * FROM transactionline WHERE uniquekey % 5 = 1",
        "DELETE FROM transactionline WHERE uniquekey % 5 = 1",
    )[1]
    bench.run()
    assert bench.stored() == bench.at_netsuite(ALL)
    with bench.engine.connect() as connection:
        marked = connection.scalar(sa.select(sa.func.count()).where(TABLE.c.deleted_at.is_not(None)))
    assert 0 < marked == there.total() - bench.stored().total() <= lost
    bench.simulator.sql("INSERT INTO transactionline SELECT * FROM lost", "DROP TABLE lost")
    bench.run()
    assert bench.stored() == there


def test_lines_go_with_the_transactions_that_a_sweep_finds_gone(bench: Bench) -> None:
    marks = bench.engine.name == "sqlite"
    bench.lines = LINES.adapted(deletes="mark") if marks else LINES
    for name in LINES.derived_from:
        bench.have(name)
    bench.run()
    invoice, there, table = CATALOG["invoice"], bench.stored(), target_table(CATALOG["invoice"])
    order = min(bench.at_netsuite("t.type = 'SalesOrd'"))
    with bench.engine.begin() as connection:
        # A row without a record, whose id is another transaction's: that one's lines stay.
        connection.execute(sa.insert(table), [{"refid": order, "import_id": "before"}])
        invoices = sorted(connection.scalars(sa.select(table.c.refid)))
    gone = {one for one in invoices if one % 10 == 3}
    which = f"type = 'CustInvc' AND id IN ({', '.join(map(str, gone))})"
    bench.simulator.sql(
        f"CREATE OR REPLACE TABLE lost AS SELECT * FROM transaction WHERE {which}",
        f"DELETE FROM transaction WHERE {which}",
    )
    swept = sweep(
        bench.engine, invoice, client=bench.client, overlap=timedelta(0), modulus=101, now=lambda: START,
        families=[Family(bench.lines, tuple(parent for parent in PARENTS if parent is not invoice))],
    )  # fmt: skip
    bench.simulator.sql("INSERT INTO transaction SELECT * FROM lost", "DROP TABLE lost")
    assert swept.deleted == len(gone | {order})
    with bench.engine.connect() as connection:
        live = connection.scalars(sa.select(table.c.refid).where(table.c.deleted_at.is_(None)))
        assert set(live) == set(invoices) - gone - {order}
        rows = connection.scalar(sa.select(sa.func.count()).select_from(TABLE))
    assert bench.stored() == {parent: lines for parent, lines in there.items() if parent not in gone - {order}}
    assert rows == (there.total() if marks else bench.stored().total())


def test_lines_without_any_parent_here_are_none(bench: Bench) -> None:
    _, planned, results = bench.run()
    assert (planned.expected, planned.parents, results) == (0, {}, [])


def test_lines_of_changed_orders_and_lines_changed_alone_are_replaced_as_sets(bench: Bench) -> None:
    for name in LINES.derived_from:
        bench.have(name)
    bench.marked(LINES.derived_from, START)
    old = f"TIMESTAMP '{START - timedelta(days=90):%Y-%m-%d %H:%M:%S}'"
    bench.simulator.sql(
        f"UPDATE transaction SET lastmodifieddate = {old}", f"UPDATE transactionline SET linelastmodifieddate = {old}"
    )
    bench.run()
    with bench.engine.connect() as connection:
        assert store.watermarks(connection)[LINES.name].modified_at == START
        before = dict(connection.execute(sa.select(TABLE.c.refid, TABLE.c.imported_at)).all())
    _, planned, results = bench.run(START + timedelta(minutes=1))
    assert (planned.expected, results) == (0, [])

    orders = sorted(bench.stored())
    edited, shortened, other = orders[0], orders[len(orders) // 2], orders[-1]
    now = f"TIMESTAMP '{START + timedelta(minutes=5):%Y-%m-%d %H:%M:%S}'"
    bench.marked([*LINES.derived_from, LINES.name], START + timedelta(minutes=1))
    bench.simulator.sql(
        f"UPDATE transactionline SET memo = 'alone', linelastmodifieddate = {now} WHERE uniquekey = "
        f"(SELECT MIN(uniquekey) FROM transactionline WHERE transaction = {edited})",
        f"UPDATE transaction SET lastmodifieddate = {now} WHERE id = {shortened}",
        f"DELETE FROM transactionline WHERE uniquekey = (SELECT MAX(uniquekey) FROM transactionline WHERE transaction ="
        f" {shortened})",
        f"UPDATE transaction SET lastmodifieddate = {now} WHERE id = {other}",
    )
    _, planned, results = bench.run(START + timedelta(minutes=10))
    assert bench.stored() == bench.at_netsuite(ALL)
    assert planned.expected == sum(bench.stored()[order] for order in (edited, shortened, other))
    with bench.engine.connect() as connection:
        after = dict(connection.execute(sa.select(TABLE.c.refid, TABLE.c.imported_at)).all())
        (line,) = connection.execute(sa.select(TABLE.c.refid).where(TABLE.c.memo == "alone")).scalars()
    assert {refid for refid in after if after[refid] != before[refid]} == {line}
    (gone,) = set(before) - set(after)
    assert gone
    changed = {key: rows for result in results for key, rows in (result.stats.touched or {}).items()}
    places = [next(r.partition_key for r in bench.pinned() if r.low < order <= r.high) for order in (edited, shortened)]
    assert changed == Counter(places)
    assert sum(result.stats.requests for result in results) <= 2

    # One that is gone takes its lines along, although no line says so.
    bench.marked([*LINES.derived_from, LINES.name], START + timedelta(minutes=10))
    lines = bench.stored()[other]
    real = "timezone('UTC', now())"
    bench.simulator.delete("transaction", f"id = {other}")
    bench.simulator.sql(f"UPDATE deletedrecord SET deleteddate = {now} WHERE deleteddate > {real} - INTERVAL 1 HOUR")
    for name in LINES.derived_from:
        bench.have(name)
    bench.marked([*LINES.derived_from, LINES.name], START)
    _, planned, _ = bench.run(START + timedelta(minutes=20))
    assert planned.deleted == lines
    assert bench.stored() == bench.at_netsuite(ALL)


def test_a_deleted_order_takes_its_lines_along_where_another_kind_of_parent_has_no_table(bench: Bench) -> None:
    with bench.engine.begin() as connection:
        target_table(CATALOG["item_fulfillment"]).drop(connection)
    imported = ("sales_order", "invoice")
    for name in imported:
        bench.have(name)
    bench.marked(imported, START)
    bench.run()
    (gone, lines), *_ = sorted(bench.stored().items())
    bench.simulator.set_clock(START + timedelta(minutes=5))
    bench.simulator.delete("transaction", f"id = {gone}")
    bench.simulator.set_clock(None)
    for name in imported:
        bench.have(name)
    bench.marked([*imported, LINES.name], START)
    _, planned, _ = bench.run(START + timedelta(minutes=10))
    assert (planned.deleted, gone in bench.stored()) == (lines, False)
