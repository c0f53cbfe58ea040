"""Comparing what the databases say with what is really so, and mending it: runs, queue, partitions, colours, slots.

Belongs here: the Dagster side of every repair, for the wave sensor and ``nsimport reconcile`` alike. Does not belong
here: what an import needs next (``imports/decide.py``), or starting runs (``wave_sensor.py``).

Everything is compared anew each time and mended if it is wrong, so that it can be done at any time and twice at once.
"""

import time
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial

import dagster as dg
from sqlalchemy import Engine

from nsimport_pipeline.defs import names, resources
from nsimport_pipeline.defs.materialization import batch_materializations
from nsimport_pipeline.defs.run_queue import ALIVE
from nsimport_pipeline.defs.signs_of_life import end_run, end_the_dead, forget_planning, no_longer_planned
from nsimport_pipeline.defs.slots import free_slots_of_the_dead, wake_waiting
from nsimport_pipeline.imports import store
from nsimport_pipeline.imports.actions import CountAgain, Fold
from nsimport_pipeline.imports.decide import BROKEN_OFF
from nsimport_pipeline.imports.partial import partial_parents_of
from nsimport_pipeline.imports.records import Batch, Hold, ImportJob, RunView, tenant_of
from nsimport_pipeline.imports.settle import Outcome, settle
from nsimport_pipeline.imports.snapshot import Rules
from nsimport_pipeline.imports.states import OPEN_IMPORTS, BatchState, ImportState
from nsimport_pipeline.settings import Tenant
from nsimport_pipeline.warehouse.engine import read_only

WAITING = [dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.NOT_STARTED]


@dataclass
class Findings:
    """What was compared, and what was found wrong and mended."""

    compared: Counter[str] = field(default_factory=Counter)
    repairs: list[str] = field(default_factory=list)
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    """By import: what Dagster has to start for it, and why it waits."""


def reconcile(
    instance: dg.DagsterInstance,
    tenant: Tenant,
    engine: Engine,
    jobs: Sequence[ImportJob],
    waiting: Sequence[dg.DagsterRun],
    *,
    finished_within: timedelta | None = None,
) -> Findings:
    """Settle the open ones of a tenant's imports, and mend what is wrong around them.

    ``waiting``: the tenant's runs in the queue, read before its imports were. ``finished_within``: also compare the
    partitions of imports that were over so lately, which takes longer. Runs that are missing are left to the caller, as
    each is to be started once.
    """
    found = Findings()
    # First: what they left behind is taken back at once then.
    _add(found, end_the_dead(instance), "runs declared ended: their process is gone")
    unplanned = {import_id for import_id in no_longer_planned(instance) if tenant_of(import_id) == tenant.name}
    open_jobs = [job for job in jobs if job.state in OPEN_IMPORTS]
    for job in open_jobs:
        settle_import(instance, tenant, engine, job, found, planner_gone=job.import_id in unplanned)
    if unplanned:
        with read_only(engine).connect() as connection:
            left = {job.import_id for job in store.open_jobs(connection) if job.state is ImportState.PLANNING}
        forget_planning(instance, unplanned - left)
    found.compared["imports"] += len(open_jobs)
    wanted = {spec.record_type for outcome in found.outcomes.values() for spec in outcome.submit}
    if finished_within is not None:
        since = datetime.now(UTC) - finished_within
        with read_only(engine).connect() as connection:
            lately = [job.import_id for job in store.jobs_since(connection, since)]
        checked = sorted({*lately, *(job.import_id for job in jobs)})
        wanted |= mend_colours(instance, engine, tenant, checked, found)
    register_partitions(instance, engine, tenant, wanted, found)
    if jobs or finished_within is not None:
        freed = free_slots_of_the_dead(instance, tenant.name, time.time())
        _add(found, freed, "slots of dead holders freed")
        _add(found, wake_waiting(instance, tenant.name, time.time()), "steps given a slot that was free")
    _clear_queue(instance, waiting, engine, found)
    return found


def settle_import(
    instance: dg.DagsterInstance,
    tenant: Tenant,
    engine: Engine,
    job: ImportJob,
    found: Findings,
    *,
    planner_gone: bool = False,
) -> None:
    """Settle one import with what Dagster knows of it, and tell Dagster all of the outcome but the runs to start."""
    outcome = settle(
        engine,
        job.import_id,
        rules=Rules.of(tenant),
        now=lambda: datetime.now(UTC),
        runs=partial(run_views, instance, job.import_id),
        planner_gone=planner_gone,
    )
    if planner_gone and job.state is ImportState.PLANNING and outcome.finished is ImportState.FAILED:
        found.repairs.append(f"{job.import_id}: {BROKEN_OFF}")
    _tell_dagster(instance, outcome)
    found.outcomes[job.import_id] = outcome
    found.repairs += [f"{job.import_id}: {line}" for line in describe(outcome)]


def describe(outcome: Outcome) -> list[str]:
    """What was mended in the control tables, line by line."""
    folds = [repair for repair in outcome.repairs if isinstance(repair, Fold)]
    lines = []
    for reason, count in Counter(fold.reason for fold in folds).items():
        lost = sum(1 for fold in folds if fold.reason == reason and fold.to is BatchState.FAILED)
        lines.append(
            f"{count} batches taken back: {reason}; " + (f"{lost} of them failed for good" if lost else "tried again")
        )
    for repair in outcome.repairs:
        if isinstance(repair, CountAgain):
            missing = ", ".join(batch.record_type for batch in repair.batches)
            lines.append(f"the final count of {missing} was lost: it is taken again")
    if outcome.cancel:
        lines.append(f"{len(outcome.cancel)} runs that have nothing left to do taken out of the queue")
    return lines


def withdraw(instance: dg.DagsterInstance, import_id: str, wave: int | None = None) -> int:
    """End the runs of an import (of one wave): those in the queue leave it, others are terminated. Returns how many."""
    tags = {names.IMPORT: import_id} | ({} if wave is None else {names.WAVE: str(wave)})
    alive = instance.get_runs(dg.RunsFilter(tags=tags, statuses=ALIVE))
    for run in alive:
        end_run(instance, run.run_id)
    return len(alive)


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
        plans=(run.tags[names.PLANS], names.number(run.tags, names.ATTEMPT)) if names.PLANS in run.tags else None,
    )


def register_partitions(
    instance: dg.DagsterInstance, engine: Engine, tenant: Tenant, record_types: Iterable[str], found: Findings
) -> None:
    """Make Dagster's partitions those that are pinned, in their order."""
    for record_type in sorted(record_types):
        name = names.partition_set(tenant.name, record_type)
        with read_only(engine).connect() as connection:
            pinned = [key_range.partition_key for key_range in store.pinned_ranges(connection, record_type)]
        known = set(instance.get_dynamic_partitions(name))
        surplus, missing = sorted(known - set(pinned)), [key for key in pinned if key not in known]
        for key in surplus:
            instance.delete_dynamic_partition(name, key)
        if missing:
            instance.add_dynamic_partitions(name, missing)
        found.compared["partitions"] += len(pinned)
        _add(found, len(surplus), f"partitions of {record_type} deleted in Dagster: they are not planned")
        _add(found, len(missing), f"partitions of {record_type} registered in Dagster")


def mend_colours(
    instance: dg.DagsterInstance, engine: Engine, tenant: Tenant, import_ids: Sequence[str], found: Findings
) -> set[str]:
    """Report the materialization of batches that were committed and whose event was lost with the process.

    Returns the record types of these imports.
    """
    with read_only(engine).connect() as connection:
        settled = store.latest_settled(connection, import_ids)
    found.compared["batches"] += len(settled)
    by_type: dict[str, dict[str, tuple[str, Batch]]] = {}
    for (record_type, partition), last in settled.items():
        by_type.setdefault(record_type, {})[partition] = last
    ended = _Ended(instance)
    for record_type, batches in sorted(by_type.items()):
        colours = _colours(instance, tenant, record_type, batches)
        lost = [
            (key, import_id, batch)
            for key, (import_id, batch) in batches.items()
            if batch.state is BatchState.COMPLETED
            and key in colours
            and colours[key] not in (dg.AssetPartitionStatus.MATERIALIZED, dg.AssetPartitionStatus.IN_PROGRESS)
            and ended(batch.run_id)
        ]
        for partition, import_id, batch in lost:
            with read_only(engine).connect() as connection:
                stats = store.batch_stats(connection, batch)
                partial = partial_parents_of(connection, import_id, record_type, resources.catalog())
            key = names.asset_key(tenant.name, record_type)
            for event in batch_materializations(key, import_id, batch, stats, partial):
                if event.partition == partition:
                    instance.report_runless_asset_event(event)
        _add(
            found, len(lost), f"partitions of {record_type} shown as materialized: their event was lost with their run"
        )
    return set(by_type)


def _colours(
    instance: dg.DagsterInstance, tenant: Tenant, record_type: str, wanted: Collection[str]
) -> Mapping[str, dg.AssetPartitionStatus | None]:
    """What Dagster shows for those of the partitions that it has."""
    name = names.partition_set(tenant.name, record_type)
    known = [key for key in instance.get_dynamic_partitions(name) if key in wanted]
    if not known:
        return {}
    key = names.asset_key(tenant.name, record_type)
    return instance.get_status_by_partition(key, known, dg.DynamicPartitionsDefinition(name=name)) or {}


class _Ended:
    """Whether a run is over: one that lives reports its materializations itself."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self._instance = instance
        self._known: dict[str, bool] = {}

    def __call__(self, run_id: str | None) -> bool:
        if run_id is None:
            return True
        if run_id not in self._known:
            run = self._instance.get_run_by_id(run_id)
            self._known[run_id] = run is None or run.is_finished
        return self._known[run_id]


def runs_waiting(instance: dg.DagsterInstance) -> dict[str, list[dg.DagsterRun]]:
    """The runs in the queue, by tenant."""
    waiting: dict[str, list[dg.DagsterRun]] = {}
    for run in instance.get_runs(dg.RunsFilter(statuses=WAITING)):
        if (tenant := run.tags.get(names.TENANT)) is not None:
            waiting.setdefault(tenant, []).append(run)
    return waiting


def clear_vanished(instance: dg.DagsterInstance, waiting: Mapping[str, Sequence[dg.DagsterRun]]) -> list[str]:
    """Take runs of tenants that are not in the tenants file any more out of the queue: they could not run.

    Their imports stay as they are in the database that nobody knows now; with the tenant they come back, cancelled.
    Returns what was mended.
    """
    known = set(resources.settings().tenant_names) if waiting else set()
    gone = {tenant: runs for tenant, runs in waiting.items() if tenant not in known}
    for run in (run for runs in gone.values() for run in runs):
        end_run(instance, run.run_id)
    return [
        f"{len(runs)} runs taken out of the queue: their tenant {tenant!r} is not in the tenants file any more"
        for tenant, runs in gone.items()
    ]


def _tell_dagster(instance: dg.DagsterInstance, outcome: Outcome) -> None:
    for run_id in outcome.cancel:
        run = instance.get_run_by_id(run_id)
        # A run that has begun stops by itself: no batch of a cancelled import is to be had.
        if run is not None and run.status in WAITING:
            end_run(instance, run_id)
    for run_id, hold in outcome.release:
        _set_hold(instance, run_id, hold)


def _clear_queue(
    instance: dg.DagsterInstance, queued: Sequence[dg.DagsterRun], engine: Engine, found: Findings
) -> None:
    """Take out runs that were queued as their import was cancelled; not those that somebody executes again by hand."""
    found.compared["queued runs"] += len(queued)
    if not queued:
        return
    with read_only(engine).connect() as connection:
        open_imports = {job.import_id for job in store.open_jobs(connection)}
    late = [
        run
        for run in queued
        if names.IMPORT in run.tags and run.tags[names.IMPORT] not in open_imports and run.parent_run_id is None
    ]
    for run in late:
        end_run(instance, run.run_id)
    _add(found, len(late), "runs taken out of the queue: their import is over")


def _set_hold(instance: dg.DagsterInstance, run_id: str, hold: Hold) -> None:
    if instance.get_run_by_id(run_id) is not None:
        instance.add_run_tags(run_id, {names.HOLD: hold})


def _add(found: Findings, count: int, what: str) -> None:
    if count:
        found.repairs.append(f"{count} {what}")
