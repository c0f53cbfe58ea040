"""The jobs that start, cancel, resume and reconcile imports, and sweep, from Dagster's Launchpad or its GraphQL.

Belongs here: their config, and what their runs show. Does not belong here: the doing, which is that of the commands
(``starting.py``, ``steering.py``, ``sweeping.py``). Such a run holds no slot but for single requests, and passes the
queue and its gate (``run_coordinator.py``): it begins at once.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

import dagster as dg
from pydantic import Field
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from nsimport_pipeline.defs import names, starting, steering, sweeping
from nsimport_pipeline.defs.saying import in_words
from nsimport_pipeline.defs.signs_of_life import show_life
from nsimport_pipeline.defs.tenants import ask_whether_it_answers, find_import
from nsimport_pipeline.errors import NsimportError, RefusedError
from nsimport_pipeline.settings import Tenant

_IMPORT = "Id of the import, as the run that started it shows it and the tag nsimport/import of its runs."


class StartConfig(dg.Config):
    """What is to be imported; the options are those of `nsimport import`."""

    tenant: str = Field(description="Tenant, as tenants.yaml names it.")
    record_types: list[str] = Field(
        description="Record types, such as sales_order; those they depend on are imported with them."
    )
    mode: Literal["full", "incremental"] = Field(
        default="full", description="full: every record; incremental: only those changed since the last import."
    )
    dependencies: bool = Field(
        default=True, description="False: only these record types, not those that they depend on."
    )
    wave_size: int | None = Field(
        default=None,
        description=f"Batches per wave, 1 to {starting.MOST_BATCHES:,}, instead of the tenant's setting.",
    )
    if_possible: bool = Field(
        default=False,
        description="True, as schedules ask: where nothing may begin now (one of these record types is being imported, "
        "the tenant is switched off, NetSuite does not answer), the run says so and ends well instead of failing.",
    )


class CancelConfig(dg.Config):
    """Which import to cancel, and how."""

    import_id: str = Field(description=_IMPORT)
    now: bool = Field(
        default=False, description="Also terminate its runs: batches in flight are rolled back, not finished."
    )


class ResumeConfig(dg.Config):
    """Which import to go on with."""

    import_id: str = Field(description=f"{_IMPORT} It is cancelled, failed or completed_with_failures.")


class ReconcileConfig(dg.Config):
    """What to compare; everything there is if both are left out."""

    import_id: str | None = Field(default=None, description=f"Only this import. {_IMPORT}")
    tenant: str | None = Field(default=None, description="Only this tenant, as tenants.yaml names it.")


class SweepConfig(dg.Config):
    """What to sweep; the options are those of `nsimport sweep`."""

    tenant: str = Field(description="Tenant, as tenants.yaml names it.")
    record_types: list[str] = Field(
        default=[], description="Record types, such as customer; all that were ever imported whole if left out."
    )
    if_possible: bool = Field(
        default=False,
        description="True, as schedules ask: where nothing may begin now (one of these is being swept, the tenant is "
        "switched off, NetSuite does not answer), the run says so and ends well instead of failing.",
    )


@dg.op(name="start", out=dg.Out(dg.Nothing), description="Checks, plans and writes an import down.")
def start_import(context: dg.OpExecutionContext, config: StartConfig) -> None:
    def opened(import_id: str) -> None:
        context.log.info(import_id)
        context.instance.add_run_tags(context.run_id, {names.STEERS: import_id})

    with _doing(context, f"no import of {', '.join(config.record_types)} was started for {config.tenant!r}"):
        try:
            asked = starting.ask(
                config.record_types,
                config.tenant,
                mode=config.mode,
                dependencies=config.dependencies,
                wave_size=config.wave_size,
            )
            if config.if_possible:
                _require_answers(context, asked.tenant, asked.engine)
            job, made = starting.start(asked, context.instance, on_opened=opened, say=context.log.info)
        except RefusedError as refused:
            _only_if(config.if_possible, context, refused)
            return
    facts = {"record_types": len(made.types), "records": made.records, "batches": made.batches}
    _show(context, starting.in_short(made), import_id=job.import_id, **facts, waves=len(made.waves))


@dg.op(name="cancel", out=dg.Out(dg.Nothing), description="Winds an import down.")
def cancel_import(context: dg.OpExecutionContext, config: CancelConfig) -> None:
    with _about(context, config.import_id, "was not cancelled"):
        tenant, engine, job = find_import(config.import_id)
        cancelled = steering.cancel(context.instance, tenant, engine, job, terminate=config.now)
    goes_on = "it is being cancelled; the job resume_import goes on with it"
    _show(context, goes_on if cancelled else f"it is over already: {job.state.value}", import_id=config.import_id)


@dg.op(name="resume", out=dg.Out(dg.Nothing), description="Puts what an import has not done back to be done.")
def resume_import(context: dg.OpExecutionContext, config: ResumeConfig) -> None:
    with _about(context, config.import_id, "was not resumed"):
        tenant, engine, job = find_import(config.import_id)
        batches = steering.resume(tenant, engine, job)
    _show(context, f"{batches} batches to do", import_id=config.import_id, batches=batches)


@dg.op(
    name="reconcile", out=dg.Out(dg.Nothing), description="Compares every state with what is really so, and mends it."
)
def reconcile_imports(context: dg.OpExecutionContext, config: ReconcileConfig) -> None:
    with _doing(context, "nothing was reconciled"):
        reports = steering.reconciled(context.instance, config.import_id, config.tenant)
    lines = [line for report in reports for line in steering.in_lines(report)]
    for line in lines:
        context.log.info(line)
    repaired = sum(len(report["repaired"]) for report in reports)
    context.add_output_metadata(
        {
            "report": dg.MetadataValue.md("\n".join(["```", *lines, "```"])),
            "reconciled": dg.MetadataValue.json(reports),
            "repairs": repaired,
        }
    )
    if failed := [report for report in reports if report["error"]]:
        first = f"{failed[0]['tenant']}: {failed[0]['error']}"
        raise dg.Failure(f"{len(failed)} of {len(reports)} tenants not reconciled; {first}", allow_retries=False)


@dg.op(name="sweep", out=dg.Out(dg.Nothing), description="Marks rows whose records NetSuite does not have any more.")
def sweep_records(context: dg.OpExecutionContext, config: SweepConfig) -> None:
    with _doing(context, f"{config.tenant!r} was not swept"):
        try:
            asked = sweeping.ask(config.record_types, config.tenant)
            if config.if_possible:
                _require_answers(context, asked.tenant, asked.engine)
            done = sweeping.sweep_all(asked, context.instance, say=context.log.info)
        except RefusedError as refused:
            _only_if(config.if_possible, context, refused)
            return
    for one in done:
        facts = {key: value for key, value in sweeping.document(one).items() if isinstance(value, int)}
        key = names.asset_key(config.tenant, one.record_type)
        context.log_event(dg.AssetObservation(key, description=sweeping.in_words(one), metadata=facts))
    context.add_output_metadata(
        {
            "report": dg.MetadataValue.md("\n".join(f"- {sweeping.in_words(one)}" for one in done)),
            "swept": dg.MetadataValue.json([sweeping.document(one) for one in done]),
            **{key: sum(getattr(one, key) for one in done) for key in ("requests", "deleted", "missing", "drifted")},
        }
    )
    if failed := [one for one in done if one.failure]:
        first = sweeping.in_words(failed[0])
        raise dg.Failure(f"{len(failed)} of {len(done)} record types not swept; {first}", allow_retries=False)


def steering_jobs() -> list[dg.JobDefinition]:
    """The jobs named in ``names.STEERING_JOBS``, in that order; each is one op."""
    jobs = {
        start_import: "Starts an import, as `nsimport import` does. The run ends when it is planned, and shows the "
        "import's id; the daemon carries it on.",
        cancel_import: "Cancels an import, as `nsimport cancel` does: batches in flight finish, nothing new starts.",
        resume_import: "Goes on with a cancelled, failed or partly failed import from its last good batch, as "
        "`nsimport resume` does.",
        reconcile_imports: "Compares every state with what is really so and mends it, as `nsimport reconcile` does. "
        "Safe at any time.",
        sweep_records: "Marks rows whose records NetSuite does not have any more, as `nsimport sweep` does: keys are "
        "compared by counts and sums, so it costs little. Safe beside imports.",
    }
    return [
        dg.GraphDefinition(name=name, node_defs=[op], description=description).to_job()
        for name, (op, description) in zip(names.STEERING_JOBS, jobs.items(), strict=True)
    ]


@contextmanager
def _about(context: dg.OpExecutionContext, import_id: str, failed: str) -> Iterator[None]:
    # So that it is found from the import, whatever comes of it.
    context.instance.add_run_tags(context.run_id, {names.STEERS: import_id[:255]})
    with _doing(context, f"{import_id} {failed}"):
        yield


@contextmanager
def _doing(context: dg.OpExecutionContext, failed: str) -> Iterator[None]:
    """Let others see that this process lives; what goes wrong becomes the first line of the run's failure."""
    show_life(context.instance, context.run_id)
    try:
        yield
    except (NsimportError, SQLAlchemyError) as error:
        raise dg.Failure(f"{failed}: {in_words(error)}", allow_retries=False) from None


def _only_if(if_possible: bool, context: dg.OpExecutionContext, refused: RefusedError) -> None:
    """Say why nothing was begun; or raise it, if that is a failure."""
    if not if_possible:
        raise refused
    context.log.info(f"nothing was begun: {refused}")
    context.add_output_metadata({"said": f"nothing was begun: {refused}"})


def _require_answers(context: dg.OpExecutionContext, tenant: Tenant, engine: Engine) -> None:
    """Raise RefusedError if NetSuite is known to be down, and still is: each import would be one that failed."""
    circuit = ask_whether_it_answers(context.instance, tenant, engine)
    if circuit is not None and circuit.confirmed:
        raise RefusedError(str(circuit))


def _show(context: dg.OpExecutionContext, said: str, *, import_id: str, **facts: int) -> None:
    context.log.info(f"{import_id}: {said}")
    shown: Mapping[str, Any] = {"import": import_id, "runs_of_import": names.runs_of(import_id), "said": said, **facts}
    context.add_output_metadata(shown)
