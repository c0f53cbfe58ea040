"""An import that is looked at, cancelled, reset, terminated and resumed again and again ends with every row there.

Requests are slow until it is interfered with, so that there is something in flight; 60 batches are two waves.
"""

import re
import signal
from collections.abc import Iterator
from datetime import datetime, timedelta

import dagster as dg
import pytest

from nsimport_pipeline.defs.run_queue import ALIVE
from nsimport_pipeline_tests.acceptance.environment import Environment, wait_until

TENANT, RECORDS, BATCHES = "steered", 3300, 60
SLOW = "slow=8"
TERMINATE = """
mutation ($run: String!) { terminateRun(runId: $run) { __typename ... on TerminateRunSuccess { run { runId } } } }
"""


@pytest.fixture
def slow(on_sqlite: Environment) -> Iterator[Environment]:
    on_sqlite.simulator.set_faults(SLOW)
    yield on_sqlite
    on_sqlite.simulator.set_faults("")


def batches(environment: Environment, import_id: str) -> list[dict[str, object]]:
    statement = "SELECT status, started_at, attempts, wave_number FROM wave_batches WHERE import_id = :id"
    return environment.query(statement, tenant=TENANT, id=import_id)


def states(environment: Environment, import_id: str) -> set[object]:
    return {batch["status"] for batch in batches(environment, import_id)}


def begun(environment: Environment, import_id: str) -> None:
    """Returns when batches are in flight."""
    wait_until(lambda: "processing" in states(environment, import_id), 180, "batches in flight", every=0.1)


def stopped(environment: Environment, import_id: str) -> None:
    """Waits for the import to be cancelled; then nothing is in flight and the queue is empty."""
    environment.simulator.set_faults("")
    assert environment.wait_for_import(import_id, timeout=180)["state"] == "cancelled"
    assert states(environment, import_id) <= {"completed", "cancelled"}
    runs = dg.RunsFilter(tags={"nsimport/import": import_id}, statuses=ALIVE)
    with environment.dagster() as instance:
        wait_until(lambda: not instance.get_runs(runs), 120, "the runs to be over and the queue to be empty")
    statement = "SELECT COUNT(*) AS n FROM customers"
    written = "SELECT COALESCE(SUM(rows_upserted), 0) AS n FROM wave_batches WHERE import_id = :id"
    (there,), (said,) = (
        environment.query(statement, tenant=TENANT),
        environment.query(written, tenant=TENANT, id=import_id),
    )
    assert there["n"] == said["n"], (
        "rows of batches that were rolled back are there, or those of completed ones are not"
    )


def resumed(environment: Environment, import_id: str) -> None:
    environment.simulator.set_faults(SLOW)
    done = environment.nsimport("resume", import_id)
    assert done.returncode == 0, done.stderr
    assert re.search(r"\d+ batches to do", done.stdout)
    begun(environment, import_id)


@pytest.mark.timeout(900)
def test_whatever_is_done_to_an_import_resume_completes_it(slow: Environment) -> None:
    import_id = slow.start_import("customer", "--no-dependencies", tenant=TENANT)
    wait_until(lambda: "completed" in states(slow, import_id), 180, "the first batches", every=0.1)

    # Looking does no harm.
    with slow.start("watch", import_id) as watching:
        assert watching.stdout is not None
        watching.stdout.readline()
        watching.send_signal(signal.SIGINT)
        _, errors = watching.communicate(timeout=60)
    assert watching.returncode == 130
    assert f"nsimport cancel {import_id}" in errors

    # Asking twice is refused with the id of the first.
    twice = slow.nsimport("import", "customer", "--no-dependencies", "--tenant", TENANT)
    assert (twice.returncode, twice.stdout) == (4, "")
    assert import_id in twice.stderr

    # Cancelled gracefully: what is in flight finishes and counts, nothing new begins, and no attempt is used up.
    assert slow.nsimport("cancel", import_id).returncode == 0
    stopped(slow, import_id)
    statement = "SELECT at FROM job_events WHERE import_id = :id AND event = 'import_cancelling'"
    (event,) = slow.query(statement, tenant=TENANT, id=import_id)
    asked = datetime.fromisoformat(event["at"]) + timedelta(seconds=1)
    started = [datetime.fromisoformat(str(b["started_at"])) for b in batches(slow, import_id) if b["started_at"]]
    assert [moment for moment in started if moment > asked] == []
    assert len(started) < BATCHES
    assert {batch["status"] for batch in batches(slow, import_id) if batch["started_at"]} == {"completed"}
    assert {batch["attempts"] for batch in batches(slow, import_id)} == {0}

    # A wave that is reset goes into a new one, and that begins.
    resumed(slow, import_id)
    (current,) = {batch["wave_number"] for batch in batches(slow, import_id) if batch["status"] == "processing"}
    reset = slow.nsimport("waves", "reset", import_id, str(current))
    assert reset.returncode == 0, reset.stderr
    assert re.search(r"wave \d+: \d+ batches put back to pending, \d+ runs ended", reset.stdout)
    wait_until(
        lambda: any(
            batch["status"] == "processing" and batch["wave_number"] != current for batch in batches(slow, import_id)
        ),
        180,
        "the new wave to begin",
    )
    assert {batch["attempts"] for batch in batches(slow, import_id)} == {0}

    # Cancelled at once: runs are terminated, what is in flight is rolled back.
    assert slow.nsimport("cancel", import_id, "--now").returncode == 0
    stopped(slow, import_id)

    # Terminated as in the UI.
    resumed(slow, import_id)
    with slow.dagster() as instance:
        working = dg.RunsFilter(tags={"nsimport/import": import_id}, statuses=[dg.DagsterRunStatus.STARTED])
        (run,) = instance.get_runs(working)
    assert slow.graphql(TERMINATE, {"run": run.run_id})["terminateRun"]["__typename"] == "TerminateRunSuccess"
    stopped(slow, import_id)

    done = slow.nsimport("resume", import_id, "--wait")
    assert done.returncode == 0, done.stdout + done.stderr
    (entry,) = slow.json("status", import_id)["record_types"]
    assert (entry["in_sync"], entry["batches"]["completed"]) == (True, BATCHES)
    (row,) = slow.query("SELECT COUNT(*) AS n FROM customers WHERE deleted_at IS NULL", tenant=TENANT)
    assert row["n"] == RECORDS
