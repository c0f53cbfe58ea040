"""Transaction lines through the real daemon: planned when their parents are in, and per parent what NetSuite has."""

from collections import Counter
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from nsimport_pipeline_tests.acceptance.environment import TENANT, Environment
from nsimport_pipeline_tests.acceptance.reference import read_suiteql

ROWS = {"*": 12, "customer": 40, "sales_order": 700, "invoice": 500, "item_fulfillment": 300, "transaction_line": 6000}
LARGE = 2500
"""Lines of one invoice, more than two answers hold."""


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Any:
    directory: Path = tmp_path_factory.mktemp("lines") / "installation"
    with Environment(directory, f"sqlite:///{directory}/acme.db", ROWS) as environment:
        environment.simulator.sql(
            "INSERT INTO transactionline BY NAME (SELECT l.* REPLACE (1000000 + g AS uniquekey, 5000 + g AS id) FROM"
            " (SELECT * FROM transactionline WHERE transaction = (SELECT max(id) FROM transaction WHERE"
            f" type = 'CustInvc') LIMIT 1) l, range({LARGE}) r(g))"
        )
        environment.start_daemon()
        yield environment


@pytest.fixture(scope="module")
def imported(installation: Environment) -> dict[str, Any]:
    done = installation.nsimport("import", "invoice", "transaction_line", "--tenant", TENANT, "--wait", timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr
    status: dict[str, Any] = installation.json("status", done.stdout.splitlines()[0])
    return status


def lines_at_netsuite(installation: Environment) -> Counter[int]:
    """Lines of each sales order, invoice and fulfilment that NetSuite has, read by a client of the test's own."""
    statement = (
        "SELECT l.transaction AS p FROM transactionline l INNER JOIN transaction t ON t.id = l.transaction"
        " WHERE t.type IN ('SalesOrd', 'CustInvc', 'ItemShip') ORDER BY l.uniquekey ASC"
    )
    return Counter(int(row["p"]) for row in read_suiteql(installation.simulator, statement))


def lines_in_table(installation: Environment) -> Counter[int]:
    counted = installation.query("SELECT transaction_id AS p, COUNT(*) AS n FROM transaction_lines GROUP BY 1")
    return Counter({row["p"]: row["n"] for row in counted})


def events(installation: Environment, import_id: str) -> list[str]:
    rows = installation.query("SELECT event FROM job_events WHERE import_id = :id ORDER BY id", id=import_id)
    return [row["event"] for row in rows]


def test_every_parent_has_the_lines_that_netsuite_has(installation: Environment, imported: dict[str, Any]) -> None:
    expected = lines_at_netsuite(installation)
    assert lines_in_table(installation) == expected
    assert max(expected.values()) > LARGE
    assert imported["state"] == "completed"
    lines = imported["record_types"][-1]
    assert (lines["name"], lines["state"], lines["in_sync"]) == ("transaction_line", "completed", True)
    assert lines["records"] == {"expected": expected.total(), "imported": expected.total(), "rejected": 0, "deleted": 0}
    assert lines["level"] == max(entry["level"] for entry in imported["record_types"])


def test_they_are_planned_once_after_the_last_parent_batch_in_a_run_of_its_own(
    installation: Environment, imported: dict[str, Any]
) -> None:
    import_id = imported["import_id"]
    assert events(installation, import_id).count("derived_planned") == 1
    (planned,) = installation.query(
        "SELECT at FROM job_events WHERE import_id = :id AND event = 'derived_planned'", id=import_id
    )
    lines, others = "record_type = 'transaction_line'", "record_type <> 'transaction_line'"
    statement = "SELECT MAX({}) AS at FROM wave_batches WHERE import_id = :id AND {}"
    (last,) = installation.query(statement.format("finished_at", others), id=import_id)
    (first,) = installation.query(statement.format("started_at", lines).replace("MAX", "MIN"), id=import_id)
    assert last["at"] <= planned["at"] <= first["at"]
    with installation.dagster() as instance:
        (run,) = instance.get_runs(dg.RunsFilter(tags={"nsimport/plans": "transaction_line"}))
        pinned = instance.get_dynamic_partitions(f"{TENANT}/transaction_line")
    assert (run.job_name, run.status) == ("plan_derived", dg.DagsterRunStatus.SUCCESS)
    assert len(pinned) == imported["record_types"][-1]["batches"]["total"]


def test_a_line_deleted_in_netsuite_is_gone_after_the_next_import(
    installation: Environment, imported: dict[str, Any]
) -> None:
    installation.simulator.delete("transactionline", "uniquekey % 5 = 0")
    done = installation.nsimport(
        "import", "transaction_line", "--no-dependencies", "--tenant", TENANT, "--wait", timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    status = installation.json("status", done.stdout.splitlines()[0])
    (lines,) = status["record_types"]
    assert (lines["level"], lines["in_sync"]) == (0, True)
    assert lines["records"]["deleted"] > 0
    assert lines_in_table(installation) == lines_at_netsuite(installation)


def incremental(installation: Environment) -> tuple[dict[str, Any], str]:
    """An incremental import of all that is there: its status, and what the command said."""
    arguments = ("invoice", "transaction_line", "--mode", "incremental", "--tenant", TENANT, "--wait")
    done = installation.nsimport("import", *arguments, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    status: dict[str, Any] = installation.json("status", done.stdout.splitlines()[0])
    return status, done.stdout + done.stderr


def materialized(installation: Environment, import_id: str) -> set[tuple[str, str]]:
    """The partitions that an import shows in Dagster as materialized."""
    with installation.dagster() as instance:
        entries = [
            record.event_log_entry.asset_materialization
            for run in instance.get_runs(dg.RunsFilter(tags={"nsimport/import": import_id}))
            for record in instance.get_records_for_run(run.run_id).records
        ]
    return {(entry.asset_key.path[-1], str(entry.partition)) for entry in entries if entry is not None}


def test_nothing_changed_nothing_is_written_or_materialized_and_that_is_said(
    installation: Environment, imported: dict[str, Any]
) -> None:
    before = installation.query("SELECT MAX(imported_at) AS at FROM invoices")
    status, said = incremental(installation)
    assert status["state"] == "completed"
    assert status["reason"] == "nothing was changed since the last import"
    assert {entry["records"]["imported"] for entry in status["record_types"]} == {0}
    assert materialized(installation, status["import_id"]) == set()
    assert installation.query("SELECT MAX(imported_at) AS at FROM invoices") == before
    assert "nothing was changed" in said


def test_what_was_changed_and_only_that_arrives_and_its_partition_is_materialized(
    installation: Environment, imported: dict[str, Any]
) -> None:
    (one,) = installation.query("SELECT MAX(refid) AS refid, COUNT(*) AS n FROM invoices")
    now = "date_trunc('second', timezone('UTC', now())) - INTERVAL 1 MINUTE"  # surely before the import's bound
    where = f"id = {one['refid']}"
    installation.simulator.sql(f"UPDATE transaction SET memo = 'paid', lastmodifieddate = {now} WHERE {where}")
    status, _ = incremental(installation)
    by_name = {entry["name"]: entry["records"] for entry in status["record_types"]}
    assert {name for name, records in by_name.items() if records["imported"]} == {"invoice"}
    assert by_name["invoice"] == {"expected": 1, "imported": 1, "rejected": 0, "deleted": 0}
    assert materialized(installation, status["import_id"]) == {("invoice", "0")}
    assert installation.query(f"SELECT memo FROM invoices WHERE refid = {one['refid']}") == [{"memo": "paid"}]
