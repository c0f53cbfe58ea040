"""The columns that are fetched of a record type, and finding those that the account refuses or fails over.

Belongs here: the search for a column that makes NetSuite fail, and the columns of a run, which shrink when one is
found. Does not belong here: keeping what was found (``store/account.py``), or whole tables (``account.py``).
"""

import threading
from collections.abc import Callable, Generator, Sequence
from typing import TypeVar

from nsimport_pipeline.errors import ApiUnavailable, Category, RecordNotAvailable, ServerError, TimedOut, UnknownColumn
from nsimport_pipeline.imports.records import LeftOut
from nsimport_pipeline.netsuite.retrying import RetryPolicy
from nsimport_pipeline.netsuite.suiteql import Selected, without

T = TypeVar("T")

ONCE = RetryPolicy(attempts=1)
"""How the many questions of a search are asked; only what blames a column is asked with all patience."""

Ask = Callable[[Sequence[Selected]], T]
"""Asks NetSuite for these columns, the key first; raises what NetSuite made of it."""


def search(columns: Sequence[T], *, known: bool = False) -> Generator[tuple[T, ...], bool, list[T]]:
    """Find those of ``columns`` that fail alone, by halving.

    Yields the ones to ask for next, together, and is to be sent whether that failed. ``known``: all together are known
    to fail, so that is not asked. Takes at most 2·log2(n) + 2 questions for each one found among n. What fails only
    together with others is not found.
    """
    if not columns or (not (known and len(columns) > 1) and not (yield tuple(columns))):
        return []
    if len(columns) == 1:
        return list(columns)
    half = len(columns) // 2
    first = yield from search(columns[:half])
    return first + (yield from search(columns[half:], known=not first))


def find_broken(columns: Sequence[Selected], patient: Ask[object], brisk: Ask[object]) -> list[Selected]:
    """The columns that make NetSuite fail (500) by themselves; none if it fails without them too, or not any more.

    ``columns``: those that identify a record, and others. One of the others is blamed only if asking for it alone fails
    with all patience, while asking for the former alone does not. Raises any other failure of NetSuite.
    """
    identifying = [column for column in columns if column.identifies]
    others = [column for column in columns if not column.identifies]

    def fails(some: Sequence[Selected]) -> bool:
        sure = len(some) == 1
        try:
            if not sure:
                try:
                    brisk([*identifying, *some])
                except ServerError:
                    return True
                except (ApiUnavailable, TimedOut):
                    sure = True
            if sure:
                patient([*identifying, *some])
        except ServerError:
            return True
        return False

    def answers_at_all() -> bool:
        try:
            brisk(identifying)
        except (ApiUnavailable, TimedOut):
            return False
        return True

    if not answers_at_all():
        return []
    questions = search(others)
    answer: bool | None = None
    while True:
        try:
            asked = questions.send(answer)  # type: ignore[arg-type]  # None starts a generator
        except StopIteration as end:
            broken: list[Selected] = end.value
            return broken
        answer = fails(asked)
        if answer and len(asked) == 1 and not answers_at_all():
            return []


class Columns:
    """The columns fetched of a record type, the key first. Safe for many threads.

    ``keep`` is told of every column that is left out from then on.
    """

    def __init__(
        self, selected: Sequence[Selected], keep: Callable[[Sequence[LeftOut]], None] = lambda found: None
    ) -> None:
        self.selected: tuple[Selected, ...] = tuple(selected)
        self.left_out: list[LeftOut] = []
        """Found so far."""
        self._keep = keep
        self._changing = threading.Lock()
        self._searching = threading.Lock()

    def fetch(self, patient: Ask[T], brisk: Ask[object]) -> tuple[T, tuple[Selected, ...]]:
        """What ``patient`` returns, and the columns it was asked for: without those that the account does not bear.

        Raises what ``patient`` raises if no column is to blame.
        """
        while True:
            columns = self.selected
            try:
                return patient(columns), columns
            except (UnknownColumn, RecordNotAvailable, ServerError) as error:
                if not self._mended(error, columns, patient, brisk):
                    raise

    def _mended(
        self,
        error: UnknownColumn | RecordNotAvailable | ServerError,
        columns: tuple[Selected, ...],
        patient: Ask[T],
        brisk: Ask[object],
    ) -> bool:
        """Whether it is worth another try, with fewer columns."""
        if isinstance(error, UnknownColumn):
            return self._leave_out(columns, [LeftOut(error.column, error.category, str(error))])
        if isinstance(error, RecordNotAvailable):
            # Some columns are computed from another table.
            computed = [one for one in columns if one.column is None and error.table and one.reads(error.table)]
            return self._leave_out(columns, [LeftOut(one.alias, error.category, str(error)) for one in computed])
        with self._searching:
            if self.selected is not columns:  # somebody else found a column meanwhile
                return True
            try:
                broken = find_broken(columns, patient, brisk)
            except (UnknownColumn, RecordNotAvailable) as refused:
                return self._mended(refused, columns, patient, brisk)
            reason = f"every statement with this column fails: {error}"
            found = [LeftOut(one.alias, Category.API_UNAVAILABLE, reason) for one in broken]
            return self._leave_out(columns, found)

    def _leave_out(self, columns: Sequence[Selected], found: Sequence[LeftOut]) -> bool:
        names = [one.column for one in found]
        if len(without(columns, names)) == len(columns):
            return False
        with self._changing:
            kept = without(self.selected, names)
            changed = len(kept) < len(self.selected)
            if changed:
                self.selected = tuple(kept)
                self.left_out += found
        if changed:
            self._keep(found)
        return True
