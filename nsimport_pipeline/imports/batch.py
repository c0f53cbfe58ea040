"""The work of one batch: claim, fetch, transform, write rows and state in one transaction, or record the failure.

Belongs here: what happens to one batch from claim to outcome. Does not belong here: which batches, how many at once,
under which slot (``execute.py``).
"""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Literal
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, Engine, Table
from sqlalchemy.exc import SQLAlchemyError

from nsimport_pipeline.errors import AccessDenied, Category, ImportFailure, NsimportError, TimedOut, UnknownColumn
from nsimport_pipeline.imports import store
from nsimport_pipeline.imports.failures import after_failure
from nsimport_pipeline.imports.records import Batch, BatchStats, ImportJob
from nsimport_pipeline.imports.states import BatchState, ImportState
from nsimport_pipeline.netsuite.client import Fetched, NetSuiteClient
from nsimport_pipeline.netsuite.retrying import RetryEvent, RetryListener
from nsimport_pipeline.netsuite.suiteql import Selected, without
from nsimport_pipeline.record_types.criteria import RecordType
from nsimport_pipeline.record_types.transform import Transformed, transform
from nsimport_pipeline.warehouse.deletes import mark_absent
from nsimport_pipeline.warehouse.errors import classify
from nsimport_pipeline.warehouse.upsert import upsert

DATABASE_RETRY_DELAYS = (0.1, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 15.0, 15.0)
"""Seconds between attempts at a batch's transaction while the database is busy or gone: about a minute in all."""


class Interrupted(Exception):
    """The run is being stopped: give the batch back untouched."""


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a batch that a run took up."""

    batch: Batch
    outcome: Literal["completed", "retrying", "failed", "released", "not_ours"]
    stats: BatchStats = field(default_factory=BatchStats)
    category: Category | None = None
    reason: str | None = None

    @property
    def settled(self) -> bool:
        """Whether the batch will not be worked on again."""
        return self.outcome in ("completed", "failed")


@dataclass(slots=True)
class Columns:
    """The columns fetched of a record type. Shrinks when the account turns out not to have one."""

    selected: Sequence[Selected]
    missing: dict[str, str] = field(default_factory=dict)
    """NetSuite columns that were left out, and why."""

    def drop(self, column: str, why: str) -> bool:
        """Leave ``column`` out from now on. False if that changes nothing."""
        kept = without(self.selected, [column])
        if len(kept) == len(self.selected):
            return False
        self.selected = kept
        self.missing[column] = why
        return True


class RetryLog:
    """Requests of the current batch that failed and were sent again, kept for each worker thread by itself."""

    def __init__(self, also: RetryListener) -> None:
        self._also = also
        self._own = threading.local()

    def on_retry(self, event: RetryEvent) -> None:
        self._also.on_retry(event)
        self._own.events = [*getattr(self._own, "events", ()), event]

    def take(self) -> list[RetryEvent]:
        """The calling thread's events since it last took them."""
        events: list[RetryEvent] = getattr(self._own, "events", [])
        self._own.events = []
        return events


@dataclass(frozen=True)
class Workshop:
    """What the workers of a run share. Everything in it is safe for many threads."""

    job: ImportJob
    record_type: RecordType
    client: NetSuiteClient
    engine: Engine
    table: Table
    columns: Columns
    retries: RetryLog
    run_id: str
    timezone: ZoneInfo
    store_raw: bool
    sleep: Callable[[float], None]
    """Raises Interrupted when the run is being stopped."""
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    timer: Callable[[], float] = time.perf_counter


def work_on(batch: Batch, shop: Workshop) -> Result:
    """Do one batch. Every expected failure becomes a Result; what is raised ends the run."""
    try:
        with shop.engine.begin() as connection:
            if not store.claim_batch(connection, batch, shop.run_id, shop.now()):
                return Result(batch, "not_ours")
        batch = replace(batch, state=BatchState.PROCESSING, run_id=shop.run_id)
        shop.retries.take()
        try:
            fetched = _fetch(batch, shop)
            started = shop.timer()
            transformed = transform(shop.record_type, fetched.items, timezone=shop.timezone, store_raw=shop.store_raw)
            return _write(batch, shop, fetched, transformed, shop.timer() - started)
        except Interrupted:
            with shop.engine.begin() as connection:
                store.release_batch(connection, batch, shop.run_id)
            return Result(batch, "released")
        except NsimportError as error:
            failure = error if isinstance(error, ImportFailure) else ImportFailure(str(error))
            return _record_failure(batch, shop, failure)
    except SQLAlchemyError as error:
        # The database is not there to note the failure: the batch is folded once the run has ended.
        raise classify(error) from None


def _fetch(batch: Batch, shop: Workshop) -> Fetched:
    while True:
        try:
            return shop.client.fetch_range(shop.record_type, batch.range.low, batch.range.high, shop.columns.selected)
        except UnknownColumn as error:
            if not shop.columns.drop(error.column, str(error)):
                raise


def _write(
    batch: Batch, shop: Workshop, fetched: Fetched, transformed: Transformed, transform_seconds: float
) -> Result:
    """Rows, rejected rows and the batch's state, in one transaction; again while the database is busy or gone."""
    started, retries = shop.timer(), shop.retries.take()
    for delay in (*DATABASE_RETRY_DELAYS, None):
        try:
            stats = _write_once(batch, shop, fetched, transformed, retries, transform_seconds, started)
            return Result(batch, "completed" if stats else "not_ours", stats or BatchStats())
        except SQLAlchemyError as error:
            failure: ImportFailure = classify(error)
        except TimedOut as error:
            failure = error
        if not isinstance(failure, TimedOut) or delay is None:
            raise failure
        shop.sleep(delay)
    raise AssertionError("unreachable")


def _write_once(
    batch: Batch,
    shop: Workshop,
    fetched: Fetched,
    transformed: Transformed,
    retries: list[RetryEvent],
    transform_seconds: float,
    started: float,
) -> BatchStats | None:
    now = shop.now()
    with shop.engine.begin() as connection:
        written = upsert(
            connection,
            shop.table,
            transformed.columns,
            transformed.rows,
            raws=transformed.raws,
            import_id=shop.job.import_id,
            imported_at=now.replace(tzinfo=None),
        )
        rejected = [*transformed.rejected, *written.rejected]
        deleted = mark_absent(
            connection,
            shop.table,
            batch.range.low,
            batch.range.high,
            import_id=shop.job.import_id,
            present={row.refid for row in rejected if row.refid is not None},
            deleted_at=now.replace(tzinfo=None),
        )
        statements = written.statements + 3
        if rejected or batch.attempts:
            store.replace_rejected(connection, shop.job.import_id, batch.range, rejected, now)
            statements += 1 + bool(rejected)
        statements += _record_retries(connection, batch, shop, retries, now)
        stats = BatchStats(
            rows_read=len(fetched.items),
            rows_upserted=written.written,
            rows_rejected=len(rejected),
            rows_deleted=deleted,
            requests=fetched.requests,
            retries=fetched.retries,
            statements=statements,
            slot_wait_seconds=fetched.waited_seconds,
            fetch_seconds=max(0.0, fetched.seconds - fetched.waited_seconds),
            transform_seconds=transform_seconds,
            write_seconds=shop.timer() - started,
        )
        if not store.complete_batch(connection, batch, shop.run_id, stats, now):
            # Somebody else settled it meanwhile: these rows are not ours to write.
            connection.rollback()
            return None
    return stats


def _record_failure(batch: Batch, shop: Workshop, failure: ImportFailure) -> Result:
    now = shop.now()
    verdict = after_failure(failure.category, batch.attempts + 1, shop.job.retry_attempts)
    to = BatchState.RETRYING if verdict.retry else BatchState.FAILED
    with shop.engine.begin() as connection:
        taken = store.fail_batch(
            connection,
            batch,
            to=to,
            category=failure.category,
            reason=str(failure),
            now=now,
            not_before=now + timedelta(seconds=verdict.delay) if verdict.retry else None,
        )
        if not taken:
            return Result(batch, "not_ours")
        store.record_error(
            connection,
            shop.job.import_id,
            failure.category,
            str(failure),
            now,
            record_type=batch.record_type,
            partition_key=batch.range.partition_key,
            column=getattr(failure, "column", None),
            attempt=batch.attempts + 1,
            final=not verdict.retry,
        )
        _record_retries(connection, batch, shop, shop.retries.take(), now)
        if isinstance(failure, AccessDenied):
            store.move_import(connection, shop.job.import_id, ImportState.CANCELLING, now, str(failure))
    outcome: Literal["retrying", "failed"] = "retrying" if verdict.retry else "failed"
    return Result(batch, outcome, category=failure.category, reason=str(failure))


def _record_retries(
    connection: Connection, batch: Batch, shop: Workshop, retries: list[RetryEvent], now: datetime
) -> int:
    """Keep how often requests of a batch failed and were sent again, by category. Returns the statements it took."""
    by_category: dict[Category, list[RetryEvent]] = {}
    for event in retries:
        by_category.setdefault(event.category, []).append(event)
    for category, events in by_category.items():
        store.record_error(
            connection,
            shop.job.import_id,
            category,
            events[-1].message,
            now,
            record_type=batch.record_type,
            partition_key=batch.range.partition_key,
            attempt=batch.attempts,
            occurrences=len(events),
        )
    return len(by_category)
