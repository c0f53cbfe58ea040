"""The main job: sales orders with all they depend on, through the real daemon, into MySQL, Dagster's storage there too.

One import, looked at from all sides: every row and value, the status document, Dagster's records, NetSuite's limits.
"""

import json
import re
from collections import defaultdict
from itertools import pairwise
from typing import Any

import dagster as dg
import pytest

from nsimport_pipeline.imports.finish import check_names
from nsimport_pipeline.record_types.criteria import load_catalog
from nsimport_pipeline_tests.acceptance.environment import TENANT, Environment
from nsimport_pipeline_tests.acceptance.reference import differences, expected_rows, stored_value

CATALOG = load_catalog()
LEVELS = {
    "currency": 0,
    "price_level": 0,
    "subsidiary": 1,
    "classification": 2,
    "department": 2,
    "location": 2,
    "employee": 3,
    "customer": 4,
    "opportunity": 5,
    "sales_order": 6,
}
UTC_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")


@pytest.fixture(scope="module")
def import_id(on_mysql: Environment) -> str:
    """The import, done. No daemon runs before: ``--wait`` starts one."""
    done = on_mysql.nsimport("import", "sales_order", "--tenant", TENANT, "--wait", timeout=200)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()[0]


@pytest.fixture(scope="module")
def status(on_mysql: Environment, import_id: str) -> Any:
    return on_mysql.json("status", import_id)


@pytest.mark.timeout(400)
@pytest.mark.parametrize("name", LEVELS)
def test_every_row_and_value_is_that_of_netsuite(on_mysql: Environment, import_id: str, name: str) -> None:
    record_type = CATALOG[name]
    expected = expected_rows(on_mysql.simulator, record_type)
    rows = on_mysql.query(f"SELECT * FROM {record_type.table}")
    found = {
        row["refid"]: {column: stored_value(record_type, column, value) for column, value in row.items()}
        for row in rows
    }

    assert len(rows) == len(found) == on_mysql.simulator.record_types()[name] > 0
    assert differences(expected, found) == []
    for row in rows:
        raw = json.loads(row["raw"])
        assert int(raw["id"]) == row["refid"]
        assert (row["import_id"], row["deleted_at"]) == (import_id, None)
        assert row["imported_at"] is not None


def test_the_comparison_finds_every_kind_of_difference(on_mysql: Environment, import_id: str) -> None:
    expected = expected_rows(on_mysql.simulator, CATALOG["currency"])
    first, second, *_ = sorted(expected)
    spoiled = {refid: dict(row) for refid, row in expected.items()}
    assert differences(expected, spoiled) == []

    spoiled[first]["exchange_rate"] = float(spoiled[first]["exchange_rate"])
    spoiled[10**6] = spoiled.pop(second)

    said = differences(expected, spoiled)
    assert [text.split(":")[0].split(".")[-1].split(" ", 1)[-1] for text in said] == [
        "is missing",
        "is not in NetSuite",
        "exchange_rate",
    ]


def test_the_status_document_has_the_keys_and_states_of_the_contract(status: Any, import_id: str) -> None:
    assert status.keys() == {
        *("import_id", "tenant", "mode", "state", "reason", "created_at", "finished_at", "progress"),
        *("records_per_second", "eta_seconds", "record_types", "waves", "slots", "failures"),
        *("circuit", "performance", "next_steps"),
    }
    assert status["next_steps"] == []
    assert (status["import_id"], status["tenant"], status["mode"]) == (import_id, TENANT, "full")
    assert (status["state"], status["progress"], status["eta_seconds"]) == ("completed", 1.0, 0)
    assert UTC_TIME.fullmatch(status["created_at"])
    assert UTC_TIME.fullmatch(status["finished_at"])
    assert status["records_per_second"] > 0
    assert status["slots"] == {"limit": 5, "in_use": 0, "waiting": 0}
    assert status["failures"] == dict.fromkeys(
        ("timeout", "api_rate_limit", "api_unavailable", "database_schema", "permanent_error", "unknown"), 0
    )


def test_each_record_type_is_complete_and_in_sync(on_mysql: Environment, status: Any) -> None:
    there = on_mysql.simulator.record_types()
    assert {entry["name"]: entry["level"] for entry in status["record_types"]} == LEVELS
    for entry in status["record_types"]:
        count = there[entry["name"]]
        batches = -(-count // 1000)
        checks = entry.pop("checks")
        assert {name: check["passed"] for name, check in checks.items()} == dict.fromkeys(
            check_names(CATALOG[entry["name"]]) if count else (), True
        )
        assert entry == {
            "name": entry["name"],
            "level": LEVELS[entry["name"]],
            "state": "completed",
            "unavailable": None,
            "columns_left_out": [],
            "partial_parents": [],
            "batches": {
                **dict.fromkeys(("pending", "dispatched", "processing", "retrying", "failed", "cancelled"), 0),
                "total": batches,
                "completed": batches,
            },
            "records": {"expected": count, "imported": count, "rejected": 0, "deleted": 0},
            "in_sync": True,
            "sweep": None,
        }


def test_waves_never_mix_levels_nor_exceed_their_size_and_keep_the_order_of_levels(status: Any) -> None:
    waves = status["waves"]
    assert [wave["number"] for wave in waves] == list(range(1, len(waves) + 1))
    assert [wave["level"] for wave in waves] == sorted(wave["level"] for wave in waves)
    assert {wave["level"] for wave in waves} == set(LEVELS.values())
    assert len(waves) > len(set(LEVELS.values()))
    for wave in waves:
        assert wave.keys() == {
            *("number", "level", "state", "batches", "completed", "failed", "retried"),
            *("dispatched_at", "completed_at", "stuck"),
        }
        assert (wave["state"], wave["failed"], wave["retried"]) == ("completed", 0, 0)
        assert 1 <= wave["batches"] == wave["completed"] <= 3
        assert UTC_TIME.fullmatch(wave["dispatched_at"])
        assert wave["dispatched_at"] <= wave["completed_at"]


def test_waves_and_slots_show_the_same_by_themselves(on_mysql: Environment, status: Any, import_id: str) -> None:
    assert on_mysql.json("waves", import_id) == status["waves"]
    slots = on_mysql.json("slots", "--tenant", TENANT)
    assert {key: slots[key] for key in status["slots"]} == status["slots"]
    assert slots["utilisation"] == 0


def test_no_batch_of_a_level_starts_before_the_level_below_is_done(on_mysql: Environment, import_id: str) -> None:
    rows = on_mysql.query(
        "SELECT dependency_level AS level, MIN(started_at) AS first, MAX(finished_at) AS last "
        "FROM wave_batches WHERE import_id = :id GROUP BY dependency_level ORDER BY dependency_level",
        id=import_id,
    )
    assert len(rows) == 7
    for below, above in pairwise(rows):
        assert below["last"] <= above["first"]


def test_netsuite_never_saw_more_requests_than_slots(on_mysql: Environment, status: Any) -> None:
    statistics = on_mysql.simulator.stats(log=False)
    batches = sum(entry["batches"]["total"] for entry in status["record_types"])
    assert 2 <= statistics["max_in_flight"] <= 5
    assert set(statistics["statuses"]) == {"200"}
    assert statistics["kinds"]["suiteql"] >= batches


def test_every_partition_is_green_and_carries_the_same_numbers(on_mysql: Environment, import_id: str) -> None:
    with on_mysql.dagster() as instance:
        for name in LEVELS:
            key = dg.AssetKey([TENANT, name])
            partitions = list(instance.get_dynamic_partitions(f"{TENANT}/{name}"))
            count = on_mysql.simulator.record_types()[name]
            assert partitions == [str(offset) for offset in range(0, count, 1000)]
            assert instance.get_materialized_partitions(key) == set(partitions)

            events = [record.asset_materialization for record in instance.fetch_materializations(key, 1000).records]
            assert len(events) == len(partitions)
            rows = 0
            for event in events:
                assert event is not None
                numbers = {k: value.value for k, value in event.metadata.items()}
                assert numbers.pop("import") == import_id
                assert import_id in str(numbers.pop("runs_of_import"))
                assert all(isinstance(value, int | float) for value in numbers.values()), numbers
                assert numbers.keys() >= {
                    *("dagster/partition_row_count", "rows_read", "rows_upserted", "rows_rejected", "requests"),
                    *("retries", "slot_wait_seconds", "fetch_seconds", "transform_seconds", "write_seconds"),
                    *("netsuite_key_low", "netsuite_key_high"),
                }
                assert numbers.keys() == {k for k in events[0].metadata if "import" not in k}  # type: ignore[union-attr]
                rows += numbers["dagster/partition_row_count"]
            assert rows == count


def test_every_run_carries_the_tags_of_the_contract(on_mysql: Environment, import_id: str) -> None:
    with on_mysql.dagster() as instance:
        records = instance.get_run_records()
        in_use = instance.event_log_storage.get_concurrency_info(f"netsuite_{TENANT}")
    assert (in_use.slot_count, in_use.active_slot_count) == (5, 0)
    done: dict[str, int] = defaultdict(int)
    for record in records:
        run = record.dagster_run
        assert run.status is dg.DagsterRunStatus.SUCCESS, on_mysql.story(run.run_id)
        (key,) = run.asset_selection or ()
        tags = run.tags
        assert (tags["nsimport/tenant"], tags["nsimport/import"]) == (TENANT, import_id)
        assert int(tags["nsimport/level"]) == LEVELS[key.path[1]]
        assert int(tags["nsimport/wave"]) >= 1
        assert tags["nsimport/attempt"] == "1"
        assert tags["nsimport/batches"] == tags["nsimport/done"]
        done[key.path[1]] += int(tags["nsimport/done"])
    assert done == {name: -(-count // 1000) for name, count in _counts(on_mysql).items()}


def test_the_checks_of_each_asset_passed(on_mysql: Environment, import_id: str) -> None:
    keys = [
        dg.AssetCheckKey(dg.AssetKey([TENANT, name]), check) for name in LEVELS for check in check_names(CATALOG[name])
    ]
    with on_mysql.dagster() as instance:
        summaries = instance.event_log_storage.get_asset_check_summary_records(keys)
    for key in keys:
        record = summaries[key].last_check_execution_record
        assert record is not None, key
        assert record.status.value == "SUCCEEDED", key


def test_wait_stopped_the_daemon_it_had_started_and_a_second_one_does_not_rely_on_it(on_mysql: Environment) -> None:
    # The first daemon's last sign of life is seconds old.
    done = on_mysql.nsimport("import", "currency", "--tenant", TENANT, "--wait", timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    again = on_mysql.query("SELECT import_id, COUNT(*) AS n FROM currencies GROUP BY import_id")
    assert again == [{"import_id": done.stdout.splitlines()[0], "n": _counts(on_mysql)["currency"]}]


def test_no_secret_was_said_anywhere(on_mysql: Environment, import_id: str) -> None:
    said = on_mysql.everything_said()
    assert len(said) > 5
    for place, text in said.items():
        for secret in on_mysql.secrets():
            assert secret not in text, f"a secret in {place}"


def _counts(environment: Environment) -> dict[str, int]:
    return {name: count for name, count in environment.simulator.record_types().items() if name in LEVELS}
