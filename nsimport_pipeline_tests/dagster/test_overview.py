"""The overview is observed when there is news, and the jobs that steer do what they say, with real control tables."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import dagster as dg
import pytest
import yaml
from sqlalchemy import Engine

from nsimport_pipeline.defs.each_tenant import Look
from nsimport_pipeline.defs.names import STEERS
from nsimport_pipeline.defs.overview import look
from nsimport_pipeline.defs.steering_jobs import steering_jobs
from nsimport_pipeline.warehouse.engine import make_engine
from nsimport_pipeline.warehouse.migrate import ensure_control_tables
from nsimport_pipeline_tests.integration.imports_world import START, World

JOBS = {job.name: job for job in steering_jobs()}


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        yield instance


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """An import of two batches in the database of the only tenant."""
    url = f"sqlite:///{tmp_path}/acme.db"
    auth = {"method": "tba", **dict.fromkeys(("consumer_key", "consumer_secret", "token_id", "token_secret"), "x")}
    (tmp_path / "tenants.yaml").write_text(
        yaml.safe_dump({"tenants": {"acme": {"account": "TSTDRV1", "auth": auth, "warehouse_url": url}}})
    )
    monkeypatch.setenv("NSIMPORT_TENANTS", str(tmp_path / "tenants.yaml"))
    engine: Engine = make_engine(url, pool_size=2)
    ensure_control_tables(engine)
    yield World(engine, [("currency", 0, 2)]).plan()
    engine.dispose()


def observation(found: Look) -> dg.AssetObservation:
    (event,) = found.events
    return event


def execute(instance: dg.DagsterInstance, job: str, **config: object) -> dg.ExecuteInProcessResult:
    run_config = {"ops": {job.partition("_")[0]: {"config": config}}}
    return JOBS[job].execute_in_process(run_config=run_config, instance=instance, raise_on_error=False)


def failure(result: dg.ExecuteInProcessResult) -> str:
    (event,) = (event for event in result.all_events if event.event_type_value == "STEP_FAILURE")
    error = event.step_failure_data.error
    assert error is not None
    return error.message.splitlines()[0]


def test_an_import_is_observed_as_long_as_there_is_news_and_to_its_end(
    instance: dg.DagsterInstance, world: World
) -> None:
    first = look(instance, "acme", None, START)
    told = observation(first)
    assert told.asset_key == dg.AssetKey(["acme", "overview"])
    assert world.id in str(told.description)
    assert "| currency | 0 / 2,000 | 0% | 0 | pending |" in str(told.metadata["import"].value)
    assert f"nsimport/import%3D{world.id}" in str(told.metadata["import"].value)
    assert told.metadata["progress_percent"].value == 0

    # Nothing happens: it says so and keeps quiet.
    quiet = look(instance, "acme", first.cursor, START + timedelta(seconds=10))
    assert not quiet.events
    assert f"nothing has changed since 12:00:00 UTC: {world.id}" in quiet.said[0]

    execute(instance, "cancel_import", import_id=world.id)
    ended = look(instance, "acme", first.cursor, START + timedelta(seconds=20))
    assert "cancelled" in str(observation(ended).description)


def test_without_imports_there_is_nothing_to_say(instance: dg.DagsterInstance, world: World) -> None:
    long_after = START + timedelta(days=4000)
    execute(instance, "cancel_import", import_id=world.id)
    assert look(instance, "acme", None, long_after) == Look()


def test_cancel_and_resume_tag_their_runs_with_the_import_and_say_what_they_did(
    instance: dg.DagsterInstance, world: World
) -> None:
    cancelled = execute(instance, "cancel_import", import_id=world.id)
    assert cancelled.success
    assert world.job.state.value == "cancelled"
    run = instance.get_run_by_id(cancelled.run_id)
    assert run is not None
    assert run.tags[STEERS] == world.id

    again = execute(instance, "cancel_import", import_id=world.id)
    assert said(again) == "it is over already: cancelled"

    resumed = execute(instance, "resume_import", import_id=world.id)
    assert said(resumed) == "2 batches to do"
    assert world.job.state.value == "running"
    assert failure(execute(instance, "resume_import", import_id=world.id)).endswith(
        f"{world.id} was not resumed: {world.id} is not over: wait for it, or cancel it first"
    )


def said(result: dg.ExecuteInProcessResult) -> object:
    assert result.success
    (output,) = (event for event in result.all_events if event.event_type_value == "STEP_OUTPUT")
    return output.step_output_data.metadata["said"].value


def test_an_import_that_is_not_there_is_said_on_the_first_line(instance: dg.DagsterInstance, world: World) -> None:
    text = failure(execute(instance, "cancel_import", import_id="acme-20200101000000-0000"))
    assert "acme-20200101000000-0000 was not cancelled: no import 'acme-20200101000000-0000'" in text


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"record_types": []}, "no record type is named"),
        ({"record_types": ["curency"]}, "did you mean currency"),
        ({"record_types": ["currency"], "wave_size": 0}, "a wave of 0 batches cannot be: give 1 to 10,000"),
        ({"record_types": ["currency"], "tenant": "acne"}, "unknown tenant 'acne'"),
        ({"record_types": ["currency"]}, "currency is already being imported for tenant 'acme' by"),
    ],
)
def test_what_cannot_be_started_is_said_on_the_first_line(
    instance: dg.DagsterInstance, world: World, config: dict[str, object], says: str
) -> None:
    text = failure(execute(instance, "start_import", **({"tenant": "acme"} | config)))
    assert "no import of " in text
    assert says in text


def test_reconciling_shows_what_was_compared(instance: dg.DagsterInstance, world: World) -> None:
    result = execute(instance, "reconcile_imports", tenant="acme")
    assert result.success
    (output,) = (event for event in result.all_events if event.event_type_value == "STEP_OUTPUT")
    metadata = output.step_output_data.metadata
    assert "acme: compared 1 imports" in str(metadata["report"].value)
    (report,) = metadata["reconciled"].value  # type: ignore[union-attr]
    assert list(report["imports"]) == [world.id]
