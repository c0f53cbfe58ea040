"""Reconciling with a real Dagster instance and real control tables: what is at odds is found and mended, once."""

import multiprocessing
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
import yaml
from dagster._core.remote_origin import GrpcServerCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin
from sqlalchemy import Engine

from nsimport_pipeline.defs import names
from nsimport_pipeline.defs.reconcile import Findings, clear_vanished, reconcile, runs_waiting
from nsimport_pipeline.defs.signs_of_life import no_longer_planned, planning
from nsimport_pipeline.errors import Category
from nsimport_pipeline.imports import store
from nsimport_pipeline.imports.records import BatchStats
from nsimport_pipeline.imports.states import BatchState, ImportState
from nsimport_pipeline.warehouse.engine import make_engine
from nsimport_pipeline.warehouse.migrate import ensure_control_tables
from nsimport_pipeline_tests.integration.imports_world import World, tenant

PARTITIONS = dg.DynamicPartitionsDefinition(name="acme/a")
KEY = names.asset_key("acme", "a")
ALWAYS = timedelta(days=100_000)


@dg.asset(key=KEY, partitions_def=PARTITIONS)
def dies() -> None:
    """As a run that is killed after its batch was committed and before it could say so."""
    raise RuntimeError("killed")


@dg.asset(key=KEY, partitions_def=PARTITIONS)
def reports() -> None:
    """As a run that gets to say so."""


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    coordinator = {"module": "dagster", "class": "QueuedRunCoordinator"}
    with dg.DagsterInstance.local_temp(str(tmp_path), {"run_coordinator": coordinator}) as instance:
        yield instance


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = make_engine(f"sqlite:///{tmp_path}/control.db", pool_size=2)
    ensure_control_tables(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def world(engine: Engine) -> World:
    """An import of two batches."""
    return World(engine, [("a", 0, 2)]).plan()


def settled_by(world: World, key: str, run_id: str, state: BatchState = BatchState.COMPLETED) -> None:
    """The batch of this partition is worked by this run of Dagster's, and comes to this end."""
    with world.engine.begin() as connection:
        (batch,) = store.batches_of(connection, world.id, "a", [key])
        assert store.claim_batch(connection, batch, run_id, world.now)
        (batch,) = store.batches_of(connection, world.id, "a", [key])
        if state is BatchState.COMPLETED:
            assert store.complete_batch(connection, batch, run_id, BatchStats(1000, 997, 3), world.now)
        else:
            category, reason = Category.PERMANENT_ERROR, "refused"
            assert store.fail_batch(connection, batch, to=state, category=category, reason=reason, now=world.now)


def look(instance: dg.DagsterInstance, world: World) -> Findings:
    waiting = runs_waiting(instance).get("acme", ())
    return reconcile(instance, tenant(), world.engine, [world.job], waiting, finished_within=ALWAYS)


def colours(instance: dg.DagsterInstance) -> dict[str, str]:
    keys = list(instance.get_dynamic_partitions("acme/a"))
    found = instance.get_status_by_partition(KEY, keys, PARTITIONS) or {}
    return {key: colour.value if (colour := found.get(key)) else "none" for key in keys}


def test_a_committed_batch_whose_event_was_lost_with_its_run_is_shown_as_materialized(
    instance: dg.DagsterInstance, world: World
) -> None:
    look(instance, world)
    run = dg.materialize([dies], partition_key="0", instance=instance, raise_on_error=False)
    settled_by(world, "0", run.run_id)
    assert colours(instance) == {"0": "FAILED", "1000": "none"}

    found = look(instance, world)

    assert "1 partitions of a shown as materialized: their event was lost with their run" in found.repairs
    assert colours(instance) == {"0": "MATERIALIZED", "1000": "none"}
    event = instance.get_latest_materialization_event(KEY)
    assert event is not None
    assert event.asset_materialization is not None
    metadata = event.asset_materialization.metadata
    assert (metadata["rows_upserted"].value, metadata["import"].value) == (997, world.id)
    assert not [line for line in look(instance, world).repairs if "materialized" in line]


def test_a_batch_that_failed_stays_red_and_one_that_reported_is_left_alone(
    instance: dg.DagsterInstance, world: World
) -> None:
    look(instance, world)
    failed = dg.materialize([dies], partition_key="0", instance=instance, raise_on_error=False)
    settled_by(world, "0", failed.run_id, BatchState.FAILED)
    done = dg.materialize([reports], partition_key="1000", instance=instance)
    settled_by(world, "1000", done.run_id)

    assert not [line for line in look(instance, world).repairs if "materialized" in line]
    assert colours(instance) == {"0": "FAILED", "1000": "MATERIALIZED"}


@pytest.mark.parametrize("state", [BatchState.RETRYING, BatchState.FAILED])
def test_a_partition_that_was_green_is_red_once_its_batch_failed_in_a_later_import(
    instance: dg.DagsterInstance, world: World, state: BatchState
) -> None:
    look(instance, world)
    done = dg.materialize([reports], partition_key="0", instance=instance)
    settled_by(world, "0", done.run_id)
    assert colours(instance)["0"] == "MATERIALIZED"  # and Dagster has it in its cache
    world.cancel()
    look(instance, world)

    later = World(world.engine, [("a", 0, 2)], suffix="0002").plan()
    look(instance, later)
    failed = dg.materialize([dies], partition_key="0", instance=instance, raise_on_error=False)
    settled_by(later, "0", failed.run_id, state)
    # That an import before completed it does not mean that an event was lost.
    assert not [line for line in look(instance, later).repairs if "materialized" in line]
    assert colours(instance)["0"] == "FAILED"


def test_partitions_are_those_that_are_planned(instance: dg.DagsterInstance, world: World) -> None:
    instance.add_dynamic_partitions("acme/a", ["1000", "7000"])

    found = look(instance, world)

    assert set(instance.get_dynamic_partitions("acme/a")) == {"0", "1000"}
    assert "1 partitions of a deleted in Dagster: they are not planned" in found.repairs
    assert "1 partitions of a registered in Dagster" in found.repairs
    assert not look(instance, world).repairs


def test_a_batch_left_processing_by_no_living_run_is_taken_back(instance: dg.DagsterInstance, world: World) -> None:
    look(instance, world)
    world.tick()
    run = world.alive()[0]
    world.begin(run)
    world.claim(run)  # Dagster has never heard of this run

    found = look(instance, world)

    assert [line for line in found.repairs if "1 batches taken back: its run ended before it was finished" in line]
    assert not look(instance, world).repairs


def test_slots_of_an_ended_run_are_freed(instance: dg.DagsterInstance, world: World) -> None:
    storage = instance.event_log_storage
    storage.set_concurrency_slots("netsuite_acme", 2)
    assert storage.claim_concurrency_slot("netsuite_acme", "gone", "slot_1").is_claimed

    assert "1 slots of dead holders freed" in look(instance, world).repairs
    assert storage.get_concurrency_info("netsuite_acme").active_slot_count == 0


def test_a_step_that_got_in_line_as_the_last_slot_was_given_back_is_given_one(
    instance: dg.DagsterInstance, world: World
) -> None:
    storage = instance.event_log_storage
    storage.set_concurrency_slots("netsuite_acme", 2)
    run = instance.add_run(dg.DagsterRun(job_name="j", status=dg.DagsterRunStatus.STARTED)).run_id
    storage.add_pending_step("netsuite_acme", run, "step", should_assign=False)
    assert not storage.claim_concurrency_slot("netsuite_acme", run, "step").is_claimed  # for ever, by itself

    assert "1 steps given a slot that was free" in look(instance, world).repairs
    assert storage.claim_concurrency_slot("netsuite_acme", run, "step").is_claimed
    assert not look(instance, world).repairs


def test_queued_runs_of_a_tenant_that_is_gone_or_an_import_that_is_over_leave_the_queue(
    instance: dg.DagsterInstance, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "tenants.yaml"
    file.write_text(yaml.safe_dump({"tenants": {"acme": {"account": "T1"}}}))
    monkeypatch.setenv("NSIMPORT_TENANTS", str(file))
    runs = {
        "vanished": {names.TENANT: "bygone", names.IMPORT: "bygone-1-1"},
        "over": {names.TENANT: "acme", names.IMPORT: "acme-1-1"},
        "by_hand": {names.TENANT: "acme"},
    }
    location = GrpcServerCodeLocationOrigin(host="localhost", port=1, location_name="nowhere")
    origin = RemoteJobOrigin(RemoteRepositoryOrigin(location, "repository"), "job")
    for run_id, tags in runs.items():
        instance.add_run(
            dg.DagsterRun("job", run_id=run_id, tags=tags, status=dg.DagsterRunStatus.QUEUED, remote_job_origin=origin)
        )

    found = look(instance, world)
    vanished = clear_vanished(instance, runs_waiting(instance))

    queued = instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.QUEUED]))
    assert [run.run_id for run in queued] == ["by_hand"]
    assert "1 runs taken out of the queue: their import is over" in found.repairs
    assert vanished == ["1 runs taken out of the queue: their tenant 'bygone' is not in the tenants file any more"]


def test_an_import_whose_planner_was_killed_is_given_up_at_once_and_one_whose_planner_lives_is_left_alone(
    instance: dg.DagsterInstance, engine: Engine
) -> None:
    world = World(engine, [("a", 0, 2)], at=datetime.now(UTC))
    context = multiprocessing.get_context("fork")
    begun = context.Event()

    def plan() -> None:
        with planning(instance, world.id):
            begun.set()
            time.sleep(600)

    planner = context.Process(target=plan)
    planner.start()
    try:
        assert begun.wait(60)
        assert not look(instance, world).repairs
        assert world.job.state is ImportState.PLANNING
    finally:
        planner.kill()
        planner.join()

    assert [line for line in look(instance, world).repairs if "ask for it again" in line]
    assert world.job.state is ImportState.FAILED
    assert not no_longer_planned(instance)
    World(engine, [("a", 0, 2)], suffix="0002", at=world.now)  # and nothing stands in the way of the next


def test_the_sign_of_an_import_that_was_planned_in_good_order_is_cleared_away(
    instance: dg.DagsterInstance, engine: Engine
) -> None:
    world = World(engine, [("a", 0, 2)], at=datetime.now(UTC))
    with planning(instance, world.id):
        world.plan()
        assert not no_longer_planned(instance)
    assert no_longer_planned(instance) == {world.id}
    look(instance, world)
    assert not no_longer_planned(instance)
    assert world.job.state is ImportState.RUNNING


def test_an_import_without_a_sign_may_be_planned_on_another_machine(
    instance: dg.DagsterInstance, engine: Engine
) -> None:
    world = World(engine, [("a", 0, 2)], at=datetime.now(UTC))
    assert not look(instance, world).repairs
    assert world.job.state is ImportState.PLANNING
