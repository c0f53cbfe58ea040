"""The gate's mutex: whoever dies on the way to it, or with it, does not shut the gate for good."""

import time
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.remote_origin import GrpcServerCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin

from nsimport_pipeline.defs import names
from nsimport_pipeline.defs.run_coordinator import GATE_POOL, MUTEX_SECONDS, open_gate
from nsimport_pipeline.defs.run_queue import RunQueue


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        instance.event_log_storage.set_concurrency_slots(GATE_POOL, 1)
        yield instance


def queued(instance: dg.DagsterInstance) -> str:
    location = GrpcServerCodeLocationOrigin(host="localhost", port=1, location_name="nowhere")
    run = dg.DagsterRun(
        "j",
        tags={names.TENANT: "acme", names.GATE: names.SHUT},
        status=dg.DagsterRunStatus.QUEUED,
        remote_job_origin=RemoteJobOrigin(RemoteRepositoryOrigin(location, "repository"), "j"),
    )
    return instance.add_run(run).run_id


@pytest.mark.parametrize("ends", [-1, 20 * MUTEX_SECONDS], ids=["lately", "before the clock was put back"])
@pytest.mark.parametrize("died", ["in line", "assigned", "holding"])
def test_what_a_dead_asker_left_is_freed(instance: dg.DagsterInstance, died: str, ends: int) -> None:
    storage, run, step = instance.event_log_storage, queued(instance), str(int(time.time()) + ends)
    if died == "holding":
        assert storage.claim_concurrency_slot(GATE_POOL, "gate-dead", step).is_claimed
    else:
        storage.add_pending_step(GATE_POOL, "gate-dead", step, should_assign=died == "assigned")
    assert open_gate(instance, RunQueue(instance)) == [run]
    assert not storage.get_concurrency_info(GATE_POOL).pending_steps


@pytest.mark.parametrize("holding", [True, False], ids=["holding", "assigned"])
def test_a_living_asker_is_left_alone(instance: dg.DagsterInstance, holding: bool) -> None:
    storage, step = instance.event_log_storage, str(int(time.time()) + MUTEX_SECONDS)
    queued(instance)
    storage.add_pending_step(GATE_POOL, "gate-alive", step, should_assign=True)
    if holding:
        assert storage.claim_concurrency_slot(GATE_POOL, "gate-alive", step).is_claimed
    assert open_gate(instance, RunQueue(instance)) == []
    storage.free_concurrency_slot_for_step("gate-alive", step)
    assert len(open_gate(instance, RunQueue(instance))) == 1
