"""How many records, and how many columns, are asked for at once: as much as NetSuite answers in time.

Belongs here: the rule by which one answer changes that, as a pure function, and what the threads of a run share. Does
not belong here: sending requests (``client.py``), or keeping what was learnt (``imports/sizes.py``).

Additive up, multiplicative down. Between quick and slow lies more than a factor of two, so an account that takes twice
as long for twice as much never goes back and forth. One that does is tried ever more rarely.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace

from nsimport_pipeline.netsuite.suiteql import COLUMN_LIMIT, PAGE_LIMIT

SLOW = 0.5
"""Share of the time that NetSuite has for an answer above which it was asked for too much."""
QUICK = 0.2
"""Share below which it may be asked for more."""
PATIENCE = 5
"""Quick answers in a row before it is."""
LEAST_ROWS, MORE_ROWS = 50, 100
LEAST_COLUMNS, MORE_COLUMNS = 10, 10


@dataclass(frozen=True, slots=True)
class Sizing:
    """The most that one request asks for, and what is known of larger ones."""

    rows: int = PAGE_LIMIT
    columns: int = COLUMN_LIMIT
    """The key, which every statement has, among them."""
    patience: int = PATIENCE
    """Quick answers in a row that it takes to ask for more; doubles each time that more was too much."""
    grown: bool = False
    """Whether more was tried since it last was too much."""
    quick: int = 0
    """Quick answers in a row."""

    @property
    def full(self) -> bool:
        """Whether as much is asked for as NetSuite gives out at once."""
        return not self.smaller_than(PAGE_LIMIT, COLUMN_LIMIT)

    def smaller_than(self, rows: int, columns: int) -> bool:
        """Whether it would cut a request for so much."""
        return self.rows < rows or self.columns < columns

    def __str__(self) -> str:
        columns = f" and {self.columns} columns" if self.columns < COLUMN_LIMIT else ""
        return f"{self.rows:,} records{columns}"


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of one request: how much it was about, and how long it took of the seconds it was allowed."""

    rows: int
    """In the answer; of one that did not come, as many as were to be expected."""
    columns: int
    seconds: float
    allowed: float
    came: bool = True

    @property
    def slow(self) -> bool:
        return self.seconds >= SLOW * self.allowed

    @property
    def quick(self) -> float:
        """Seconds below which it would have been quick."""
        return QUICK * self.allowed


def adapt(sizing: Sizing, answer: Answer) -> Sizing:
    """What to ask for after one more answer: always 1 to 1000 rows, and 3 columns to the most an account bears.

    Rows first; columns only once an answer to few rows does not come at all. An answer that did not come, but was
    not given much time either, tells nothing; nor do slow ones to requests larger than are sent by now.
    """
    if answer.slow:
        if sizing.smaller_than(answer.rows, answer.columns):
            return sizing
        down = replace(sizing, quick=0, grown=False, patience=sizing.patience * (2 if sizing.grown else 1))
        if answer.rows > LEAST_ROWS:
            return replace(down, rows=max(LEAST_ROWS, answer.rows // 2))
        if not answer.came and answer.columns > LEAST_COLUMNS:
            return replace(down, columns=max(LEAST_COLUMNS, answer.columns // 2))
        return replace(sizing, quick=0)
    if not answer.came or answer.rows < sizing.rows:
        return sizing  # fewer rows than may be asked for do not show what more of them would take
    if answer.seconds >= answer.quick:
        return replace(sizing, quick=0)
    if sizing.quick + 1 < sizing.patience:
        return replace(sizing, quick=sizing.quick + 1)
    up = replace(sizing, quick=0, grown=True)
    if sizing.columns < COLUMN_LIMIT and sizing.columns <= answer.columns:
        return replace(up, columns=min(COLUMN_LIMIT, sizing.columns + MORE_COLUMNS))
    if sizing.rows < PAGE_LIMIT:
        return replace(up, rows=min(PAGE_LIMIT, sizing.rows + min(MORE_ROWS, sizing.rows)))
    return Sizing()


class Pace:
    """The sizing of a record type's requests, shared by all who send them. Safe for many threads.

    ``changed`` is told of each change with the answer it came from, one at a time.
    """

    def __init__(
        self,
        sizing: Sizing | None = None,
        changed: Callable[[Sizing, Sizing, Answer], None] = lambda before, after, answer: None,
    ) -> None:
        self.sizing = sizing or Sizing()
        self._changed = changed
        self._lock = threading.Lock()

    def saw(self, answer: Answer) -> Sizing:
        """Learn from an answer; returns what to ask for now."""
        with self._lock:
            before, self.sizing = self.sizing, adapt(self.sizing, answer)
            if (before.rows, before.columns) != (self.sizing.rows, self.sizing.columns):
                self._changed(before, self.sizing, answer)
            return self.sizing
