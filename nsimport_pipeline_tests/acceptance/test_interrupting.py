"""Into SQLite: Ctrl-C ends the waiting and not the import; the same records are not imported twice at a time."""

import os

from nsimport_pipeline.record_types.criteria import load_catalog
from nsimport_pipeline_tests.acceptance.conftest import Interrupted
from nsimport_pipeline_tests.acceptance.environment import TENANT, Environment
from nsimport_pipeline_tests.acceptance.reference import differences, expected_rows, stored_value


def test_ctrl_c_gives_130_and_says_how_to_look_again_and_how_to_cancel(customers: Interrupted) -> None:
    assert customers.interrupted.returncode == 130
    said = customers.interrupted.stderr
    assert f"nsimport watch {customers.import_id}" in said
    assert f"nsimport cancel {customers.import_id}" in said
    assert "Traceback" not in said


def test_the_import_goes_on_to_its_end(customers: Interrupted) -> None:
    assert customers.status["state"] == "completed"
    (entry,) = customers.status["record_types"]
    assert (entry["records"]["imported"], entry["in_sync"]) == (3300, True)


def test_every_row_and_value_is_that_of_netsuite(on_sqlite: Environment, customers: Interrupted) -> None:
    record_type = load_catalog()["customer"]
    found = {
        row["refid"]: {column: stored_value(record_type, column, value) for column, value in row.items()}
        for row in on_sqlite.query("SELECT * FROM customers WHERE deleted_at IS NULL")
    }
    assert differences(expected_rows(on_sqlite.simulator, record_type), found) == []


def test_asking_again_meanwhile_is_refused_with_the_id_of_the_first(customers: Interrupted) -> None:
    refused = customers.asked_again
    assert refused.returncode == 4
    assert refused.stdout == ""
    assert len(refused.stderr.splitlines()) == 1
    assert customers.import_id in refused.stderr


def test_the_id_is_printed_first_and_tells_the_tenant(customers: Interrupted) -> None:
    assert customers.import_id.startswith(f"{TENANT}-")


def test_status_without_an_id_lists_the_latest(on_sqlite: Environment, customers: Interrupted) -> None:
    documents = on_sqlite.json("status", "--tenant", TENANT)
    assert customers.import_id in [document["import_id"] for document in documents]


def test_the_daemon_that_was_there_before_is_left_alone(on_sqlite: Environment, customers: Interrupted) -> None:
    assert not os.path.exists(on_sqlite.home / "service_logs" / "daemon.log")
