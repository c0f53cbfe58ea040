"""Runs of a wave that stands still: those that hang are ended, those that nobody starts are asked for again.

Belongs here: the Dagster side of it, for the wave sensor and ``nsimport waves reset`` alike. Does not belong here:
noticing a standstill (``imports/stuck.py``), or runs whose process is gone (``signs_of_life.py``).
"""

from datetime import UTC, datetime

import dagster as dg
from sqlalchemy import Engine

from nsimport_pipeline.defs import names
from nsimport_pipeline.defs.reconcile import WAITING, withdraw
from nsimport_pipeline.defs.run_queue import ALIVE, BEGUN
from nsimport_pipeline.defs.signs_of_life import end_run
from nsimport_pipeline.imports.records import ImportJob
from nsimport_pipeline.imports.states import ACTIVE_IMPORTS
from nsimport_pipeline.imports.steer import reset_wave

ENDING_SECONDS = 60
"""How long a hung run has to end by itself when it is told to, and one in the queue to be started after all."""


def waits_its_turn(instance: dg.DagsterInstance, job: ImportJob, wave: int) -> bool:
    """Whether a wave's runs are all in the queue, and rightly so: others of the tenant run, or as many as may."""
    alive = instance.get_runs(_of_wave(job.import_id, wave, ALIVE))
    if not alive or any(run.status in BEGUN for run in alive):
        return False
    begun = instance.get_runs(dg.RunsFilter(statuses=BEGUN))
    queue = instance.get_concurrency_config().run_queue_config
    most = -1 if queue is None else queue.max_concurrent_runs
    return any(run.tags.get(names.TENANT) == job.tenant for run in begun) or 0 <= most <= len(begun)


def end_hung_runs(instance: dg.DagsterInstance, import_id: str, wave: int, now: float) -> None:
    """End the runs of a wave that stands still; one that does not end when asked to is declared failed.

    Their batches are then folded like those of any run that died. ``now``: seconds since the epoch.
    """
    for run in instance.get_runs(_of_wave(import_id, wave, BEGUN)):
        asked = names.number(run.tags, names.HUNG)
        if not asked:
            instance.add_run_tags(run.run_id, {names.HUNG: f"{now:.0f}"})
            end_run(instance, run.run_id)
        elif now - asked >= ENDING_SECONDS:
            instance.report_run_failed(run, f"it did not end {now - asked:.0f} s after it was asked to")


def ask_again(instance: dg.DagsterInstance, engine: Engine, job: ImportJob, wave: int, now: float) -> tuple[int, int]:
    """Put a wave anew that stands still with all of its runs in the queue, for reasons that nobody here knows.

    Not at once: after a pause of the whole machine the queue may be about to move. ``now``: seconds since the epoch.
    Returns as ``put_anew`` does.
    """
    waiting = instance.get_runs(_of_wave(job.import_id, wave, WAITING))
    begun = instance.get_runs_count(_of_wave(job.import_id, wave, BEGUN))
    if not waiting or begun or job.state not in ACTIVE_IMPORTS:
        return 0, 0
    seen = [names.number(run.tags, names.OVERDUE) for run in waiting]
    for run, moment in zip(waiting, seen, strict=True):
        if not moment:
            instance.add_run_tags(run.run_id, {names.OVERDUE: f"{now:.0f}"})
    if not all(seen) or now - max(seen) < ENDING_SECONDS:
        return 0, 0
    return put_anew(instance, engine, job, wave)


def put_anew(instance: dg.DagsterInstance, engine: Engine, job: ImportJob, wave: int) -> tuple[int, int]:
    """Put the unfinished batches of a wave into a new one, and end its runs; no attempt is counted.

    Returns how many batches and runs these were. Raises RefusedError if the import is not running, or has no such wave.
    """
    batches = reset_wave(engine, job, wave, now=datetime.now(UTC))
    return batches, withdraw(instance, job.import_id, wave) if batches else 0


def _of_wave(import_id: str, wave: int, statuses: list[dg.DagsterRunStatus]) -> dg.RunsFilter:
    return dg.RunsFilter(tags={names.IMPORT: import_id, names.WAVE: str(wave)}, statuses=statuses)
