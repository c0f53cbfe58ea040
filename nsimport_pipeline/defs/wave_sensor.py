"""The wave sensor: one for each tenant, asking every few seconds what each open import needs next.

Belongs here: the Dagster shell around ``imports/settle.py``: reading runs, submitting, cancelling, tagging.
Does not belong here: what is to be done (``imports/decide.py``). A tick reads databases only, never NetSuite.
"""

import time
from collections.abc import Collection, Iterable
from datetime import UTC, datetime
from functools import partial

import dagster as dg
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from nsimport_pipeline.defs import names, resources
from nsimport_pipeline.defs.run_coordinator import ALIVE
from nsimport_pipeline.defs.slots import free_slots_of_the_dead, set_limit
from nsimport_pipeline.errors import NsimportError
from nsimport_pipeline.imports import store
from nsimport_pipeline.imports.decide import Rules
from nsimport_pipeline.imports.records import Hold, ImportJob, RunSpec, RunView
from nsimport_pipeline.imports.settle import Outcome, settle
from nsimport_pipeline.imports.stuck import note_stuck_wave
from nsimport_pipeline.settings import Tenant
from nsimport_pipeline.warehouse.engine import read_only
from nsimport_pipeline.warehouse.errors import classify
from nsimport_pipeline.warehouse.migrate import ensure_control_tables

# The daemon looks at sensors every five seconds; a longer interval here would skip every second look.
TICK_SECONDS = 1
BEGUN = [dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING]
ENDING_SECONDS = 60
"""How long a hung run has to end by itself when it is told to."""
ASSET_JOB = "__ASSET_JOB"


def wave_sensor(tenant: str) -> dg.SensorDefinition:
    """The sensor that carries a tenant's imports on."""

    @dg.sensor(
        name=f"waves_{tenant}",
        # The job Dagster keeps for all assets: theirs have partitions of their own, which no other job may mix.
        job_name=ASSET_JOB,
        minimum_interval_seconds=TICK_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"Carries {tenant}'s imports on: dispatches waves, settles what ended, says why each one waits.",
    )
    def sensor(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        try:
            requests, messages = tick(context.instance, tenant)
        except NsimportError as error:
            return dg.SkipReason(f"{tenant}: {error}")
        except SQLAlchemyError as error:
            return dg.SkipReason(f"{tenant}: {classify(error)}")
        if requests:
            context.log.info("; ".join(messages))
            return dg.SensorResult(run_requests=requests)
        return dg.SkipReason("; ".join(messages) or "no import is open")

    return sensor


def tick(instance: dg.DagsterInstance, tenant_name: str) -> tuple[list[dg.RunRequest], list[str]]:
    """Bring a tenant's open imports one step on. Returns runs to start and, for each import, why it waits.

    Does the same again if it happens twice: a run has one ``run_key``, and Dagster starts it once.
    """
    tenant = resources.settings().tenant(tenant_name)
    engine = resources.warehouse(tenant)
    ensure_control_tables(engine)
    set_limit(instance, tenant.name, tenant.slots)
    with read_only(engine).connect() as connection:
        jobs = store.open_jobs(connection)
    requests: list[dg.RunRequest] = []
    messages: list[str] = []
    for job in jobs:
        outcome = _settle(instance, tenant, engine, job.import_id)
        if outcome.submit:
            register_partitions(instance, engine, tenant, {spec.record_type for spec in outcome.submit})
        requests += [run_request(job, spec) for spec in outcome.submit]
        queued = partial(_all_queued, instance, job.import_id)
        stuck = note_stuck_wave(engine, job, tenant.wave_timeout, datetime.now(UTC), queued=queued)
        if stuck is not None:
            end_hung_runs(instance, job.import_id, stuck, time.time())
        said = "" if stuck is None else f" (wave {stuck} is stuck: nothing has moved for {tenant.wave_timeout} s)"
        messages.append(f"{job.import_id}: {outcome.reason or outcome.finished}{said}")
    if jobs:
        free_slots_of_the_dead(instance, tenant.name, time.time())
    _clear_queue(instance, tenant.name, {job.import_id for job in jobs})
    return requests, messages


def repair(
    instance: dg.DagsterInstance, tenant: Tenant, engine: Engine, import_id: str, *, terminate: bool
) -> list[str]:
    """Settle one import at once, outside the sensor, and free dead slots. Returns what there is to say, line by line.

    Runs that are missing are left to the sensor, which starts each once. ``terminate``: its live runs are ended too.
    """
    outcome = _settle(instance, tenant, engine, import_id)
    lines = [f"{len(outcome.cancel)} runs taken out of the queue"] if outcome.cancel else []
    if terminate and (ended := withdraw(instance, import_id)):
        lines.append(f"{ended} runs terminated")
    freed = free_slots_of_the_dead(instance, tenant.name, time.time())
    lines += [f"{freed} slots of dead holders freed"] if freed else []
    if outcome.submit:
        lines.append(f"{len(outcome.submit)} runs to start: the wave sensor does it within seconds")
    if outcome.reason:
        lines.append(outcome.reason)
    return lines


def withdraw(instance: dg.DagsterInstance, import_id: str, wave: int | None = None) -> int:
    """End the runs of an import (of one wave): those in the queue leave it, others are terminated. Returns how many."""
    tags = {names.IMPORT: import_id} | ({} if wave is None else {names.WAVE: str(wave)})
    alive = instance.get_runs(dg.RunsFilter(tags=tags, statuses=ALIVE))
    for run in alive:
        instance.run_coordinator.cancel_run(run.run_id)
    return len(alive)


def end_hung_runs(instance: dg.DagsterInstance, import_id: str, wave: int, now: float) -> None:
    """End the runs of a wave that stands still; one that does not end when asked to is declared failed.

    Their batches are then folded like those of any run that died. ``now``: seconds since the epoch.
    """
    for run in instance.get_runs(_of_wave(import_id, wave, BEGUN)):
        asked = names.number(run.tags, names.HUNG)
        if not asked:
            instance.add_run_tags(run.run_id, {names.HUNG: f"{now:.0f}"})
            instance.run_coordinator.cancel_run(run.run_id)
        elif now - asked >= ENDING_SECONDS:
            instance.report_run_failed(run, f"it did not end {now - asked:.0f} s after it was asked to")


def _all_queued(instance: dg.DagsterInstance, import_id: str, wave: int) -> bool:
    """Whether a wave has runs in Dagster's queue, and no others that live."""
    alive = instance.get_runs(_of_wave(import_id, wave, ALIVE))
    return bool(alive) and all(run.status not in BEGUN for run in alive)


def _of_wave(import_id: str, wave: int, statuses: list[dg.DagsterRunStatus]) -> dg.RunsFilter:
    return dg.RunsFilter(tags={names.IMPORT: import_id, names.WAVE: str(wave)}, statuses=statuses)


def _settle(instance: dg.DagsterInstance, tenant: Tenant, engine: Engine, import_id: str) -> Outcome:
    """Settle one import with what Dagster knows of it, and tell Dagster all of the outcome but the runs to start."""
    outcome = settle(
        engine,
        import_id,
        rules=Rules.of(tenant),
        now=lambda: datetime.now(UTC),
        runs=partial(run_views, instance, import_id),
    )
    _tell_dagster(instance, outcome)
    return outcome


def run_views(instance: dg.DagsterInstance, import_id: str) -> list[RunView]:
    """The Dagster runs of an import."""
    return [
        _view(record.dagster_run) for record in instance.get_run_records(dg.RunsFilter(tags={names.IMPORT: import_id}))
    ]


def _view(run: dg.DagsterRun) -> RunView:
    outcomes = {
        dg.DagsterRunStatus.SUCCESS: "succeeded",
        dg.DagsterRunStatus.FAILURE: "failed",
        dg.DagsterRunStatus.CANCELED: "cancelled",
    }
    outcome = outcomes.get(run.status, "alive")
    if outcome == "cancelled" and names.HUNG in run.tags:
        outcome = "failed"  # not by a person: the import goes on
    return RunView(
        run_id=run.run_id,
        wave=names.number(run.tags, names.WAVE),
        number=names.number(run.tags, names.RUN),
        outcome=outcome,  # type: ignore[arg-type]
        hold=names.hold(run.tags),
    )


def run_request(job: ImportJob, spec: RunSpec) -> dg.RunRequest:
    """The Dagster run that carries out one run of a wave."""
    tags = {
        names.TENANT: job.tenant,
        names.IMPORT: job.import_id,
        names.WAVE: str(spec.wave),
        names.RUN: str(spec.number),
        names.LEVEL: str(spec.level),
        names.BATCHES: str(len(spec.partition_keys)),
        names.DONE: "0",
        names.ATTEMPT: "1",
        names.THRESHOLD: f"{job.completion_threshold:g}",
        names.WAVE_SIZE: str(job.wave_size),
    }
    first, last = spec.partition_keys[0], spec.partition_keys[-1]
    if first != last:
        tags |= {names.RANGE_START: first, names.RANGE_END: last}
    return dg.RunRequest(
        run_key=f"{job.import_id}.{spec.wave}.{spec.number}.1",
        asset_selection=[names.asset_key(job.tenant, spec.record_type)],
        partition_key=first if first == last else None,
        tags=tags,
    )


def register_partitions(
    instance: dg.DagsterInstance, engine: Engine, tenant: Tenant, record_types: Iterable[str]
) -> None:
    """Make Dagster's partitions those that are pinned, in their order."""
    for record_type in record_types:
        name = names.partition_set(tenant.name, record_type)
        with read_only(engine).connect() as connection:
            pinned = [key_range.partition_key for key_range in store.pinned_ranges(connection, record_type)]
        known = list(instance.get_dynamic_partitions(name))
        if known == pinned:
            continue
        for surplus in set(known) - set(pinned):
            instance.delete_dynamic_partition(name, surplus)
        missing = [key for key in pinned if key not in set(known)]
        if missing:
            instance.add_dynamic_partitions(name, missing)


def _tell_dagster(instance: dg.DagsterInstance, outcome: Outcome) -> None:
    for run_id in outcome.cancel:
        run = instance.get_run_by_id(run_id)
        # A run that has begun stops by itself: no batch of a cancelled import is to be had.
        if run is not None and run.status in (dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.NOT_STARTED):
            instance.run_coordinator.cancel_run(run_id)
    for run_id, hold in outcome.release:
        _set_hold(instance, run_id, hold)


def _clear_queue(instance: dg.DagsterInstance, tenant: str, open_imports: Collection[str]) -> None:
    """Take out runs that were queued as their import was cancelled; not those that somebody executes again by hand."""
    queued = dg.RunsFilter(
        tags={names.TENANT: tenant}, statuses=[dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.NOT_STARTED]
    )
    for run in instance.get_runs(queued):
        if names.IMPORT in run.tags and run.tags[names.IMPORT] not in open_imports and run.parent_run_id is None:
            instance.run_coordinator.cancel_run(run.run_id)


def _set_hold(instance: dg.DagsterInstance, run_id: str, hold: Hold) -> None:
    if instance.get_run_by_id(run_id) is not None:
        instance.add_run_tags(run_id, {names.HOLD: hold})
