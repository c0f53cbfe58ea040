"""How much is asked for at once: less after slow answers, more after quick ones, and an end to going back and forth."""

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nsimport_pipeline.netsuite.sizing import LEAST_COLUMNS, LEAST_ROWS, PATIENCE, Answer, Pace, Sizing, adapt
from nsimport_pipeline.netsuite.suiteql import COLUMN_LIMIT, PAGE_LIMIT

ALLOWED = 60.0
WIDTH = 40
Account = Callable[[int, int], float]
"""Seconds that an answer of so many rows and columns takes."""

sizings = st.builds(
    Sizing,
    rows=st.integers(LEAST_ROWS, PAGE_LIMIT),
    columns=st.integers(LEAST_COLUMNS, COLUMN_LIMIT),
    patience=st.integers(1, 1000),
    grown=st.booleans(),
    quick=st.integers(0, 10),
)
answers = st.builds(
    Answer,
    rows=st.integers(0, PAGE_LIMIT),
    columns=st.integers(1, COLUMN_LIMIT),
    seconds=st.floats(0, 400),
    allowed=st.floats(0.1, 300),
    came=st.booleans(),
)


def asked(sizing: Sizing, account: Account, width: int = WIDTH, there: int = PAGE_LIMIT) -> Answer:
    """A request as large as the sizing lets it be, and what becomes of it."""
    rows, columns = min(sizing.rows, there), min(sizing.columns, width)
    seconds = account(rows, columns)
    return Answer(rows, columns, min(seconds, ALLOWED), ALLOWED, came=seconds < ALLOWED)


def life(account: Account, requests: int, sizing: Sizing | None = None) -> tuple[Sizing, int]:
    """The sizing after so many requests, and how many were asked for too much."""
    sizing, slow = sizing or Sizing(), 0
    for _ in range(requests):
        answer = asked(sizing, account)
        slow += answer.slow
        sizing = adapt(sizing, answer)
    return sizing, slow


@pytest.mark.parametrize(
    ("sizing", "answer", "rows", "columns"),
    [
        (Sizing(), Answer(1000, 40, 60, 60, came=False), 500, 100),
        (Sizing(), Answer(1000, 40, 30, 60), 500, 100),
        (Sizing(), Answer(1000, 40, 29, 60), 1000, 100),
        (Sizing(), Answer(300, 40, 60, 60, came=False), 150, 100),  # so many there were to come
        (Sizing(500), Answer(1000, 40, 60, 60, came=False), 500, 100),  # asked for before
        (Sizing(60), Answer(60, 40, 60, 60, came=False), 50, 100),
        (Sizing(50), Answer(50, 40, 60, 60, came=False), 50, 20),
        (Sizing(50), Answer(50, 40, 45, 60), 50, 100),  # it did come
        (Sizing(50, 10), Answer(50, 10, 60, 60, came=False), 50, 10),
        (Sizing(), Answer(1000, 40, 10, 60, came=False), 1000, 100),  # its batch left it no more time
        (Sizing(500, quick=4), Answer(500, 40, 5, 60), 600, 100),
        (Sizing(60, quick=4), Answer(60, 40, 5, 60), 120, 100),
        (Sizing(950, quick=4), Answer(950, 40, 5, 60), 1000, 100),
        (Sizing(500, quick=4), Answer(499, 40, 5, 60), 500, 100),  # the end of a range
        (Sizing(500, quick=3), Answer(500, 40, 5, 60), 500, 100),
        (Sizing(500, quick=4), Answer(500, 40, 20, 60), 500, 100),
        (Sizing(50, 20, quick=4), Answer(50, 20, 5, 60), 50, 30),
        (Sizing(50, 20, quick=4), Answer(50, 12, 5, 60), 100, 20),  # it has no more columns
    ],
)
def test_one_answer(sizing: Sizing, answer: Answer, rows: int, columns: int) -> None:
    after = adapt(sizing, answer)

    assert (after.rows, after.columns) == (rows, columns)


@given(sizing=sizings, seen=st.lists(answers, max_size=50))
def test_it_stays_within_bounds_whatever_happens(sizing: Sizing, seen: list[Answer]) -> None:
    for answer in seen:
        before, sizing = sizing, adapt(sizing, answer)
        assert LEAST_ROWS <= sizing.rows <= PAGE_LIMIT
        assert LEAST_COLUMNS <= sizing.columns <= COLUMN_LIMIT
        if answer.slow:
            assert sizing.rows <= before.rows
            assert sizing.columns <= before.columns


@given(fixed=st.floats(0, 10), each=st.floats(0, 0.39))
@settings(max_examples=30)
def test_an_account_that_takes_longer_in_proportion_is_never_tried_in_vain(fixed: float, each: float) -> None:
    def account(rows: int, columns: int) -> float:
        return fixed + each * rows * columns / WIDTH

    sizing, first = life(account, 10)
    later, slow = life(account, 300, sizing)

    assert first <= 5
    assert slow == 0
    assert later.rows == PAGE_LIMIT or account(2 * later.rows, WIDTH) > ALLOWED / 5


@given(most=st.integers(LEAST_ROWS, PAGE_LIMIT - 1))
@settings(max_examples=30)
def test_an_account_with_a_cliff_is_tried_ever_more_rarely(most: int) -> None:
    def account(rows: int, columns: int) -> float:
        return 1.0 if rows <= most else 900.0

    sizing, hundreds = life(account, 320)
    later, thousands = life(account, 2560, sizing)

    # Once more each time that it is tried for twice as long, after at most five halvings in the beginning.
    assert hundreds <= 5 + 6
    assert thousands <= 4
    assert later.rows <= most or later.grown


@settings(max_examples=30)
@given(sizing=sizings.filter(lambda sizing: sizing.patience <= 40))
def test_an_account_that_became_quick_is_asked_for_everything_again(sizing: Sizing) -> None:
    after, slow = life(lambda rows, columns: 1.0, 40 * 25, sizing)

    assert slow == 0
    assert (after.rows, after.patience) == (PAGE_LIMIT, PATIENCE)
    assert after.columns >= WIDTH


def test_all_who_share_a_pace_are_told_once() -> None:
    told: list[tuple[int, int]] = []
    pace = Pace(None, lambda before, after, answer: told.append((before.rows, after.rows)))
    late = Answer(1000, 40, 60, 60, came=False)

    assert [pace.saw(late).rows for _ in range(3)] == [500, 500, 500]
    assert told == [(1000, 500)]
    assert Pace(Sizing(250)).sizing.smaller_than(251, 40)
