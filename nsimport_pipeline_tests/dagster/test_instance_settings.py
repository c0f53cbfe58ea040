"""The two files of Dagster's instance settings say the same, but for where Dagster's own storage is."""

from pathlib import Path
from typing import Any

import yaml

PROJECT = Path(__file__).parents[2]


def settings(file: str) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((PROJECT / file).read_text(encoding="utf-8"))
    return document


def test_the_settings_for_mysql_differ_in_the_storage_only() -> None:
    embedded, on_mysql = settings("dagster.yaml"), settings("deploy/mysql/dagster.yaml")
    storage = on_mysql.pop("storage")
    assert on_mysql == embedded
    assert list(storage) == ["mysql"]


def test_the_settings_for_mysql_hold_no_secret_but_name_its_variable() -> None:
    database = settings("deploy/mysql/dagster.yaml")["storage"]["mysql"]["mysql_db"]
    assert database.keys() == {"hostname", "port", "db_name", "username", "password"}
    assert all(list(value) == ["env"] for value in database.values())


def test_the_gate_and_the_slots_are_on_and_dagsters_own_retries_off() -> None:
    document = settings("dagster.yaml")
    assert document["run_coordinator"]["class"] == "WaveRunCoordinator"
    assert document["concurrency"]["pools"] == {"granularity": "op", "default_limit": 1}
    assert document["run_monitoring"]["enabled"] is True
    assert document["run_retries"]["enabled"] is False
