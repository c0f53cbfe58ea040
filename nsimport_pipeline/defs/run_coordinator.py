"""The shell around the gate (``imports/gate.py``): every queued run of ours waits until it is let in.

Belongs here: stamping runs as they are queued, opening the gate. Does not belong here: the rules, or reading runs
(``run_queue.py``).

A run is stamped ``nsimport/gate=shut`` before it is queued, and a tag limit of 0 keeps Dagster's dequeue from starting
runs with that value. Before each dequeue pass the pure gate is asked, and the runs it lets in are re-stamped ``open``.
A run that arrives between the asking and the pass is still shut: the gate fails closed.

Any process may ask at any time (the daemon does each second, the webserver now and then): a mutex kept in a Dagster
pool makes sure that one at a time lets runs in, on what is true then.
"""

import logging
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import dagster as dg
from dagster._core.storage.event_log.base import EventLogStorage

from nsimport_pipeline.defs import names, resources
from nsimport_pipeline.defs.run_queue import RunQueue
from nsimport_pipeline.errors import ConfigurationError
from nsimport_pipeline.imports.gate import admit
from nsimport_pipeline.record_types.graph import levels

GATE_POOL = "nsimport_gate"
MUTEX_SECONDS = 30
"""A holder of the mutex that is older than this died with it."""

logger = logging.getLogger("nsimport.gate")


class WaveRunCoordinator(dg.QueuedRunCoordinator):
    """Dagster's run queue with a gate in front: waves in order, levels in order, one wave's batches at a time."""

    def submit_run(self, context: dg.SubmitRunContext) -> dg.DagsterRun:
        run = context.dagster_run
        if run.job_name in names.STEERING_JOBS and run.status is dg.DagsterRunStatus.NOT_STARTED:
            # Who cancels an import does not want to stand in line behind its runs. It touches no asset.
            return self._instance.launch_run(run.run_id, context.workspace)
        stamps = stamps_for(self._instance, run)
        if stamps:
            self._instance.add_run_tags(run.run_id, stamps)
        return super().submit_run(context)

    @cached_property
    def _queue(self) -> RunQueue:
        return RunQueue(self._instance)

    def get_run_queue_config(self) -> Any:
        config = super().get_run_queue_config()
        try:
            runs = self._instance.get_settings("concurrency").get("runs", {})
            open_gate(self._instance, self._queue, runs.get("max_concurrent_runs", config.max_concurrent_runs))
        except Exception:
            # Shut runs stay shut, so an error here can delay but never let in.
            logger.exception("the gate could not be asked; it stays as it is")
        shut = {"key": names.GATE, "value": names.SHUT, "limit": 0}
        return config._replace(tag_concurrency_limits=[*config.tag_concurrency_limits, shut])


def stamps_for(instance: dg.DagsterInstance, run: dg.DagsterRun) -> dict[str, str]:
    """The tags a run is given as it is queued; none for a run that touches no asset of ours.

    A run of the wave sensor brings its numbers along. For one from the UI, a backfill or a re-execution they are
    worked out here, and its progress starts again from nothing.
    """
    ours = [place for key in run.asset_selection or () if (place := names.tenant_and_type(key)) is not None]
    tenant = run.tags.get(names.TENANT) or (ours[0][0] if ours else None)
    if tenant is None:
        return {}
    stamps = {
        names.GATE: names.SHUT,
        names.TENANT: tenant,
        names.DONE: "0",
        names.HOLD: "wave",
        names.ATTEMPT: run.tags.get(names.ATTEMPT, "1"),
    }
    if names.BATCHES not in run.tags:
        stamps[names.BATCHES] = str(sum(_partitions(instance, run, *place) for place in ours) or 1)
    if names.LEVEL not in run.tags:
        level_of = levels(resources.catalog())
        stamps[names.LEVEL] = str(max((level_of.get(record_type, 0) for _, record_type in ours), default=0))
    return stamps | {tag: value for tag, value in _limits(tenant).items() if tag == names.SLOTS or tag not in run.tags}


def _partitions(instance: dg.DagsterInstance, run: dg.DagsterRun, tenant: str, record_type: str) -> int:
    start, end = run.tags.get(names.RANGE_START), run.tags.get(names.RANGE_END)
    if start is None or end is None:
        return 1
    keys = list(instance.get_dynamic_partitions(names.partition_set(tenant, record_type)))
    if start not in keys or end not in keys:
        return 1
    return keys.index(end) - keys.index(start) + 1


def _limits(tenant: str) -> dict[str, str]:
    try:
        settings = resources.settings()
    except ConfigurationError:
        return {}
    return {
        names.WAVE_SIZE: f"{settings.number(tenant, 'wave_size', 300):.0f}",
        names.THRESHOLD: f"{settings.number(tenant, 'completion_threshold', 90):g}",
        names.SLOTS: f"{settings.number(tenant, 'slots', 5):.0f}",
    }


def open_gate(instance: dg.DagsterInstance, queue: RunQueue, most: int = -1) -> list[str]:
    """Let in what may start now, if ``most`` runs may be at work at once (-1: any number). Returns their ids."""
    if not queue.waiting() or not _let_in(queue, most):
        return []
    with _mutex(instance) as mine:
        if not mine:
            return []
        let_in = _let_in(queue, most)
        for run_id in let_in:
            instance.add_run_tags(run_id, {names.GATE: names.OPEN, names.LET_IN: f"{time.time():.3f}"})
    return let_in


def _let_in(queue: RunQueue, most: int) -> list[str]:
    places = queue.places(most)
    return [] if places == 0 else admit(queue.runs(), places, _kept(most))[0]


def _kept(most: int) -> int:
    """How many of all places are kept for tenants that have no run in: a quarter, if there are so many others."""
    try:
        return max(0, min(most // 4, len(resources.settings().tenant_names) - 1))
    except ConfigurationError:
        return 0


_threads = threading.Lock()


@contextmanager
def _mutex(instance: dg.DagsterInstance) -> Iterator[bool]:
    """Whether this caller, of all threads and processes, may let runs in now. Never waits."""
    storage = instance.event_log_storage
    if not _threads.acquire(blocking=False):
        yield False
        return
    try:
        if storage.get_concurrency_info(GATE_POOL).slot_count != 1:
            storage.set_concurrency_slots(GATE_POOL, 1)
        _free_stale(storage, time.time())
        holder, step = f"gate-{uuid.uuid4().hex}", str(int(time.time()) + MUTEX_SECONDS)
        try:
            yield storage.claim_concurrency_slot(GATE_POOL, holder, step).is_claimed
        finally:
            storage.free_concurrency_slot_for_step(holder, step)
    finally:
        _threads.release()


def _free_stale(storage: EventLogStorage, now: float) -> None:
    """Free what was left by an asker that was killed, or failed, while it held the mutex or was on its way to it.

    Whoever comes between standing in line and holding is the dangerous one: it shows no slot in use, and nobody else
    is given it. A time far ahead was written by a clock that has been put back since.
    """
    info = storage.get_concurrency_info(GATE_POOL)
    askers = {(entry.run_id, entry.step_key) for entry in info.claimed_slots}
    askers |= {(entry.run_id, entry.step_key) for entry in info.pending_steps}
    for holder, step in askers:
        if not 0 <= int(step) - now <= 2 * MUTEX_SECONDS:
            storage.free_concurrency_slot_for_step(holder, step)
