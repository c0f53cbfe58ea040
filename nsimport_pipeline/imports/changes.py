"""Which changes an incremental import asks for: from where, up to when, and for which record types.

Belongs here: pure functions of watermarks and clocks. Does not belong here: SuiteQL (``netsuite/suiteql.py``), cutting
changes into batches (``plan.py``, ``partitions.py``), or the watermarks' table (``store/``).

A watermark is a moment of NetSuite's clock, in UTC. The next import begins before it, by the overlap: a record saved at
10:00:00 may be committed, and seen by others, much later. What is read twice for that is not written twice.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from nsimport_pipeline.imports.records import KeyRange, TypePlan, Watermark
from nsimport_pipeline.netsuite.client import KeyCount
from nsimport_pipeline.netsuite.suiteql import changed_within
from nsimport_pipeline.record_types.criteria import RecordType


@dataclass(frozen=True, slots=True)
class Changes:
    """What of a record type an incremental import asks for."""

    since: datetime
    until: datetime
    """Both included; aware UTC, by NetSuite's clock."""
    pinned: tuple[KeyRange, ...]
    """The partitions there are; at least one."""
    parents: tuple[RecordType, ...] = ()
    """Of a derived record type: the record types whose records its records are part of."""

    def of(self, record_type: RecordType) -> RecordType:
        """The record type narrowed to its changes."""
        return changed_within(record_type, self.since, self.until, self.parents)

    def covers(self, counted: KeyCount) -> bool:
        """Whether all changes lie in or above the partitions there are."""
        return counted.low is None or counted.low > self.pinned[0].low


def upper_bound(asked_at: datetime, clock_apart: float | None) -> datetime:
    """The moment up to which an import that was asked for at ``asked_at`` (our clock) looks, by NetSuite's clock.

    ``clock_apart``: seconds that NetSuite's is ahead; None if it did not say. Whole seconds, as NetSuite's times are.
    """
    return (asked_at + timedelta(seconds=clock_apart or 0.0)).replace(microsecond=0)


def changes_since(
    record_type: RecordType,
    watermark: Watermark | None,
    pinned: Sequence[KeyRange],
    *,
    until: datetime,
    overlap: timedelta,
    left_out: Collection[str] = (),
    parents: Sequence[RecordType] = (),
) -> Changes | None:
    """The changes to ask for; None if the record type has to be loaded whole.

    So it is without a column that says when a record was changed (``left_out``: columns that the account does not
    have), and as long as it was never imported whole. ``parents``: those of a derived record type.
    """
    column = record_type.source.last_modified
    if column is None or column.lower() in left_out or watermark is None or not pinned:
        return None
    return Changes(watermark.modified_at - overlap, until, tuple(pinned), tuple(parents))


def derived_since(
    own: datetime | None,
    parents_then: Collection[str] | None,
    parents_now: Collection[str],
    plans: Mapping[str, TypePlan],
) -> datetime | None:
    """From when on the changes of a derived record type are asked for; None if it has to be loaded whole.

    ``own``: what its watermark says. ``parents_then``, ``parents_now``: the record types that it has records of, by its
    partitions and now. ``plans``: of the same import. A parent may have got records that its own watermark was behind
    with; a record type that has become a parent since has all of its records still to come.
    """
    if own is None or parents_then is None or not set(parents_now) <= set(parents_then):
        return None
    among = [plans[name] for name in parents_now if name in plans and plans[name].unavailable is None]
    starts = [plan.changed_since for plan in among if plan.changed_since is not None]
    return min([own, *starts]) if len(starts) == len(among) else None
