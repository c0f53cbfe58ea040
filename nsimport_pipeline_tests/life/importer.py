"""An import from its plan to its end in this process: the real thing without Dagster, by a clock that it is given.

Belongs here: what a daemon and its runs do for one import, one after the other. Does not belong here: when imports are
made, or what must be true after them (``course.py``).
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from zoneinfo import ZoneInfo

from sqlalchemy import Engine

from nsimport_pipeline.defs import resources, starting
from nsimport_pipeline.errors import ImportFailure
from nsimport_pipeline.imports import store
from nsimport_pipeline.imports.batch import RetryLog, Step, Workshop
from nsimport_pipeline.imports.columns import Columns
from nsimport_pipeline.imports.comparing import MODULI
from nsimport_pipeline.imports.derived import plan_derived, record_failure
from nsimport_pipeline.imports.execute import Throttle, execute
from nsimport_pipeline.imports.finish import take_checks, take_checks_of_changes
from nsimport_pipeline.imports.records import ImportJob, Mode, PlanSpec, RunSpec, RunView, TypePlan
from nsimport_pipeline.imports.settle import settle
from nsimport_pipeline.imports.snapshot import Rules
from nsimport_pipeline.imports.start import Request, abandon, open_import, write_plan
from nsimport_pipeline.imports.states import ImportState
from nsimport_pipeline.imports.sweep import sweep
from nsimport_pipeline.netsuite.client import NetSuiteClient
from nsimport_pipeline.netsuite.suiteql import selected
from nsimport_pipeline.settings import Tenant
from nsimport_pipeline.warehouse.migrate import ensure_control_tables
from nsimport_pipeline.warehouse.schema import ensure_table, target_table

WAIT = timedelta(seconds=30)
"""How far the clock is moved when an import waits for it."""
ROUNDS = 200


@dataclass
class Done:
    """What became of an import."""

    import_id: str
    state: ImportState
    reason: str | None = None
    rows_read: int = 0
    rows_written: int = 0
    deleted: int = 0
    checks_failed: list[str] = field(default_factory=list)


class Importer:
    """A tenant's imports. ``now`` is our own clock, which ``wait`` moves forward; nobody really waits."""

    def __init__(
        self,
        engine: Engine,
        tenant: Tenant,
        record_types: Sequence[str],
        *,
        now: Callable[[], datetime],
        wait: Callable[[timedelta], None],
    ) -> None:
        self.engine, self.tenant, self.record_types = engine, tenant, tuple(record_types)
        self.now, self.wait = now, wait
        self.client = NetSuiteClient(
            tenant, clock=lambda: now().timestamp(), sleep=lambda seconds: None, timeouts=(5.0, 30.0)
        )
        self._number = 0
        ensure_control_tables(engine)
        for name in record_types:
            ensure_table(engine, resources.record_type(tenant, name))

    def run(self, mode: Mode = "incremental", meanwhile: Callable[[], None] = lambda: None) -> Done:
        """An import that is asked for now. ``meanwhile`` is called once it is planned."""
        self._number += 1
        request = Request(self.record_types, self.record_types, mode)
        suffix = f"{self._number:04}"
        job = open_import(self.engine, self.tenant, request, now=self.now(), suffix=suffix)
        try:
            job = self._plan(job, request)
        except ImportFailure as failure:
            abandon(self.engine, job, str(failure), now=self.now())
            meanwhile()
            return Done(job.import_id, ImportState.FAILED, str(failure))
        meanwhile()
        return self._carry_out(job)

    def sweep(self, name: str) -> int:
        """Sweep a record type; how many rows were found to be gone. Raises ImportFailure."""
        record_type = resources.record_type(self.tenant, name)
        done = sweep(
            self.engine, record_type, client=self.client, overlap=timedelta(seconds=self.tenant.overlap),
            modulus=MODULI[0], now=self.now,
        )  # fmt: skip
        return done.deleted

    def close(self) -> None:
        self.client.close()
        self.engine.dispose()

    def _plan(self, job: ImportJob, request: Request) -> ImportJob:
        asked = starting.Asked(self.tenant, self.engine, resources.catalog(), request)
        tables = {name: target_table(resources.record_type(self.tenant, name)) for name in request.chosen}
        until = starting.netsuites_time(job, (self.client, self.client))
        changes = starting.changes_of(asked, until, ()) if request.mode == "incremental" else {}
        gone = starting.gone_of(asked, changes, tables, self.client, _silent)
        plan = starting.plan(asked, self.client, late=True, changes=changes, on_planned=_silent)
        removed = [name for name in request.chosen if resources.record_type(self.tenant, name).removes]
        return write_plan(
            self.engine, job, plan, tables=tables, until=until, gone=gone, removed=removed, now=self.now()
        )

    def _carry_out(self, job: ImportJob) -> Done:
        done, views = Done(job.import_id, job.state), dict[str, RunView]()
        for _ in range(ROUNDS):
            outcome = settle(
                self.engine, job.import_id, rules=Rules.of(self.tenant), now=self.now, runs=lambda: list(views.values())
            )
            if outcome.finished is not None:
                break
            for run_id, hold in outcome.release:
                views[run_id] = RunView(run_id, views[run_id].wave, views[run_id].number, views[run_id].outcome, hold)
            for plan in outcome.plan:
                self._plan_derived(job, plan)
                run_id = f"plan-{plan.record_type}-{plan.attempt}"
                views[run_id] = RunView(run_id, None, None, "succeeded", plans=(plan.record_type, plan.attempt))
            for spec in sorted(outcome.submit, key=lambda spec: (spec.wave, spec.number)):
                run_id = f"{spec.wave}.{spec.number}"
                self._run(job, spec, run_id, done)
                views[run_id] = RunView(run_id, spec.wave, spec.number, "succeeded")
            if not outcome.plan and not outcome.submit:
                self.wait(WAIT)
        with self.engine.connect() as connection:
            found = store.find_job(connection, job.import_id)
            plans = store.type_plans(connection, job.import_id)
        assert found is not None
        done.state, done.reason = found.state, found.failure_reason
        done.deleted += sum(plan.deleted for plan in plans)
        done.checks_failed = [f"{p.record_type}: {c.detail}" for p in plans for c in p.checks if not c.passed]
        return done

    def _plan_derived(self, job: ImportJob, spec: PlanSpec) -> None:
        record_type = resources.record_type(self.tenant, spec.record_type)
        parents = [resources.record_type(self.tenant, name) for name in record_type.derived_from]
        try:
            plan_derived(
                self.engine, job.import_id, record_type, parents, attempt=spec.attempt, client=self.client,
                batch_size=self.tenant.options(record_type.name).batch_size, now=self.now(),
            )  # fmt: skip
        except ImportFailure as failure:
            record_failure(
                self.engine, job.import_id, record_type.name, spec.attempt, failure, rules=self.tenant.retries,
                now=self.now(),
            )  # fmt: skip

    def _run(self, job: ImportJob, spec: RunSpec, run_id: str, done: Done) -> None:
        """What the process of a run does."""
        name = spec.record_type
        with self.engine.connect() as connection:
            plan = _of(name, store.type_plans(connection, job.import_id))
            batches = store.batches_of(connection, job.import_id, name, spec.partition_keys)
            pinned = store.pinned_ranges(connection, name)
            below = store.unfinished_below(connection, job.import_id, spec.level)
        record_type, parents = resources.of_plan(self.tenant, name, plan)
        throttle = Throttle(1)
        shop = Workshop(
            job=job, record_type=record_type, client=self.client, engine=self.engine, table=target_table(record_type),
            columns=Columns(selected(record_type)), retries=RetryLog(throttle), run_id=run_id,
            timezone=ZoneInfo(self.tenant.timezone), date_format=self.tenant.date_format,
            store_raw=self.tenant.store_raw, rules=self.tenant.retries, sleep=lambda seconds: None, now=self.now,
            parents=[target_table(parent) for parent in parents],
            step=Step(pinned, record_type.range_column, whole=plan.changed_since is None)
            if job.mode == "incremental" else None,
        )  # fmt: skip
        todo = [] if below else [batch for batch in batches if not batch.terminal]
        for result in execute(todo, shop, slots=None, throttle=throttle, stop=threading.Event()):
            done.rows_read += result.stats.rows_read
            done.rows_written += result.stats.rows_upserted
            done.deleted += result.stats.rows_deleted
        self._check(job, name, plan)
        settle(self.engine, job.import_id, rules=Rules.of(self.tenant), now=self.now)

    def _check(self, job: ImportJob, name: str, plan: TypePlan) -> None:
        """What the run that settles a record type's last batch does besides."""
        record_type, _ = resources.of_parents(self.tenant, resources.record_type(self.tenant, name), plan)
        with self.engine.connect() as connection:
            if store.unfinished_batches(connection, job.import_id, name):
                return
        keep = partial(store.record_checks, import_id=job.import_id, record_type=name, now=self.now())
        share = self.tenant.rejected_share
        if plan.changed_since is not None:
            checks = take_checks_of_changes(self.engine, job.import_id, record_type, rejected_share=share)
            with self.engine.begin() as connection:
                keep(connection, checks=checks, source_count=None, table_count=None, in_sync=True)
            return
        try:
            source = self.client.count(record_type, None, plan.upper_bound).n
        except ImportFailure:
            source = None
        count, checks = take_checks(
            self.engine, job.import_id, record_type, resources.catalog(), source=source, rejected_share=share
        )
        with self.engine.begin() as connection:
            keep(
                connection, checks=checks, source_count=count and count.source, table_count=count and count.table,
                in_sync=count and count.in_sync,
            )  # fmt: skip


def _of(name: str, plans: Sequence[TypePlan]) -> TypePlan:
    return next(plan for plan in plans if plan.record_type == name)


def _silent(_: object) -> None:
    """Nobody is told."""
