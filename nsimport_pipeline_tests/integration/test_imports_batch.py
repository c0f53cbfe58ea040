"""Batches of a simulated account into real databases: rows and state together, once, whatever breaks on the way."""

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, cast
from zoneinfo import ZoneInfo

import dagster as dg
import pytest
import requests
import sqlalchemy as sa
from requests.adapters import HTTPAdapter
from sqlalchemy import Engine

from nsimport_pipeline.defs.checks import TypeChecks
from nsimport_pipeline.errors import Category
from nsimport_pipeline.imports import store
from nsimport_pipeline.imports.account import record_left_out
from nsimport_pipeline.imports.batch import Result, RetryLog, Workshop, await_netsuite, fetch, keep
from nsimport_pipeline.imports.breaker import TenantCircuit
from nsimport_pipeline.imports.climb import Climber
from nsimport_pipeline.imports.columns import Columns
from nsimport_pipeline.imports.execute import Throttle, execute
from nsimport_pipeline.imports.finish import CHECKS, take_checks
from nsimport_pipeline.imports.plan import make_plan, plan_type
from nsimport_pipeline.imports.records import Batch, ImportJob
from nsimport_pipeline.imports.settle import settle
from nsimport_pipeline.imports.snapshot import Rules
from nsimport_pipeline.imports.start import Request, open_import, write_plan
from nsimport_pipeline.imports.states import BatchState, ImportState, WaveState
from nsimport_pipeline.imports.steer import cancel_import, retry_import
from nsimport_pipeline.imports.wanted import Interrupted
from nsimport_pipeline.netsuite.client import NetSuiteClient
from nsimport_pipeline.netsuite.retrying import RetryPolicy
from nsimport_pipeline.netsuite.suiteql import selected
from nsimport_pipeline.record_types.criteria import load_catalog
from nsimport_pipeline.settings import Tenant
from nsimport_pipeline.simulator.options import SimulatorOptions
from nsimport_pipeline.simulator.process import SimulatorThread
from nsimport_pipeline.warehouse.control import wave_batches
from nsimport_pipeline.warehouse.engine import make_engine
from nsimport_pipeline.warehouse.migrate import ensure_control_tables
from nsimport_pipeline.warehouse.schema import ensure_table, target_table
from nsimport_pipeline_tests.integration.imports_world import START
from nsimport_pipeline_tests.integration.warehouse_records import statements
from nsimport_pipeline_tests.mysql_server import MysqlServer

CATALOG = load_catalog()
CUSTOMER = CATALOG["customer"]
TABLE = target_table(CUSTOMER)
SLOTS = 4
RECORDS = 1234
BATCH = 100
BATCHES = 13


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimulatorThread]:
    options = SimulatorOptions(
        credentials=tmp_path_factory.mktemp("simulator"), slots=SLOTS, rows={"*": 20, "customer": RECORDS}
    )
    with SimulatorThread(options) as simulator:
        yield simulator


@pytest.fixture
def simulator(running: SimulatorThread) -> Iterator[SimulatorThread]:
    running.reset_stats()
    yield running
    running.set_faults("")


class MemorySlots:
    """A pool of slots in memory: who has which, and how many there were at most."""

    def __init__(self, free: int) -> None:
        self.free = free
        self.taken: set[str] = set()
        self.most = 0
        self.wanted = False
        self.numbers = 0
        self.lock = threading.Lock()

    def try_claim(self) -> str | None:
        with self.lock:
            if len(self.taken) >= self.free:
                return None
            self.numbers += 1
            self.taken.add(f"slot_{self.numbers}")
            self.most = max(self.most, len(self.taken))
            return f"slot_{self.numbers}"

    def release(self, slot: str) -> None:
        with self.lock:
            self.taken.discard(slot)

    def contended(self) -> bool:
        return self.wanted


class Bench:
    """One planned and dispatched import of customers, ready to be worked on."""

    def __init__(self, engine: Engine, simulator: SimulatorThread, *, batch: int = BATCH, **options: Any) -> None:
        self.engine = engine
        self.batch = batch
        self.simulator = simulator
        self.stop = threading.Event()
        self.clock = START
        document: dict[str, Any] = {
            "name": "acme",
            "account": simulator.options.account,
            "base_url": simulator.base_url,
            "auth": simulator.credentials.oauth2,
            "warehouse_url": "sqlite://",
            "slots": SLOTS,
            **options,
        }
        self.tenant = Tenant.model_validate(document)
        ensure_control_tables(engine)
        ensure_table(engine, CUSTOMER)
        self.throttle = Throttle(SLOTS)
        self.retries = RetryLog(self.throttle)
        self.client = NetSuiteClient(
            self.tenant,
            policy=RetryPolicy(attempts=4, base_delay=0.01, max_delay=0.02, rate_limit_base=0.01, rate_limit_max=0.05),
            sleep=self.sleep,
            listener=self.retries,
        )
        self.job = self.start("0001")

    def start(self, suffix: str) -> ImportJob:
        request = Request(("customer",), ("customer",))
        job = open_import(self.engine, self.tenant, request, now=self.clock, suffix=suffix)
        plan = make_plan(
            CATALOG, ["customer"], client=self.client, wave_size=300, batch_sizes={"customer": self.batch}, workers=1
        )
        write_plan(self.engine, job, plan, now=self.clock)
        settle(self.engine, job.import_id, rules=Rules(SLOTS), now=lambda: START, runs=list)
        with self.engine.connect() as connection:
            found = store.find_job(connection, job.import_id)
        assert found is not None
        return found

    def sleep(self, seconds: float) -> None:
        if self.stop.wait(min(seconds, 0.05)):
            raise Interrupted

    def shop(self, **more: Any) -> Workshop:
        return Workshop(
            **{
                "job": self.job,
                "record_type": CUSTOMER,
                "client": self.client,
                "engine": self.engine,
                "table": TABLE,
                "columns": Columns(selected(CUSTOMER)),
                "retries": self.retries,
                "run_id": "run",
                "timezone": ZoneInfo("America/Los_Angeles"),
                "date_format": "M/D/YYYY",
                "store_raw": True,
                "sleep": self.sleep,
                "rules": self.tenant.retries,
                **more,
            }
        )

    def batches(self) -> list[Batch]:
        with self.engine.connect() as connection:
            return store.batches(connection, self.job.import_id)

    def states(self) -> dict[str, int]:
        found = [batch.state.value for batch in self.batches()]
        return {state: found.count(state) for state in set(found)}

    def work(self, shop: Workshop, batch: Batch) -> Result:
        page = fetch(batch, shop)
        return page if isinstance(page, Result) else keep(page, shop)

    def execute(
        self, shop: Workshop | None = None, slots: MemorySlots | None = None, climber: Climber | None = None
    ) -> Iterator[Result]:
        todo = [batch for batch in self.batches() if not batch.terminal]
        shop = shop or self.shop()
        return execute(todo, shop, slots=slots, throttle=self.throttle, stop=self.stop, climber=climber)

    def ids(self) -> list[int]:
        with self.engine.connect() as connection:
            return list(connection.scalars(sa.select(TABLE.c.refid).order_by(TABLE.c.refid)))

    def column(self, name: str) -> dict[int, Any]:
        with self.engine.connect() as connection:
            return {row[0]: row[1] for row in connection.execute(sa.select(TABLE.c.refid, TABLE.c[name]))}

    def reopen(self, batch: Batch) -> None:
        with self.engine.begin() as connection:
            connection.execute(
                sa.update(wave_batches).where(wave_batches.c.id == batch.id).values(status=batch.state.value)
            )

    def errors(self) -> dict[Category, int]:
        with self.engine.connect() as connection:
            return store.error_counts(connection, self.job.import_id)


@pytest.fixture
def bench(warehouse_url: str, simulator: SimulatorThread) -> Iterator[Bench]:
    engine = make_engine(warehouse_url, pool_size=8)
    made = Bench(engine, simulator)
    yield made
    made.stop.set()
    made.client.close()
    engine.dispose()


def test_a_run_imports_everything_once(bench: Bench) -> None:
    results = list(bench.execute(slots=MemorySlots(SLOTS - 1)))

    assert [result.outcome for result in results] == ["completed"] * BATCHES
    assert bench.states() == {"completed": BATCHES}
    assert len(bench.ids()) == RECORDS == sum(result.stats.rows_upserted for result in results)
    assert sum(result.stats.requests for result in results) == BATCHES
    assert set(bench.errors().values()) == {0}
    plan = plan_type(CUSTOMER, 0, client=bench.client)
    with bench.engine.connect() as connection:
        (kept,) = store.type_plans(connection, bench.job.import_id)
    assert kept.upper_bound == plan.upper_bound
    count, checks = take_checks(
        bench.engine, bench.job.import_id, CUSTOMER, CATALOG, source=bench.client.count(CUSTOMER).n, rejected_share=1
    )
    assert str(count) == f"NetSuite has {RECORDS}, the table {RECORDS}, rejected 0"
    assert {check.name: check.passed for check in checks} == dict.fromkeys(CHECKS, True)


def test_a_clean_batch_costs_its_upsert_and_at_most_four_statements(bench: Bench) -> None:
    shop = bench.shop()
    first, second, *_ = bench.batches()
    bench.work(shop, first)  # asks the server once what it takes
    with statements(bench.engine) as sent:
        result = bench.work(shop, second)
    done = [text for text in sent if not text.startswith("BEGIN")]
    upserts = [text for text in done if text.startswith("INSERT INTO")]
    assert result.outcome == "completed"
    assert len(done) - len(upserts) <= 4, done
    assert result.stats.statements == len(done)


def test_rejected_rows_that_fit_now_arrive_when_their_batches_are_retried(bench: Bench) -> None:
    low = bench.batches()[1].range.low
    spoilt = f"FROM customer WHERE id > {low} ORDER BY id LIMIT 2"
    bench.simulator.sql(f"UPDATE customer SET fax = repeat('9', 65) WHERE id IN (SELECT id {spoilt})")
    list(bench.execute())
    assert len(bench.ids()) == RECORDS - 2
    bench.simulator.sql(f"UPDATE customer SET fax = '1' WHERE id IN (SELECT id {spoilt})")
    with bench.engine.begin() as connection:
        store.move_wave(connection, bench.job.import_id, 1, WaveState.COMPLETED, START)
        store.move_import(connection, bench.job.import_id, ImportState.COMPLETED_WITH_FAILURES, START)

    retried = retry_import(bench.engine, bench.job, rejected=True, now=START)
    settle(bench.engine, bench.job.import_id, rules=Rules(SLOTS), now=lambda: START, runs=list)
    bench.stop.clear()
    (result,) = bench.execute()

    assert (retried.batches, retried.rejected) == (1, 2)
    assert (result.outcome, result.stats.rows_rejected) == ("completed", 0)
    assert len(bench.ids()) == RECORDS
    with bench.engine.connect() as connection:
        assert store.rejected_groups(connection, bench.job.import_id, 10) == []


def test_rows_are_not_there_unless_the_state_says_so(bench: Bench) -> None:
    """The rows are written first; when the state cannot be, they are not there either."""
    (batch, *_) = bench.batches()
    page = fetch(batch, bench.shop())
    assert not isinstance(page, Result)
    with bench.engine.begin() as connection:  # somebody settles it meanwhile
        store.fail_batch(
            connection, page.batch, to=BatchState.RETRYING, category=Category.UNKNOWN, reason="folded", now=START
        )
    assert keep(page, bench.shop()).outcome == "not_ours"
    assert bench.ids() == []


@pytest.fixture
def mysql_bench(mysql_url: str, simulator: SimulatorThread) -> Iterator[Bench]:
    engine = make_engine(mysql_url, pool_size=8)
    made = Bench(engine, simulator)
    yield made
    made.stop.set()
    made.client.close()
    engine.dispose()


def kill(engine: Engine, connection: Any) -> None:
    """Have the server end the session behind ``connection``."""
    other = sa.create_engine(engine.url, poolclass=sa.NullPool)
    with other.connect() as session:
        session.exec_driver_sql(f"KILL {connection.connection.dbapi_connection.thread_id()}")


@pytest.mark.parametrize("text", ["INSERT INTO", "UPDATE wave_batches", "UPDATE customers"])
def test_a_connection_killed_in_the_middle_of_a_batch_doubles_and_loses_nothing(mysql_bench: Bench, text: str) -> None:
    bench, killed = mysql_bench, []

    def before(connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if not killed and text in statement.replace("`", ""):
            killed.append(statement)
            kill(bench.engine, connection)

    sa.event.listen(bench.engine, "before_cursor_execute", before)
    results = list(bench.execute())

    assert killed
    assert {result.outcome for result in results} == {"completed"}
    assert len(results) == BATCHES
    assert len(bench.ids()) == RECORDS
    assert {batch.attempts for batch in bench.batches()} == {0}


def test_a_commit_whose_answer_was_lost_counts_as_done(mysql_bench: Bench) -> None:
    bench, lost = mysql_bench, []

    def commit(connection: Any) -> None:
        if not lost and connection.info.pop("wrote", False):
            lost.append("once")
            connection.connection.dbapi_connection.commit()
            kill(bench.engine, connection)

    def note(connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if "rows_upserted=" in statement.replace("`", ""):
            connection.info["wrote"] = True

    sa.event.listen(bench.engine, "commit", commit)
    sa.event.listen(bench.engine, "before_cursor_execute", note)
    (batch, *_) = bench.batches()
    result = bench.work(bench.shop(), batch)

    assert lost
    assert (result.outcome, result.stats.rows_upserted) == ("completed", BATCH)
    assert bench.states()["completed"] == 1


def test_a_column_that_the_account_does_not_have_is_left_out_and_reported(bench: Bench) -> None:
    bench.simulator.set_faults("unknown:customer.email")
    shop = bench.shop()
    results = list(bench.execute(shop, MemorySlots(2)))

    assert {result.outcome for result in results} == {"completed"}
    assert [one.column for one in shop.columns.left_out] == ["email"]
    assert len(bench.ids()) == RECORDS
    with bench.engine.connect() as connection:
        assert set(connection.scalars(sa.select(TABLE.c.email))) <= {None, ""}


def test_a_column_that_makes_netsuite_fail_is_found_left_out_and_kept_as_such(bench: Bench) -> None:
    """Rows that are there keep its value, and what comes later of the run does not ask for it again."""
    first, second, third, *_ = bench.batches()
    bench.work(bench.shop(), first)
    before = bench.column("email")
    assert any(before.values())

    bench.simulator.set_faults("badcolumn:customer.email")
    bench.simulator.sql("UPDATE customer SET email = 'changed@example.com'", "UPDATE customer SET phone = '+1'")
    bench.reopen(first)
    columns = Columns(
        selected(CUSTOMER),
        lambda found: record_left_out(bench.engine, bench.job.import_id, "customer", found, START),
    )
    shop = bench.shop(columns=columns)
    results = [bench.work(shop, batch) for batch in (first, second)]

    assert [result.outcome for result in results] == ["completed", "completed"]
    after = bench.column("email")
    assert {refid: after[refid] for refid in before} == before
    assert not any(value for refid, value in after.items() if refid not in before)
    assert set(bench.column("phone").values()) == {"+1"}
    assert not any('"email"' in (raw or "") for raw in bench.column("raw").values())
    with bench.engine.connect() as connection:
        (kept,) = store.left_out(connection, "customer")
        (group,) = [g for g in store.error_groups(connection, bench.job.import_id, 9) if g["column_name"]]
    assert (kept.column, kept.category) == ("email", Category.API_UNAVAILABLE)
    assert (group["record_type"], group["column_name"], group["category"]) == ("customer", "email", "api_unavailable")
    bench.simulator.reset_stats()
    assert bench.work(shop, third).stats.requests == 1
    assert bench.simulator.stats()["kinds"].get("suiteql") == 1


@pytest.mark.parametrize(("fault", "remedy"), [("403", "role"), ("401", "credentials")])
def test_denied_access_stops_the_import_at_once_and_says_what_to_mend(bench: Bench, fault: str, remedy: str) -> None:
    first, *others = bench.batches()
    another = bench.shop(run_id="another run")
    under_way = fetch(first, another)
    assert not isinstance(under_way, Result)
    bench.simulator.set_faults(fault)
    results = list(bench.execute())

    assert [result.outcome for result in results].count("failed") == 1
    assert {result.outcome for result in results} == {"failed", "not_ours"}
    with bench.engine.connect() as connection:
        job = store.find_job(connection, bench.job.import_id)
    assert job is not None
    assert job.state is ImportState.CANCELLING
    assert remedy in (job.failure_reason or "")

    # The other run finishes what it has in hand, and asks for nothing more.
    bench.simulator.reset_stats()
    assert keep(under_way, another).outcome == "completed"
    assert {bench.work(another, batch).outcome for batch in others} == {"not_ours"}
    assert not bench.simulator.stats()["kinds"].get("suiteql")
    outcome = settle(bench.engine, job.import_id, rules=Rules(SLOTS), now=lambda: START, runs=list)
    assert outcome.finished is ImportState.FAILED
    assert bench.states() == {"completed": 1, "failed": 1, "cancelled": BATCHES - 2}


def test_a_cancelled_import_stops_between_two_batches(bench: Bench) -> None:
    results = []
    for result in bench.execute():
        if not results:
            cancel_import(bench.engine, bench.job, now=START)
        results.append(result)
    outcomes = [result.outcome for result in results]
    assert len(outcomes) == BATCHES
    assert set(outcomes) == {"completed", "not_ours"}
    assert 1 <= outcomes.count("completed") < BATCHES
    assert len(bench.ids()) == BATCH * bench.states()["completed"]


def test_records_that_are_gone_are_marked_deleted_and_come_back(bench: Bench, simulator: SimulatorThread) -> None:
    list(bench.execute())
    before = bench.ids()
    with bench.engine.begin() as connection:
        # As if NetSuite had had three more, of which the last lies above what this import looks at.
        for refid in (before[0] - 1, before[-1] + 10):
            values = {"refid": refid, "import_id": "earlier", "imported_at": START.replace(tzinfo=None)}
            row = connection.execute(sa.select(TABLE).where(TABLE.c.refid == before[5])).mappings().one()
            connection.execute(sa.insert(TABLE).values({**row, **values}))
        gap = next(n for n in range(before[0], before[-1]) if n not in set(before))
        connection.execute(sa.insert(TABLE).values({**row, **values, "refid": gap}))
        connection.execute(sa.update(TABLE).where(TABLE.c.refid == before[7]).values(deleted_at=values["imported_at"]))
        store.move_import(connection, bench.job.import_id, ImportState.COMPLETED, START)
    bench.clock = START.replace(hour=13)
    bench.stop = threading.Event()
    bench.job = bench.start("0002")
    results = list(bench.execute())

    assert sum(result.stats.rows_deleted for result in results) == 2
    with bench.engine.connect() as connection:
        deleted = list(connection.scalars(sa.select(TABLE.c.refid).where(TABLE.c.deleted_at.is_not(None))))
    assert sorted(deleted) == [before[0] - 1, gap]


# ---------------------------------------------------------------- slots


def test_no_more_requests_are_in_flight_than_slots_and_all_are_given_back(bench: Bench) -> None:
    slots = MemorySlots(SLOTS - 1)
    list(bench.execute(slots=slots))

    assert slots.taken == set()
    assert slots.most <= SLOTS - 1
    stats = bench.simulator.stats(log=False)
    assert stats["max_in_flight"] <= SLOTS
    assert "429" not in stats["statuses"]


def test_slots_that_somebody_else_waits_for_are_given_up(bench: Bench) -> None:
    slots = MemorySlots(SLOTS - 1)
    slots.wanted = True
    list(bench.execute(slots=slots))
    assert slots.most == 0
    assert bench.states() == {"completed": BATCHES}


def test_an_exception_of_one_thread_ends_the_others_and_frees_their_slots(bench: Bench) -> None:
    slots = MemorySlots(SLOTS - 1)

    class Broken(RetryLog):
        def take(self) -> Any:
            if len(slots.taken) == SLOTS - 1:
                raise KeyboardInterrupt
            return super().take()

    with pytest.raises(KeyboardInterrupt):
        list(bench.execute(bench.shop(retries=Broken(bench.throttle)), slots))
    wait_until(lambda: not slots.taken)


def test_closing_the_iterator_stops_the_threads_and_frees_their_slots(bench: Bench) -> None:
    slots = MemorySlots(SLOTS - 1)
    results = bench.execute(slots=slots)
    next(results)
    results.close()  # type: ignore[attr-defined]

    assert slots.taken == set()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith(("fetcher-", "writer-"))]
    states = bench.states()
    assert states.get("processing", 0) == 0  # in hand when it stopped: given back, without an attempt
    assert {batch.attempts for batch in bench.batches()} == {0}
    assert len(bench.ids()) == BATCH * states["completed"] or states["completed"] == BATCHES


def test_a_slot_that_cannot_be_given_back_does_not_hang_the_run(bench: Bench) -> None:
    class Stubborn(MemorySlots):
        def release(self, slot: str) -> None:
            super().release(slot)
            raise ConnectionError("the pool's database is gone")

    hook, threading.excepthook = threading.excepthook, lambda _: None
    try:
        list(bench.execute(slots=Stubborn(SLOTS - 1)))
    finally:
        threading.excepthook = hook
    assert bench.states() == {"completed": BATCHES}


def wait_until(condition: Callable[[], bool], seconds: float = 10) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


# ---------------------------------------------------------------- planning many records


@pytest.mark.parametrize("records", [150_000, pytest.param(1_000_000, marks=pytest.mark.slow)])
def test_many_records_are_planned_with_three_requests_at_most(tmp_path: Any, records: int) -> None:
    options = SimulatorOptions(credentials=tmp_path, rows={"*": 0, "department": records})
    with SimulatorThread(options) as simulator:
        tenant = Tenant.model_validate(
            {
                "name": "acme",
                "account": simulator.options.account,
                "base_url": simulator.base_url,
                "auth": simulator.credentials.tba,
                "warehouse_url": "sqlite://",
            }
        )
        with NetSuiteClient(tenant) as client:
            planned = plan_type(CATALOG["department"], 0, client=client)
            asked = simulator.stats(log=False)["statuses"]
            first, last = planned.ranges[0], planned.ranges[-1]
            assert client.count(CATALOG["department"], first.low, first.high).n == 1000
            assert client.count(CATALOG["department"], last.low, last.high).n == last.expected
    assert sum(asked.values()) == planned.requests <= 3
    assert planned.records == records
    assert len(planned.ranges) == records // 1000


# ---------------------------------------------------------------- databases that get in the way


def changed(bench: Bench) -> Batch:
    """The first batch, done once and to be done again: its rows are there."""
    first, *_ = bench.batches()
    assert bench.work(bench.shop(), first).outcome == "completed"
    bench.reopen(first)
    return first


def assert_done_without_an_attempt(bench: Bench, result: Result) -> None:
    assert (result.outcome, result.reason) == ("completed", None)
    assert len(bench.ids()) == BATCH
    assert {batch.attempts for batch in bench.batches()} == {0}


def test_a_lock_that_somebody_else_holds_is_waited_for_without_an_attempt(mysql_bench: Bench) -> None:
    bench, waited = mysql_bench, []
    batch = changed(bench)
    sa.event.listen(bench.engine, "begin", lambda c: c.exec_driver_sql("SET innodb_lock_wait_timeout = 1"))
    other = sa.create_engine(bench.engine.url, poolclass=sa.NullPool)
    with other.connect() as holder:
        holder.execute(sa.select(TABLE.c.refid).where(TABLE.c.refid == bench.ids()[0]).with_for_update())

        def sleep(seconds: float) -> None:
            waited.append(seconds)
            holder.rollback()

        result = bench.work(bench.shop(sleep=sleep), batch)
    assert len(waited) == 1
    assert_done_without_an_attempt(bench, result)


def test_a_batch_that_loses_a_deadlock_is_written_again_without_an_attempt(mysql_bench: Bench) -> None:
    bench, waited, results = mysql_bench, list[float](), list[Result]()
    batch = changed(bench)
    ids = bench.ids()
    other = sa.create_engine(bench.engine.url, poolclass=sa.NullPool)
    with other.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE heavy (id INT PRIMARY KEY)")

    def lock(refid: int) -> None:
        rival.execute(sa.select(TABLE.c.refid).where(TABLE.c.refid == refid).with_for_update())

    def blocked() -> bool:
        with other.connect() as looking:
            waiting = "SELECT COUNT(*) FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT'"
            return bool(looking.exec_driver_sql(waiting).scalar())

    with other.connect() as rival:
        # The server rolls back whoever has written less.
        rival.exec_driver_sql(f"INSERT INTO heavy VALUES {','.join(f'({n})' for n in range(5000))}")
        lock(ids[-1])
        shop = bench.shop(sleep=waited.append)
        worker = threading.Thread(target=lambda: results.append(bench.work(shop, batch)))
        worker.start()
        deadline = time.monotonic() + 25
        while not blocked() and time.monotonic() < deadline:
            time.sleep(0.15)  # InnoDB shows the same again to whoever looks more often than each 0.1 s
        lock(ids[0])
        rival.rollback()
        worker.join()
    assert waited
    assert_done_without_an_attempt(bench, results[0])


def test_a_server_that_is_restarted_while_a_batch_is_written_costs_no_attempt(
    mysql_bench: Bench, mysql_server: MysqlServer
) -> None:
    bench, killed = mysql_bench, list[str]()
    batch = changed(bench)

    def before(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if not killed and "INSERT INTO" in statement:
            killed.append(statement)
            mysql_server.kill()

    def sleep(_: float) -> None:
        if len(killed) == 1:
            killed.append("and started")
            mysql_server.start()

    sa.event.listen(bench.engine, "before_cursor_execute", before)
    try:
        result = bench.work(bench.shop(sleep=sleep), batch)
    finally:
        sleep(0)
    assert len(killed) == 2
    assert_done_without_an_attempt(bench, result)


def test_a_disk_that_is_full_is_named_and_the_batch_goes_on_when_there_is_room(
    sqlite_url: str, simulator: SimulatorThread
) -> None:
    engine = make_engine(sqlite_url, pool_size=2)
    bench = Bench(engine, simulator)
    (batch, *_) = bench.batches()
    most = {"pages": 1}  # less than there are: as many as there are
    sa.event.listen(engine, "begin", lambda c: c.exec_driver_sql(f"PRAGMA max_page_count = {most['pages']}"))
    result = bench.work(bench.shop(sleep=lambda seconds: None), batch)
    assert (result.outcome, result.category) == ("retrying", Category.TIMEOUT)
    assert "no disk space left: free some" in (result.reason or "")
    assert bench.ids() == []

    most["pages"] = 10**6
    bench.reopen(batch)
    assert bench.work(bench.shop(), batch).outcome == "completed"
    assert len(bench.ids()) == BATCH
    bench.client.close()
    engine.dispose()


def test_no_connection_is_held_while_netsuite_is_asked_or_waited_for(bench: Bench) -> None:
    held: list[int] = []

    class Watching(HTTPAdapter):
        def send(self, *arguments: Any, **more: Any) -> Any:
            held.append(bench.engine.pool.checkedout())  # type: ignore[attr-defined]
            return super().send(*arguments, **more)

    def sleep(_: float) -> None:
        held.append(bench.engine.pool.checkedout())  # type: ignore[attr-defined]

    session = requests.Session()
    session.trust_env = False
    session.mount("http://", Watching())
    bench.simulator.set_faults("429@1-2,503@3")
    with NetSuiteClient(bench.tenant, session=session, sleep=sleep, listener=bench.retries) as client:
        first, *_ = bench.batches()
        assert bench.work(bench.shop(client=client), first).outcome == "completed"
    assert len(held) >= 7
    assert set(held) == {0}


def test_a_final_count_broken_off_by_an_outage_is_taken_when_it_is_over(bench: Bench) -> None:
    circuit = {"failures": 2, "probe_delay": 0.1, "longest_probe_delay": 0.1}
    tenant = Tenant.model_validate({**bench.tenant.model_dump(), "circuit": circuit})
    breaker = TenantCircuit(bench.engine, tenant, sleep=bench.sleep)
    client = bench.client = NetSuiteClient(tenant, policy=RetryPolicy(), sleep=bench.sleep, breaker=breaker)
    list(bench.execute())
    bench.stop.clear()
    checks = TypeChecks(cast(Any, dg.build_asset_context()), tenant, CUSTOMER, bench.engine)
    shop, waits = bench.shop(client=client, circuit=breaker), itertools.count(1)

    def wait() -> None:
        await_netsuite(shop)
        if next(waits) == 1:
            bench.simulator.set_faults("outage:1")  # NetSuite goes down in the moment it is asked

    checks.count_source(bench.job, client, wait)
    assert checks.source_count == RECORDS
    assert next(waits) == 3
