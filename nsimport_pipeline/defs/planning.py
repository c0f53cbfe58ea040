"""Planning derived record types in Dagster: the small job that does it, and the sensor that asks for it.

Belongs here: their shells. Does not belong here: planning itself (``imports/derived.py``), or when it is due
(``imports/decide.py``). A run of its own, because a sensor's tick must not talk to NetSuite: it may take a minute.
"""

from contextlib import suppress
from datetime import UTC, datetime
from functools import partial

import dagster as dg
from sqlalchemy.exc import SQLAlchemyError

from nsimport_pipeline.defs import names, resources
from nsimport_pipeline.defs.reconcile import Findings, register_partitions, settle_import
from nsimport_pipeline.defs.saying import Ticked, failed_planning, or_skipped
from nsimport_pipeline.defs.signs_of_life import show_life
from nsimport_pipeline.errors import ImportFailure, NotAnswering, NsimportError
from nsimport_pipeline.imports import store
from nsimport_pipeline.imports.breaker import TenantCircuit
from nsimport_pipeline.imports.derived import plan_derived, record_failure
from nsimport_pipeline.imports.records import PlanSpec
from nsimport_pipeline.imports.settle import settle
from nsimport_pipeline.imports.snapshot import Rules
from nsimport_pipeline.netsuite.client import NetSuiteClient
from nsimport_pipeline.settings import Tenant, pool_name
from nsimport_pipeline.warehouse.engine import read_only
from nsimport_pipeline.warehouse.errors import classify
from nsimport_pipeline.warehouse.migrate import ensure_control_tables
from nsimport_pipeline.warehouse.schema import ensure_table

LOOK_SECONDS = 5
"""There is something to plan once or twice in an import, and every look of a sensor costs the daemon's time."""


def planning_job(tenant: str) -> dg.JobDefinition:
    """The job that plans one derived record type of one import of a tenant."""

    @dg.op(
        name=f"plan_derived_type_{tenant}",
        pool=pool_name(tenant),
        out=dg.Out(dg.Nothing),
        description="Asks NetSuite for the key ranges of a derived record type, for the parents in the database.",
    )
    def plan(context: dg.OpExecutionContext) -> None:
        _plan(context, tenant)

    @dg.job(
        name=f"plan_derived_{tenant}",
        tags={names.TENANT: tenant, names.BATCHES: "0"},
        description=f"Plans what {tenant} imports of a derived record type once its parents are in. Started by itself.",
    )
    def job() -> None:
        plan()

    return job


def planning_sensor(tenant: str, job: dg.JobDefinition) -> dg.SensorDefinition:
    """The sensor that starts the planning of a tenant's derived record types when their parents are in."""

    @dg.sensor(
        name=f"planning_{tenant}",
        job=job,
        minimum_interval_seconds=LOOK_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"Has {tenant}'s derived record types planned when their parents are in.",
    )
    def sensor(context: dg.SensorEvaluationContext) -> Ticked:
        return or_skipped(tenant, partial(_ticked, context, tenant))

    return sensor


def _ticked(context: dg.SensorEvaluationContext, tenant: str) -> Ticked:
    requests, messages = planning_requests(context.instance, tenant)
    if requests:
        context.log.info("; ".join(messages))
        return dg.SensorResult(run_requests=requests)
    return dg.SkipReason("; ".join(messages) or "no open import has a derived record type to plan")


def planning_requests(instance: dg.DagsterInstance, tenant_name: str) -> tuple[list[dg.RunRequest], list[str]]:
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
    return requests, [f"{name}: {outcome.reason or outcome.finished}" for name, outcome in outcomes]


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


def _plan(context: dg.OpExecutionContext, tenant_name: str) -> None:
    import_id, name = context.run_tags.get(names.IMPORT), context.run_tags.get(names.PLANS)
    if import_id is None or name is None:
        raise dg.Failure("nothing to plan: an import starts this job by itself when it needs it", allow_retries=False)
    attempt = names.number(context.run_tags, names.ATTEMPT)
    show_life(context.instance, context.run_id)
    try:
        tenant = resources.settings().enabled_tenant(tenant_name)
        engine = resources.warehouse(tenant)
        try:
            done = _ask(context, tenant, import_id, name, attempt)
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
    circuit = TenantCircuit(engine, tenant)
    with NetSuiteClient(tenant, breaker=circuit) as client:
        # As for batches: waiting for a NetSuite that is down is no attempt.
        while circuit.await_answer(client.probe, import_id):
            with suppress(NotAnswering):
                planned = plan_derived(
                    engine,
                    import_id,
                    record_type,
                    parents,
                    attempt=attempt,
                    client=client,
                    batch_size=tenant.options(name).batch_size,
                    now=_now(),
                )
                if planned is None:
                    break
                return planned.unavailable or f"{name}: {planned.records} records in {len(planned.ranges)} batches"
    return f"{name} is not to be planned any more: nothing is done"


def _now() -> datetime:
    return datetime.now(UTC)
