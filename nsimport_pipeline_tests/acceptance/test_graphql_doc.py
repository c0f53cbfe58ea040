"""The curl commands of docs/graphql.md, as they stand there, against a real webserver: start, status, cancel."""

import json
import re
import subprocess
from collections.abc import Iterator
from typing import Any

import dagster as dg
import pytest

from nsimport_pipeline_tests.acceptance.environment import PROJECT, TENANT, Environment, wait_until

TEXT = (PROJECT / "docs" / "graphql.md").read_text(encoding="utf-8")
COMMANDS = {
    section.partition("\n")[0]: re.findall(r"```sh\n(curl .*?)```", section, re.DOTALL)
    for section in TEXT.split("\n## ")[1:]
}
ID = "The import's id, or why there is none"


def run(environment: Environment, section: str, position: int = 0, **variables: str) -> Any:
    """Execute one command of the document in a shell; the ``data`` of the answer."""
    command = COMMANDS[section][position]
    for name, value in variables.items():
        command = command.replace(name, value) if not name.isupper() else command
    known = {"DAGSTER": environment.ui, **{name: value for name, value in variables.items() if name.isupper()}}
    done = subprocess.run(["sh", "-c", command], env={**environment.environ, **known}, capture_output=True, timeout=90)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert "errors" not in answer, answer
    return answer["data"]


def launched(environment: Environment, section: str, **variables: str) -> str:
    answer = run(environment, section, **variables)["launchRun"]
    assert answer["__typename"] == "LaunchRunSuccess", answer
    return str(answer["run"]["runId"])


def ended(environment: Environment, run_id: str) -> dict[str, Any]:
    """What the document's question after a run answers once it is over."""

    def over() -> dict[str, Any] | None:
        found: dict[str, Any] = run(environment, ID, RUN=run_id)["runOrError"]
        return found if found["status"] in ("SUCCESS", "FAILURE", "CANCELED") else None

    return wait_until(over, 120, f"run {run_id} to end", every=1)


def tags(found: dict[str, Any]) -> dict[str, str]:
    return {tag["key"]: tag["value"] for tag in found["tags"]}


@pytest.fixture
def slow_after_planning(on_sqlite: Environment) -> Iterator[Environment]:
    yield on_sqlite
    on_sqlite.simulator.set_faults("")


def test_every_section_has_its_command() -> None:
    assert {section: len(commands) for section, commands in COMMANDS.items()} == {
        "Start": 1, ID: 1, "Status": 2, "Cancel": 1, "Resume": 1, "Sweep": 1
    }  # fmt: skip


def test_what_cannot_be_started_is_said_before_or_as_the_first_line(on_sqlite: Environment) -> None:
    refused = launched(on_sqlite, "Start", acme="acne")

    wrong = run(on_sqlite, "Start", full="sideways")["launchRun"]
    assert wrong["__typename"] == "RunConfigValidationInvalid"
    assert "sideways" in wrong["errors"][0]["message"]

    failed = ended(on_sqlite, refused)
    assert failed["status"] == "FAILURE"
    (message,) = [event["error"]["message"] for event in failed["eventConnection"]["events"] if event]
    assert "no import of currency was started for 'acne': unknown tenant 'acne'" in message.splitlines()[0]
    assert "nsimport/steers" not in tags(failed)


@pytest.mark.timeout(600)
def test_an_import_is_started_looked_at_cancelled_and_resumed(slow_after_planning: Environment) -> None:
    environment = slow_after_planning
    started = ended(environment, launched(environment, "Start"))
    environment.simulator.set_faults("slow=8")
    assert started["status"] == "SUCCESS", started
    import_id = tags(started)["nsimport/steers"]
    assert import_id.startswith(f"{TENANT}-")

    cancelling = launched(environment, "Cancel", IMPORT=import_id)
    assert ended(environment, cancelling)["status"] == "SUCCESS"
    environment.simulator.set_faults("")
    assert environment.wait_for_import(import_id)["state"] == "cancelled"

    assert ended(environment, launched(environment, "Resume", IMPORT=import_id))["status"] == "SUCCESS"
    assert environment.wait_for_import(import_id)["state"] == "completed"
    working = run(environment, "Status", 1, IMPORT=import_id)["runsOrError"]["results"]
    assert (tags(working[0])["nsimport/batches"], tags(working[0])["nsimport/done"]) == ("1", "1")

    swept = ended(environment, launched(environment, "Sweep"))
    assert swept["status"] == "SUCCESS", swept

    def observed() -> dict[str, Any] | None:
        (latest,) = run(environment, "Status")["assetNodeOrError"]["assetObservations"] or [{"description": ""}]
        return latest if latest["description"].startswith(f"{import_id}: completed, 100%") else None

    latest = wait_until(observed, 60, "the overview to tell the end", every=1)
    values = {one.pop("label"): next(iter(one.values())) for one in latest["metadataEntries"]}
    assert values["progress_percent"] == 100
    assert "| currency | 12 / 12 | 100% | 0 | completed |" in values["import"]

    with environment.dagster() as instance:
        # What steers passes the queue and its gate, and leaves the tenant's slots alone.
        assert not instance.all_logs(cancelling, of_type=dg.DagsterEventType.PIPELINE_ENQUEUED)
        assert instance.event_log_storage.get_concurrency_info(f"netsuite_{TENANT}").active_slot_count == 0
