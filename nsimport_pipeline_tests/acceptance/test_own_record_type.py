"""A record type of a user's own, from nothing to its rows and no Python: as docs/adding-a-record-type.md says.

Belongs here: the commands of that page, in their order, against a custom record that no criteria of ours knows.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from nsimport_pipeline.record_types.criteria import load_catalog
from nsimport_pipeline_tests.acceptance.environment import TENANT, Environment
from nsimport_pipeline_tests.acceptance.reference import differences, expected_rows, stored_value

MACHINES = 1234
NEW_TABLE = f"""
CREATE TABLE customrecord_machine AS SELECT
    500 + j * 3 AS id, 'Maschine №' || j || ' ⚙' AS name,
    CASE WHEN j % 3 > 0 THEN 'M-' || j END AS externalid,
    CASE WHEN j % 10 = 0 THEN 'T' ELSE 'F' END AS isinactive,
    CASE WHEN j % 7 > 0 THEN 'SN' || lpad(CAST(j AS VARCHAR), 9, '0') END AS custrecord_machine_serial,
    (SELECT min(id) FROM customer) AS custrecord_machine_owner,
    CAST(j * 1000003 % 9999999 * 0.01 AS DECIMAL(20, 2)) AS custrecord_machine_price,
    CASE WHEN j % 5 > 0 THEN DATE '2019-12-30' + CAST(j AS INTEGER) END AS custrecord_machine_bought,
    CASE WHEN j > 0 THEN 500 + (j - 1) * 3 END AS parent,
    repeat('a long note ', j % 90) AS custrecord_machine_notes,
    'who knows' AS custrecord_machine_secret,
    TIMESTAMP '2026-03-08 08:30:00' + to_hours(CAST(j AS INTEGER)) AS lastmodified
FROM range({MACHINES}) r(j)
"""
CUSTOM_FIELD = (
    "ALTER TABLE customer ADD COLUMN custentity_region VARCHAR",
    "UPDATE customer SET custentity_region = 'Región ' || id WHERE CAST(id AS INTEGER) % 2 = 0",
)


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Environment]:
    """An account with a custom record; a column of it is in the metadata, but cannot be selected."""
    directory = tmp_path_factory.mktemp("own_record_type") / "installation"
    variables = {"NSIMPORT_CRITERIA_PATH": str(directory / "criteria")}
    tenant = {"record_types": {"customer": {"extra_fields": ["custentity_region"], "exclude_fields": ["email"]}}}
    database = f"sqlite:///{directory}/acme.db"
    with Environment(directory, database, {"*": 6}, tenant=tenant, variables=variables) as environment:
        owner = "COMMENT ON COLUMN customrecord_machine.custrecord_machine_owner IS 'reference customer'"
        environment.simulator.sql(NEW_TABLE, owner, *CUSTOM_FIELD)
        environment.simulator.set_faults("unknown:customrecord_machine.custrecord_machine_secret")
        yield environment


def test_a_record_type_of_ones_own_is_scaffolded_and_imported_whole(company: Environment) -> None:
    criteria = Path(company.variables["NSIMPORT_CRITERIA_PATH"])
    made = company.nsimport("record-type", "new", "machine", "--from", "customrecord_machine", "--tenant", TENANT)
    assert made.returncode == 0, made.stderr
    assert "left out, because SuiteQL does not have them here: custrecord_machine_secret" in made.stdout
    assert f"nsimport import machine --tenant {TENANT} --wait" in made.stdout

    (shown,) = [entry for entry in company.json("record-types") if entry["name"] == "machine"]
    assert (shown["table"], shown["dependencies"]) == ("machines", ["customer"])

    done = company.nsimport("import", "machine", "--no-dependencies", "--tenant", TENANT, "--wait", timeout=250)
    assert done.returncode == 0, done.stdout + done.stderr

    machine = load_catalog(criteria)["machine"]
    types = {field.name: field.type for field in machine.fields}
    assert types == {
        "name": "string",
        "is_inactive": "boolean",
        "serial": "text",
        "owner_id": "reference",
        "price": "money",
        "bought": "date",
        "parent_id": "reference",
        "notes": "text",
        "last_modified_at": "datetime",
    }
    found = {row["refid"]: row for row in company.query("SELECT * FROM machines")}
    stored = {refid: {c: stored_value(machine, c, v) for c, v in row.items()} for refid, row in found.items()}
    expected = expected_rows(company.simulator, machine)
    assert len(expected) == MACHINES
    assert differences(expected, stored) == []
    assert json.loads(next(iter(found.values()))["raw"])["id"] == "500"


def test_a_tenants_own_fields_are_imported_and_unwanted_ones_are_not(company: Environment) -> None:
    done = company.nsimport("import", "customer", "--no-dependencies", "--tenant", TENANT, "--wait", timeout=250)
    assert done.returncode == 0, done.stdout + done.stderr

    rows = company.query("SELECT * FROM customers")
    assert len(rows) == 6
    for row in rows:
        region = None if row["refid"] % 2 else f"Región {row['refid']}"
        assert row["custentity_region"] == json.loads(row["raw"]).get("custentity_region") == region
        assert "email" not in row
        assert "email" not in json.loads(row["raw"])
    assert {row["custentity_region"] is None for row in rows} == {True, False}
