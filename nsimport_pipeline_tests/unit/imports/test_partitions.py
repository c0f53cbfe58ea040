"""Partitions that grow, and batches of changes laid over them: every key in exactly one of each."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from nsimport_pipeline.imports.partitions import extended, key_ranges, over_partitions, records_begun, touched
from nsimport_pipeline.imports.records import KeyRange

SIZE = 10
KEYS = st.lists(st.integers(1, 500), min_size=1, max_size=120, unique=True).map(sorted)


def pinned_from(keys: list[int]) -> tuple[KeyRange, ...]:
    """The partitions of a full import of these records."""
    ends = [key for place, key in enumerate(keys, start=1) if place % SIZE == 0]
    return key_ranges("customer", 0, keys[-1], ends, len(keys), SIZE)


@given(KEYS, st.lists(KEYS, max_size=4))
def test_partitions_grow_by_filling_the_last_and_opening_others(first: list[int], waves: list[list[int]]) -> None:
    pinned, there = pinned_from(first), list(first)
    for wave in waves:
        before = pinned
        added = [there[-1] + key for key in wave]
        begun = records_begun(pinned[-1], SIZE)
        ends = [key for place, key in enumerate(added, start=1) if (begun + place) % SIZE == 0]
        pinned = extended(pinned, ends, added[-1], len(added), SIZE)
        there += added
        assert pinned[: len(before) - 1] == before[:-1]
        assert pinned[len(before) - 1].low == before[-1].low
    assert [p.number for p in pinned] == list(range(len(pinned)))
    assert [int(p.partition_key) for p in pinned] == [SIZE * place for place in range(len(pinned))]
    assert all(one.high == other.low for one, other in pairwise(pinned))
    for partition in pinned:
        assert partition.expected == sum(partition.low < key <= partition.high for key in there) <= SIZE
    assert pinned[-1].high == there[-1]


@given(KEYS, st.data())
def test_each_change_is_in_one_batch_of_whole_partitions(keys: list[int], data: st.DataObject) -> None:
    pinned = pinned_from(keys)
    changes = sorted(data.draw(st.sets(st.sampled_from(keys), min_size=1)))
    size = data.draw(st.integers(1, 2 * SIZE))
    boundaries = [key for place, key in enumerate(changes, start=1) if place % size == 0]
    batches = over_partitions(pinned, boundaries, changes[0], changes[-1], len(changes), size)

    assert [batch.number for batch in batches] == list(range(len(batches)))
    assert len({batch.partition_key for batch in batches}) == len(batches)
    assert {batch.low for batch in batches} <= {partition.low for partition in pinned}
    assert {batch.high for batch in batches} <= {partition.high for partition in pinned}
    assert sum(batch.expected for batch in batches) == len(changes)
    for key in changes:
        assert sum(batch.low < key <= batch.high for batch in batches) == 1
    for batch in batches:
        inside = sum(batch.low < key <= batch.high for key in changes)
        assert inside <= size - 1 + max(SIZE, size)
    assert len(batches) <= 1 + len(changes) // size


@given(KEYS, st.data())
def test_touched_partitions_are_those_with_changes(keys: list[int], data: st.DataObject) -> None:
    pinned = pinned_from(keys)
    changes = data.draw(st.lists(st.sampled_from(keys)))
    counted = touched(pinned, changes)
    for partition in pinned:
        inside = sum(partition.low < key <= partition.high for key in changes)
        assert counted.get(partition.partition_key, 0) == inside
    assert 0 not in counted.values()


def test_a_full_last_partition_stays_and_another_is_opened() -> None:
    pinned = pinned_from(list(range(1, 21)))
    assert extended(pinned, [], 30, 3, SIZE) == (*pinned, KeyRange("customer", 2, "20", 20, 30, 3))
