"""Runs whose process was killed, with whatever would have noticed: real processes, a real Dagster instance."""

import json
import multiprocessing
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from nsimport_pipeline.defs.signs_of_life import LOCKS, end_run, end_the_dead, show_life

Process = multiprocessing.context.ForkProcess


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        yield instance


@pytest.fixture
def run(instance: dg.DagsterInstance) -> dg.DagsterRun:
    """A run that has begun."""

    @dg.job
    def nothing() -> None:
        pass

    run = instance.create_run_for_job(nothing)
    instance.handle_run_event(run.run_id, _event(run, "PIPELINE_START"))
    return run


@pytest.fixture
def process(instance: dg.DagsterInstance, run: dg.DagsterRun) -> Iterator[Process]:
    """What carries it out."""
    context = multiprocessing.get_context("fork")
    shown = context.Event()

    def carry_out() -> None:
        show_life(instance, run.run_id)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        shown.set()
        time.sleep(600)

    process = context.Process(target=carry_out)
    process.start()
    assert shown.wait(60)
    yield process
    kill(process)


def kill(process: Process) -> None:
    process.kill()
    process.join()


def _event(run: dg.DagsterRun, kind: str) -> dg.DagsterEvent:
    return dg.DagsterEvent(event_type_value=kind, job_name=run.job_name, message="")


def status(instance: dg.DagsterInstance, run: dg.DagsterRun) -> dg.DagsterRunStatus:
    found = instance.get_run_by_id(run.run_id)
    assert found is not None
    return found.status


def files(instance: dg.DagsterInstance) -> list[Path]:
    return [file for file in (Path(instance.root_directory) / LOCKS).rglob("*") if file.is_file()]


def test_a_run_is_left_alone_while_its_process_lives_and_has_failed_once_that_is_killed(
    instance: dg.DagsterInstance, run: dg.DagsterRun, process: Process
) -> None:
    assert end_the_dead(instance) == 0
    assert status(instance, run) is dg.DagsterRunStatus.STARTED

    kill(process)

    assert end_the_dead(instance) == 1
    assert status(instance, run) is dg.DagsterRunStatus.FAILURE
    assert (end_the_dead(instance), files(instance)) == (0, [])


def test_one_that_was_being_cancelled_is_cancelled(
    instance: dg.DagsterInstance, run: dg.DagsterRun, process: Process
) -> None:
    instance.report_run_canceling(run)
    kill(process)
    assert end_the_dead(instance) == 1
    assert status(instance, run) is dg.DagsterRunStatus.CANCELED


def test_a_process_whose_code_server_is_gone_is_asked_to_end_all_the_same(
    instance: dg.DagsterInstance, run: dg.DagsterRun, process: Process
) -> None:
    nobody = {"socket": "/nonexistent", "host": "localhost"}
    instance.add_run_tags(run.run_id, {"dagster/grpc_info": json.dumps(nobody)})
    end_run(instance, run.run_id)
    process.join(30)
    assert process.exitcode == -signal.SIGINT
    assert status(instance, run) is dg.DagsterRunStatus.CANCELING
    assert end_the_dead(instance) == 1
    assert status(instance, run) is dg.DagsterRunStatus.CANCELED


def test_of_a_run_that_ended_in_good_order_only_the_file_is_cleared_away(
    instance: dg.DagsterInstance, run: dg.DagsterRun, process: Process
) -> None:
    instance.handle_run_event(run.run_id, _event(run, "PIPELINE_SUCCESS"))
    assert (end_the_dead(instance), len(files(instance))) == (0, 1)
    kill(process)
    assert (end_the_dead(instance), files(instance)) == (0, [])
    assert status(instance, run) is dg.DagsterRunStatus.SUCCESS


def test_a_run_without_a_file_may_live_on_another_machine(instance: dg.DagsterInstance, run: dg.DagsterRun) -> None:
    assert end_the_dead(instance) == 0
    assert status(instance, run) is dg.DagsterRunStatus.STARTED


def test_a_process_sees_its_own_life_too(instance: dg.DagsterInstance, run: dg.DagsterRun) -> None:
    show_life(instance, run.run_id)
    assert end_the_dead(instance) == 0
