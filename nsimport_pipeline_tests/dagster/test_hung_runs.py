"""Runs of a wave that stands still: asked to end, then declared failed; those that nobody starts: asked for again."""

from pathlib import Path

import dagster as dg
import pytest
from dagster._core.remote_origin import GrpcServerCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin
from dagster._core.run_coordinator import DefaultRunCoordinator

from nsimport_pipeline.defs import names
from nsimport_pipeline.defs.reconcile import run_views
from nsimport_pipeline.defs.standstill import ENDING_SECONDS, ask_again, end_hung_runs, waits_its_turn
from nsimport_pipeline.imports.states import BatchState, ImportState
from nsimport_pipeline.warehouse.engine import make_engine
from nsimport_pipeline.warehouse.migrate import ensure_control_tables
from nsimport_pipeline_tests.integration.imports_world import World

IMPORT = "acme-20260301120000-0001"


def test_a_hung_run_is_asked_to_end_once_and_then_declared_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(DefaultRunCoordinator, "cancel_run", lambda self, run_id: bool(asked.append(run_id)))
    with dg.DagsterInstance.ephemeral() as instance:

        def run(wave: int, status: dg.DagsterRunStatus) -> str:
            tags = {names.IMPORT: IMPORT, names.WAVE: str(wave), names.RUN: "1"}
            return instance.add_run(dg.DagsterRun(job_name="j", tags=tags, status=status)).run_id

        hung, queued = run(1, dg.DagsterRunStatus.STARTED), run(1, dg.DagsterRunStatus.NOT_STARTED)
        other = run(2, dg.DagsterRunStatus.STARTED)
        for seconds in (0, ENDING_SECONDS - 1):
            end_hung_runs(instance, IMPORT, 1, 1000.0 + seconds)
            assert {view.run_id: view.outcome for view in run_views(instance, IMPORT)} == dict.fromkeys(
                (hung, queued, other), "alive"
            )
        assert asked == [hung]
        end_hung_runs(instance, IMPORT, 1, 1000.0 + ENDING_SECONDS)
        outcomes = {view.run_id: view.outcome for view in run_views(instance, IMPORT)}
        assert outcomes == {hung: "failed", queued: "alive", other: "alive"}


def test_a_hung_run_that_ended_when_asked_does_not_cancel_its_import() -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        for wave, more in ((1, {names.HUNG: "1000"}), (2, {})):
            tags = {names.IMPORT: IMPORT, names.WAVE: str(wave), names.RUN: "1", **more}
            instance.add_run(dg.DagsterRun(job_name="j", tags=tags, status=dg.DagsterRunStatus.CANCELED))
        assert {view.wave: view.outcome for view in run_views(instance, IMPORT)} == {1: "failed", 2: "cancelled"}


@pytest.mark.parametrize("status", [dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.NOT_STARTED])
def test_runs_that_stay_queued_for_no_reason_are_asked_for_again_at_no_attempt(
    tmp_path: Path, status: dg.DagsterRunStatus
) -> None:
    queue = {"module": "dagster", "class": "QueuedRunCoordinator", "config": {"max_concurrent_runs": 2}}
    engine = make_engine(f"sqlite:///{tmp_path}/control.db", pool_size=2)
    ensure_control_tables(engine)
    world = World(engine, [("a", 0, 2)]).plan()
    world.tick()
    location = GrpcServerCodeLocationOrigin(host="localhost", port=1, location_name="nowhere")
    origin = RemoteJobOrigin(RemoteRepositoryOrigin(location, "repository"), "j")
    with dg.DagsterInstance.local_temp(str(tmp_path), {"run_coordinator": queue}) as instance:

        def run(tenant: str, status: dg.DagsterRunStatus) -> dg.DagsterRun:
            tags = {names.TENANT: tenant, names.IMPORT: world.id, names.WAVE: "1" if tenant == "acme" else "9"}
            return instance.add_run(dg.DagsterRun("j", tags=tags, status=status, remote_job_origin=origin))

        def ended(run: dg.DagsterRun) -> None:
            instance.report_run_failed(run)

        waiting = run("acme", status)
        assert not waits_its_turn(instance, world.job, 1)
        others = [run("other", dg.DagsterRunStatus.STARTED) for _ in range(2)]
        assert waits_its_turn(instance, world.job, 1)  # no more may run at once
        ended(others[0])
        assert not waits_its_turn(instance, world.job, 1)
        own = instance.add_run(
            dg.DagsterRun(job_name="j", tags={names.TENANT: "acme"}, status=dg.DagsterRunStatus.STARTING)
        )
        assert waits_its_turn(instance, world.job, 1)
        ended(own)

        # Not at once: a machine that wakes up may be about to start it.
        for seconds in (0, ENDING_SECONDS - 1):
            assert ask_again(instance, engine, world.job, 1, 1000.0 + seconds) == (0, 0)
        assert ask_again(instance, engine, world.job, 1, 1000.0 + ENDING_SECONDS) == (2, 1)
        gone = instance.get_run_by_id(waiting.run_id)
        assert gone is not None
        assert gone.status is dg.DagsterRunStatus.CANCELED
        assert [(b.state, b.wave, b.attempts) for b in world.stored()] == [(BatchState.PENDING, 2, 0)] * 2
        assert ask_again(instance, engine, world.job, 1, 2000.0) == (0, 0)
    assert len(world.tick().submit) == 1
    assert world.job.state is ImportState.RUNNING  # that its run was ended is nobody's wish to cancel it
    engine.dispose()
