"""What a Dagster run of one record type does: work its partitions and report each as it is committed.

Belongs here: the bridge from a step's context to ``imports/execute.py`` and back to Dagster events.
Does not belong here: the asset's definition (``assets.py``) or the work itself.
"""

import contextlib
import ctypes
import gc
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from zoneinfo import ZoneInfo

import dagster as dg
from sqlalchemy import Engine, Table
from sqlalchemy.exc import SQLAlchemyError

from nsimport_pipeline.defs import names, resources
from nsimport_pipeline.defs.checks import TypeChecks
from nsimport_pipeline.defs.materialization import batch_materializations
from nsimport_pipeline.defs.saying import failed_batches, failed_run
from nsimport_pipeline.defs.signs_of_life import show_life
from nsimport_pipeline.defs.slots import PoolSlots
from nsimport_pipeline.errors import NsimportError
from nsimport_pipeline.imports import store
from nsimport_pipeline.imports.account import record_left_out
from nsimport_pipeline.imports.batch import Result, RetryLog, Step, Workshop, await_netsuite
from nsimport_pipeline.imports.breaker import TenantCircuit
from nsimport_pipeline.imports.columns import Columns
from nsimport_pipeline.imports.execute import Throttle, execute
from nsimport_pipeline.imports.partial import partial_parents_of
from nsimport_pipeline.imports.records import Batch, BatchStats, ImportJob, new_import_id
from nsimport_pipeline.imports.rollout import require_on
from nsimport_pipeline.imports.settle import settle
from nsimport_pipeline.imports.sizes import climber_of, pace_of
from nsimport_pipeline.imports.snapshot import Rules
from nsimport_pipeline.imports.start import manual_import
from nsimport_pipeline.imports.states import ACTIVE_IMPORTS, BatchState
from nsimport_pipeline.imports.wanted import Interrupted, while_wanted
from nsimport_pipeline.imports.waves import REQUESTS_PER_PROCESS
from nsimport_pipeline.netsuite.client import NetSuiteClient
from nsimport_pipeline.netsuite.suiteql import selected
from nsimport_pipeline.record_types.criteria import RecordType
from nsimport_pipeline.record_types.graph import levels
from nsimport_pipeline.settings import Tenant
from nsimport_pipeline.warehouse.engine import read_only
from nsimport_pipeline.warehouse.migrate import ensure_control_tables
from nsimport_pipeline.warehouse.schema import ensure_table, target_table

M_ARENA_MAX = -8
"""Of glibc's malloc.h."""
GARBAGE_THRESHOLD = 50_000
"""Containers made before the youngest are looked through."""
SWITCH_SECONDS = 0.0005
PROGRESS_SECONDS = 1.0
"""How often a run's progress tag is written at most."""

StepEvent = dg.AssetMaterialization | dg.AssetCheckResult


def materialize(context: dg.AssetExecutionContext, tenant_name: str, record_type_name: str) -> Iterator[StepEvent]:
    """Import the partitions of this run. Yields a materialization for each batch as soon as it is committed.

    A run of checks only takes those of the latest import again.

    Raises Failure, which names what failed first, if a batch did not make it; the others stay materialized.
    """
    try:
        tenant = resources.settings().tenant(tenant_name)
        record_type = resources.record_type(tenant, record_type_name)
        run = _Run(context, tenant, record_type)
        yield from run.events() if context.selected_asset_keys else run.checks.alone()
    except (NsimportError, SQLAlchemyError) as error:
        raise failed_run(f"{tenant_name}/{record_type_name}", error, context.run.tags.get(names.IMPORT)) from None


class _Run:
    """One run: its import, batches, workers and progress."""

    def __init__(self, context: dg.AssetExecutionContext, tenant: Tenant, record_type: RecordType) -> None:
        self.context = context
        self.tenant = tenant
        self.record_type = record_type
        self.key = names.asset_key(tenant.name, record_type.name)
        self.engine: Engine = resources.warehouse(tenant)
        self.stop = threading.Event()
        self.done = 0
        self.failed: list[Result] = []
        self.partial_parents: tuple[str, ...] = ()
        self.parents: list[Table] = []
        self.step: Step | None = None
        self.checks = TypeChecks(context, tenant, record_type, self.engine)

    def events(self) -> Iterator[StepEvent]:
        show_life(self.context.instance, self.context.run.run_id)
        _prepare_process()
        ensure_control_tables(self.engine)
        for change in ensure_table(self.engine, self.record_type):
            self.context.log.info(str(change))
        job = self._job()
        if job is None:
            self.context.log.warning(f"import {self.context.run.tags[names.IMPORT]} is over: nothing is done")
            return
        self._look_at_parents(job)
        place = (job.import_id, self.record_type.name, self.context.partition_keys)
        with self.engine.begin() as connection:
            batches = store.batches_of(connection, *place)
            if store.complete_counted(connection, batches, self.context.run.run_id, _now()):
                batches = store.batches_of(connection, *place)
        with read_only(self.engine).connect() as connection:
            below = store.unfinished_below(connection, job.import_id, batches[0].level) if batches else 0
            done_before = [(b, store.batch_stats(connection, b)) for b in batches if b.state is BatchState.COMPLETED]
            # Lower levels are settled by now.
            self.partial_parents = partial_parents_of(
                connection, job.import_id, self.record_type.name, resources.catalog()
            )
        if self.partial_parents:
            self.context.log.warning(f"built on partial data of {', '.join(self.partial_parents)}")
        # Completed by an earlier run whose event may have been lost with its process: said again, not done again.
        for batch, stats in done_before:
            self.done += 1
            yield from self._materializations(job, batch, stats)
        # What failed for good is done again only if somebody executes a run again by hand.
        again = self.context.run.parent_run_id is not None
        work = [b for b in batches if not b.terminal or (again and b.state is not BatchState.COMPLETED)]
        self.context.log.info(f"import {job.import_id}: {len(work)} batches of {self.record_type.name} to do")
        if below:
            # The gate knows the runs that Dagster has; one that was deleted there holds nobody back.
            self.context.log.warning(f"{below} batches of lower levels are unfinished: these are left to a later run")
            work = []
        throttle = Throttle(min(self.tenant.slots, REQUESTS_PER_PROCESS))
        retries = RetryLog(throttle)
        pause = while_wanted(self.engine, job.import_id, self._sleep)
        circuit = TenantCircuit(self.engine, self.tenant, sleep=pause)
        with NetSuiteClient(self.tenant, sleep=pause, listener=retries, breaker=circuit) as client:
            shop = self._workshop(job, client, retries, circuit)
            yield from self._work(job, work, shop, throttle)
            self.stop.clear()  # the crew is gone; a wait for the final count need not be broken off
            yield from self.checks.at_the_end(job, client, partial(await_netsuite, shop))
        settle(self.engine, job.import_id, rules=Rules.of(self.tenant), now=_now)
        if self.failed:
            raise failed_batches(self.tenant.name, len(batches), self.failed, job.import_id)

    def _work(
        self, job: ImportJob, work: list[Batch], shop: Workshop, throttle: Throttle
    ) -> Iterator[dg.AssetMaterialization]:
        slots = PoolSlots(self.context.instance, self.tenant.name, self.context.run.run_id)
        told = time.monotonic()

        def closing() -> None:
            # NetSuite counts while this run's last batches, which may be the record type's last, are written.
            self.checks.count_source(job, shop.client, partial(await_netsuite, shop), self.context.partition_keys)

        climber = climber_of(self.engine, job.import_id, self.record_type.name, throttle.most, _now)
        for result in execute(
            work, shop, slots=slots, throttle=throttle, stop=self.stop, climber=climber, closing=closing
        ):
            self.done += result.settled
            if result.outcome == "completed":
                yield from self._materializations(job, result.batch, result.stats)
            elif result.reason is not None:
                self.failed.append(result)
                self.context.log.warning(
                    f"batch {result.batch.range.partition_key}: {result.category}: {result.reason}"
                )
            if time.monotonic() - told >= PROGRESS_SECONDS:
                told = time.monotonic()
                self._tell_progress()
        self._tell_progress()
        if not shop.pace.sizing.full:
            self.context.log.info(f"NetSuite is asked for pages of {shop.pace.sizing}")
        for column in shop.columns.left_out:
            self.context.log.warning(f"column {column.column} left out from now on: {column.reason}")

    def _job(self) -> ImportJob | None:
        """The import this run belongs to; one of its own if it was started, or executed again, by hand.

        None if its import is over: it was cancelled while the run was on its way.
        """
        import_id = self.context.run.tags.get(names.IMPORT)
        with read_only(self.engine).connect() as connection:
            job = store.find_job(connection, import_id) if import_id else None
        if job is not None and job.state in ACTIVE_IMPORTS:
            return job
        if job is not None and self.context.run.parent_run_id is None:
            return None
        require_on(self.engine, self.tenant)
        now = _now()
        import_id = new_import_id(self.tenant.name, now, self.context.run.run_id[:8])
        # Tagged first: an import without a run would look left behind.
        own = {names.IMPORT: import_id, names.WAVE: "1", names.RUN: "1"}
        self.context.instance.add_run_tags(self.context.run.run_id, own)
        return manual_import(
            self.engine,
            self.tenant,
            self.record_type.name,
            levels(resources.catalog())[self.record_type.name],
            self.context.partition_keys,
            import_id=import_id,
            now=now,
        )

    def _look_at_parents(self, job: ImportJob) -> None:
        """Narrow the record type to what the import asks for: a derived one's parents, or changes."""
        with read_only(self.engine).connect() as connection:
            plans = store.type_plans(connection, job.import_id)
            pinned = store.pinned_ranges(connection, self.record_type.name) if job.mode == "incremental" else []
        plan = next(plan for plan in plans if plan.record_type == self.record_type.name)
        self.record_type, parents = resources.of_plan(self.tenant, self.record_type.name, plan)
        self.step = (
            Step(pinned, self.record_type.range_column, whole=plan.changed_since is None)
            if job.mode == "incremental"
            else None
        )
        self.checks.record_type = self.record_type
        self.parents = [target_table(parent) for parent in parents]

    def _workshop(self, job: ImportJob, client: NetSuiteClient, retries: RetryLog, circuit: TenantCircuit) -> Workshop:
        with read_only(self.engine).connect() as connection:
            missing = [known.column for known in store.left_out(connection, self.record_type.name)]
        return Workshop(
            job=job,
            record_type=self.record_type,
            client=client,
            engine=self.engine,
            table=target_table(self.record_type),
            columns=Columns(
                selected(self.record_type, missing=missing),
                lambda found: record_left_out(self.engine, job.import_id, self.record_type.name, found, _now()),
            ),
            retries=retries,
            run_id=self.context.run.run_id,
            timezone=ZoneInfo(self.tenant.timezone),
            date_format=self.tenant.date_format,
            store_raw=self.tenant.store_raw,
            rules=self.tenant.retries,
            sleep=self._sleep,
            pace=pace_of(self.engine, job.import_id, self.record_type.name, _now),
            circuit=circuit,
            parents=self.parents,
            step=self.step,
        )

    def _sleep(self, seconds: float) -> None:
        if self.stop.wait(seconds):
            raise Interrupted

    def _tell_progress(self) -> None:
        self.context.instance.add_run_tags(self.context.run.run_id, {names.DONE: str(self.done)})

    def _materializations(self, job: ImportJob, batch: Batch, stats: BatchStats) -> list[dg.AssetMaterialization]:
        return batch_materializations(self.key, job.import_id, batch, stats, self.partial_parents)


def _prepare_process() -> None:
    """Set the interpreter up for threads that receive and write thousands of rows a second."""
    # A fetcher takes the interpreter for a moment after each piece of an answer it received; by default it would wait
    # 5 ms each time for a writer to let go of it.
    sys.setswitchinterval(SWITCH_SECONDS)
    # Rows are many containers without cycles; looking for cycles among them, and in all of Dagster, would take a tenth
    # of the time.
    gc.freeze()
    gc.set_threshold(GARBAGE_THRESHOLD)
    # By default glibc keeps an arena for each thread, each with a batch's leavings in it.
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, 2)


def _now() -> datetime:
    return datetime.now(UTC)
