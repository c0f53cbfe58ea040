"""How many requests at a time are worth having, of accounts that bear many, few, or fewer than before."""

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nsimport_pipeline.imports.climb import PATIENCE, Climb, Climber, counted, decided

Account = Callable[[int], float]
"""Seconds that a batch takes while so many are asked for at a time."""


class Run:
    """A run whose fetchers ask without a pause; batches begin and end one after the other."""

    def __init__(self, most: int, account: Account) -> None:
        self.climb = Climb(most, most)
        self.account = account
        self.now = 0.0
        self.fetchers = most
        self.tried: list[int] = []
        """How many there were, each time that changed."""

    def ask(self, rounds: int) -> "Run":
        for _ in range(rounds):
            began, seconds = self.now, self.account(self.fetchers)
            self.now += seconds
            for _ in range(self.fetchers):
                self.climb = counted(self.climb, 1000, seconds, began)
            self.climb = decided(self.climb, self.now, self.fetchers)
            if self.fetchers != self.climb.workers:
                self.fetchers = self.climb.workers
                self.tried.append(self.fetchers)
        return self


def crowded(bears: int, seconds: float = 3.0) -> Account:
    return lambda fetchers: seconds * max(1.0, fetchers / bears) ** 2


@pytest.mark.parametrize("most", range(1, 9))
def test_nothing_is_tried_while_answers_are_quick(most: int) -> None:
    assert Run(most, lambda fetchers: 1.9).ask(1000).tried == []


@pytest.mark.parametrize("most", range(2, 9))
def test_an_account_that_bears_all_keeps_all_and_is_tried_ever_more_rarely(most: int) -> None:
    run = Run(most, lambda fetchers: 5.0).ask(100 * PATIENCE)

    assert run.climb.workers == most or run.climb.phase == "trial"
    assert len(run.tried) <= 2 * 7


@pytest.mark.parametrize("most", range(1, 9))
@pytest.mark.parametrize("bears", range(1, 9))
def test_what_more_requests_do_not_bring_is_not_asked_for(most: int, bears: int) -> None:
    run = Run(most, crowded(bears)).ask(200)

    settled = run.climb.before if run.climb.phase == "trial" else run.climb.workers
    assert settled == min(most, bears)


def test_one_more_is_tried_again_when_the_account_has_recovered() -> None:
    run = Run(5, crowded(2)).ask(60)
    assert run.climb.workers == 2
    run.account = lambda fetchers: 0.5
    run.ask(200)

    assert run.climb.workers == 5
    tried = len(run.tried)
    assert len(run.ask(1000).tried) == tried


@given(st.lists(st.floats(0.1, 60), min_size=8, max_size=8), st.integers(1, 8))
@settings(max_examples=20)
def test_it_never_goes_back_and_forth_for_ever(seconds: list[float], most: int) -> None:
    """Whatever the account is like, as long as it stays so: each change that lasts is an improvement."""
    run = Run(most, lambda fetchers: seconds[fetchers - 1]).ask(500)
    early = len(run.tried)
    run.ask(1000)

    assert all(1 <= fetchers <= most for fetchers in run.tried)
    assert len(run.tried) - early <= 2 * 4 + 2 * most


def test_what_others_asked_for_and_what_too_few_asked_for_is_not_counted() -> None:
    climb = Climb(4, 4, since=10.0)

    assert counted(climb, 1000, 5.0, 9.9) == climb
    assert counted(climb, 1000, 5.0, 10.0).rows == 1000
    begun = decided(counted(climb, 1000, 5.0, 10.0), 20.0, 3)
    assert (begun.since, begun.rows, begun.workers) == (20.0, 0, 4)


def test_only_what_lasts_is_told() -> None:
    told: list[str] = []
    climber, now, fetchers = Climber(3, told.append), 0.0, 3
    for _ in range(40):
        seconds = crowded(2)(fetchers)
        for _ in range(fetchers):
            climber.saw(1000, seconds, now)
        now += seconds
        fetchers = climber.adjust(now, fetchers)

    assert told == ["2 requests at a time instead of 3: 667 records a second, 444 before"]
