"""Finding the columns that an account refuses or fails over."""

import threading
from collections.abc import Callable, Sequence
from math import ceil, log2

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nsimport_pipeline.errors import ApiUnavailable, ImportFailure, ServerError, TimedOut, UnknownColumn
from nsimport_pipeline.imports.columns import Columns, find_broken, search
from nsimport_pipeline.imports.records import LeftOut
from nsimport_pipeline.netsuite.suiteql import Selected

NAMES = [f"c{number}" for number in range(130)]


def found_among(size: int, fails: Callable[[tuple[int, ...]], bool]) -> tuple[list[int], int]:
    """What the search blames among ``range(size)``, and the questions it took."""
    questions = search(range(size))
    asked, answer = 0, None
    while True:
        try:
            group = questions.send(answer)  # type: ignore[arg-type]
        except StopIteration as end:
            return end.value, asked
        asked, answer = asked + 1, fails(group)


@given(st.integers(0, 130), st.data())
def test_exactly_the_bad_ones_are_found_at_logarithmic_cost(size: int, data: st.DataObject) -> None:
    bad = data.draw(st.sets(st.integers(0, max(0, size - 1)), max_size=min(size, 6)))
    found, asked = found_among(size, lambda group: bool(bad & set(group)))
    assert found == sorted(bad)
    assert asked <= max(1, len(bad) * (2 * ceil(log2(max(size, 2))) + 2))


@given(st.integers(2, 60), st.data())
def test_columns_that_fail_only_together_are_not_blamed(size: int, data: st.DataObject) -> None:
    pair = set(data.draw(st.lists(st.integers(0, size - 1), min_size=2, max_size=2, unique=True)))
    assert found_among(size, lambda group: pair <= set(group))[0] == []


def columns(names: Sequence[str] = NAMES) -> list[Selected]:
    return [Selected("id", "t.id", "id", identifies=True), *(Selected(name, f"t.{name}", name) for name in names)]


class Account:
    """Answers for columns: ``broken`` ones fail, ``unknown`` are refused, ``blips`` answers fail for nothing."""

    def __init__(self, broken: Sequence[str] = (), unknown: Sequence[str] = (), blips: Sequence[int] = ()) -> None:
        self.broken, self.unknown, self.blips = set(broken), set(unknown), set(blips)
        self.asked: list[list[str]] = []
        self.down: ImportFailure | None = None

    def patient(self, asked: Sequence[Selected]) -> list[str]:
        names = [column.alias for column in asked]
        self.asked.append(names)
        if self.down:
            raise self.down
        if self.broken & set(names):
            raise ServerError("500")
        for name in names:
            if name in self.unknown:
                raise UnknownColumn("400", column=name)
        return names

    def brisk(self, asked: Sequence[Selected]) -> object:
        if len(self.asked) in self.blips:
            self.asked.append([])
            raise ServerError("500 for once")
        return self.patient(asked)


@given(
    st.sets(st.sampled_from(NAMES), max_size=3),
    st.sets(st.sampled_from(NAMES), max_size=3),
    st.sets(st.integers(0, 40), max_size=5),
)
def test_a_range_is_fetched_without_what_the_account_does_not_bear(
    broken: set[str], unknown: set[str], blips: set[int]
) -> None:
    """However often NetSuite fails for nothing on the way, no good column is left out."""
    account, told = Account(sorted(broken), sorted(unknown), sorted(blips)), list[LeftOut]()
    shared = Columns(columns(), told.extend)
    for _ in range(50):
        try:
            fetched, asked = shared.fetch(account.patient, account.brisk)
            break
        except ServerError:  # a search that was led astray comes to nothing; the batch is tried again
            continue
    assert fetched == [c.alias for c in asked] == ["id", *(n for n in NAMES if n not in broken | unknown)]
    assert {one.column for one in told} == broken | unknown == {one.column for one in shared.left_out}


@pytest.mark.parametrize("outage", [ServerError("500"), ApiUnavailable("503"), TimedOut("no answer")])
def test_an_outage_blames_no_column_and_costs_one_question(outage: ImportFailure) -> None:
    account = Account()
    account.down = outage
    assert find_broken(columns(), account.patient, account.brisk) == []
    assert account.asked == [["id"]]


def test_an_outage_that_begins_in_the_middle_blames_no_column() -> None:
    account = Account(["c7"])

    def dies(asked: Sequence[Selected]) -> object:
        if len(account.asked) == 5:
            account.down = ServerError("500")
        return account.brisk(asked)

    assert find_broken(columns(), account.patient, dies) == []


def test_a_refusal_of_what_is_not_fetched_is_raised() -> None:
    def refuses(asked: Sequence[Selected]) -> object:
        raise UnknownColumn("400", column="elsewhere")

    with pytest.raises(UnknownColumn):
        Columns(columns()).fetch(refuses, refuses)


def test_threads_that_meet_the_same_column_all_go_on() -> None:
    account, told = Account(["c3"], ["c9"]), list[LeftOut]()
    shared = Columns(columns(NAMES[:20]), told.extend)
    together = threading.Barrier(4)
    results: list[int] = []

    def work() -> None:
        first = iter([True])

        def ask(asked: Sequence[Selected]) -> list[str]:
            if next(first, False):
                together.wait()
            return account.patient(asked)

        results.append(len(shared.fetch(ask, account.brisk)[0]))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [19] * 4
    assert sorted(one.column for one in told) == ["c3", "c9"]
