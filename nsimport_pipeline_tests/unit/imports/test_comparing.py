"""Comparing two sets of keys by counts and sums finds exactly what differs, and asks little."""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise
from math import ceil, log
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nsimport_pipeline.imports.comparing import (
    MODULI,
    MOST_KEYS,
    WAYS,
    Compared,
    Span,
    Tally,
    differing,
    joined,
    split,
    tally,
)

keys = st.sets(st.integers(-50, 2_000), max_size=60) | st.sets(st.integers(1, 10**10), max_size=30)


class Two:
    """Two sets of keys, and what was asked about them."""

    def __init__(self, there: set[int], here: set[int], *, modulus: int, most: int, ways: int) -> None:
        self.there, self.here = sorted(there), sorted(here)
        self.modulus, self.most, self.ways = modulus, most, ways
        self.questions: list[int] = []
        self.overlooked: set[int] = set()
        """Keys of ranges that differ with equal tallies."""

    def within(self, keys: list[int], span: Span) -> list[int]:
        return keys[bisect_right(keys, span.low) : bisect_right(keys, span.high)]

    def compare(self, spans: Sequence[Span]) -> list[Compared]:
        self.questions.append(len(spans))
        found = []
        for span in spans:
            there, here = self.within(self.there, span), self.within(self.here, span)
            one = Compared(span, tally(there, self.modulus), tally(here, self.modulus))
            if one.equal:
                self.overlooked |= set(there) ^ set(here)
            found.append(one)
        return found

    def found(self) -> list[Compared]:
        every = [*self.there, *self.here, 0]
        (whole,) = self.compare([Span(min(every) - 1, max(every))])
        return list(differing(whole, self.compare, ways=self.ways, most=self.most))

    def differences(self, found: Sequence[Compared]) -> set[int]:
        sides = ((self.within(self.there, one.span), self.within(self.here, one.span)) for one in found)
        return {key for there, here in sides for key in set(there) ^ set(here)}


settings_of_it = {"modulus": st.integers(*MODULI), "most": st.integers(1, 9), "ways": st.integers(2, WAYS)}


@given(there=keys, here=keys, **settings_of_it)
def test_exactly_the_difference_is_found(there: set[int], here: set[int], modulus: int, most: int, ways: int) -> None:
    two = Two(there, here, modulus=modulus, most=most, ways=ways)
    found = two.found()
    assert two.differences(found) == there ^ here - two.overlooked
    assert all(one.here.n == 0 or max(one.here.n, one.there.n) <= most for one in found)
    spans = sorted((one.span.low, one.span.high) for one in found)
    assert all(one[1] <= other[0] for one, other in pairwise(spans))


@given(there=keys, gone=keys, way=st.booleans(), **settings_of_it)
def test_what_only_one_side_has_is_never_overlooked(
    there: set[int], gone: set[int], way: bool, modulus: int, most: int, ways: int
) -> None:
    both = (there, there | gone) if way else (there | gone, there)
    two = Two(*both, modulus=modulus, most=most, ways=ways)
    assert two.differences(two.found()) == gone - there
    assert not two.overlooked


@given(there=keys, gone=st.integers(1, 2_000), came=st.integers(1, 2_000), **settings_of_it)
def test_one_that_is_gone_is_not_hidden_by_another_that_is_missing(
    there: set[int], gone: int, came: int, modulus: int, most: int, ways: int
) -> None:
    two = Two((there - {gone}) | {came}, (there - {came}) | {gone}, modulus=modulus, most=most, ways=ways)
    assert two.differences(two.found()) == ({gone, came} if gone != came else set())


def test_as_many_with_the_same_sum_are_told_apart_by_their_remainders() -> None:
    assert (tally([1, 4], 101).n, tally([1, 4], 101).total) == (tally([2, 3], 101).n, tally([2, 3], 101).total)
    assert tally([1, 4], 101) != tally([2, 3], 101)
    # These have the same squares, too: only some numbers tell them apart, and the next sweep takes another.
    verdicts = {tally([301, 305, 306], n) == tally([302, 303, 307], n) for n in range(MODULI[0], MODULI[1] + 1)}
    assert verdicts == {True, False}


@given(
    there=keys,
    here=keys,
    most=st.integers(1, 9),
    ways=st.integers(2, WAYS),
)
def test_it_asks_about_once_for_each_range_that_differs(there: set[int], here: set[int], most: int, ways: int) -> None:
    two = Two(there, here, modulus=101, most=most, ways=ways)
    two.found()
    every = [*there, *here, 0]
    levels = ceil(log(max(every) - min(every) + 1, ways)) + 1
    assert len(two.questions) <= 1 + levels * max(1, len(there ^ here))
    assert max(two.questions) <= ways


@pytest.mark.parametrize(("records", "gone"), [(10_000, 1), (100_000, 1), (1_000_000, 1), (1_000_000, 50)])
def test_few_that_are_gone_among_many_cost_few_questions(records: int, gone: int) -> None:
    every = Two(set(), set(), modulus=MODULI[1], most=MOST_KEYS, ways=WAYS)
    every.here = list(range(1, 3 * records, 3))
    missing = sorted(Random(gone).sample(every.here, gone))
    lost = set(missing)
    every.there = [key for key in every.here if key not in lost]
    found = every.found()
    assert every.differences(found) == lost
    assert len(every.questions) <= 2 + gone * ceil(log(records / MOST_KEYS, WAYS))
    assert len(found) <= gone


@given(low=st.integers(-(10**12), 10**12), width=st.integers(1, 10**12), ways=st.integers(2, WAYS))
def test_a_range_is_cut_without_gaps(low: int, width: int, ways: int) -> None:
    parts = split(Span(low, low + width), ways)
    assert (parts[0].low, parts[-1].high, len(parts)) == (low, low + width, min(ways, width))
    assert all(one.high == other.low for one, other in pairwise(parts))
    widths = {part.high - part.low for part in parts}
    assert min(widths) >= 1
    assert max(widths) - min(widths) <= 1


def test_neighbours_are_looked_into_together_while_they_are_few() -> None:
    def one(low: int, high: int, there: int, here: int) -> Compared:
        return Compared(Span(low, high), Tally(there, 0, 0), Tally(here, 0, 0))

    found = [one(20, 30, 4, 5), one(0, 10, 3, 4), one(10, 20, 2, 1), one(40, 50, 1, 0), one(50, 60, 99, 0)]
    assert [(c.span, c.there.n, c.here.n) for c in joined(found, 10)] == [
        (Span(0, 30), 9, 10),
        (Span(40, 50), 1, 0),
        (Span(50, 60), 99, 0),
    ]
