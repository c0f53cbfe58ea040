"""What is to be typed next, by what the status document says; and the runbook, which has an entry for each cause."""

import re
from pathlib import Path
from typing import Any

import pytest

from nsimport_pipeline.commands.showing import full_disks
from nsimport_pipeline.imports.explain import Cause
from nsimport_pipeline.imports.next_steps import FailedBatches, Step, in_words, of_import, of_surroundings

RUNBOOK = (Path(__file__).parents[3] / "docs" / "runbook.md").read_text(encoding="utf-8")
ID = "acme-20260301120000-0001"
OUTAGE = {"state": "open", "failed_probes": 1}


def kind(name: str = "customer", *, batches: int = 1, rejected: int = 0, **more: Any) -> dict[str, Any]:
    entry = {
        "name": name,
        "state": "completed",
        "unavailable": None,
        "columns_left_out": [],
        "partial_parents": [],
        "in_sync": True,
        "batches": {"total": batches, "failed": 0},
        "records": {"rejected": rejected},
        "sweep": None,
    }
    return entry | more


def document(state: str, *types: dict[str, Any], **more: Any) -> dict[str, Any]:
    circuit = {"state": "closed", "failed_probes": 0}
    return {
        "import_id": ID, "tenant": "acme", "mode": "full", "state": state,
        "record_types": list(types), "waves": [], "circuit": circuit,
    } | more  # fmt: skip


def steps(said: dict[str, Any], *failed: FailedBatches) -> dict[Cause, str | None]:
    is_open = said["state"] in ("planning", "pending", "running", "cancelling")
    found = of_import(said, ["customer"], failed, is_open=is_open)
    assert all(step.cause in step.says for step in found)
    assert len({step.cause for step in found}) == len(found)
    return {step.cause: step.command for step in found}


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (document("completed", kind()), {}),
        (document("running", kind()), {}),
        (document("running", kind(), circuit=OUTAGE), {Cause.NETSUITE_DOWN: f"nsimport reconcile {ID}"}),
        # Whether it is NetSuite, only a probe tells.
        (document("running", kind(), circuit=OUTAGE | {"failed_probes": 0}), {}),
        (document("completed", kind(), circuit=OUTAGE), {}),
        (
            document("running", kind(), waves=[{"number": 3, "stuck": True}, {"number": 4, "stuck": False}]),
            {Cause.STUCK: f"nsimport waves reset {ID} 3"},
        ),
        (
            document("failed", kind(batches=0)),
            {Cause.NOT_PLANNED: "nsimport import customer --tenant acme --no-dependencies"},
        ),
        (
            document("failed", kind(batches=0), kind("currency", batches=0)),
            {Cause.NOT_PLANNED: "nsimport import customer --tenant acme"},
        ),
        (
            document("failed", kind(batches=0), mode="incremental"),
            {Cause.NOT_PLANNED: "nsimport import customer --tenant acme --no-dependencies --mode incremental"},
        ),
        (document("failed", kind()), {Cause.STOPPED: f"nsimport resume {ID}"}),
        (document("cancelled", kind()), {Cause.CANCELLED: f"nsimport resume {ID}"}),
        (
            document("completed_with_failures", kind(), kind("transaction_line", state="failed", batches=0)),
            {Cause.NOT_PLANNED: f"nsimport retry {ID}"},
        ),
        (document("completed_with_failures", kind(state="cancelled")), {Cause.CANCELLED: f"nsimport resume {ID}"}),
        (
            document("completed_with_failures", kind(in_sync=False)),
            {Cause.OUT_OF_SYNC: "nsimport import customer --tenant acme --no-dependencies --mode full"},
        ),
        (document("running", kind(in_sync=False)), {}),
        (document("completed", kind(rejected=3)), {Cause.REJECTED_ROWS: f"nsimport retry {ID} --rejected"}),
        (document("running", kind(rejected=3)), {}),
        (
            document("completed", kind(state="unavailable", unavailable="off")),
            {Cause.FEATURE_OFF: "nsimport import customer --tenant acme --no-dependencies"},
        ),
        (
            document("completed_with_failures", kind(state="denied", unavailable="no right")),
            {Cause.DENIED: "nsimport import customer --tenant acme --no-dependencies"},
        ),
        (
            document("running", kind(columns_left_out=["email"])),
            {Cause.COLUMNS_LEFT_OUT: "nsimport record-types customer --tenant acme --probe"},
        ),
        (document("running", kind(partial_parents=["currency"])), {Cause.PARTIAL_PARENTS: None}),
        (document("completed", kind(sweep={"missing": 0})), {}),
        (document("running", kind(sweep={"missing": 3})), {}),
        (
            document("completed", kind(sweep={"missing": 3})),
            {Cause.MISSING: "nsimport import customer --tenant acme --mode incremental"},
        ),
        (
            document("completed", kind("currency", rejected=1), kind(partial_parents=["currency"])),
            {
                Cause.REJECTED_ROWS: f"nsimport retry {ID} --rejected",
                Cause.PARTIAL_PARENTS: f"nsimport retry {ID} --rejected",
            },
        ),
    ],
)
def test_each_thing_that_is_wrong_has_its_command(said: dict[str, Any], expected: dict[Cause, str | None]) -> None:
    assert steps(said) == expected


def test_failed_batches_are_told_with_their_reason_and_come_before_what_is_built_on_them() -> None:
    said = document("completed_with_failures", kind("currency", rejected=2), kind(partial_parents=["currency"]))
    retry = f"nsimport retry {ID}"
    full = FailedBatches("currency", 2, "the database has no disk space left")
    expected = {Cause.FAILED_BATCHES: retry, Cause.REJECTED_ROWS: f"{retry} --rejected", Cause.PARTIAL_PARENTS: retry}
    assert steps(said, full) == expected
    (first, *_) = of_import(said, ["customer"], [full], is_open=False)
    assert in_words(first.document()).startswith("currency: 2 batches failed (the database has no disk space left)")
    assert in_words(first.document()).endswith(f": `{retry}`")


def test_what_is_wrong_around_imports() -> None:
    assert of_surroundings("acme") == []
    found = of_surroundings(
        "acme", waiting=True, full_disks=["/home"], leaked_slots=2, switched_off="the flag is off", by_flag=True
    )
    assert {step.cause: step.command for step in found} == {
        Cause.NO_DAEMON: "nsimport up",
        Cause.DISK_FULL: "nsimport reconcile --tenant acme",
        Cause.SLOTS_LEAKED: "nsimport slots --tenant acme --reset",
        Cause.SWITCHED_OFF: "nsimport flags --tenant acme --on",
    }
    assert all(step.cause in step.says for step in found)
    (by_file,) = of_surroundings("acme", switched_off="enabled: false in the tenants file")
    assert by_file.command is None


def test_a_step_without_a_command_is_told_all_the_same() -> None:
    assert in_words(Step(Cause.PARTIAL_PARENTS, "built on partial data", None).document()) == "built on partial data"


def test_a_disk_is_full_that_has_less_left_than_is_needed(tmp_path: Path) -> None:
    database = tmp_path / "acme.db"
    database.touch()
    places = [tmp_path, database, tmp_path / "not made yet"]
    assert full_disks(places, least_bytes=10**18) == [str(tmp_path), str(database)]
    assert full_disks(places, least_bytes=0) == []


def test_the_runbook_has_an_entry_for_each_cause_and_for_nothing_else() -> None:
    assert sorted(re.findall(r"^### (.+)$", RUNBOOK, re.MULTILINE)) == sorted(cause.value for cause in Cause)
