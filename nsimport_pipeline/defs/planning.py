"""Planning derived record types in Dagster: the small job that does it, and the sensor that asks for it.

Belongs here: their shells. Does not belong here: planning itself (``imports/derived.py``), or when it is due
(``imports/decide.py``). A run of its own, because a sensor's tick must not talk to NetSuite: it may take a minute.
"""

import time
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial

import dagster as dg
from sqlalchemy.exc import SQLAlchemyError

from nsimport_pipeline.defs import names, resources
from nsimport_pipeline.defs.each_tenant import EachTenant, Look, ticked
from nsimport_pipeline.defs.reconcile import Findings, register_partitions, settle_import
from nsimport_pipeline.defs.saying import failed_planning
from nsimport_pipeline.defs.signs_of_life import show_life
from nsimport_pipeline.defs.slots import PoolSlots, SlottedClient, set_limit
from nsimport_pipeline.errors import ImportFailure, NotAnswering, NsimportError
from nsimport_pipeline.imports import store
from nsimport_pipeline.imports.breaker import TenantCircuit
from nsimport_pipeline.imports.derived import plan_derived, record_failure
from nsimport_pipeline.imports.records import PlanSpec
from nsimport_pipeline.imports.settle import settle
from nsimport_pipeline.imports.snapshot import Rules
from nsimport_pipeline.imports.wanted import Interrupted, while_wanted
from nsimport_pipeline.netsuite.client import NetSuiteClient
from nsimport_pipeline.settings import Tenant
from nsimport_pipeline.warehouse.engine import read_only
from nsimport_pipeline.warehouse.errors import classify
from nsimport_pipeline.warehouse.migrate import ensure_control_tables
from nsimport_pipeline.warehouse.schema import ensure_table

LOOK_SECONDS = 5
"""There is something to plan once or twice in an import, and every look of a sensor costs the daemon's time."""


@dg.op(
    name="plan_derived_type",
    out=dg.Out(dg.Nothing),
    description="Asks NetSuite for the key ranges of a derived record type, for the parents in the database.",
)
def plan_derived_type(context: dg.OpExecutionContext) -> None:
    _plan(context)


def planning_job() -> dg.JobDefinition:
    """The job that plans one derived record type of one import."""

    @dg.job(
        name="plan_derived",
        tags={names.BATCHES: "0"},
        description="Plans what is imported of a derived record type once its parents are in. Started by itself.",
    )
    def job() -> None:
        plan_derived_type()

    return job


def planning_sensor(job: dg.JobDefinition) -> dg.SensorDefinition:
    """The sensor that starts the planning of derived record types when their parents are in."""
    each = EachTenant()

    @dg.sensor(
        name="planning",
        job=job,
        minimum_interval_seconds=LOOK_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Has derived record types planned when their parents are in.",
    )
    def sensor(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        nothing = "no open import has a derived record type to plan"
        return ticked(context, each, partial(look, context.instance), nothing=nothing)

    return sensor


def look(instance: dg.DagsterInstance, tenant_name: str) -> Look:
    """The planning runs that a tenant's open imports need now, and why imports with something to plan wait.

    The same again if asked twice: each run has one key.
    """
    tenant = resources.settings().tenant(tenant_name)
    engine = resources.warehouse(tenant)
    ensure_control_tables(engine)
    with read_only(engine).connect() as connection:
        waiting = store.imports_to_plan(connection)
        jobs = [job for job in store.open_jobs(connection) if job.import_id in waiting] if waiting else []
    found = Findings()
    for job in jobs:
        settle_import(instance, tenant, engine, job, found)
    outcomes = found.outcomes.items()
    requests = [_request(tenant_name, name, spec) for name, outcome in outcomes for spec in outcome.plan]
    return Look([f"{name}: {outcome.reason or outcome.finished}" for name, outcome in outcomes], requests)


def _request(tenant: str, import_id: str, spec: PlanSpec) -> dg.RunRequest:
    return dg.RunRequest(
        run_key=f"{import_id}.plan.{spec.record_type}.{spec.attempt}",
        tags={
            names.TENANT: tenant,
            names.IMPORT: import_id,
            names.PLANS: spec.record_type,
            names.LEVEL: str(spec.level),
            names.BATCHES: "0",
            names.ATTEMPT: str(spec.attempt),
        },
    )


def _plan(context: dg.OpExecutionContext) -> None:
    tenant_name, import_id, name = (context.run_tags.get(tag) for tag in (names.TENANT, names.IMPORT, names.PLANS))
    if tenant_name is None or import_id is None or name is None:
        raise dg.Failure("nothing to plan: an import starts this job by itself when it needs it", allow_retries=False)
    attempt = names.number(context.run_tags, names.ATTEMPT)
    show_life(context.instance, context.run_id)
    try:
        tenant = resources.settings().enabled_tenant(tenant_name)
        engine = resources.warehouse(tenant)
        try:
            done = _ask(context, tenant, import_id, name, attempt)
        except Interrupted:
            done = f"{name} is not to be planned any more: nothing is done"
        except (ImportFailure, SQLAlchemyError) as error:
            failure = error if isinstance(error, ImportFailure) else classify(error)
            record_failure(engine, import_id, name, attempt, failure, rules=tenant.retries, now=_now())
            raise failure from None
        context.log.info(done)
        register_partitions(context.instance, engine, tenant, [name], Findings())
        settle(engine, import_id, rules=Rules.of(tenant), now=_now)
    except (NsimportError, SQLAlchemyError) as error:
        raise failed_planning(f"{tenant_name}/{name}", error, import_id) from None


def _ask(context: dg.OpExecutionContext, tenant: Tenant, import_id: str, name: str, attempt: int) -> str:
    record_type = resources.record_type(tenant, name)
    engine = resources.warehouse(tenant)
    ensure_table(engine, record_type)
    parents = [resources.record_type(tenant, parent) for parent in record_type.derived_from]
    pause = while_wanted(engine, import_id, time.sleep)
    circuit = TenantCircuit(engine, tenant, sleep=pause)
    set_limit(context.instance, tenant.name, tenant.slots)
    with NetSuiteClient(tenant, sleep=pause, breaker=circuit) as client:
        slotted = SlottedClient(client, PoolSlots(context.instance, tenant.name, context.run_id))
        # As for batches: waiting for a NetSuite that is down is no attempt.
        while True:
            circuit.await_answer(lambda: slotted.with_slot(client.probe))
            with suppress(NotAnswering):
                planned = plan_derived(
                    engine,
                    import_id,
                    record_type,
                    parents,
                    attempt=attempt,
                    client=slotted,
                    batch_size=tenant.options(name).batch_size,
                    now=_now(),
                )
                if planned is None:
                    raise Interrupted
                return planned.unavailable or f"{name}: {planned.records} records in {len(planned.ranges)} batches"


def _now() -> datetime:
    return datetime.now(UTC)
