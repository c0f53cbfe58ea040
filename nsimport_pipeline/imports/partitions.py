"""Key ranges: cutting a record type's keys into partitions, adding to them, and laying batches of changes over them.

Belongs here: pure arithmetic over keys. Does not belong here: asking NetSuite for them (``plan.py``).
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

from nsimport_pipeline.imports.records import KeyRange

ROOM = 0.1
"""Share of a batch that is left free at first where it takes the rest of something along: of the last parent's records,
or of the last partition's changes. That should not cost a second request."""


def with_room(batch_size: int) -> int:
    return max(1, round(batch_size * (1 - ROOM)))


def key_ranges(
    record_type: str, low: int, high: int, boundaries: Sequence[int], records: int, batch_size: int
) -> tuple[KeyRange, ...]:
    """Cut ``low < key <= high`` at the last key of each full batch.

    ``boundaries`` ascend; together the ranges cover every key exactly once. A partition's key is the offset of its
    first record. A boundary that comes several times is the parent of that many full batches, which stay one.
    """
    ends = Counter(boundary for boundary in boundaries if boundary < high)
    result: list[KeyRange] = []
    start, offset = low, 0
    for end in [*ends, high]:
        expected = ends[end] * batch_size if end in ends else max(0, records - offset)
        result.append(KeyRange(record_type, len(result), str(offset), start, end, expected))
        start, offset = end, offset + expected
    return tuple(result)


def records_begun(last: KeyRange, size: int) -> int:
    """Records of the last partition that further ones are added to; 0 if it is full."""
    return last.expected if 0 < last.expected < size else 0


def extended(
    pinned: Sequence[KeyRange], boundaries: Sequence[int], high: int, records: int, size: int
) -> tuple[KeyRange, ...]:
    """The partitions with ``records`` more above the last one, up to ``high``: it is filled, then others are opened.

    ``boundaries``: the last key of each batch that becomes full, those of the last partition counted in.
    """
    last, begun = pinned[-1], records_begun(pinned[-1], size)
    if begun:
        before, number, offset, low = pinned[:-1], last.number, int(last.partition_key), last.low
    else:
        before, number, offset, low = (
            pinned,
            last.number + 1,
            int(last.partition_key) + max(1, last.expected),
            last.high,
        )
    added = key_ranges(last.record_type, low, high, boundaries, begun + records, size)
    return (
        *before,
        *(replace(r, number=number + r.number, partition_key=str(offset + int(r.partition_key))) for r in added),
    )


def over_partitions(
    pinned: Sequence[KeyRange], boundaries: Sequence[int], low: int, high: int, changes: int, size: int
) -> tuple[KeyRange, ...]:
    """Batches of about ``size`` of the ``changes`` to keys from ``low`` to ``high``, each over whole partitions.

    ``boundaries``: the key of each ``size``-th change. A batch ends with the partition that its boundary lies in, and
    is named after the first one it spans. They are numbered one after the other, so that few runs carry them out.
    """
    highs = [partition.high for partition in pinned]
    ends = Counter(bisect_left(highs, boundary) for boundary in boundaries if boundary < high)
    last = bisect_left(highs, high)
    result: list[KeyRange] = []
    first, counted = bisect_left(highs, low), 0
    for end in sorted({*ends, last}):
        expected = max(0, changes - counted) if end == last else ends[end] * size
        span = replace(pinned[first], number=len(result), high=pinned[end].high, expected=expected)
        result.append(span)
        first, counted = end + 1, counted + expected
    return tuple(result)


def touched(pinned: Sequence[KeyRange], keys: Iterable[int]) -> dict[str, int]:
    """How many of ``keys`` lie in each partition, by its key, in order; only where there are some."""
    highs = [partition.high for partition in pinned]
    counted = Counter(bisect_left(highs, key) for key in keys)
    return {pinned[place].partition_key: counted[place] for place in sorted(counted) if place < len(pinned)}
