"""Accounts that lack something: each imports what it can, and says what it left out and why.

One daemon, a simulated account and a tenant for each: without OneWorld, without multi-currency, without projects, with
a column in each record type that makes NetSuite fail, with a custom record of 130 columns and a role that may not see
everything.
"""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest

from nsimport_pipeline.simulator.options import SimulatorOptions
from nsimport_pipeline.simulator.process import SimulatorControl, SimulatorThread
from nsimport_pipeline_tests.acceptance.environment import Environment

ROWS = 15
ACCOUNTS = {
    "acme": ("without:oneworld", ("subsidiary", "customer_subsidiary", "customer")),
    "onecurrency": ("without:multicurrency", ("currency", "vendor")),
    "noprojects": ("without:projects", ("project", "department")),
    "flawed": ("badcolumn:employee.email,badcolumn:vendor.phone", ("employee", "vendor")),
    "wide": ("denied:vendor,badcolumn:customrecord_machine.custrecord_m120", ("vendor", "machine")),
}
"""Faults of the account, and what is imported from it."""
MACHINE = {
    "record_type": "machine",
    "family": "lists",
    "table": "machines",
    "description": "A custom record with 130 columns.",
    "source": {"from": "customrecord_machine", "key": "id"},
    "fields": [
        {"name": f"custrecord_m{number}", "type": "string", "length": 100, "description": f"Column {number}."}
        for number in range(130)
    ],
}


@dataclass(frozen=True)
class Imported:
    environment: Environment
    simulators: dict[str, SimulatorControl]
    statuses: dict[str, dict[str, Any]]

    def types(self, tenant: str) -> dict[str, dict[str, Any]]:
        return {entry["name"]: entry for entry in self.statuses[tenant]["record_types"]}

    def account(self, tenant: str, name: str, *options: str) -> dict[str, Any]:
        """What ``record-types NAME --tenant T`` says about the account."""
        found: dict[str, Any] = self.environment.json("record-types", name, "--tenant", tenant, *options)["account"]
        return found

    def rows(self, tenant: str, table: str) -> list[dict[str, Any]]:
        return self.environment.query(f"SELECT * FROM {table} WHERE deleted_at IS NULL", tenant=tenant)


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Imported]:
    directory = tmp_path_factory.mktemp("accounts")
    criteria = directory / "criteria"
    (criteria / "machine").mkdir(parents=True)
    (criteria / "machine" / "criteria.json").write_text(json.dumps(MACHINE))
    with ExitStack() as stack:
        others: dict[str, dict[str, Any]] = {}
        simulators: dict[str, SimulatorControl] = {}
        for tenant, (faults, _) in ACCOUNTS.items():
            options = SimulatorOptions(
                credentials=directory / "simulator", rows={"*": ROWS}, faults=faults, criteria_path=criteria
            )
            simulators[tenant] = stack.enter_context(SimulatorThread(options))
            others[tenant] = {
                "base_url": simulators[tenant].base_url,
                "warehouse_url": f"sqlite:///{directory / tenant}.db",
            }
        environment = Environment(
            directory,
            warehouse_url=f"sqlite:///{directory / 'acme.db'}",
            rows={"*": 0},
            tenant={"base_url": simulators["acme"].base_url},
            others={tenant: other for tenant, other in others.items() if tenant != "acme"},
            variables={"NSIMPORT_CRITERIA_PATH": str(criteria)},
        )
        stack.enter_context(environment)
        environment.start_daemon()
        ids = {
            tenant: environment.start_import(*chosen, "--no-dependencies", tenant=tenant)
            for tenant, (_, chosen) in ACCOUNTS.items()
        }
        statuses = {tenant: environment.wait_for_import(import_id, timeout=240) for tenant, import_id in ids.items()}
        yield Imported(environment, simulators, statuses)


@pytest.mark.parametrize(
    ("tenant", "feature", "absent", "there", "columns"),
    [
        ("acme", "OneWorld", {"subsidiary", "customer_subsidiary"}, "customer", {"subsidiary_id"}),
        ("onecurrency", "Multiple Currencies", {"currency"}, "vendor", {"currency"}),
        ("noprojects", "Projects", {"project"}, "department", set()),
    ],
)
def test_a_feature_that_is_off_is_no_failure(
    imported: Imported, tenant: str, feature: str, absent: set[str], there: str, columns: set[str]
) -> None:
    types = imported.types(tenant)

    assert imported.statuses[tenant]["state"] == "completed"
    assert {name for name, entry in types.items() if entry["state"] == "unavailable"} == absent
    assert all(feature in types[name]["unavailable"] for name in absent)
    assert types[there]["state"] == "completed"
    assert types[there]["records"]["imported"] == ROWS
    assert columns <= set(types[there]["columns_left_out"])
    assert bool(columns) == bool(types[there]["columns_left_out"])
    assert imported.statuses[tenant]["failures"]["permanent_error"] == 0
    account = imported.account(tenant, there)
    assert account["state"] == "available"
    assert [one["column"] for one in account["columns_left_out"]] == types[there]["columns_left_out"]
    assert all("400" in one["reason"] for one in account["columns_left_out"])
    for name in absent:
        assert imported.account(tenant, name)["state"] == "unavailable"


def test_a_column_that_makes_netsuite_fail_costs_that_column_alone(imported: Imported) -> None:
    types = imported.types("flawed")

    assert imported.statuses["flawed"]["state"] == "completed"
    assert types["employee"]["columns_left_out"] == ["email"]
    assert types["vendor"]["columns_left_out"] == ["phone"]
    employees, vendors = imported.rows("flawed", "employees"), imported.rows("flawed", "vendors")
    assert len(employees) == len(vendors) == ROWS
    assert {row["email"] for row in employees} <= {None, ""}
    assert any(row["email"] for row in vendors)
    assert not any("email" in json.loads(row["raw"]) for row in employees)
    groups = imported.environment.json("errors", imported.statuses["flawed"]["import_id"])
    named = {(group["record_type"], group["column_name"], group["category"]) for group in groups}
    assert {("employee", "email", "api_unavailable"), ("vendor", "phone", "api_unavailable")} <= named


def test_a_record_type_of_130_columns_is_imported_but_for_the_bad_one(imported: Imported) -> None:
    assert imported.types("wide")["machine"]["columns_left_out"] == ["custrecord_m120"]
    rows = imported.rows("wide", "machines")
    assert len(rows) == ROWS
    expected = {f"custrecord_m{number}" for number in range(130) if number != 120}
    assert {key for row in rows for key in json.loads(row["raw"])} == expected | {"id"}
    filled = {name for row in rows for name in expected if row[name] is not None}
    assert filled == expected


def test_what_the_role_may_not_see_is_denied_and_no_success(imported: Imported) -> None:
    status, vendor = imported.statuses["wide"], imported.types("wide")["vendor"]

    assert vendor["state"] == "denied"
    assert "Lists > Vendors" in vendor["unavailable"]
    assert vendor["in_sync"] is None
    assert imported.types("wide")["machine"]["state"] == "completed"
    assert status["state"] == "completed_with_failures"
    assert "vendor" in status["reason"]
    assert status["failures"]["permanent_error"] == 1
    assert imported.account("wide", "vendor")["state"] == "denied"
    said = imported.environment.nsimport("status", status["import_id"]).stdout
    assert "vendor: denied" in said
    assert "machine: columns left out: custrecord_m120" in said


def test_what_is_known_is_not_asked_again_until_that_is_wanted(imported: Imported) -> None:
    simulator = imported.simulators["acme"]
    simulator.reset_stats()
    done = imported.environment.nsimport("plan", "customer", "--no-dependencies", "--tenant", "acme")
    assert done.returncode == 0, done.stderr
    simulator.reset_stats()
    again = imported.environment.start_import("customer", "--no-dependencies")
    assert imported.environment.wait_for_import(again)["state"] == "completed"
    assert simulator.stats()["kinds"]["suiteql"] == 3  # the count, the batch, the final count
    assert set(simulator.stats()["statuses"]) == {"200"}

    simulator.set_faults("")
    assert imported.account("acme", "customer")["columns_left_out"] != []
    assert imported.account("acme", "customer", "--probe")["columns_left_out"] == []
    assert imported.account("acme", "subsidiary", "--probe")["state"] == "available"
