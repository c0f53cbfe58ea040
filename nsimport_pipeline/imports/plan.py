"""Planning: ask NetSuite how many records there are, and pin them to key ranges.

Belongs here: the few questions a plan asks NetSuite, and the pure arithmetic from the answers to key ranges, waves
and an estimate. Does not belong here: writing a plan down (``start.py``) or carrying it out.

The upper bound of a record type is its highest key at plan time, so that an import has a known size and ends,
however busily records are added meanwhile. A record type costs two requests: one count, and one statement that
returns the last key of every batch; one more for each further million records.

Ranges of a derived type are ranges of its parents' keys, so that the records of a parent come in one batch.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from math import ceil
from types import MappingProxyType
from typing import Protocol

from nsimport_pipeline.errors import AccessDenied, PermanentError, RecordNotAvailable, ServerError, UnsupportedSearch
from nsimport_pipeline.imports.account import absence
from nsimport_pipeline.imports.changes import Changes
from nsimport_pipeline.imports.partitions import extended, key_ranges, over_partitions, records_begun, with_room
from nsimport_pipeline.imports.records import KeyRange
from nsimport_pipeline.imports.waves import PlannedWave, plan_waves
from nsimport_pipeline.netsuite.client import KeyCount, Page
from nsimport_pipeline.netsuite.suiteql import (
    among_parents,
    boundary_statement,
    check_page,
    key_alias,
    key_page_statement,
    parent_alias,
)
from nsimport_pipeline.record_types.criteria import Catalog, RecordType
from nsimport_pipeline.record_types.graph import closure, levels

PAGE_ROWS = 1000
"""Most rows NetSuite returns to one request."""


class Querier(Protocol):
    """What planning needs of a NetSuite client."""

    def query(self, statement: str, *, limit: int = 1000, offset: int = 0) -> Page: ...

    def count(self, record_type: RecordType, low: int | None = None, high: int | None = None) -> KeyCount: ...


@dataclass(frozen=True, slots=True)
class PlannedType:
    record_type: str
    level: int
    records: int
    upper_bound: int | None
    ranges: tuple[KeyRange, ...]
    requests: int
    """Requests that planning this record type took."""
    unavailable: str | None = None
    denied: bool = False
    """Whether it is unavailable because the role may not see it."""
    planned: bool = True
    """False for a derived type that is only counted as yet: it is planned when its parents are in."""
    since: datetime | None = None
    """Of changes only: those from then on. Its batches are then no partitions, but span whole ones."""
    partitions: tuple[KeyRange, ...] | None = None
    """Of changes only: its partitions from now on; None if they stay as they are."""

    @property
    def pins(self) -> tuple[KeyRange, ...] | None:
        """What is to be pinned as its partitions; None if nothing is."""
        if self.unavailable or not self.planned:
            return None
        return self.ranges if self.since is None else self.partitions


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything an import will do: its record types, lowest level first, and its waves."""

    types: tuple[PlannedType, ...]
    waves: tuple[PlannedWave, ...]

    @property
    def records(self) -> int:
        """Records in batches: those of derived types that are only counted are not among them."""
        return sum(planned.records for planned in self.types if planned.planned)

    @property
    def batches(self) -> int:
        return sum(len(planned.ranges) for planned in self.types)

    @property
    def requests(self) -> int:
        """Requests the import will cost: one for each batch, and one for each record type's final count."""
        return self.batches + sum(1 for planned in self.types if planned.unavailable is None)

    def estimate(self, slots: int, seconds_per_request: float) -> float:
        """Seconds the import takes at least: its levels follow each other, within one all slots are used."""
        per_level: dict[int, int] = {}
        for planned in self.types:
            per_level[planned.level] = per_level.get(planned.level, 0) + len(planned.ranges)
        return sum(ceil(batches / slots) * seconds_per_request for batches in per_level.values())


def chosen_types(catalog: Catalog, requested: Iterable[str], *, with_dependencies: bool) -> list[str]:
    """The record types of a request: the closure, or only those named. Unknown ones are a ConfigurationError."""
    names = list(requested)
    return closure(catalog, names) if with_dependencies else sorted({catalog.require(name).name for name in names})


def make_plan(
    catalog: Catalog,
    names: Sequence[str],
    *,
    client: Querier,
    wave_size: int,
    batch_sizes: Mapping[str, int],
    workers: int,
    late: bool = False,
    changes: Mapping[str, Changes] = MappingProxyType({}),
    on_planned: Callable[[PlannedType], None] = lambda planned: None,
) -> Plan:
    """Ask NetSuite about each of ``names`` and cut what it has into batches and waves.

    ``client`` must take a slot for each request it sends; ``workers`` ask at the same time.
    A record type that the account does not have is planned as unavailable. Other failures are raised. Derived types
    are planned from all of their parents that NetSuite has; with ``late`` they are only counted. ``changes``: the
    record types of which only what was changed is asked for; the others are planned whole.
    """
    level_of = levels(catalog, names)

    def plan_one(name: str) -> PlannedType:
        record_type = catalog[name]
        if record_type.derived_from:
            record_type = among_parents(record_type, [(catalog[parent], None) for parent in record_type.derived_from])
        planned = plan_type(
            record_type,
            level_of[name],
            client=client,
            batch_size=batch_sizes.get(name, PAGE_ROWS),
            only_count=late and bool(record_type.derived_from),
            changes=changes.get(name),
        )
        on_planned(planned)
        return planned

    with ThreadPoolExecutor(max_workers=max(1, min(workers, len(names) or 1))) as executor:
        types = list(executor.map(plan_one, sorted(names, key=lambda name: (level_of[name], name))))
    ranges = [key_range for planned in types for key_range in planned.ranges]
    return Plan(tuple(types), tuple(plan_waves(ranges, level_of, wave_size)))


def plan_type(
    record_type: RecordType,
    level: int,
    *,
    client: Querier,
    batch_size: int = PAGE_ROWS,
    only_count: bool = False,
    changes: Changes | None = None,
) -> PlannedType:
    """Pin one record type's records to key ranges of ``batch_size`` records, a derived one's to ranges of parents.

    ``changes``: only what was changed. All of it nevertheless, if the account does not have the time of changes.
    Raises ImportFailure if NetSuite cannot be asked; one that does not have the record type is no failure.
    """
    since = None if changes is None else changes.since
    try:
        counted, requests = _count(record_type, client, changes)
    except (RecordNotAvailable, UnsupportedSearch) as error:
        state, reason = absence(record_type, error)
        return PlannedType(record_type.name, level, 0, None, (), 1, unavailable=reason, denied=state == "denied")
    if requests > 1:
        changes, since = None, None
    if only_count:
        return PlannedType(record_type.name, level, counted.n, None, (), requests, planned=False, since=since)
    if changes is not None and changes.covers(counted):
        return _plan_changes(record_type, level, counted, changes, client, batch_size)
    if changes is not None:
        counted, requests = client.count(record_type), requests + 1
    if counted.n == 0 or counted.low is None or counted.high is None:
        return PlannedType(record_type.name, level, 0, None, (), requests)
    # From the beginning rather than from the lowest key there is now: a record below it may have been deleted.
    low, high = min(0, counted.low - 1), counted.high
    if record_type.derived_from:
        batch_size = with_room(batch_size)
    boundaries: list[int] = []
    if counted.n > batch_size:
        boundaries, more = _boundaries(record_type, low, high, batch_size, client)
        requests += more
    ranges = key_ranges(record_type.name, low, high, boundaries, counted.n, batch_size)
    return PlannedType(record_type.name, level, counted.n, high, ranges, requests)


def _count(record_type: RecordType, client: Querier, changes: Changes | None) -> tuple[KeyCount, int]:
    """How many records there are, or changes; and the requests it took: two if changes could not be told."""
    if changes is None:
        return client.count(record_type), 1
    try:
        return client.count(changes.of(record_type)), 1
    except (AccessDenied, RecordNotAvailable):
        raise
    except (PermanentError, ServerError):
        return client.count(record_type), 2


def _plan_changes(
    record_type: RecordType, level: int, counted: KeyCount, changes: Changes, client: Querier, batch_size: int
) -> PlannedType:
    """Batches of about ``batch_size`` changes over whole partitions, and the partitions that new records make."""
    pinned, requests, partitions = changes.pinned, 1, None
    ends: list[int] = []
    name, top = record_type.name, pinned[-1].high
    if counted.low is None or counted.high is None:
        return PlannedType(name, level, 0, top, (), requests, since=changes.since)
    size = with_room(batch_size)
    if counted.high > top:
        full = size if record_type.derived_from else batch_size
        added = client.count(record_type, top, counted.high).n
        begun, more = records_begun(pinned[-1], full), 0
        if begun + added > full:
            ends, more = _boundaries(record_type, top, counted.high, full, client, begun)
        requests += 1 + more
        pinned = partitions = extended(pinned, ends, counted.high, added, full)
    ends = []
    if counted.n > size:
        ends, more = _boundaries(changes.of(record_type), pinned[0].low, counted.high, size, client)
        requests += more
    ranges = over_partitions(pinned, ends, counted.low, counted.high, counted.n, size)
    return PlannedType(
        name, level, counted.n, pinned[-1].high, ranges, requests, since=changes.since, partitions=partitions
    )


def _boundaries(
    record_type: RecordType, low: int, high: int, batch_size: int, client: Querier, begun: int = 0
) -> tuple[list[int], int]:
    """The last key of every full batch, and the requests it took to learn them.

    ``begun``: records that the first batch has already.
    """
    boundaries: list[int] = []
    requests = 0
    start = low
    try:
        while True:
            requests += 1
            # Asked again after a full batch.
            first = begun if start == low else 0
            page = client.query(boundary_statement(record_type, start, high, batch_size, begun=first), limit=PAGE_ROWS)
            if record_type.derived_from:
                check_page(page.items, page.total_results, start, high, "place", parent="last_key")
            else:
                check_page(page.items, page.total_results, start, high, "last_key")
            boundaries += [int(item["last_key"]) for item in page.items]
            if len(page.items) < PAGE_ROWS:
                return boundaries, requests
            start = boundaries[-1]
    except (AccessDenied, RecordNotAvailable):
        raise
    except (PermanentError, ServerError):
        pass
    # Some accounts refuse ROW_NUMBER(): then every key is read once, a page for each batch.
    boundaries, start, key, parent = [], low, key_alias(record_type), parent_alias(record_type)
    after: tuple[int, int] | None = None
    limit = batch_size - begun
    while True:
        page = client.query(key_page_statement(record_type, start, high, after), limit=limit)
        requests += 1
        bottom = low if parent else start
        check_page(page.items, page.total_results, bottom, high, key, limit, parent=parent, after=after)
        if len(page.items) < limit:
            return boundaries, requests
        limit = batch_size
        start = int(page.items[-1][parent or key])
        after = (start, int(page.items[-1][key])) if parent else None
        boundaries.append(start)
