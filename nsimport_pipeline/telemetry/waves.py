"""How waves and levels followed each other: lag, completion at the change, durations, order.

Belongs here: pure arithmetic over the facts of one import. Does not belong here: deciding anything (``imports/``).
"""

import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

from nsimport_pipeline.telemetry.facts import BatchFact, ImportFacts


@dataclass(frozen=True, slots=True)
class Turnover:
    """The change from one wave to the next."""

    wave: int
    """The one that began."""
    at: datetime
    lag: float
    """Seconds from the moment the wave before had let the next one in until that one's first batch began."""
    ratio: float | None
    """Share of the wave before that was settled when the next began; None where a level ended, which takes all."""


def turnovers(facts: ImportFacts) -> list[Turnover]:
    """Each change of waves, in order. A wave of retries, which waits on purpose, is none."""
    found = []
    by_wave = _by_wave(facts)
    order = sorted(by_wave, key=lambda number: (by_wave[number][0].level, number))
    for before, after in pairwise(order):
        first = _first_start(by_wave[after])
        if first is None or all(batch.attempts for batch in by_wave[after]):
            continue
        earlier = by_wave[before]
        same_level = earlier[0].level == by_wave[after][0].level
        opened = _opened(facts, earlier, same_level)
        lag = max(0.0, (first - opened).total_seconds()) if opened is not None else 0.0
        ends = [batch.finished_at for batch in earlier if batch.finished_at is not None]
        ratio = sum(end <= first for end in ends) / len(earlier) if same_level else None
        found.append(Turnover(after, first, lag, ratio))
    return found


def next_wave(facts: ImportFacts) -> tuple[int, datetime] | None:
    """The wave that is to begin next, and since when nothing in the import keeps it; None if it is not its turn yet.

    A wave of retries, which waits on purpose, is none.
    """
    by_wave = _by_wave(facts)
    order = sorted(by_wave, key=lambda number: (by_wave[number][0].level, number))
    for before, after in pairwise(order):
        if _first_start(by_wave[after]) is not None or all(batch.settled for batch in by_wave[after]):
            continue
        if any(batch.attempts for batch in by_wave[after]):
            return None
        earlier = by_wave[before]
        same_level = earlier[0].level == by_wave[after][0].level
        lower = [batch for batch in facts.batches if batch.level < by_wave[after][0].level]
        opened = _opened(facts, earlier, same_level)
        return (after, opened) if opened is not None and all(batch.settled for batch in lower) else None
    return None


def _opened(facts: ImportFacts, earlier: list[BatchFact], same_level: bool) -> datetime | None:
    """When a wave's batches were settled far enough for the next one; None if they are not."""
    needed = math.ceil(len(earlier) * facts.completion_threshold / 100) if same_level else len(earlier)
    ends = sorted(batch.finished_at for batch in earlier if batch.finished_at is not None)
    return ends[needed - 1] if 0 < needed <= len(ends) else None


def level_seconds(facts: ImportFacts) -> dict[int, float]:
    """Seconds from the first start to the last end of each level that is settled."""
    found = {}
    for level, batches in _by_level(facts).items():
        first, last = _first_start(batches), max((b.finished_at for b in batches if b.finished_at), default=None)
        if first is not None and last is not None and all(batch.settled for batch in batches):
            found[level] = max(0.0, (last - first).total_seconds())
    return found


def level_violations(facts: ImportFacts) -> int:
    """Batches that began while one of a lower level was unfinished. None, unless the gate has failed.

    What was done again after the import had been over is compared only with what else was.
    """
    again = facts.reopened_at
    found, lower = 0, list[BatchFact]()
    for _, batches in sorted(_by_level(facts).items()):
        ends = [b.finished_at for b in lower if b.finished_at]
        first_ends = [
            b.finished_at for b in lower if b.finished_at and b.started_at and (again is None or b.started_at < again)
        ]
        latest, latest_first = max(ends, default=None), max(first_ends, default=None)
        for batch in batches:
            if batch.started_at is None:
                continue
            bound = latest if again is None or batch.started_at >= again else latest_first
            found += bound is not None and batch.started_at < bound
        lower += batches
    return found


def wave_phases(facts: ImportFacts) -> Iterator[tuple[str, float]]:
    """Of each finished wave: seconds ``queued`` (dispatched, nothing begun) and ``processing`` (until its end)."""
    by_wave = _by_wave(facts)
    for wave in facts.waves:
        first = _first_start(by_wave.get(wave.number, []))
        if first is None or wave.dispatched_at is None or wave.completed_at is None:
            continue
        yield "queued", max(0.0, (first - wave.dispatched_at).total_seconds())
        yield "processing", max(0.0, (wave.completed_at - first).total_seconds())


def _by_wave(facts: ImportFacts) -> dict[int, list[BatchFact]]:
    found: dict[int, list[BatchFact]] = defaultdict(list)
    for batch in facts.batches:
        found[batch.wave].append(batch)
    return found


def _by_level(facts: ImportFacts) -> dict[int, list[BatchFact]]:
    found: dict[int, list[BatchFact]] = defaultdict(list)
    for batch in facts.batches:
        found[batch.level].append(batch)
    return found


def _first_start(batches: list[BatchFact]) -> datetime | None:
    return min((batch.started_at for batch in batches if batch.started_at is not None), default=None)
