"""A batch that fails leaves exactly its partition failed; `nsimport resume` completes the import.

The tenant ``solo`` sends one request at a time and gives a batch up at once, so that it is known which batch is hit.
"""

from subprocess import CompletedProcess

import dagster as dg
import pytest

from nsimport_pipeline_tests.acceptance.environment import Environment

OPPORTUNITY = dg.AssetKey(["solo", "opportunity"])
FIRST_TRY, ATTEMPTS = 5, 4
"""A count, a boundary query and a probe plan three batches; the second batch is the fifth request, tried four times."""


@pytest.fixture(scope="module")
def failed(on_sqlite: Environment) -> CompletedProcess[str]:
    """An import whose second batch gets only errors."""
    on_sqlite.simulator.set_faults(f"502@{FIRST_TRY}-{FIRST_TRY + ATTEMPTS - 1}")
    done = on_sqlite.nsimport("import", "opportunity", "--no-dependencies", "--tenant", "solo", "--wait")
    on_sqlite.simulator.set_faults("")
    return done


@pytest.fixture(scope="module")
def import_id(failed: CompletedProcess[str]) -> str:
    return failed.stdout.splitlines()[0]


def partitions(environment: Environment) -> dict[str, str]:
    """What Dagster shows for each partition."""
    definition = dg.DynamicPartitionsDefinition(name="solo/opportunity")
    with environment.dagster() as instance:
        keys = list(instance.get_dynamic_partitions("solo/opportunity"))
        states = instance.get_status_by_partition(OPPORTUNITY, keys, definition) or {}
    return {key: states[key].value if states.get(key) else "none" for key in keys}


def workers(environment: Environment, import_id: str) -> dict[str, tuple[str, str]]:
    """The run that worked each batch last, and when it began."""
    statement = "SELECT partition_key, run_id, started_at FROM wave_batches WHERE import_id = :id"
    rows = environment.query(statement, tenant="solo", id=import_id)
    return {row["partition_key"]: (row["run_id"], row["started_at"]) for row in rows}


def test_the_import_ends_with_failures_and_says_so(
    on_sqlite: Environment, failed: CompletedProcess[str], import_id: str
) -> None:
    assert failed.returncode == 3
    status = on_sqlite.json("status", import_id)
    assert status["state"] == "completed_with_failures"
    (entry,) = status["record_types"]
    assert entry["state"] == "completed_with_failures"
    assert (entry["batches"]["completed"], entry["batches"]["failed"]) == (2, 1)
    assert entry["in_sync"] is False
    assert status["failures"]["api_unavailable"] == ATTEMPTS
    (wave,) = status["waves"]
    assert (wave["completed"], wave["failed"]) == (2, 1)


def test_exactly_the_failed_partition_is_red(on_sqlite: Environment, failed: CompletedProcess[str]) -> None:
    assert partitions(on_sqlite) == {"0": "MATERIALIZED", "1000": "FAILED", "2000": "MATERIALIZED"}
    with on_sqlite.dagster() as instance:
        (run,) = instance.get_runs(dg.RunsFilter(tags={"nsimport/tenant": "solo"}))
    assert run.status is dg.DagsterRunStatus.FAILURE
    story = on_sqlite.story(run.run_id)
    assert "solo: 1 of 3 batches of opportunity failed; first: batch 1000, api_unavailable" in story
    assert f"mend that, then `nsimport retry {run.tags['nsimport/import']}`" in story


def test_errors_names_the_batch_and_the_category(on_sqlite: Environment, import_id: str) -> None:
    groups = on_sqlite.json("errors", import_id)
    assert {group["category"] for group in groups} == {"api_unavailable"}
    assert {group["record_type"] for group in groups} == {"opportunity"}


def test_resume_imports_what_is_missing_and_nothing_else(on_sqlite: Environment, import_id: str) -> None:
    before = workers(on_sqlite, import_id)

    done = on_sqlite.nsimport("resume", import_id, "--wait")

    assert done.returncode == 0, done.stdout + done.stderr
    status = on_sqlite.json("status", import_id)
    assert status["state"] == "completed"
    (entry,) = status["record_types"]
    assert entry["batches"]["completed"] == entry["batches"]["total"] == 3
    assert entry["in_sync"] is True
    assert partitions(on_sqlite) == dict.fromkeys(("0", "1000", "2000"), "MATERIALIZED")
    after = workers(on_sqlite, import_id)
    assert {key for key in after if after[key] != before[key]} == {"1000"}


def test_an_import_that_is_done_has_nothing_to_resume(on_sqlite: Environment, import_id: str) -> None:
    done = on_sqlite.nsimport("resume", import_id)
    assert done.returncode == 0, done.stderr
    assert "0 batches to do" in done.stdout
    assert on_sqlite.wait_for_import(import_id)["state"] == "completed"
