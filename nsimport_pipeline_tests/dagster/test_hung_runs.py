"""Runs of a wave that stands still: asked to end, then declared failed; those in the queue are left alone."""

import dagster as dg
import pytest
from dagster._core.run_coordinator import DefaultRunCoordinator

from nsimport_pipeline.defs import names
from nsimport_pipeline.defs.reconcile import run_views
from nsimport_pipeline.defs.wave_sensor import ENDING_SECONDS, end_hung_runs

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
