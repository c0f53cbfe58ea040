"""Every record type of the catalogue, from NetSuite into MySQL and SQLite, compared value by value with the reference.

Belongs here: what is fetched, transformed and stored of each type. Does not belong here: imports through the daemon
(``test_main_job.py``); a run of Dagster for each type and database would cost minutes and show nothing more.

``NSIMPORT_TEST_SCALE`` is the simulated account's size; 3 is 250,000 records.
"""

import os
from collections.abc import Iterator
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa
from sqlalchemy import Engine

from nsimport_pipeline.netsuite.client import NetSuiteClient
from nsimport_pipeline.netsuite.suiteql import selected
from nsimport_pipeline.record_types.criteria import load_catalog
from nsimport_pipeline.record_types.transform import transform
from nsimport_pipeline.settings import Tenant
from nsimport_pipeline.simulator.options import SimulatorOptions
from nsimport_pipeline.simulator.process import SimulatorProcess
from nsimport_pipeline.warehouse.engine import make_engine
from nsimport_pipeline.warehouse.schema import ensure_table, target_table
from nsimport_pipeline.warehouse.upsert import upsert
from nsimport_pipeline_tests import mysql_server as private_mysql
from nsimport_pipeline_tests.acceptance.reference import differences, expected_rows, stored_value

CATALOG = load_catalog()
SCALE = float(os.environ.get("NSIMPORT_TEST_SCALE", "0.1"))
NOW = datetime(2026, 3, 1, 12)


@pytest.fixture(scope="module")
def simulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimulatorProcess]:
    options = SimulatorOptions(credentials=tmp_path_factory.mktemp("simulator"), scale=SCALE)
    with SimulatorProcess(options) as running:
        yield running


@pytest.fixture(scope="module")
def client(simulator: SimulatorProcess) -> Iterator[NetSuiteClient]:
    document: dict[str, Any] = {
        "name": "acme",
        "account": simulator.options.account,
        "base_url": simulator.base_url,
        "auth": simulator.credentials.oauth2,
        "warehouse_url": "sqlite://",
    }
    with NetSuiteClient(Tenant.model_validate(document)) as opened:
        yield opened


@pytest.fixture(scope="module")
def warehouses(mysql_server_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Engine]]:
    directory = tmp_path_factory.mktemp("warehouse")
    with private_mysql.fresh_database(mysql_server_url) as url:
        engines = [make_engine(url, pool_size=1), make_engine(f"sqlite:///{directory}/acme.db", pool_size=1)]
        yield engines
        for engine in engines:
            engine.dispose()


@pytest.mark.timeout(120 + 300 * SCALE)
@pytest.mark.parametrize("name", CATALOG)
def test_every_value_of_every_record_type_is_what_netsuite_has(
    simulator: SimulatorProcess, client: NetSuiteClient, warehouses: list[Engine], name: str
) -> None:
    record_type = CATALOG[name]
    expected = expected_rows(simulator, record_type)
    assert expected

    fetched = client.fetch_range(record_type, None, None, selected(record_type))
    transformed = transform(record_type, fetched.items, timezone=ZoneInfo("America/Los_Angeles"), store_raw=True)
    assert transformed.rejected == []
    for engine in warehouses:
        ensure_table(engine, record_type)
        table = target_table(record_type)
        for low in range(0, len(transformed.rows), 1000):
            rows, raws = transformed.rows[low : low + 1000], transformed.raws[low : low + 1000]
            with engine.begin() as connection:
                done = upsert(connection, table, transformed.columns, rows, raws=raws, import_id="i", imported_at=NOW)
            assert (done.written, done.rejected, done.left_out) == (len(rows), [], ())
        with engine.connect() as connection:
            stored = connection.execute(sa.text(f"SELECT * FROM {record_type.table}")).mappings().all()
        found = {row["refid"]: {c: stored_value(record_type, c, row[c]) for c in row} for row in stored}
        assert differences(expected, found) == []


def test_the_account_has_the_shapes_that_imports_go_wrong_on(simulator: SimulatorProcess) -> None:
    """Otherwise that all values agree would say little."""
    found = {name: expected_rows(simulator, CATALOG[name]).values() for name in ("customer", "sales_order", "invoice")}
    texts = {value for rows in found.values() for row in rows for value in row.values() if type(value) is str}
    everything = "".join(texts)
    assert any(ord(letter) > 0xFFFF for letter in everything)
    missing = [hostile for hostile in ("'", '"', "\\", "\n", "%", "ü", "\u200b") if hostile not in everything]
    assert missing == []
    assert {row["is_person"] for row in found["customer"]} == {True, False}
    assert {row["status"] for row in found["invoice"]} == {"open", "paid"}
    assert len({row["status"] for row in found["sales_order"]}) == 8
    totals = [row["foreign_total"] for row in found["sales_order"] if row["foreign_total"] is not None]
    assert min(totals) < 0 < 10**9 < max(totals)
    assert simulator.record_types()["customer_subsidiary"] > simulator.record_types()["customer"]
