"""Thirty waves thrown at the queue in one go, while NetSuite's data changes: one wave at a time, nothing lost.

The old system died of this: several unguarded paths dispatched all waves in the same second. Here the same is done on
purpose, past the wave sensor: every wave is marked as dispatched and every run launched at once through the webserver.
Only the gate stands between them and NetSuite. The daemon is off meanwhile, so that all of them are in the queue when
the gate is asked for the first time.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import dagster as dg
import pytest

from nsimport_pipeline.defs.wave_sensor import run_request
from nsimport_pipeline.imports import store
from nsimport_pipeline.imports.states import WaveState
from nsimport_pipeline.imports.waves import plan_runs
from nsimport_pipeline.warehouse.engine import make_engine
from nsimport_pipeline_tests.acceptance.environment import TENANT, Environment, wait_until
from nsimport_pipeline_tests.acceptance.reference import read_suiteql

WAVES = 30
LAUNCH_ALL = """
mutation ($all: [ExecutionParams!]!) {
  launchMultipleRuns(executionParamsList: $all) {
    __typename
    ... on LaunchMultipleRunsResult { launchMultipleRunsResult { __typename ... on PythonError { message } } }
    ... on PythonError { message }
  }
}"""
INSERTED_MEMO = "inserted while the import ran"
UPDATED_MEMO = "updated while the import ran"


@dataclass
class Story:
    """What was done, and what came of it."""

    import_id: str
    known: set[int]
    """Ids in NetSuite when the import was planned."""
    deleted_early: set[int] = field(default_factory=set)
    deleted_late: set[int] = field(default_factory=set)
    updated_early: set[int] = field(default_factory=set)
    inserted_early: set[int] = field(default_factory=set)
    inserted_past_the_end: set[int] = field(default_factory=set)
    status: dict[str, Any] = field(default_factory=dict)
    batches: list[dict[str, Any]] = field(default_factory=list)
    runs: list[dg.RunRecord] = field(default_factory=list)
    most_in_flight: int = 0


@pytest.fixture(scope="module")
def story(on_sqlite: Environment) -> Story:
    """The import, from plan to end."""
    simulator = on_sqlite.simulator
    simulator.set_faults("")
    on_sqlite.stop_daemon()
    import_id = on_sqlite.start_import("sales_order", "--no-dependencies", "--wave-size", "2")
    simulator.reset_stats()
    planned = on_sqlite.query(
        "SELECT batch_number, low_key, high_key FROM wave_batches WHERE import_id = :id ORDER BY batch_number",
        id=import_id,
    )
    told = Story(import_id, set())
    dispatch_everything(on_sqlite, import_id)
    told.known = {int(row["id"]) for row in _orders(on_sqlite)}
    assert len(told.known) == 3000

    # Before the last twenty batches can be fetched: their rows must come as they are from now on.
    low, end = planned[-20]["low_key"], planned[-1]["high_key"]
    late = sorted(refid for refid in told.known if low < refid <= end)
    told.deleted_early, told.updated_early = set(late[10:400:13]), set(late[11:400:13])
    simulator.delete("transaction", f"id IN ({_list(told.deleted_early)})")
    simulator.sql(f"UPDATE transaction SET memo = '{UPDATED_MEMO}' WHERE id IN ({_list(told.updated_early)})")
    told.inserted_early = set(sorted(set(range(low + 1, end)) - _ids_of_all_transactions(on_sqlite))[:7])
    told.inserted_past_the_end = {10_000_001, 10_000_002}
    _insert(on_sqlite, told.inserted_early | told.inserted_past_the_end, like=late[0])

    on_sqlite.start_daemon()

    # Among batches that are in already.
    wait_until(lambda: _done(on_sqlite, import_id) >= 4, 120, "the first waves", every=0.3)
    first = sorted(refid for refid in told.known if refid <= planned[1]["high_key"])
    told.deleted_late = set(first[5:50:9])
    simulator.delete("transaction", f"id IN ({_list(told.deleted_late)})")

    told.status = on_sqlite.wait_for_import(import_id, timeout=280)
    told.batches = on_sqlite.query(
        "SELECT * FROM wave_batches WHERE import_id = :id ORDER BY wave_number, batch_number", id=import_id
    )
    with on_sqlite.dagster() as instance:
        told.runs = list(instance.get_run_records(dg.RunsFilter(tags={"nsimport/import": import_id}), ascending=True))
    told.most_in_flight = simulator.stats(log=False)["max_in_flight"]
    return told


def dispatch_everything(environment: Environment, import_id: str) -> None:
    """Do to an import what nothing in the project does: dispatch all its waves, and launch all their runs, at once."""
    engine = make_engine(environment.warehouse_url, pool_size=1)
    now = datetime.now(UTC)
    params = []
    with engine.begin() as connection:
        job = store.find_job(connection, import_id)
        assert job is not None
        for wave in store.waves(connection, import_id):
            ranges = [batch.range for batch in store.batches(connection, import_id, wave.number)]
            runs = plan_runs(wave.number, wave.level, ranges, 5)
            store.move_wave(connection, import_id, wave.number, WaveState.DISPATCHING, now)
            store.dispatch_batches(connection, import_id, runs, now)
            params += [_params(run_request(job, run)) for run in runs]
        keys = [batch.range.partition_key for batch in store.batches(connection, import_id)]
    engine.dispose()
    with environment.dagster() as instance:
        instance.add_dynamic_partitions(f"{TENANT}/sales_order", keys)
    assert len(params) == WAVES
    # Last waves first: the order of the queue must not matter.
    answer = environment.graphql(LAUNCH_ALL, {"all": params[::-1]})["launchMultipleRuns"]
    results = answer["launchMultipleRunsResult"]
    assert [result["__typename"] for result in results] == ["LaunchRunSuccess"] * WAVES, results


def _params(request: dg.RunRequest) -> dict[str, Any]:
    return {
        "selector": {
            "repositoryLocationName": "nsimport_pipeline",
            "repositoryName": "__repository__",
            "pipelineName": "__ASSET_JOB",
            "assetSelection": [{"path": list(key.path)} for key in request.asset_selection or ()],
            "assetCheckSelection": None,
        },
        "executionMetadata": {"tags": [{"key": key, "value": value} for key, value in request.tags.items()]},
    }


@pytest.mark.timeout(400)
def test_all_waves_were_in_the_queue_before_the_first_began(story: Story) -> None:
    assert len(story.runs) == WAVES
    first = min(record.start_time or 0.0 for record in story.runs)
    assert max(record.create_timestamp.timestamp() for record in story.runs) < first


def test_at_most_one_wave_was_active_at_any_time(story: Story) -> None:
    waves = _by_wave(story)
    assert len(waves) == WAVES
    for earlier, later in pairwise(waves):
        # Two batches to a wave, so the threshold of 90% leaves no tail.
        assert max(batch["finished_at"] for batch in earlier) <= min(batch["started_at"] for batch in later)


def test_waves_were_active_in_their_order_whatever_the_order_of_the_queue(story: Story) -> None:
    by_creation = [int(record.dagster_run.tags["nsimport/wave"]) for record in story.runs]
    assert by_creation == list(range(WAVES, 0, -1))
    by_start = sorted(story.runs, key=lambda record: record.start_time or 0.0)
    assert [int(record.dagster_run.tags["nsimport/wave"]) for record in by_start] == list(range(1, WAVES + 1))


def test_every_batch_was_worked_once_within_the_slots(story: Story) -> None:
    assert story.status["state"] == "completed"
    assert {batch["status"] for batch in story.batches} == {"completed"}
    assert {batch["attempts"] for batch in story.batches} == {0}
    assert all(record.dagster_run.status is dg.DagsterRunStatus.SUCCESS for record in story.runs)
    assert 1 <= story.most_in_flight <= 5
    assert story.status["failures"]["api_rate_limit"] == 0


def test_what_the_plan_knew_is_there_unless_netsuite_deleted_it(on_sqlite: Environment, story: Story) -> None:
    live = _live(on_sqlite)
    assert story.known - story.deleted_early - story.deleted_late <= live.keys()


def test_nothing_is_doubled_and_nothing_is_there_that_netsuite_never_had(on_sqlite: Environment, story: Story) -> None:
    rows = on_sqlite.query("SELECT refid FROM sales_orders")
    ids = [row["refid"] for row in rows]
    assert len(ids) == len(set(ids))
    assert set(ids) <= story.known | story.inserted_early | story.inserted_past_the_end


def test_rows_changed_before_their_batch_came_arrive_as_changed(on_sqlite: Environment, story: Story) -> None:
    live = _live(on_sqlite)
    assert not story.deleted_early & live.keys()
    assert {live[refid] for refid in story.updated_early} == {UPDATED_MEMO}
    assert {live[refid] for refid in story.inserted_early} == {INSERTED_MEMO}
    # Beyond the upper bound of the plan: the next import's.
    assert not story.inserted_past_the_end & live.keys()


def test_the_final_count_is_honest_about_rows_deleted_after_their_batch(on_sqlite: Environment, story: Story) -> None:
    there = {int(row["id"]) for row in _orders(on_sqlite)} - story.inserted_past_the_end
    (entry,) = story.status["record_types"]
    assert entry["in_sync"] is (len(there) == len(_live(on_sqlite)))
    assert entry["in_sync"] is False


def test_the_next_import_brings_all_of_it_into_line(on_sqlite: Environment, story: Story) -> None:
    done = on_sqlite.nsimport(
        *("import", "sales_order", "--no-dependencies", "--tenant", TENANT, "--wave-size", "300", "--wait")
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (entry,) = on_sqlite.json("status", done.stdout.splitlines()[0])["record_types"]
    assert entry["in_sync"] is True
    assert entry["records"]["deleted"] == len(story.deleted_late)
    assert _live(on_sqlite).keys() == {int(row["id"]) for row in _orders(on_sqlite)}


def test_no_secret_was_said_anywhere(on_sqlite: Environment, story: Story) -> None:
    said = on_sqlite.everything_said()
    assert len(said) > WAVES
    for place, text in said.items():
        for secret in on_sqlite.secrets():
            assert secret not in text, f"a secret in {place}"


def _by_wave(story: Story) -> list[list[dict[str, Any]]]:
    waves: dict[int, list[dict[str, Any]]] = {}
    for batch in story.batches:
        waves.setdefault(batch["wave_number"], []).append(batch)
    return [waves[number] for number in sorted(waves)]


def _live(environment: Environment) -> dict[int, str | None]:
    """Memo by id of the rows that are not marked deleted."""
    rows = environment.query("SELECT refid, memo FROM sales_orders WHERE deleted_at IS NULL")
    return {row["refid"]: row["memo"] for row in rows}


def _done(environment: Environment, import_id: str) -> int:
    (row,) = environment.query(
        "SELECT COUNT(*) AS n FROM wave_batches WHERE import_id = :id AND status = 'completed'", id=import_id
    )
    return int(row["n"])


def _orders(environment: Environment) -> list[dict[str, str]]:
    statement = "SELECT t.id AS id FROM transaction t WHERE t.type = 'SalesOrd' ORDER BY t.id ASC"
    return list(read_suiteql(environment.simulator, statement))


def _ids_of_all_transactions(environment: Environment) -> set[int]:
    statement = "SELECT t.id AS id FROM transaction t ORDER BY t.id ASC"
    return {int(row["id"]) for row in read_suiteql(environment.simulator, statement)}


def _insert(environment: Environment, ids: set[int], *, like: int) -> None:
    values = ", ".join(f"({refid})" for refid in sorted(ids))
    environment.simulator.sql(
        f"INSERT INTO transaction SELECT t.* REPLACE (n.id AS id, '{INSERTED_MEMO}' AS memo) "
        f"FROM transaction t, (VALUES {values}) n(id) WHERE t.id = {like}"
    )


def _list(ids: set[int]) -> str:
    return ", ".join(map(str, sorted(ids)))
