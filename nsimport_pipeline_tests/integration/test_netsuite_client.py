"""The NetSuite client against the simulated account: everything arrives, whatever goes wrong on the way."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from nsimport_pipeline.errors import AccessDenied, IncompleteResponse, RecordNotAvailable, ServerError, UnknownColumn
from nsimport_pipeline.netsuite.client import NetSuiteClient, Row
from nsimport_pipeline.netsuite.retrying import RetryPolicy
from nsimport_pipeline.netsuite.sizing import Pace, Sizing
from nsimport_pipeline.netsuite.suiteql import boundary_statement, count_statement, key_page_statement, selected
from nsimport_pipeline.record_types.criteria import load_catalog
from nsimport_pipeline.settings import Tenant
from nsimport_pipeline.simulator.options import SimulatorOptions
from nsimport_pipeline.simulator.process import SimulatorThread

CUSTOMER = load_catalog()["customer"]
COLUMNS = selected(CUSTOMER)
QUICK = RetryPolicy(attempts=50, base_delay=0.01, max_delay=0.05, rate_limit_base=0.01, rate_limit_max=0.05)
"""So many attempts that no draw of faults, of which every second request may have one, uses them up."""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimulatorThread]:
    options = SimulatorOptions(credentials=tmp_path_factory.mktemp("simulator"), rows={"*": 20, "customer": 1234})
    with SimulatorThread(options) as simulator:
        yield simulator


@pytest.fixture
def simulator(running: SimulatorThread) -> Iterator[SimulatorThread]:
    running.reset_stats()
    yield running
    running.set_faults("")


Connect = Callable[..., NetSuiteClient]


@pytest.fixture
def connect(simulator: SimulatorThread) -> Connect:
    def connected(auth: dict[str, Any] | None = None, policy: RetryPolicy = QUICK) -> NetSuiteClient:
        document = {
            "name": "acme",
            "account": simulator.options.account,
            "base_url": simulator.base_url,
            "auth": auth or simulator.credentials.oauth2,
            "warehouse_url": "sqlite://",
        }
        return NetSuiteClient(Tenant.model_validate(document), policy=policy)

    return connected


def ranges(netsuite: NetSuiteClient, size: int) -> list[tuple[int | None, int | None]]:
    """Every key of the customers, in ranges of ``size`` records; the last one is open-ended."""
    lasts = [int(row["last_key"]) for row in netsuite.query(boundary_statement(CUSTOMER, None, None, size)).items]
    return list(zip([None, *lasts], [*lasts, None], strict=True))


def everything(netsuite: NetSuiteClient, size: int = 100, threads: int = 4, page: int = 1000) -> list[Row]:
    def fetched(ends: tuple[int | None, int | None]) -> list[Row]:
        return netsuite.fetch_range(CUSTOMER, *ends, COLUMNS, pace=Pace(Sizing(rows=page))).items

    with ThreadPoolExecutor(threads) as pool:
        return [row for part in pool.map(fetched, ranges(netsuite, size)) for row in part]


@pytest.mark.parametrize("method", ["oauth2", "oauth2_ec", "tba"])
def test_every_way_of_signing_in_reads_every_record(simulator: SimulatorThread, connect: Connect, method: str) -> None:
    with connect(getattr(simulator.credentials, method)) as netsuite:
        count = netsuite.count(CUSTOMER)
        rows = everything(netsuite)

    assert count.n == len(rows) == 1234
    assert (int(rows[0]["id"]), int(rows[-1]["id"])) == (count.low, count.high)


def test_reading_on_by_key_by_ranges_and_by_offset_gives_the_same_records(connect: Connect) -> None:
    with connect() as netsuite:
        by_ranges = everything(netsuite)
        by_key = netsuite.fetch_range(CUSTOMER, None, None, COLUMNS)
        by_offset = [row["id"] for page in netsuite.pages(key_page_statement(CUSTOMER, None)) for row in page.items]

    assert by_key.items == by_ranges
    assert by_key.requests == 2
    assert by_offset == [row["id"] for row in by_ranges]


@pytest.mark.parametrize(
    "faults",
    [
        "429:0.3",
        "429:0.2=0,500:0.1,502:0.1,503:0.1",
        "empty:0.2,truncated:0.2,reset:0.2",
        "short:0.2,duplicate:0.2,wrongtotal:0.2",
        "noise:4",
    ],
)
def test_nothing_is_lost_or_doubled_while_things_go_wrong(
    simulator: SimulatorThread, connect: Connect, faults: str
) -> None:
    with connect() as netsuite:
        expected = everything(netsuite)
        simulator.set_faults(faults)
        simulator.reset_stats()
        rows = everything(netsuite, size=50, threads=8)  # more threads than the account has slots
        stats = simulator.stats(log=False)

    assert rows == expected
    assert stats["max_in_flight"] <= simulator.options.slots
    assert sum(stats["statuses"].values()) > len(expected) // 50 + 2  # some were asked for more than once


def test_a_total_that_is_one_too_small_ends_no_range_after_its_first_page(
    simulator: SimulatorThread, connect: Connect
) -> None:
    with connect() as netsuite:
        expected = everything(netsuite)
        simulator.set_faults("wrongtotal:0.3=-1")
        assert everything(netsuite, size=51, page=50) == expected


def test_tokens_taken_back_are_replaced_once_for_all_threads(simulator: SimulatorThread, connect: Connect) -> None:
    with connect() as netsuite:
        expected = everything(netsuite)
        simulator.revoke_tokens()
        simulator.reset_stats()
        assert everything(netsuite) == expected
        kinds = simulator.stats()["kinds"]

    assert kinds["token"] == 1


def test_a_permanent_fault_of_the_account_is_named(simulator: SimulatorThread, connect: Connect) -> None:
    with connect() as netsuite:

        def fails() -> None:
            netsuite.fetch_range(CUSTOMER, None, None, COLUMNS)

        for fault in ("unknown:customer.email", "removed:customer.email"):
            simulator.set_faults(fault)
            with pytest.raises(UnknownColumn) as caught:
                fails()
            assert caught.value.column == "email"
        for fault in ("missing:customer", "denied:customer"):
            simulator.set_faults(fault)
            with pytest.raises(RecordNotAvailable, match="customer"):
                fails()
        simulator.set_faults("badcolumn:customer.email")
        with pytest.raises(ServerError, match="UNEXPECTED_ERROR"):
            fails()
        for fault in ("401", "403"):
            simulator.set_faults(fault)
            with pytest.raises(AccessDenied, match="role"):
                fails()


def test_a_statement_that_is_too_wide_is_found_out(connect: Connect) -> None:
    wide = ", ".join(f"t.id AS c{n}" for n in range(101))
    with connect(policy=RetryPolicy(attempts=1)) as netsuite, pytest.raises(IncompleteResponse, match="0 rows"):
        netsuite.query(f"SELECT {wide} FROM customer t ORDER BY t.id ASC")


def test_wrong_credentials_are_a_denial(simulator: SimulatorThread, connect: Connect) -> None:
    credentials = simulator.credentials
    wrong = [
        {**credentials.tba, "token_secret": "wrong"},
        {**credentials.tba, "consumer_key": "wrong"},
        {**credentials.oauth2, "certificate_id": "wrong"},
        {**credentials.oauth2, "client_id": "wrong"},
    ]
    for auth in wrong:
        with connect(auth) as netsuite, pytest.raises(AccessDenied, match="check"):
            netsuite.query(count_statement(CUSTOMER))


def test_another_accounts_key_is_a_denial(simulator: SimulatorThread, connect: Connect, tmp_path: Path) -> None:
    from nsimport_pipeline.simulator.credentials import ensure_credentials

    stranger = ensure_credentials(tmp_path)
    auth = {**simulator.credentials.oauth2, "private_key_file": stranger.oauth2["private_key_file"]}
    with connect(auth) as netsuite, pytest.raises(AccessDenied, match="invalid_"):
        netsuite.query(count_statement(CUSTOMER))
