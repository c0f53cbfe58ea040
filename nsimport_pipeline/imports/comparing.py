"""Which key ranges to look into, to find how two sets of keys differ without reading them: counts and sums decide.

Belongs here: pure functions of counts and sums. Does not belong here: asking either side for them (``sweep.py``).

Ranges whose tallies are equal are taken for equal. Keys that only one side has always show, in the count; where both
sides have some that the other has not, as many, with the same sum, the remainders tell them apart. These are taken by a
number that is drawn for each sweep, so that what one overlooked the next will see.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

WAYS = 32
"""Into how many ranges one that differs is cut, and how many are compared at once: three columns each, 100 at most."""
MOST_KEYS = 1000
"""Of a range that is looked into: what NetSuite sends in one answer."""
MODULI = (101, 997)
"""Remainders are taken by a number from the first to the second."""


@dataclass(frozen=True, slots=True)
class Span:
    """The keys with ``low < key <= high``."""

    low: int
    high: int


@dataclass(frozen=True, slots=True)
class Tally:
    """What is compared of the keys in a range."""

    n: int
    total: int
    squares: int
    """Of the remainders, summed."""

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(self.n + other.n, self.total + other.total, self.squares + other.squares)


@dataclass(frozen=True, slots=True)
class Compared:
    """A range on both sides."""

    span: Span
    there: Tally
    here: Tally

    @property
    def equal(self) -> bool:
        return self.there == self.here

    def looked_into(self, most: int) -> bool:
        """Whether keys are compared now, not counts: there are few of them, or none that could be gone."""
        return self.here.n == 0 or max(self.here.n, self.there.n) <= most


def tally(keys: Iterable[int], modulus: int) -> Tally:
    """The tally of these keys."""
    n = total = squares = 0
    for key in keys:
        n, total, squares = n + 1, total + key, squares + (abs(key) % modulus) ** 2
    return Tally(n, total, squares)


def split(span: Span, ways: int = WAYS) -> list[Span]:
    """``span`` cut into at most ``ways`` ranges of (almost) equal width."""
    width = span.high - span.low
    parts = min(ways, width)
    cuts = [span.low + width * part // parts for part in range(parts + 1)]
    return [Span(low, high) for low, high in pairwise(cuts)]


def differing(
    whole: Compared,
    compare: Callable[[Sequence[Span]], Sequence[Compared]],
    *,
    ways: int = WAYS,
    most: int = MOST_KEYS,
) -> Iterator[Compared]:
    """The ranges in ``whole`` to look into. ``compare`` is asked for at most ``ways`` ranges at a time.

    Only ranges that differ are cut further, so it is asked about once for each of them.
    """
    level = [whole]
    while level:
        unequal = [one for one in level if not one.equal]
        yield from (one for one in unequal if one.looked_into(most))
        parts = [part for one in unequal if not one.looked_into(most) for part in split(one.span, ways)]
        level = [one for start in range(0, len(parts), ways) for one in compare(parts[start : start + ways])]


def joined(found: Iterable[Compared], most: int = MOST_KEYS) -> list[Compared]:
    """``found`` in ascending order, neighbours in one as long as they are few keys together."""
    result: list[Compared] = []
    for one in sorted(found, key=lambda one: one.span.low):
        if result and result[-1].span.high == one.span.low:
            last = result[-1]
            both = Compared(Span(last.span.low, one.span.high), last.there + one.there, last.here + one.here)
            if max(both.there.n, both.here.n) <= most:
                result[-1] = both
                continue
        result.append(one)
    return result
