"""Probing simulated accounts: what they have of each record type, at what cost, kept in real databases."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine

from nsimport_pipeline.errors import AccessDenied, Category
from nsimport_pipeline.imports import store
from nsimport_pipeline.imports.account import ASK_AGAIN, Probed, fingerprint, keep, outdated, probe_account
from nsimport_pipeline.imports.columns import ONCE
from nsimport_pipeline.imports.records import AccountType, LeftOut
from nsimport_pipeline.netsuite.client import NetSuiteClient
from nsimport_pipeline.netsuite.retrying import RetryPolicy
from nsimport_pipeline.record_types.criteria import Catalog, RecordType, load_catalog
from nsimport_pipeline.settings import Tenant
from nsimport_pipeline.simulator.options import SimulatorOptions
from nsimport_pipeline.simulator.process import SimulatorThread
from nsimport_pipeline.warehouse.engine import make_engine
from nsimport_pipeline.warehouse.migrate import ensure_control_tables
from nsimport_pipeline_tests.integration.imports_world import START

WIDE = {
    "record_type": "machine",
    "family": "lists",
    "table": "machines",
    "description": "A custom record with 130 columns.",
    "source": {"from": "customrecord_machine", "key": "id"},
    "fields": [
        {"name": f"custrecord_m{number}", "type": "string", "description": f"Column {number}."} for number in range(130)
    ],
}
SLOTS = 4


@pytest.fixture(scope="module")
def criteria(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("criteria")
    (directory / "machine").mkdir()
    (directory / "machine" / "criteria.json").write_text(json.dumps(WIDE))
    return directory


@pytest.fixture(scope="module")
def catalog(criteria: Path) -> Catalog:
    return load_catalog(criteria)


@pytest.fixture(scope="module")
def one_a_table(catalog: Catalog) -> dict[str, RecordType]:
    """One record type of each NetSuite table: the others ask the same of it."""
    return {record_type.name: record_type for record_type in {r.source.from_: r for r in catalog.values()}.values()}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, criteria: Path) -> Iterator[SimulatorThread]:
    options = SimulatorOptions(
        credentials=tmp_path_factory.mktemp("simulator"), slots=SLOTS, rows={"*": 6}, criteria_path=criteria
    )
    with SimulatorThread(options) as simulator:
        yield simulator


@pytest.fixture
def simulator(running: SimulatorThread) -> Iterator[SimulatorThread]:
    running.reset_stats()
    yield running
    running.set_faults("")


@pytest.fixture
def client(simulator: SimulatorThread) -> Iterator[NetSuiteClient]:
    tenant = Tenant.model_validate(
        {
            "name": "acme",
            "account": simulator.options.account,
            "base_url": simulator.base_url,
            "auth": simulator.credentials.oauth2,
            "warehouse_url": "sqlite://",
            "slots": SLOTS,
        }
    )
    policy = RetryPolicy(attempts=3, base_delay=0.001, rate_limit_base=0.01, rate_limit_max=0.05)
    with NetSuiteClient(tenant, policy=policy) as made:
        yield made


def probed(client: NetSuiteClient, record_types: Sequence[RecordType]) -> dict[str, AccountType]:
    """What is found of these record types; fails if one could not be asked."""
    found = probe_account(record_types, patient=client, brisk=client.following(ONCE), workers=SLOTS, now=lambda: START)
    assert [one.failure for one in found if one.found is None] == []
    return {one.record_type: one.found for one in found if one.found is not None}


def requests(simulator: SimulatorThread) -> int:
    return int(simulator.stats()["kinds"]["suiteql"])


def test_an_account_with_everything_costs_a_count_and_a_probe_a_record_type(
    client: NetSuiteClient, simulator: SimulatorThread, one_a_table: dict[str, RecordType]
) -> None:
    found = probed(client, list(one_a_table.values()))

    assert {one.state for one in found.values()} == {"available"}
    assert {one.left_out for one in found.values()} == {()}
    assert requests(simulator) == 2 * len(one_a_table) + 1  # the wide one in two statements
    assert found["customer"].probed_for == fingerprint(one_a_table["customer"])


def test_every_record_type_with_a_bad_column_loses_that_one_alone(
    client: NetSuiteClient, simulator: SimulatorThread, one_a_table: dict[str, RecordType]
) -> None:
    bad = {
        name: next(field.key for field in reversed(one.fields) if field.expression is None)
        for name, one in one_a_table.items()
    }
    simulator.set_faults(",".join(f"badcolumn:{one_a_table[n].source.from_}.{c}" for n, c in bad.items()))

    found = probed(client, list(one_a_table.values()))

    for name, record_type in one_a_table.items():
        # A computed field goes with the column it reads, under its own name.
        computed = {field.name for field in record_type.fields if field.expression is not None}
        left_out = {one.column.removesuffix("_display") for one in found[name].left_out}
        assert left_out - computed == {bad[name]}, name
        assert found[name].state == "available"


@pytest.mark.parametrize(
    ("faults", "unavailable", "available", "columns"),
    [
        (
            "without:oneworld",
            {"subsidiary", "customer_subsidiary", "vendor_subsidiary"},
            {"customer", "employee"},
            {"subsidiary", "subsidiary_id"},
        ),
        ("without:multicurrency", {"currency"}, {"vendor", "sales_order"}, {"currency", "exchangerate"}),
        ("without:projects", {"project"}, {"customer"}, set()),
        ("removed:*.memo", set(), {"sales_order"}, {"memo"}),
    ],
)
def test_an_account_without_a_feature_loses_its_tables_and_columns(
    client: NetSuiteClient,
    simulator: SimulatorThread,
    catalog: Catalog,
    faults: str,
    unavailable: set[str],
    available: set[str],
    columns: set[str],
) -> None:
    simulator.set_faults(faults)
    found = probed(client, [catalog[name] for name in sorted(unavailable | available)])

    assert {name for name, one in found.items() if one.state == "unavailable"} == unavailable
    assert not any(one.state == "denied" for one in found.values())
    assert all(catalog[name].source.requires in (found[name].reason or "") for name in unavailable)
    left_out = {column.column for one in found.values() for column in one.left_out}
    assert left_out == columns


def test_what_the_role_may_not_see_is_denied(
    client: NetSuiteClient, simulator: SimulatorThread, catalog: Catalog
) -> None:
    """Employees need no feature: that there is no such table can only be the role's doing."""
    simulator.set_faults("denied:customer,missing:employee")
    found = probed(client, [catalog[name] for name in ("customer", "employee", "vendor")])

    assert {name: one.state for name, one in found.items()} == {
        "customer": "denied",
        "employee": "denied",
        "vendor": "available",
    }
    assert "Lists > Customers" in (found["customer"].reason or "")


def test_a_wide_record_type_is_searched_in_several_statements(
    client: NetSuiteClient, simulator: SimulatorThread, catalog: Catalog
) -> None:
    table = "customrecord_machine"
    simulator.set_faults(
        f"badcolumn:{table}.custrecord_m7,badcolumn:{table}.custrecord_m120,unknown:{table}.custrecord_m64"
    )
    found = probed(client, [catalog["machine"]])

    left_out = {one.column: one.category for one in found["machine"].left_out}
    assert left_out == {
        "custrecord_m7": "api_unavailable",
        "custrecord_m120": "api_unavailable",
        "custrecord_m64": "permanent_error",
    }
    # Two columns by halving, each confirmed with three attempts, and the three rounds that failed or were refused.
    assert requests(simulator) <= 2 * (2 * 8 + 2) + 25


def test_an_outage_is_no_fact_about_the_account(
    client: NetSuiteClient, simulator: SimulatorThread, catalog: Catalog
) -> None:
    simulator.set_faults("500@2-")
    (found,) = probe_account(
        [catalog["customer"]], patient=client, brisk=client.following(ONCE), workers=1, now=lambda: START
    )
    assert found == Probed("customer", None, found.failure)
    assert "500" in (found.failure or "")


@pytest.mark.parametrize("status", ["401", "403"])
def test_a_refused_login_is_raised(
    client: NetSuiteClient, simulator: SimulatorThread, catalog: Catalog, status: str
) -> None:
    simulator.set_faults(status)
    with pytest.raises(AccessDenied):
        probed(client, list(catalog.values()))


def test_what_was_found_is_kept_and_replaced(
    client: NetSuiteClient, simulator: SimulatorThread, catalog: Catalog, warehouse_url: str
) -> None:
    engine = make_engine(warehouse_url, pool_size=2)
    ensure_control_tables(engine)
    chosen = [catalog[name] for name in ("customer", "subsidiary")]

    simulator.set_faults("without:oneworld,badcolumn:customer.email")
    keep(engine, list(probed(client, chosen).values()))
    first = kept(engine)
    assert first["subsidiary"].state == "unavailable"
    assert first["subsidiary"].probed_for is None
    assert {one.column for one in first["customer"].left_out} == {"email", "subsidiary_id"}
    assert first["customer"].checked_at == START

    simulator.set_faults("")
    keep(engine, list(probed(client, chosen).values()))
    assert {name: (one.state, one.left_out) for name, one in kept(engine).items()} == {
        "customer": ("available", ()),
        "subsidiary": ("available", ()),
    }
    engine.dispose()


def kept(engine: Engine) -> dict[str, AccountType]:
    with engine.connect() as connection:
        return store.account_types(connection)


def test_other_columns_are_probed_again(catalog: Catalog) -> None:
    customer = catalog["customer"]
    assert fingerprint(customer) == fingerprint(customer.model_copy(update={"description": "others"}))
    assert fingerprint(customer) != fingerprint(customer.adapted(["custentity_region"]))
    assert fingerprint(customer) != fingerprint(customer.adapted((), ["email"]))


def test_what_was_left_out_is_asked_for_again_a_day_later(catalog: Catalog) -> None:
    customer = catalog["customer"]
    missing = (LeftOut("email", Category.DATABASE_SCHEMA, "unknown column"),)
    whole = AccountType("customer", "available", START, probed_for=fingerprint(customer))
    lacking = replace(whole, left_out=missing)

    assert outdated(None, customer, START)
    assert outdated(replace(whole, probed_for="others"), customer, START)
    assert not outdated(whole, customer, START + 100 * ASK_AGAIN)
    assert not outdated(lacking, customer, START + ASK_AGAIN - timedelta(seconds=1))
    assert outdated(lacking, customer, START + ASK_AGAIN)
