"""``nsimport prune`` over a real database and Dagster's own storage."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
import sqlalchemy as sa
import yaml
from click.testing import CliRunner
from sqlalchemy import Engine

from nsimport_pipeline.commands.pruning import prune
from nsimport_pipeline.imports import store
from nsimport_pipeline.imports.records import ImportJob, KeyRange, TypePlan
from nsimport_pipeline.imports.states import ImportState
from nsimport_pipeline.imports.waves import PlannedWave
from nsimport_pipeline.warehouse.engine import make_engine
from nsimport_pipeline.warehouse.migrate import ensure_control_tables

NOW = datetime.now(UTC)
PROJECT = Path(__file__).parents[2]


@dataclass
class Archive:
    """A tenant's database and Dagster's storage with imports that ended long ago, and one that did not end."""

    engine: Engine
    instance: dg.DagsterInstance

    def add(self, name: str, days_ago: int, *, over: bool = True) -> None:
        ended = NOW - timedelta(days=days_ago)
        job = ImportJob(name, "acme", "full", "import", ImportState.RUNNING, ("currency",), 300, 90, 3, True, ended)
        ranges = (KeyRange("currency", 0, "0", 0, 9, 3),)
        with self.engine.begin() as connection:
            store.insert_job(connection, job)
            store.insert_type_plans(connection, name, [TypePlan("currency", 0, 3, 9)])
            store.insert_waves(connection, name, [PlannedWave(1, 0, ranges)])
            store.pin_ranges(connection, name, {"currency": ranges})
            store.record_event(connection, name, "import_created", ended)
            if over:
                store.move_import(connection, name, ImportState.COMPLETED, ended)
        self.instance.create_run_for_job(_job, tags={"nsimport/import": name, "nsimport/tenant": "acme"})
        self.instance.create_run_for_job(_job, tags={"nsimport/steers": name})

    def imports(self) -> set[str]:
        with self.engine.connect() as connection:
            return set(connection.execute(sa.text("SELECT import_id FROM import_jobs")).scalars())

    def rows_of(self, name: str) -> int:
        tables = ("import_record_types", "wave_coordination", "wave_batches", "job_events")
        with self.engine.connect() as connection:
            counts = [
                connection.execute(sa.text(f"SELECT count(*) FROM {table} WHERE import_id = :i"), {"i": name}).scalar()
                for table in tables
            ]
        return sum(count or 0 for count in counts)


@dg.job
def _job() -> None:
    pass


@pytest.fixture
def archive(tmp_path: Path, warehouse_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Archive]:
    tba = {"method": "tba", **dict.fromkeys(("consumer_key", "consumer_secret", "token_id", "token_secret"), "x")}
    acme = {"account": "1", "auth": tba, "warehouse_url": warehouse_url}
    (tmp_path / "tenants.yaml").write_text(yaml.safe_dump({"tenants": {"acme": acme}}))
    home = tmp_path / "home"
    home.mkdir()
    (home / "dagster.yaml").write_text((PROJECT / "dagster.yaml").read_text())
    monkeypatch.setenv("NSIMPORT_TENANTS", str(tmp_path / "tenants.yaml"))
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    engine = make_engine(warehouse_url, pool_size=2)
    ensure_control_tables(engine)
    with dg.DagsterInstance.from_config(str(home)) as instance:
        archive = Archive(engine, instance)
        archive.add("acme-1-first", 300)
        archive.add("acme-2-second", 200)
        archive.add("acme-3-open", 150, over=False)
        yield archive


def run(*arguments: str) -> dict[str, object]:
    done = CliRunner().invoke(prune, [*arguments, "--json"], standalone_mode=False)
    assert done.exception is None, done.exception
    document: dict[str, object] = json.loads(done.stdout)
    return document


def test_without_yes_it_only_says_what_would_go(archive: Archive) -> None:
    document = run("--older-than", "90d")
    assert (document["imports"], document["runs"], document["deleted"]) == (["acme-1-first"], 2, False)
    assert archive.imports() == {"acme-1-first", "acme-2-second", "acme-3-open"}
    assert archive.instance.get_runs_count() == 6


def test_old_imports_go_with_their_runs_and_the_last_word_and_open_ones_stay(archive: Archive) -> None:
    others = archive.rows_of("acme-2-second")
    document = run("--older-than", "12w", "--yes")
    assert (document["imports"], document["runs"]) == (["acme-1-first"], 2)
    assert archive.imports() == {"acme-2-second", "acme-3-open"}
    assert archive.rows_of("acme-1-first") == 0
    assert archive.rows_of("acme-2-second") == others
    assert {run.tags.get("nsimport/import") or run.tags["nsimport/steers"] for run in archive.instance.get_runs()} == {
        "acme-2-second",
        "acme-3-open",
    }
    with archive.engine.connect() as connection:
        assert [r.partition_key for r in store.pinned_ranges(connection, "currency")] == ["0"]
    assert run("--older-than", "12w", "--yes")["imports"] == []


def test_an_age_that_is_none_is_refused_with_an_example(archive: Archive) -> None:
    done = CliRunner().invoke(prune, ["--older-than", "soon"])
    assert done.exit_code == 2
    assert "90d" in done.output
