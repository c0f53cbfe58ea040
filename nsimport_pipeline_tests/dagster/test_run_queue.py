"""The gate's view of Dagster's runs: what was remembered is what is true, and places are counted over all tenants."""

from collections.abc import Iterator

import dagster as dg
import pytest
from dagster._core.remote_origin import GrpcServerCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin

from nsimport_pipeline.defs import names
from nsimport_pipeline.defs.run_coordinator import open_gate
from nsimport_pipeline.defs.run_queue import RunQueue

LOCATION = GrpcServerCodeLocationOrigin(host="localhost", port=1, location_name="nowhere")
ORIGIN = RemoteJobOrigin(RemoteRepositoryOrigin(LOCATION, "repository"), "j")


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.local_temp(str(tmp_path_factory.mktemp("home"))) as instance:
        yield instance


@pytest.fixture
def instance(storage: dg.DagsterInstance) -> dg.DagsterInstance:
    for run in storage.get_runs():
        storage.delete_run(run.run_id)
    return storage


def queued(instance: dg.DagsterInstance, tenant: str, **tags: str) -> str:
    """A run as the coordinator queues it."""
    own = {names.TENANT: tenant, names.IMPORT: f"{tenant}-1-1", names.GATE: names.SHUT, names.BATCHES: "2"}
    more = {f"nsimport/{key}": value for key, value in tags.items()}
    queued = dg.DagsterRunStatus.QUEUED
    return instance.add_run(dg.DagsterRun("j", tags=own | more, status=queued, remote_job_origin=ORIGIN)).run_id


def begin(instance: dg.DagsterInstance, run_id: str) -> None:
    for kind in (dg.DagsterEventType.PIPELINE_STARTING, dg.DagsterEventType.PIPELINE_START):
        run = instance.get_run_by_id(run_id)
        assert run is not None
        instance.report_dagster_event(dg.DagsterEvent(kind.value, "j", message=""), run_id)


def end(instance: dg.DagsterInstance, run_id: str) -> None:
    run = instance.get_run_by_id(run_id)
    assert run is not None
    instance.report_run_failed(run)


def test_what_was_remembered_is_what_is_true(instance: dg.DagsterInstance) -> None:
    queue = RunQueue(instance)

    def seen() -> dict[str, str]:
        runs = queue.runs()
        assert runs == RunQueue(instance).runs()
        return {run.run_id: f"{run.phase} {run.done} {run.hold}" for run in runs}

    first, second, third = (queued(instance, "acme") for _ in range(3))
    by_hand = queued(instance, "acme", **{"import": ""})
    assert list(seen()) == [first, second, third, by_hand]
    assert open_gate(instance, queue, 1) == [first]
    assert seen()[first] == "open 0 wave"
    begin(instance, first)
    instance.add_run_tags(first, {names.DONE: "1"})
    assert seen()[first] == "open 1 wave"
    end(instance, first)  # with a batch to do: it holds others back, until the sensor says otherwise
    assert seen()[first] == "ended 1 wave"
    instance.add_run_tags(first, {names.HOLD: "none"})
    assert seen()[first] == "ended 1 none"
    end(instance, second)  # in the queue
    assert (seen()[second], seen()[first]) == ("ended 0 wave", "ended 1 none")
    end(instance, third)
    assert list(seen()) == [by_hand]  # nobody waits any more whom the others could hold back


def test_only_what_may_have_changed_is_read(instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch) -> None:
    queue, read = RunQueue(instance), 0
    for _ in range(20):
        queued(instance, "acme")
    over = queued(instance, "acme", done="2")
    end(instance, over)
    queue.runs()
    found = instance.run_storage.get_run_records

    def counting(*arguments: object, **options: object) -> object:
        nonlocal read
        records = found(*arguments, **options)  # type: ignore[arg-type]
        read += len(records)
        return records

    monkeypatch.setattr(instance.run_storage, "get_run_records", counting)
    assert len(queue.runs()) == 21
    assert read == 0


def test_places_are_taken_by_whatever_runs_and_shared_by_tenants(instance: dg.DagsterInstance) -> None:
    queue = RunQueue(instance)
    foreign = instance.add_run(dg.DagsterRun("theirs", status=dg.DagsterRunStatus.STARTED)).run_id
    acme, other = [queued(instance, "acme") for _ in range(9)], [queued(instance, "other") for _ in range(9)]
    assert (queue.places(-1), queue.places(5), queue.places(1)) == (None, 4, 0)
    assert open_gate(instance, queue, 5) == [acme[0], other[0], acme[1], other[1]]
    assert (queue.places(5), open_gate(instance, queue, 5)) == (0, [])
    begin(instance, acme[0])
    begin(instance, acme[1])
    assert open_gate(instance, queue, 5) == []
    end(instance, foreign)
    end(instance, acme[0])
    # `acme` has one run in and `other` two.
    assert open_gate(instance, queue, 4) == [acme[2]]
