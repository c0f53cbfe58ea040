"""How many requests at a time are worth having: as many as bring more records a second.

Belongs here: the rule, as pure functions of what was measured, and what a run's threads share. Does not belong here:
hiring fetchers (``execute.py``), or the end of NetSuite's patience, a refusal (``Throttle``).

A run begins with all it may have, since an account that answers as quickly however many ask is the usual case, and
nothing is tried as long as answers are quick: a trial with fewer costs what these would have brought. Of an account
that is slow, fewer are tried, and kept if NetSuite gives as much; then, now and then, more. What turns out in vain is
tried half as often.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

SLOW_BATCH = 2.0
"""Mean seconds of asking for a batch below which an account has no trouble with as many as ask now."""
PATIENCE = 10
"""Batches that each fetcher gets before something is tried; doubles with each trial in vain."""
MEASURED = 3
"""Batches for each fetcher that a measurement takes."""


@dataclass(frozen=True, slots=True)
class Climb:
    """Where a run stands. ``since`` is of any clock that only goes forward, in seconds."""

    most: int
    workers: int
    """How many may ask now."""
    since: float = float("-inf")
    """What was asked for earlier is not counted: others were asking then."""
    phase: Literal["wait", "measure", "trial"] = "wait"
    fewer: bool = True
    """Which way the next trial goes."""
    patience: int = PATIENCE
    batches: int = 0
    rows: int = 0
    seconds: float = 0.0
    before: int = 0
    """In a trial: how many there were before, and how much they brought."""
    rate_before: float = 0.0

    @property
    def rate(self) -> float:
        """Records a second that NetSuite gives; what fetchers wait for others than NetSuite does not count."""
        return self.workers * self.rows / self.seconds if self.seconds else 0.0


def counted(climb: Climb, rows: int, seconds: float, began: float) -> Climb:
    """One fetcher got a batch of so many records: it asked for ``seconds``, from ``began`` on."""
    if began < climb.since:
        return climb
    return replace(climb, batches=climb.batches + 1, rows=climb.rows + rows, seconds=climb.seconds + seconds)


def decided(climb: Climb, now: float, fetchers: int) -> Climb:
    """What follows from what was measured until ``now``; ``fetchers``: how many there really are."""
    if fetchers != climb.workers:  # not yet, or others have the slots: nothing can be compared
        return _from(climb, now)
    needed = climb.workers * (climb.patience if climb.phase == "wait" else MEASURED)
    if climb.most == 1 or climb.batches < needed:
        return climb
    if climb.phase == "wait":
        slow = climb.seconds >= SLOW_BATCH * climb.batches
        return _from(climb, now, phase="measure" if slow or climb.workers < climb.most else "wait")
    if climb.phase == "measure":
        return _try(climb, now)
    # A trial: with so much more or fewer to ask, half as much more or less is what tells luck from gain.
    share = (climb.workers - climb.before) / climb.before / 2
    if climb.rate > climb.rate_before * (1 + share):
        return _from(climb, now, phase="measure", patience=PATIENCE)
    back = replace(climb, workers=climb.before, fewer=not climb.fewer)
    return _from(back, now, phase="wait", patience=2 * climb.patience)


def _try(climb: Climb, now: float) -> Climb:
    fewer = climb.workers == climb.most or (climb.fewer and climb.workers > 1)
    step = max(1, climb.workers // 4)
    workers = climb.workers - step if fewer else min(climb.most, climb.workers + step)
    tried = replace(climb, before=climb.workers, rate_before=climb.rate, workers=workers, fewer=fewer)
    return _from(tried, now, phase="trial")


def _from(
    climb: Climb, now: float, *, phase: Literal["wait", "measure", "trial"] | None = None, patience: int | None = None
) -> Climb:
    """Measure anew from ``now`` on."""
    return replace(
        climb,
        since=now,
        phase=phase or climb.phase,
        patience=patience or climb.patience,
        batches=0,
        rows=0,
        seconds=0.0,
    )


class Climber:
    """A run's climb, for many threads; ``tell`` is told why of each change that lasts."""

    def __init__(self, most: int, tell: Callable[[str], None] = lambda why: None) -> None:
        self._climb = Climb(most, most)
        self._tell = tell
        self._lock = threading.Lock()

    def saw(self, rows: int, seconds: float, began: float) -> None:
        with self._lock:
            self._climb = counted(self._climb, rows, seconds, began)

    def adjust(self, now: float, fetchers: int) -> int:
        """How many may ask from ``now`` on."""
        with self._lock:
            before, self._climb = self._climb, decided(self._climb, now, fetchers)
        if before.phase == "trial" and self._climb.phase == "measure":
            self._tell(
                f"{before.workers} requests at a time instead of {before.before}: {before.rate:,.0f} records a second, "
                f"{before.rate_before:,.0f} before"
            )
        return self._climb.workers
