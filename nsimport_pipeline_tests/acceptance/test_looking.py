"""Commands that only look: record types, graph, plan. No daemon, and `plan` writes nothing."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nsimport_pipeline.record_types.criteria import load_catalog
from nsimport_pipeline_tests.acceptance.environment import TENANT, Environment


@pytest.fixture(scope="module")
def idle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Environment]:
    """An installation where nothing runs but the simulator."""
    directory = tmp_path_factory.mktemp("idle") / "installation"
    rows = {"*": 4, "customer": 2500}
    with Environment(directory, f"sqlite:///{directory}/acme.db", rows, auth="oauth2_ec") as environment:
        yield environment


def test_record_types_lists_each_with_its_level_table_and_key(idle: Environment) -> None:
    documents = idle.json("record-types")
    assert {document["name"] for document in documents} == set(load_catalog())
    assert [document["level"] for document in documents] == sorted(document["level"] for document in documents)
    for document in documents:
        assert document.keys() >= {"name", "level", "family", "table", "key", "dependencies", "derived_from", "fields"}


def test_one_record_type_is_shown_with_its_columns(idle: Environment) -> None:
    document = idle.json("record-types", "customer")
    assert (document["name"], document["table"], document["key"]) == ("customer", "customers", "id")
    assert {"name": "credit_limit", "type": "money"}.items() <= next(
        field for field in document["fields"] if field["name"] == "credit_limit"
    ).items()
    assert "credit_limit" in idle.nsimport("record-types", "customer").stdout


def test_graph_shows_the_levels_of_the_closure(idle: Environment) -> None:
    document = idle.json("graph", "sales_order")
    levels = {name: group["level"] for group in document["levels"] for name in group["record_types"]}
    assert levels["sales_order"] == max(levels.values())
    catalog = load_catalog()
    assert {tuple(edge) for edge in document["edges"]} == {
        (upstream, name) for name in levels for upstream in catalog[name].upstream
    }
    assert all(levels[upstream] < levels[name] for upstream, name in document["edges"])


def test_graph_draws_itself_in_mermaid(idle: Environment) -> None:
    lines = idle.nsimport("graph", "customer", "--mermaid").stdout.splitlines()
    assert lines[0].startswith("flowchart")
    assert "  currency --> customer" in lines


@pytest.fixture(scope="module")
def plan(idle: Environment) -> Any:
    idle.simulator.reset_stats()
    return idle.json("plan", "customer", "--tenant", TENANT, "--wave-size", "2")


def test_plan_counts_records_partitions_waves_and_requests(plan: Any) -> None:
    assert plan["tenant"] == TENANT
    by_name = {entry["name"]: entry for entry in plan["record_types"]}
    assert (by_name["customer"]["records"], by_name["customer"]["partitions"]) == (2500, 3)
    assert plan["partitions"] == sum(entry["partitions"] for entry in plan["record_types"])
    assert plan["records"] == sum(entry["records"] for entry in plan["record_types"])
    assert sum(wave["batches"] for wave in plan["waves"]) == plan["partitions"]
    assert max(wave["batches"] for wave in plan["waves"]) <= 2
    assert plan["requests"] >= plan["partitions"]
    assert plan["estimated_seconds"] > 0


def test_planning_asks_as_little_as_it_says(idle: Environment, plan: Any) -> None:
    statistics = idle.simulator.stats(log=False)
    assert statistics["kinds"]["suiteql"] == plan["planning_requests"]
    assert plan["planning_requests"] == len(plan["record_types"]) + 1


def test_plan_writes_nothing(idle: Environment, plan: Any) -> None:
    assert not Path(idle.warehouse_url.removeprefix("sqlite:///")).exists()
    with idle.dagster() as instance:
        assert instance.get_runs_count() == 0
        assert list(instance.get_dynamic_partitions(f"{TENANT}/customer")) == []


def test_every_command_has_help(idle: Environment) -> None:
    listed = idle.nsimport("--help").stdout
    for command in ("up", "simulate", "record-types", "graph", "plan", "import", "status", "watch", "waves", "slots"):
        assert command in listed
    assert "--wait" in idle.nsimport("import", "--help").stdout
