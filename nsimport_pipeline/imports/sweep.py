"""Sweeping a table: its keys are compared with NetSuite's, and rows whose records are gone are marked deleted.

Belongs here: asking both sides, marking. Does not belong here: which ranges to look into (``comparing.py``), which
record types, under which slots (``defs/sweeping.py``).

Nothing is kept between one range and the next: what a sweep that was killed has marked is marked, and the next one
finds the rest. A row is marked only if NetSuite was asked for its id and has no such record, and only if it is as it
was before that was asked.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy import Connection, Engine

from nsimport_pipeline.errors import ImportFailure, PermanentError
from nsimport_pipeline.imports import store
from nsimport_pipeline.imports.comparing import MOST_KEYS, Compared, Span, Tally, differing, joined, tally
from nsimport_pipeline.imports.deletions import Asker, gone
from nsimport_pipeline.imports.records import Sweep, Watermark
from nsimport_pipeline.imports.start import MANY_ROWS
from nsimport_pipeline.netsuite.answers import key_count, tallies
from nsimport_pipeline.netsuite.client import Page
from nsimport_pipeline.netsuite.suiteql import (
    PAGE_LIMIT,
    changed_within,
    check_page,
    count_statement,
    key_alias,
    key_page_statement,
    tally_statement,
)
from nsimport_pipeline.record_types.criteria import RecordType
from nsimport_pipeline.warehouse import tallies as own
from nsimport_pipeline.warehouse.deletes import live_among, mark_gone
from nsimport_pipeline.warehouse.engine import read_only
from nsimport_pipeline.warehouse.parents import delete_bereft, parents_there
from nsimport_pipeline.warehouse.schema import target_table

DAY = timedelta(days=1)


@dataclass(frozen=True)
class Family:
    """A derived record type whose rows go with those of the one that is swept."""

    record_type: RecordType
    others: tuple[RecordType, ...]
    """Its parents besides that one."""


def sweep(
    engine: Engine,
    record_type: RecordType,
    *,
    client: Asker,
    families: Sequence[Family] = (),
    overlap: timedelta,
    modulus: int,
    now: Callable[[], datetime],
    most: int = MOST_KEYS,
) -> Sweep:
    """Sweep a record type that was imported whole and is not derived; what came of it is kept, and returned.

    ``families``: derived types with rows of its records. ``overlap``: how far imports of changes look back.
    ``modulus``: see ``comparing.MODULI``. ``most``: keys of a range that is looked into.

    Raises ImportFailure and SQLAlchemyError; what was marked by then stays.
    """
    asked = _Counting(client)
    started = now()
    with engine.begin() as connection:
        store.begin_sweep(connection, record_type.name, started)
    try:
        work = _Sweep(engine, record_type, asked, families, modulus, now, most)
        compared = work.compare()
        missing, drifted = work.missing(overlap)
    except ImportFailure as failure:
        with engine.begin() as connection:
            store.fail_sweep(connection, record_type.name, now(), str(failure), requests=asked.requests)
        raise
    ended = now()
    facts = Sweep(
        record_type.name,
        started,
        ended,
        requests=asked.requests,
        compared=compared,
        deleted=work.deleted,
        missing=missing,
        drifted=drifted,
    )
    with engine.begin() as connection:
        store.end_sweep(connection, facts)
    return facts


class _Counting:
    """A client that counts the requests it sends."""

    def __init__(self, client: Asker) -> None:
        self._client = client
        self.requests = 0

    def query(self, statement: str, *, limit: int = PAGE_LIMIT, offset: int = 0) -> Page:
        page = self._client.query(statement, limit=limit, offset=offset)
        self.requests += page.attempts
        return page


@dataclass
class _Sweep:
    engine: Engine
    record_type: RecordType
    client: _Counting
    families: Sequence[Family]
    modulus: int
    now: Callable[[], datetime]
    most: int
    deleted: int = 0
    lacking: list[int] = field(default_factory=list)
    """Ids that NetSuite has and the table has not."""
    unread: list[Compared] = field(default_factory=list)
    """Ranges of which the table has nothing, and NetSuite too much to read all keys for."""

    def __post_init__(self) -> None:
        self.table = target_table(self.record_type)
        with read_only(self.engine).connect() as connection:
            # Records that the database did not take are known of: they are not missing.
            self.rejected = store.rejected_ids(connection, self.record_type.name, self.table)
            self.bounds = own.key_bounds(connection, self.table)

    def compare(self) -> int:
        """Find what differs and mark what is gone. Returns how many live rows there were."""
        if self.bounds is None:
            return 0
        # Whatever is above the highest id is new, and for the next import.
        low, high = self.bounds
        lowest, (there,) = self._there([(None, high)])
        bottom = min(low, low if lowest is None else lowest) - 1
        whole = self._paired([Span(bottom, high)], [there])[0]
        if not there[0] and whole.here.n >= MANY_ROWS:
            raise PermanentError(
                f"NetSuite shows none of the {whole.here.n} records of {self.record_type.name} there were, so the role "
                "may not see them any more: give it back the right. Nothing was marked deleted"
            )
        for one in joined(differing(whole, self._compared, most=self.most), self.most):
            if one.there.n > self.most:
                self.unread.append(one)
            else:
                self._look_into(one.span)
        return whole.here.n

    def missing(self, overlap: timedelta) -> tuple[int, int]:
        """How many records are missing now, and how many of them no import of changes will fetch."""
        with read_only(self.engine).connect() as connection:
            imported = set(live_among(connection, self.table, self.lacking))
            mark = store.watermarks(connection).get(self.record_type.name)
            left_out = {column.column for column in store.left_out(connection, self.record_type.name)}
        lacking = [refid for refid in self.lacking if refid not in imported]
        missing = len(lacking) + sum(one.there.n for one in self.unread)
        column = self.record_type.source.last_modified
        if not missing or mark is None or column is None or column.lower() in left_out:
            return missing, 0
        return missing, self._drifted(lacking, mark, overlap)

    def _drifted(self, lacking: Sequence[int], mark: Watermark, overlap: timedelta) -> int:
        now = max(self.now(), mark.modified_at)
        changes = changed_within(self.record_type, mark.modified_at - overlap, now + DAY)
        drifted = len(gone(self.client, changes, lacking))
        for one in self.unread:
            counted = key_count(self.client.query(count_statement(changes, one.span.low, one.span.high)))
            drifted += max(0, one.there.n - counted.n)
        return drifted

    def _compared(self, spans: Sequence[Span]) -> list[Compared]:
        return self._paired(spans, self._there([(span.low, span.high) for span in spans])[1])

    def _there(self, spans: Sequence[tuple[int | None, int]]) -> tuple[int | None, list[tuple[int, int, int]]]:
        return tallies(self.client.query(tally_statement(self.record_type, spans, self.modulus)), len(spans))

    def _paired(self, spans: Sequence[Span], there: Sequence[tuple[int, int, int]]) -> list[Compared]:
        with read_only(self.engine).connect() as connection:
            live = own.tallies(connection, self.table, [(span.low, span.high) for span in spans], self.modulus)
        known = [tally(self._rejected_within(span), self.modulus) for span in spans]
        return [
            Compared(span, Tally(*one), Tally(*two) + three)
            for span, one, two, three in zip(spans, there, live, known, strict=True)
        ]

    def _rejected_within(self, span: Span) -> list[int]:
        return [refid for refid in self.rejected if span.low < refid <= span.high]

    def _look_into(self, span: Span) -> None:
        """Compare a range's keys themselves."""
        with read_only(self.engine).connect() as connection:
            live = own.live_within(connection, self.table, span.low, span.high)
        there = self._keys(span)
        self.lacking += sorted(there - live.keys() - set(self._rejected_within(span)))
        absent = gone(self.client, self.record_type, sorted(live.keys() - there))
        if absent:
            with self.engine.begin() as connection:
                deleted = self._delete(
                    connection, own.still_as(connection, self.table, {refid: live[refid] for refid in absent})
                )
            self.deleted += deleted

    def _keys(self, span: Span) -> set[int]:
        found: set[int] = set()
        low, key = span.low, key_alias(self.record_type)
        while True:
            page = self.client.query(key_page_statement(self.record_type, low, span.high))
            check_page(page.items, page.total_results, low, span.high, key)
            ids = [int(item[key]) for item in page.items]
            found.update(ids)
            if page.total_results <= PAGE_LIMIT:
                return found
            low = ids[-1]

    def _delete(self, connection: Connection, ids: Sequence[int]) -> int:
        moment = self.now().replace(tzinfo=None)
        stamp = None if self.record_type.removes else moment
        deleted = mark_gone(connection, self.table, ids, deleted_at=stamp)
        for family in self.families:
            lines = family.record_type
            bereft = set(ids) - parents_there(connection, [target_table(other) for other in family.others], ids)
            stamp = None if lines.removes else moment
            delete_bereft(connection, target_table(lines), lines.range_column, bereft, deleted_at=stamp)
        store.count_swept(connection, self.record_type.name, deleted)
        return deleted
