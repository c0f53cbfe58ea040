"""Incremental imports as they are typed: what is asked, what is said, and what Dagster shows of them."""

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from nsimport_pipeline.commands.session import dagster_instance
from nsimport_pipeline.defs.signs_of_life import sweeping
from nsimport_pipeline.defs.steering_jobs import steering_jobs
from nsimport_pipeline.simulator.options import SimulatorOptions
from nsimport_pipeline.simulator.process import SimulatorThread
from nsimport_pipeline_tests.dagster.in_process import InProcess, Said

NOW = "date_trunc('second', timezone('UTC', now())) - INTERVAL 1 MINUTE"
"""Long enough ago: an import's bound is up to two seconds before it began."""
VENDORS, BATCH = 130, 50


@pytest.fixture(scope="module")
def simulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimulatorThread]:
    options = SimulatorOptions(credentials=tmp_path_factory.mktemp("simulator"), rows={"*": 12, "vendor": VENDORS})
    with SimulatorThread(options) as running:
        yield running


@pytest.fixture
def installation(simulator: SimulatorThread, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> InProcess:
    made = InProcess(tmp_path, simulator, monkeypatch)
    (tmp_path / "home").mkdir()
    made.tenant(record_types={"vendor": {"batch_size": BATCH}})
    return made


def brought_in(installation: InProcess, *arguments: str) -> tuple[Said, str]:
    """An import of the vendors from beginning to end: what its command said, and its id."""
    said = installation.nsimport("import", "vendor", "--no-dependencies", "--tenant", "acme", *arguments)
    assert said.code == 0, said.text
    import_id = said.text.splitlines()[0]
    assert installation.carry_on(import_id) == "completed"
    return said, import_id


def materialized(import_id: str) -> set[str]:
    """The partitions that an import shows in Dagster as materialized."""
    with dagster_instance() as instance:
        runs = instance.get_runs(dg.RunsFilter(tags={"nsimport/import": import_id}))
        entries = [
            record.event_log_entry.asset_materialization
            for run in runs
            for record in instance.get_records_for_run(run.run_id).records
        ]
    return {str(entry.partition) for entry in entries if entry is not None}


def test_only_what_was_changed_is_asked_for_written_and_shown(installation: InProcess) -> None:
    _, full = brought_in(installation)
    assert materialized(full) == {"0", "50", "100"}
    ids = [row["refid"] for row in installation.query("acme", "SELECT refid FROM vendors ORDER BY refid")]
    assert len(ids) == VENDORS

    said, nothing = brought_in(installation, "--mode", "incremental")
    assert "nothing was changed: there is nothing to import" in said.text
    status = installation.status(nothing)
    assert (status["mode"], status["state"]) == ("incremental", "completed")
    assert status["reason"] == "nothing was changed since the last import"
    assert materialized(nothing) == set()
    assert installation.query("acme", f"SELECT COUNT(*) AS n FROM vendors WHERE import_id <> '{full}'") == [{"n": 0}]
    assert "completed: nothing was changed since the last import" in installation.nsimport("status", nothing).text

    # One changed, one that is gone, and as many new ones as fill the last partition and open another.
    installation.simulator.delete("vendor", f"id = {ids[60]}")
    installation.simulator.sql(
        f"UPDATE deletedrecord SET deleteddate = {NOW} WHERE recordid = {ids[60]}",
        f"UPDATE vendor SET phone = 'changed', lastmodifieddate = {NOW} WHERE id = {ids[0]}",
        f"INSERT INTO vendor BY NAME (SELECT v.* REPLACE (500000 + g AS id, {NOW} AS lastmodifieddate) FROM"
        f" (SELECT * FROM vendor WHERE id = {ids[1]}) v, range(30) r(g))",
    )
    said, changed = brought_in(installation, "--mode", "incremental")
    assert "vendor: 31 records changed since" in said.text
    status = installation.status(changed)
    (vendor,) = status["record_types"]
    assert (vendor["state"], vendor["in_sync"]) == ("completed", True)
    assert vendor["records"] == {"expected": 31, "imported": 31, "rejected": 0, "deleted": 1}
    assert vendor["batches"]["total"] == 1
    assert materialized(changed) == {"0", "100", "150"}
    (row,) = installation.query("acme", f"SELECT phone FROM vendors WHERE refid = {ids[0]}")
    assert row["phone"] == "changed"
    (row,) = installation.query("acme", f"SELECT deleted_at FROM vendors WHERE refid = {ids[60]}")
    assert row["deleted_at"] is not None

    # All of it is in the overlap of the next one, and nothing is done about it.
    _, again = brought_in(installation, "--mode", "incremental")
    (vendor,) = installation.status(again)["record_types"]
    assert vendor["records"] == {"expected": 31, "imported": 0, "rejected": 0, "deleted": 0}
    assert materialized(again) == set()

    # A whole one has the partitions that grew.
    before = installation.query("acme", "SELECT partition_key FROM partition_ranges ORDER BY batch_number")
    installation.simulator.sql(f"INSERT INTO vendor SELECT * REPLACE ({ids[60]} AS id) FROM vendor WHERE id = {ids[1]}")
    brought_in(installation)
    assert installation.query("acme", "SELECT partition_key FROM partition_ranges ORDER BY batch_number") == before
    assert installation.query("acme", "SELECT COUNT(*) AS n FROM vendors WHERE deleted_at IS NULL") == [
        {"n": VENDORS + 30}
    ]

    # NetSuite does not say that these are gone.
    installation.simulator.sql(f"DELETE FROM vendor WHERE id IN ({ids[5]}, {ids[6]})")
    assert brought_in(installation, "--mode", "incremental")[1]
    live = "SELECT COUNT(*) AS n FROM vendors WHERE deleted_at IS NULL"
    assert installation.query("acme", live) == [{"n": VENDORS + 30}]
    swept = installation.json("sweep", "--tenant", "acme")
    (vendor,) = swept["record_types"]
    assert (vendor["record_type"], vendor["compared"], vendor["deleted"], vendor["missing"]) == (
        "vendor", VENDORS + 30, 2, 0
    )  # fmt: skip
    assert installation.query("acme", live) == [{"n": VENDORS + 28}]
    assert installation.json("sweep", "--tenant", "acme", "--last") == swept
    assert installation.status(again)["record_types"][0]["sweep"]["deleted"] == 2

    # From the UI; what is missing is told, with what brings it.
    installation.query("acme", f"DELETE FROM vendors WHERE refid = {ids[7]}")
    (job,) = (job for job in steering_jobs() if job.name == "sweep_records")
    with dagster_instance() as instance:
        result = job.execute_in_process({"ops": {"sweep": {"config": {"tenant": "acme"}}}}, instance=instance)
        pool = instance.event_log_storage.get_concurrency_info("netsuite_acme")
    assert pool.active_slot_count == 0
    (observed,) = (event for event in result.all_events if event.event_type_value == "ASSET_OBSERVATION")
    facts = observed.asset_observation_data.asset_observation.metadata
    assert (facts["deleted"].value, facts["missing"].value, facts["drifted"].value) == (0, 1, 1)
    said = installation.nsimport("status", again)
    assert "vendor: the last sweep found 1 records missing; the next import brings them" in said.text
    arguments = [*said.command("import vendor"), "--no-dependencies"]
    assert installation.carry_on(installation.nsimport(*arguments).text.splitlines()[0]) == "completed"
    assert installation.query("acme", live) == [{"n": VENDORS + 28}]
    assert "1 requests, 0 deleted" in installation.nsimport("sweep", "vendor", "--tenant", "acme").text


def test_what_cannot_be_swept_is_said(installation: InProcess) -> None:
    def sweep(*arguments: str) -> tuple[int, str]:
        said = installation.nsimport("sweep", "--tenant", "acme", *arguments)
        return said.code, said.text

    assert sweep() == (0, "tenant acme: no record type was imported whole yet, so there is nothing to sweep\n")
    assert sweep("--last") == (0, "tenant acme: nothing was swept yet\n")
    assert sweep("transaction_line")[0] == 2
    assert "its rows go with the" in sweep("transaction_line")[1]
    assert sweep("vendor")[0] == 4
    assert "vendor was never imported whole" in sweep("vendor")[1]
    brought_in(installation)
    with dagster_instance() as instance, sweeping(instance, "acme", "vendor"):
        assert sweep()[0] == 4
        assert "vendor of tenant 'acme' is being swept already" in sweep()[1]
    installation.tenant(enabled=False)
    assert sweep()[0] == 4
