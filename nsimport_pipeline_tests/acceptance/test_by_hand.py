"""What a person does in Dagster's UI: launch partitions, terminate a run, run again what failed. Through its GraphQL.

The tenant's waves hold two batches, so two ranges of two batches launched at once must follow each other.
"""

from collections.abc import Iterator
from typing import Any

import dagster as dg
import pytest

from nsimport_pipeline_tests.acceptance.conftest import Interrupted
from nsimport_pipeline_tests.acceptance.environment import TENANT, Environment, wait_until

LAUNCH = """
mutation ($params: ExecutionParams!) {
  launchRun(executionParams: $params) {
    __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message }
  }
}"""
BACKFILL = """
mutation ($params: LaunchBackfillParams!) {
  launchPartitionBackfill(backfillParams: $params) {
    __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message }
  }
}"""
AGAIN = """
mutation ($params: ReexecutionParams!) {
  launchRunReexecution(reexecutionParams: $params) {
    __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message }
  }
}"""
TERMINATE = """
mutation ($run: String!) {
  terminateRun(runId: $run) { __typename ... on TerminateRunFailure { message } ... on PythonError { message } }
}"""
CUSTOMER = dg.AssetKey([TENANT, "customer"])
PARTITIONS = ["0", "1000", "2000", "3000"]


def launch(environment: Environment, record_type: str, first: str, last: str) -> str:
    """Materialize a range of partitions in one run, as the launchpad does; the run's id."""
    tags = [
        {"key": "dagster/asset_partition_range_start", "value": first},
        {"key": "dagster/asset_partition_range_end", "value": last},
    ]
    return _launch(environment, {"assetSelection": [{"path": [TENANT, record_type]}], "assetCheckSelection": []}, tags)


def launch_checks(environment: Environment, record_type: str, *checks: str) -> str:
    """Execute some checks and nothing else; the run's id."""
    selected = [{"assetKey": {"path": [TENANT, record_type]}, "name": name} for name in checks]
    return _launch(environment, {"assetSelection": [], "assetCheckSelection": selected}, [])


def _launch(environment: Environment, selection: dict[str, Any], tags: list[dict[str, str]]) -> str:
    params = {
        "selector": {
            "repositoryLocationName": "nsimport_pipeline",
            "repositoryName": "__repository__",
            "pipelineName": "__ASSET_JOB",
            **selection,
        },
        "executionMetadata": {"tags": tags},
    }
    answer = environment.graphql(LAUNCH, {"params": params})["launchRun"]
    assert answer["__typename"] == "LaunchRunSuccess", answer
    return str(answer["run"]["runId"])


def ended(environment: Environment, run_id: str, seconds: float = 90) -> dg.DagsterRun:
    """The run, once it is over."""

    def over() -> dg.DagsterRun | None:
        run = instance.get_run_by_id(run_id)
        return run if run is not None and run.is_finished else None

    with environment.dagster() as instance:
        return wait_until(over, seconds, f"run {run_id} to end", every=0.3)


def materialized_by(environment: Environment, run_id: str) -> list[str]:
    """The partitions that a run marked as materialized."""
    with environment.dagster() as instance:
        logs = instance.all_logs(run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION)
    return sorted(str(entry.get_dagster_event().partition) for entry in logs)


def batches(environment: Environment, run: dg.DagsterRun) -> list[dict[str, Any]]:
    return environment.query(
        "SELECT partition_key, low_key, high_key, status, run_id, started_at, finished_at FROM wave_batches "
        "WHERE import_id = :id ORDER BY batch_number",
        id=run.tags["nsimport/import"],
    )


@pytest.fixture(autouse=True)
def no_faults(on_sqlite: Environment) -> Iterator[None]:
    yield
    on_sqlite.simulator.set_faults("")


@pytest.fixture(scope="module")
def backfill_id(on_sqlite: Environment, customers: Interrupted) -> str:
    """A backfill of two partitions, asked for early: its daemon takes half a minute to notice."""
    params = {
        "assetSelection": [{"path": [TENANT, "customer"]}],
        "partitionNames": ["0", "3000"],
        "tags": [],
    }
    answer = on_sqlite.graphql(BACKFILL, {"params": params})["launchPartitionBackfill"]
    assert answer["__typename"] == "LaunchBackfillSuccess", answer
    return str(answer["backfillId"])


def test_two_ranges_launched_at_once_follow_each_other_and_mark_exactly_their_partitions(
    on_sqlite: Environment, customers: Interrupted, backfill_id: str
) -> None:
    on_sqlite.simulator.reset_stats()
    pinned = {
        row["partition_key"]: (row["low_key"], row["high_key"])
        for row in on_sqlite.query("SELECT * FROM partition_ranges WHERE record_type = 'customer'")
    }

    ids = [launch(on_sqlite, "customer", "0", "1000"), launch(on_sqlite, "customer", "2000", "3000")]
    runs = [ended(on_sqlite, run_id) for run_id in ids]

    for run, keys in zip(runs, (PARTITIONS[:2], PARTITIONS[2:]), strict=True):
        assert run.status is dg.DagsterRunStatus.SUCCESS, on_sqlite.story(run.run_id)
        assert materialized_by(on_sqlite, run.run_id) == keys
        assert run.tags["nsimport/tenant"] == TENANT
        assert (run.tags["nsimport/batches"], run.tags["nsimport/done"]) == ("2", "2")
        worked = batches(on_sqlite, run)
        assert {row["partition_key"]: (row["low_key"], row["high_key"]) for row in worked} == {
            key: pinned[key] for key in keys
        }
        assert {(row["status"], row["run_id"]) for row in worked} == {("completed", run.run_id)}
    first, second = (batches(on_sqlite, run) for run in runs)
    assert max(row["finished_at"] for row in first) <= min(row["started_at"] for row in second)
    statistics = on_sqlite.simulator.stats(log=False)
    assert statistics["max_in_flight"] <= 5
    assert set(statistics["statuses"]) == {"200"}


def test_a_partition_that_is_not_planned_is_refused_with_what_to_do(
    on_sqlite: Environment, customers: Interrupted
) -> None:
    with on_sqlite.dagster() as instance:
        instance.add_dynamic_partitions(f"{TENANT}/vendor", ["0"])

    run = ended(on_sqlite, launch(on_sqlite, "vendor", "0", "0"))

    assert run.status is dg.DagsterRunStatus.FAILURE
    assert "run `nsimport import vendor --tenant acme` first" in on_sqlite.story(run.run_id)
    with on_sqlite.dagster() as instance:
        instance.delete_dynamic_partition(f"{TENANT}/vendor", "0")


def test_checks_can_be_executed_by_themselves(on_sqlite: Environment, customers: Interrupted) -> None:
    run = ended(on_sqlite, launch_checks(on_sqlite, "customer", "complete", "unique_key"))

    assert run.status is dg.DagsterRunStatus.SUCCESS, on_sqlite.story(run.run_id)
    with on_sqlite.dagster() as instance:
        logs = instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION)
    taken = [entry.get_dagster_event().asset_check_evaluation_data for entry in logs]
    assert {(one.check_name, one.passed) for one in taken} == {("complete", True), ("unique_key", True)}
    assert materialized_by(on_sqlite, run.run_id) == []

    never = ended(on_sqlite, launch_checks(on_sqlite, "vendor", "unique_key"))
    assert never.status is dg.DagsterRunStatus.FAILURE
    assert "there is nothing to check yet: import it first" in on_sqlite.story(never.run_id)


def test_terminating_a_run_cancels_its_import_and_gives_its_slots_back(
    on_sqlite: Environment, customers: Interrupted
) -> None:
    import_id = _import_started_while_slow(on_sqlite)

    def working() -> str | None:
        rows = on_sqlite.query(
            "SELECT run_id FROM wave_batches WHERE import_id = :id AND status = 'processing'", id=import_id
        )
        return rows[0]["run_id"] if rows else None

    run_id = wait_until(working, 60, "a batch to be worked on", every=0.3)
    answer = on_sqlite.graphql(TERMINATE, {"run": run_id})["terminateRun"]
    assert answer["__typename"] == "TerminateRunSuccess", answer

    status = on_sqlite.wait_for_import(import_id)
    assert status["state"] == "cancelled"
    counted = status["record_types"][0]["batches"]
    assert counted["cancelled"] == counted["total"] - counted["completed"] > 0
    assert ended(on_sqlite, run_id).status is dg.DagsterRunStatus.CANCELED
    with on_sqlite.dagster() as instance:
        pool = f"netsuite_{TENANT}"
        wait_until(
            lambda: instance.event_log_storage.get_concurrency_info(pool).active_slot_count == 0,
            30,
            "the slots of the terminated run to be free",
        )


def _import_started_while_slow(environment: Environment) -> str:
    """An import whose planning was quick and whose batches will be slow."""
    import_id = environment.start_import("opportunity", "--no-dependencies")
    environment.simulator.set_faults("slow=8")
    return import_id


def test_a_backfill_does_the_same_work_under_the_same_limits(
    on_sqlite: Environment, customers: Interrupted, backfill_id: str
) -> None:
    with on_sqlite.dagster() as instance:
        runs = wait_until(
            lambda: instance.get_runs(dg.RunsFilter(tags={"dagster/backfill": backfill_id})),
            90,
            "the backfill daemon to launch its runs",
            every=0.5,
        )
        wait_until(
            lambda: str(instance.get_backfill(backfill_id).status.value).startswith("COMPLETED"),  # type: ignore[union-attr]
            90,
            "the backfill to be over",
            every=0.5,
        )
        runs = list(instance.get_runs(dg.RunsFilter(tags={"dagster/backfill": backfill_id})))
    for run in runs:
        assert run.status is dg.DagsterRunStatus.SUCCESS, on_sqlite.story(run.run_id)
        assert run.tags["nsimport/gate"] == "open"
        assert run.tags["nsimport/batches"] == run.tags["nsimport/done"]
    assert sorted(key for run in runs for key in materialized_by(on_sqlite, run.run_id)) == ["0", "3000"]


def test_a_failed_run_can_be_run_again(on_sqlite: Environment, customers: Interrupted) -> None:
    # After the backfill: its runs are launched when its daemon finds time, and would fail too.
    on_sqlite.simulator.set_faults("denied:customer")
    failed = ended(on_sqlite, launch(on_sqlite, "customer", "1000", "1000"))
    on_sqlite.simulator.set_faults("")
    assert failed.status is dg.DagsterRunStatus.FAILURE
    assert materialized_by(on_sqlite, failed.run_id) == []
    assert [row["status"] for row in batches(on_sqlite, failed)] == ["failed"]

    params = {"parentRunId": failed.run_id, "strategy": "ALL_STEPS"}
    answer = on_sqlite.graphql(AGAIN, {"params": params})["launchRunReexecution"]
    assert answer["__typename"] == "LaunchRunSuccess", answer
    again = ended(on_sqlite, answer["run"]["runId"])

    assert again.status is dg.DagsterRunStatus.SUCCESS, on_sqlite.story(again.run_id)
    assert materialized_by(on_sqlite, again.run_id) == ["1000"]
    assert (again.tags["nsimport/batches"], again.tags["nsimport/done"]) == ("1", "1")
    with on_sqlite.dagster() as instance:
        assert instance.get_materialized_partitions(CUSTOMER) == set(PARTITIONS)
