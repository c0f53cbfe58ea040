"""One circuit for all processes of a tenant, on both databases: who opens it, who probes, who is told."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
import sqlalchemy as sa
from sqlalchemy import Engine

from nsimport_pipeline.errors import AccessDenied, ApiUnavailable, NotAnswering, TimedOut
from nsimport_pipeline.imports import store
from nsimport_pipeline.imports.breaker import FRESH_SECONDS, TenantCircuit
from nsimport_pipeline.imports.start import Request, open_import
from nsimport_pipeline.netsuite.circuit import CircuitState
from nsimport_pipeline.netsuite.retrying import RetryPolicy, persevere
from nsimport_pipeline.warehouse.control import job_events
from nsimport_pipeline.warehouse.engine import make_engine
from nsimport_pipeline.warehouse.migrate import ensure_control_tables
from nsimport_pipeline_tests.integration.imports_world import START, tenant

FAILURES = 4


@pytest.fixture
def engine(warehouse_url: str) -> Iterator[Engine]:
    engine = make_engine(warehouse_url, pool_size=8)
    ensure_control_tables(engine)
    yield engine
    engine.dispose()


class Account:
    """A NetSuite that is there or not, and the processes that ask it. Time passes only by sleeping."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.now = START
        self.down: Exception | None = ApiUnavailable("down")
        self.back_at = START + timedelta(days=1)
        self.probes = 0
        self.asked = 0

    def process(self) -> TenantCircuit:
        return TenantCircuit(
            self.engine,
            tenant(circuit={"failures": FAILURES}),
            sleep=self.sleep,
            now=lambda: self.now,
            timer=lambda: self.now.timestamp(),
            random=lambda: 0.5,
        )

    def sleep(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    def probe(self) -> None:
        self.probes += 1
        if self.down is not None and self.now < self.back_at:
            raise self.down

    def ask(self) -> str:
        self.asked += 1
        if self.down is not None and self.now < self.back_at:
            raise self.down
        return "done"


@pytest.fixture
def account(engine: Engine) -> Account:
    return Account(engine)


def request(account: Account, circuit: TenantCircuit) -> str:
    policy = RetryPolicy(attempts=FAILURES)
    result, _ = persevere(
        account.ask, policy, sleep=account.sleep, random=lambda: 0.5, breaker=circuit, probe=account.probe
    )
    return result


def events(engine: Engine) -> list[str]:
    with engine.connect() as connection:
        return list(connection.execute(sa.select(job_events.c.event).order_by(job_events.c.id)).scalars())


def test_what_a_probe_refutes_is_no_outage(account: Account) -> None:
    """A statement that makes NetSuite fail uses up its attempts while others are answered."""
    answered: list[bool] = []
    circuit = account.process()
    policy = RetryPolicy(attempts=FAILURES)
    with pytest.raises(ApiUnavailable, match="given up at attempt 4"):
        persevere(
            account.ask, policy, sleep=account.sleep, random=lambda: 0.5, breaker=circuit,
            probe=lambda: answered.append(True),
        )  # fmt: skip
    assert (account.asked, answered, circuit.open) == (FAILURES + 1, [True], False)


def test_a_long_outage_breaks_requests_off_and_few_probes_are_sent(account: Account) -> None:
    account.back_at = START + timedelta(minutes=10)
    open_import(account.engine, tenant(), Request(("a",), ("a",)), now=START, suffix="0001")
    circuit = account.process()
    broken_off = 0
    while True:
        try:
            assert request(account, circuit) == "done"
            break
        except NotAnswering as refused:
            broken_off += 1
            account.sleep(refused.retry_after or 0)
    assert account.asked == FAILURES + 1
    assert broken_off < account.probes <= 20
    assert events(account.engine) == ["import_created", "circuit_opened", "circuit_closed"]
    assert account.now - account.back_at < timedelta(seconds=61)


def test_failures_of_all_processes_count_together_and_all_of_them_wait(account: Account) -> None:
    first, second = account.process(), account.process()
    for circuit in (first, second, first, second):
        circuit.before(account.probe)
        circuit.after(ApiUnavailable("down"))
    account.sleep(FRESH_SECONDS)
    for circuit in (first, second, account.process()):
        account.probes = 0
        with pytest.raises(NotAnswering, match=r"not answering since 12:00 UTC"):
            circuit.before(account.probe)
        assert account.probes <= 1


def test_a_probe_that_is_due_is_sent_by_whoever_comes_by(account: Account) -> None:
    with pytest.raises(NotAnswering, match="next probe at"):
        request(account, account.process())
    assert account.probes == 1
    account.down = None
    account.sleep(60)
    assert request(account, account.process()) == "done"
    assert account.probes == 2


def test_timeouts_do_not_open_it_and_refusals_close_it(account: Account) -> None:
    circuit = account.process()
    for _ in range(20):
        assert not circuit.after(TimedOut("slow"))
    for _ in range(FAILURES):
        circuit.after(ApiUnavailable("down"))
    account.down = AccessDenied("no")
    assert circuit.before(account.probe) == 0
    assert (account.probes, circuit.open) == (1, False)


def test_of_many_that_want_to_probe_one_does(account: Account) -> None:
    for _ in range(FAILURES):
        account.process().after(ApiUnavailable("down"))
    account.now += timedelta(seconds=60)
    account.down = None
    together, sent = threading.Barrier(6), threading.Semaphore(1)
    probed: list[int] = []

    def probe(number: int) -> None:
        assert sent.acquire(blocking=False), "two probes at once"
        probed.append(number)

    def process(number: int) -> None:
        circuit = account.process()
        circuit._look()
        together.wait()
        circuit.before(lambda: probe(number))

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(process, range(6)))
    assert len(probed) == 1
    with account.engine.connect() as connection:
        assert store.circuit_of(connection, "acme").state is CircuitState.CLOSED
        assert store.circuit_of(connection, "other").state is CircuitState.CLOSED


def test_a_database_that_is_gone_holds_nobody_back(account: Account) -> None:
    circuit = account.process()
    with account.engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE netsuite_circuits")
    for _ in range(FAILURES):
        assert not circuit.after(ApiUnavailable("down"))
    assert circuit.before(account.probe) == 0
