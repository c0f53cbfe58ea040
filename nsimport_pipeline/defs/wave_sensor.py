"""The wave sensor: one for all tenants, asking every few seconds what each open import needs next.

Belongs here: the sensor, and the runs it starts. Does not belong here: what is to be done (``imports/decide.py``), or
mending what is wrong (``reconcile.py``, ``standstill.py``). A tick reads databases only, never NetSuite.
"""

import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from zlib import crc32

import dagster as dg

from nsimport_pipeline.defs import names, resources
from nsimport_pipeline.defs.each_tenant import EachTenant, Look, ticked
from nsimport_pipeline.defs.reconcile import clear_vanished, reconcile, runs_waiting
from nsimport_pipeline.defs.slots import set_limit
from nsimport_pipeline.defs.standstill import ask_again, end_hung_runs, waits_its_turn
from nsimport_pipeline.imports import store
from nsimport_pipeline.imports.records import ImportJob, RunSpec
from nsimport_pipeline.imports.stuck import note_stuck_wave
from nsimport_pipeline.warehouse.engine import read_only
from nsimport_pipeline.warehouse.migrate import ensure_control_tables

# The daemon looks at sensors every five seconds; a longer interval here would skip every second look.
TICK_SECONDS = 1
THOROUGH_SECONDS = 60
"""How often partitions are compared too: only what was lost with a process needs it."""
LATELY = timedelta(minutes=10)
"""Imports that ended within it are among those compared."""


def wave_sensor() -> dg.SensorDefinition:
    """The sensor that carries all tenants' imports on."""
    each = EachTenant()

    @dg.sensor(
        name="waves",
        job_name=names.ASSET_JOB,
        minimum_interval_seconds=TICK_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Carries imports on: dispatches waves, settles what ended, says why each import waits.",
    )
    def sensor(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        instance, last, now = context.instance, float(context.cursor or 0), time.time()
        waiting = runs_waiting(instance)

        def look_at(tenant: str) -> Look:
            return look(instance, tenant, waiting.get(tenant, ()), thorough=is_due(tenant, last, now))

        return ticked(
            context,
            each,
            look_at,
            nothing="no import is open",
            first=lambda: clear_vanished(instance, waiting),
            cursor=lambda _: str(now),
        )

    return sensor


def is_due(tenant: str, last: float, now: float) -> bool:
    """Whether a tenant's moment of the minute has come since the ``last`` tick: each has another."""
    moment = crc32(tenant.encode()) % THOROUGH_SECONDS
    return (now - moment) // THOROUGH_SECONDS > (last - moment) // THOROUGH_SECONDS


def look(
    instance: dg.DagsterInstance, tenant_name: str, waiting: Sequence[dg.DagsterRun], *, thorough: bool = True
) -> Look:
    """Bring a tenant's open imports one step on: runs to start and, for each import, why it waits.

    ``waiting``: the tenant's runs in the queue. ``thorough``: also compare the partitions of imports that ended lately.
    Does the same again if it happens twice: a run has one ``run_key``, and Dagster starts it once.
    """
    tenant = resources.settings().tenant(tenant_name)
    engine = resources.warehouse(tenant)
    ensure_control_tables(engine)
    with read_only(engine).connect() as connection:
        jobs = store.open_jobs(connection)
    if not (jobs or waiting or thorough):
        return Look()
    set_limit(instance, tenant.name, tenant.slots)
    found = reconcile(instance, tenant, engine, jobs, waiting, finished_within=LATELY if thorough else None)
    requests: list[dg.RunRequest] = []
    messages = found.repairs
    for job in jobs:
        outcome = found.outcomes[job.import_id]
        requests += [run_request(job, spec) for spec in outcome.submit]
        queued = partial(waits_its_turn, instance, job)
        stuck = note_stuck_wave(engine, job, tenant.wave_timeout, datetime.now(UTC), queued=queued)
        if stuck is not None:
            end_hung_runs(instance, job.import_id, stuck, time.time())
            if (anew := ask_again(instance, engine, job, stuck, time.time())) != (0, 0):
                messages.append(f"{job.import_id}: {anew[1]} runs that nobody started are asked for again")
        said = "" if stuck is None else f" (wave {stuck} is stuck: nothing has moved for {tenant.wave_timeout} s)"
        messages.append(f"{job.import_id}: {outcome.reason or outcome.finished}{said}")
    return Look(messages, requests)


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
