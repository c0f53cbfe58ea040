"""How fast an import is lately, and how long what is left of it will take: pure arithmetic.

Belongs here: the estimate. Does not belong here: reading the sums it is made from (``store/totals.py``).

Work is counted in batch-seconds, not in records: a batch of ten records takes not much less than one of a thousand, and
an import of many small record types would seem to be over long before it is. Levels come one after the other, each with
a pause while its runs start, and a level of few batches cannot use all slots.

What small record types show is taken for no more than it is: how long a request takes, not how long a record does, and
nothing of how many batches will go side by side, as they mostly wait for their runs to start.
"""

from collections.abc import Sequence
from dataclasses import dataclass

SECONDS_A_RECORD = 0.001
"""What a record adds to its batch's request, as long as no batch of many records has shown it."""
MANY_RECORDS = 300
"""A batch of so many shows what a record takes."""


@dataclass(frozen=True, slots=True)
class Work:
    """One record type's batches: what is done, and what is left."""

    level: int
    done: int
    """Batches completed."""
    done_records: int
    done_seconds: float
    """Spent on them, summed."""
    left: int
    """Batches not settled."""
    left_records: int

    @property
    def telling(self) -> bool:
        """Whether its batches show how a level of many is worked: there is more than one of them."""
        return self.done + self.left > 1


def rate(recent_records: int, window: float, since_first: float) -> float:
    """Records a second over the last ``window`` seconds, or since the first batch began if that is less."""
    return recent_records / min(window, max(1.0, since_first))


def time_in_words(seconds: float) -> str:
    """Time left as people say it: 42 s, 3 min 05 s, 2 h 04 min."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s" if minutes else f"{rest} s"


def time_left(
    work: Sequence[Work],
    recent_seconds: float,
    window: float,
    since_first: float,
    pause: float,
    slots: int | None = None,
) -> float:
    """Seconds until the last batch is settled, or infinity as long as nothing was completed.

    ``recent_seconds``: batch-seconds of what was completed in the last ``window`` seconds; ``since_first``: seconds
    since the first batch began; ``pause``: seconds from a level's dispatch until its first batch begins; ``slots``: how
    many requests may go side by side, where that is known.
    """
    done = sum(each.done for each in work)
    spent = sum(each.done_seconds for each in work)
    if not done or spent <= 0 or since_first <= 0:
        return 0.0 if not any(each.left for each in work) else float("inf")
    # Until the window is full, batches in flight are work done that is not seen yet: half a batch each, on average.
    span = window if since_first >= window else max(spent / done / 2, since_first - spent / done / 2)
    # In a pause between levels nothing was completed lately: then what the import has managed on the whole counts.
    parallel = (recent_seconds / span) if recent_seconds > 0 else spent / since_first
    if slots and sum(each.done for each in work if each.telling) < 2 * slots:
        parallel = max(parallel, slots)
    left_at: dict[int, list[Work]] = {}
    for each in work:
        if each.left:
            left_at.setdefault(each.level, []).append(each)
    total = 0.0
    for position, (_, types) in enumerate(sorted(left_at.items())):
        seconds = sum(each.left * _seconds_each(each, work) for each in types)
        begun = position == 0 and any(each.done for each in types)
        total += seconds / min(max(parallel, 1e-9), sum(each.left for each in types)) + (0.0 if begun else pause)
    return total


def _seconds_each(own: Work, work: Sequence[Work]) -> float:
    """What one more batch of a record type will take: as its own took, else as all took, by records and by batches."""
    if own.done and own.done_seconds > 0:
        return own.done_seconds / own.done
    done, spent = sum(each.done for each in work), sum(each.done_seconds for each in work)
    by_batch = spent / done
    if not own.left_records:
        return by_batch
    records = own.left_records / own.left
    large = [each for each in work if each.done and each.done_records >= MANY_RECORDS * each.done]
    if not large:
        return by_batch + SECONDS_A_RECORD * records
    each_record = sum(each.done_seconds for each in large) / sum(each.done_records for each in large)
    return max(by_batch, each_record * records)
