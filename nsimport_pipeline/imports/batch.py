"""The work of one batch, in two halves: claim and fetch, which needs a slot; transform and write, which needs none.

Belongs here: what happens to one batch from claim to outcome. Does not belong here: which batches, how many at once,
under which slot (``execute.py``).
"""

import threading
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Literal, TypeVar
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, Engine, Table
from sqlalchemy.exc import SQLAlchemyError

from nsimport_pipeline.errors import (
    AccessDenied,
    Category,
    DatabaseSchemaError,
    ImportFailure,
    NotAnswering,
    NsimportError,
    ServerError,
    TimedOut,
)
from nsimport_pipeline.imports import store
from nsimport_pipeline.imports.breaker import TenantCircuit
from nsimport_pipeline.imports.columns import ONCE, Ask, Columns
from nsimport_pipeline.imports.failures import after_failure
from nsimport_pipeline.imports.partitions import touched
from nsimport_pipeline.imports.records import Batch, BatchStats, ImportJob, KeyRange
from nsimport_pipeline.imports.states import BatchState, ImportState
from nsimport_pipeline.imports.wanted import Interrupted
from nsimport_pipeline.netsuite.client import Fetched, NetSuiteClient
from nsimport_pipeline.netsuite.retrying import Allowance, RetryEvent, RetryListener
from nsimport_pipeline.netsuite.sizing import Pace
from nsimport_pipeline.netsuite.suiteql import Selected, parent_alias
from nsimport_pipeline.record_types.criteria import RecordType
from nsimport_pipeline.record_types.transform import RejectedRow, Transformed, transform, unfilled_columns
from nsimport_pipeline.retry_settings import Retries
from nsimport_pipeline.warehouse.deletes import mark_absent
from nsimport_pipeline.warehouse.errors import classify
from nsimport_pipeline.warehouse.parents import delete_unwritten, parents_there
from nsimport_pipeline.warehouse.unchanged import differing
from nsimport_pipeline.warehouse.upsert import upsert

_T = TypeVar("_T")

DATABASE_RETRY_DELAYS = (0.1, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 15.0, 15.0)
"""Seconds between attempts at a batch's transaction while the database is busy or gone: about a minute in all."""


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a batch that a run took up."""

    batch: Batch
    outcome: Literal["completed", "retrying", "failed", "released", "put_off", "not_ours"]
    """``put_off``: given back because NetSuite is not answering; to be taken up again when it is."""
    stats: BatchStats = field(default_factory=BatchStats)
    category: Category | None = None
    reason: str | None = None

    @property
    def settled(self) -> bool:
        """Whether the batch will not be worked on again."""
        return self.outcome in ("completed", "failed")


@dataclass(frozen=True, slots=True)
class Step:
    """What is different in an incremental import: rows that are as they were are not written."""

    pinned: Sequence[KeyRange]
    """The partitions, to tell which of them were touched."""
    column: str = "refid"
    """The column that they are ranges of."""
    whole: bool = False
    """Whether all records of a batch's range are fetched, so that a row that was not is gone from NetSuite."""


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
    date_format: str
    store_raw: bool
    rules: Retries
    sleep: Callable[[float], None]
    """Raises Interrupted when the run is being stopped."""
    pace: Pace = field(default_factory=Pace)
    circuit: TenantCircuit | None = None
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    parents: Sequence[Table] = ()
    """Of a derived record type: the tables of the records that its records are part of."""
    timer: Callable[[], float] = time.perf_counter
    step: Step | None = None
    """Of an incremental import."""


@dataclass(frozen=True, slots=True)
class Page:
    """A batch's records, complete and in memory, on their way to the database."""

    batch: Batch
    fetched: Fetched
    columns: tuple[Selected, ...]
    """What was asked for."""
    retries: list[RetryEvent]
    """Requests that failed on the way."""


def fetch(batch: Batch, shop: Workshop) -> Page | Result:
    """Claim a batch and get its records: all that needs a slot. A failure is recorded and returned as a Result.

    Raises ImportFailure if the database is not there to claim it, which ends the run.
    """
    if not _persistently(shop, lambda c: store.claim_batch(c, batch, shop.run_id, shop.now())):
        return Result(batch, "not_ours")
    batch = replace(batch, state=BatchState.PROCESSING, run_id=shop.run_id)
    shop.retries.take()
    try:
        fetched, columns = _fetch_range(batch, shop)
        return Page(batch, fetched, columns, shop.retries.take())
    except Interrupted:
        return release(batch, shop)
    except NotAnswering:
        return replace(release(batch, shop), outcome="put_off")
    except Exception as error:
        return _record_failure(batch, shop, _as_failure(error), shop.retries.take())


def await_netsuite(shop: Workshop) -> None:
    """Wait until NetSuite answers again. Raises Interrupted."""
    if shop.circuit is not None:
        shop.circuit.await_answer(shop.client.probe)


def keep(page: Page, shop: Workshop) -> Result:
    """Transform and write a fetched batch: rows and state in one transaction. A failure is recorded and returned.

    Raises ImportFailure if the database is not there to note a failure; the batch is folded once the run has ended.
    """
    started = shop.timer()
    try:
        transformed = transform(
            shop.record_type,
            page.fetched.items,
            timezone=shop.timezone,
            date_format=shop.date_format,
            store_raw=shop.store_raw,
        )
        written = _write(page, shop, transformed, started)
    except Interrupted:
        return release(page.batch, shop)
    except Exception as error:
        return _record_failure(page.batch, shop, _as_failure(error), page.retries)
    return Result(page.batch, "completed" if written else "not_ours", written or BatchStats())


def release(batch: Batch, shop: Workshop) -> Result:
    """Give a claimed batch back untouched; costs no attempt."""
    with shop.engine.begin() as connection:
        store.release_batch(connection, batch, shop.run_id)
    return Result(batch, "released")


def _as_failure(error: Exception) -> ImportFailure:
    if isinstance(error, ImportFailure):
        return error
    if isinstance(error, SQLAlchemyError):
        return classify(error)
    if isinstance(error, NsimportError):
        return ImportFailure(str(error))
    # Only the kind: the text of an unexpected error may hold a record's values.
    return ImportFailure(f"unexpected {type(error).__name__} while the batch was worked on: please report it")


def _fetch_range(batch: Batch, shop: Workshop) -> tuple[Fetched, tuple[Selected, ...]]:
    allowance = Allowance(shop.client.tenant.batch_timeout, shop.timer)
    client = shop.client.within(allowance)

    def by(client: NetSuiteClient) -> Ask[Fetched]:
        return lambda columns: client.fetch_range(
            shop.record_type,
            batch.range.low,
            batch.range.high,
            columns,
            pace=shop.pace,
            expected=batch.range.expected,
        )

    try:
        return shop.columns.fetch(by(client), by(client.following(ONCE)))
    except ServerError:
        # The search for a bad column may have ended for lack of time.
        allowance.check()
        raise


def _persistently(shop: Workshop, work: Callable[[Connection], _T]) -> _T:
    """Run one transaction; again while the database is busy or gone, for about a minute.

    Raises ImportFailure as ``classify`` has it, and Interrupted.
    """
    for delay in (*DATABASE_RETRY_DELAYS, None):
        try:
            with shop.engine.begin() as connection:
                return work(connection)
        except (SQLAlchemyError, TimedOut) as error:
            failure = error if isinstance(error, TimedOut) else classify(error)
        if not isinstance(failure, TimedOut) or delay is None:
            raise failure
        shop.sleep(delay)
    raise AssertionError("unreachable")


def _write(page: Page, shop: Workshop, transformed: Transformed, started: float) -> BatchStats | None:
    """Rows, rejected rows and the batch's state. None if somebody else settled the batch meanwhile."""
    transform_seconds, begun = shop.timer() - started, shop.timer()
    try:
        return _persistently(shop, lambda c: _write_once(c, page, shop, transformed, transform_seconds, begun))
    except _Lost:
        # Or by us: the connection may have broken after the commit and before the word that it was done.
        return _persistently(shop, lambda c: store.stats_if_completed_by(c, page.batch, shop.run_id))


class _Lost(Exception):
    """The batch is not ours any more: what was written for it is rolled back."""


def _write_once(
    connection: Connection,
    page: Page,
    shop: Workshop,
    transformed: Transformed,
    transform_seconds: float,
    begun: float,
) -> BatchStats:
    now, batch, fetched = shop.now(), page.batch, page.fetched
    derived = bool(shop.record_type.derived_from)
    orphans: list[RejectedRow] = []
    if derived:
        transformed, orphans = _part_orphans(connection, shop, transformed)
    unfilled = unfilled_columns(shop.record_type, [column.alias for column in page.columns])
    unchanged: set[int] = set()
    if shop.step is not None:
        transformed, unchanged = _part_unchanged(connection, shop, transformed, unfilled)
    written = upsert(
        connection,
        shop.table,
        transformed.columns,
        transformed.rows,
        raws=transformed.raws,
        import_id=shop.job.import_id,
        imported_at=now.replace(tzinfo=None),
        keep=unfilled,
    )
    rejected = [*transformed.rejected, *written.rejected]
    present = {row.refid for row in rejected if row.refid is not None} | unchanged
    rejected += orphans
    low, high, import_id = batch.range.low, batch.range.high, shop.job.import_id
    of_changes = shop.step is not None and not shop.step.whole
    deleted_at = None if shop.record_type.removes else now.replace(tzinfo=None)
    bereft: list[int] = []
    deleted = 0
    if derived:
        parent = parent_alias(shop.record_type) or ""
        bereft = delete_unwritten(
            connection,
            shop.table,
            shop.record_type.range_column,
            low,
            high,
            import_id=import_id,
            present=present,
            parents={int(item[parent]) for item in fetched.items} if of_changes else None,
            deleted_at=deleted_at,
        )
        deleted = len(bereft)
    elif not of_changes:
        deleted = mark_absent(
            connection,
            shop.table,
            low,
            high,
            import_id=import_id,
            present=present,
            deleted_at=deleted_at,
        )
    statements = written.statements + 3 + derived + (shop.step is not None)
    if rejected or batch.rejected:
        store.replace_rejected(connection, shop.job.import_id, batch.range, rejected, now)
        statements += 1 + bool(rejected)
    statements += _record_retries(connection, batch, shop, page.retries, now)
    stats = BatchStats(
        rows_read=len(fetched.items),
        rows_upserted=written.written,
        rows_rejected=len(rejected),
        rows_deleted=deleted,
        touched=_touched(batch, shop.step, transformed, written.rejected, deleted, bereft),
        requests=fetched.requests,
        retries=fetched.retries,
        statements=statements,
        slot_wait_seconds=fetched.waited_seconds,
        fetch_seconds=max(0.0, fetched.seconds - fetched.waited_seconds),
        transform_seconds=transform_seconds,
        write_seconds=shop.timer() - begun,
    )
    if not store.complete_batch(connection, batch, shop.run_id, stats, now):
        raise _Lost
    return stats


def _part_unchanged(
    connection: Connection, shop: Workshop, transformed: Transformed, unfilled: Collection[str]
) -> tuple[Transformed, set[int]]:
    """The rows that are new or differ from what is stored, and the ids of the others."""
    changed = differing(connection, shop.table, transformed.columns, transformed.rows, keep=unfilled)
    refid = transformed.columns.index("refid")
    same = {row[refid] for row in transformed.rows} - {transformed.rows[n][refid] for n in changed}
    rows, raws = [transformed.rows[n] for n in changed], [transformed.raws[n] for n in changed]
    return replace(transformed, rows=rows, raws=raws), same


def _touched(
    batch: Batch,
    step: Step | None,
    transformed: Transformed,
    refused: Sequence[RejectedRow],
    deleted: int,
    bereft: Sequence[int],
) -> dict[str, int] | None:
    """Rows written or deleted by partition; None if the batch is one. ``bereft``: the parent of each deleted row."""
    if step is None:
        return None
    key, refid = transformed.columns.index(step.column), transformed.columns.index("refid")
    unwritten = {row.refid for row in refused}
    keys = [row[key] for row in transformed.rows if row[refid] not in unwritten]
    if step.whole:
        return {batch.range.partition_key: len(keys) + deleted} if keys or deleted else {}
    return touched(step.pinned, [*keys, *bereft])


def _part_orphans(
    connection: Connection, shop: Workshop, transformed: Transformed
) -> tuple[Transformed, list[RejectedRow]]:
    """The rows whose parents are in the database; the others as rejected ones, for a parent's batch or row failed."""
    column = shop.record_type.range_column
    place = transformed.columns.index(column)
    there = parents_there(connection, shop.parents, {row[place] for row in transformed.rows})
    kept = [number for number, row in enumerate(transformed.rows) if row[place] in there]
    if len(kept) == len(transformed.rows):
        return transformed, []
    reason = f"{column}: the {' or '.join(shop.record_type.derived_from)} it belongs to was not imported"
    refid = transformed.columns.index("refid")
    orphans = [
        RejectedRow(row[refid], column, reason, raw)
        for row, raw in zip(transformed.rows, transformed.raws, strict=True)
        if row[place] not in there
    ]
    rows, raws = [transformed.rows[n] for n in kept], [transformed.raws[n] for n in kept]
    return replace(transformed, rows=rows, raws=raws), orphans


def _record_failure(batch: Batch, shop: Workshop, failure: ImportFailure, retries: list[RetryEvent]) -> Result:
    now = shop.now()
    verdict = after_failure(failure.category, batch.attempts + 1, shop.job.retry_attempts, shop.rules)
    to = BatchState.RETRYING if verdict.retry else BatchState.FAILED

    def record(connection: Connection) -> bool:
        taken = store.fail_batch(
            connection,
            batch,
            to=to,
            category=failure.category,
            reason=str(failure),
            now=now,
            not_before=now + timedelta(seconds=verdict.delay) if verdict.retry else None,
            attempts=verdict.attempts,
        )
        if not taken:
            return False
        store.record_error(
            connection,
            shop.job.import_id,
            failure.category,
            str(failure),
            now,
            record_type=batch.record_type,
            partition_key=batch.range.partition_key,
            table=shop.table.name if isinstance(failure, DatabaseSchemaError) else None,
            column=getattr(failure, "column", None),
            constraint=getattr(failure, "constraint", None),
            attempt=batch.attempts + verdict.attempts,
            final=not verdict.retry,
        )
        _record_retries(connection, batch, shop, retries, now)
        if isinstance(failure, AccessDenied):
            store.move_import(connection, shop.job.import_id, ImportState.CANCELLING, now, str(failure))
        return True

    if not _persistently(shop, record):
        return Result(batch, "not_ours")
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
