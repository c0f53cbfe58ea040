"""Time left, against made-up imports whose end is known."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nsimport_pipeline.imports.estimate import Work, rate, time_left


def schedule(levels: list[tuple[int, float, int]], slots: int, pause: float) -> list[tuple[int, float, float, int]]:
    """(level, start, end, records) of each batch, from levels of (batches, seconds each, records each)."""
    now, batches = 0.0, []
    for level, (number, seconds, records) in enumerate(levels):
        now += pause
        free = [now] * slots
        for _ in range(number):
            start = min(free)
            free[free.index(start)] = start + seconds
            batches.append((level, start, start + seconds, records))
        now = max(free)
    return batches


def estimated(
    levels: list[tuple[int, float, int]], batches: list[tuple[int, float, float, int]], now: float, pause: float
):
    """What is said at ``now`` of an import that goes on as ``batches`` have it."""
    work = []
    for level in range(len(levels)):
        done = [b for b in batches if b[0] == level and b[2] <= now]
        left = [b for b in batches if b[0] == level and b[2] > now]
        work.append(
            Work(
                level, len(done), sum(b[3] for b in done), sum(b[2] - b[1] for b in done), len(left),
                sum(b[3] for b in left),
            )
        )  # fmt: skip
    recent = sum(b[2] - b[1] for b in batches if now - 30 < b[2] <= now)
    return time_left(work, recent, 30, now - min(b[1] for b in batches), pause)


@pytest.mark.parametrize("share", [0.25, 0.5, 0.75])
@pytest.mark.parametrize(
    ("levels", "slots", "pause"),
    [
        ([(300, 2.0, 1000)], 5, 5.0),
        ([(120, 1.0, 1000)], 5, 3.0),
        ([(200, 2.0, 1000), (200, 2.0, 1000)], 4, 5.0),
    ],
)
def test_a_steady_import_is_told_within_a_fifth(levels, slots: int, pause: float, share: float) -> None:
    batches = schedule(levels, slots, pause)
    end = max(b[2] for b in batches)
    now = end * share
    assert estimated(levels, batches, now, pause) == pytest.approx(end - now, rel=0.2)


def test_small_types_to_come_are_not_taken_for_nothing() -> None:
    batches = schedule([(100, 1.0, 1000)] + [(1, 0.8, 5)] * 8, 5, 4.0)
    end = max(b[2] for b in batches)
    now = 15.0
    assert estimated([(0, 0, 0)] * 9, batches, now, 4.0) == pytest.approx(end - now, rel=0.25)


LISTS = [(level, 1, 0.8, 12) for level in (0, 0, 0, 0, 0, 0, 1, 1, 1, 2, 2)]
"""Small record types, as (level, batches, seconds each, records each)."""


@pytest.mark.parametrize(
    ("large", "slots"),
    [
        ([(3, 140, 2.0, 1000)], 5),
        ([(3, 140, 2.0, 1000), (4, 500, 2.0, 1000), (4, 300, 1.5, 1000)], 5),
        ([(3, 1000, 1.2, 1000)], 10),
        ([(2, 40, 3.0, 1000)], 5),
    ],
)
@pytest.mark.parametrize("level", [1, 2])
def test_small_types_alone_do_not_make_hours_of_minutes(
    large: list[tuple[int, int, float, int]], slots: int, level: int
) -> None:
    """Two times too long or too short at most, while all that is known are lists and how slowly their runs start."""
    types, pause = LISTS + large, 8.0
    each_level = [[kind for kind in types if kind[0] == n] for n in range(types[-1][0] + 1)]
    lengths = [pause + sum(n * s for _, n, s, _ in kinds) / slots for kinds in each_level]
    now = sum(lengths[:level])
    work = [
        Work(at, n, n * records, n * seconds, 0, 0) if at < level else Work(at, 0, 0, 0.0, n, n * records)
        for at, n, seconds, records in types
    ]
    recent = sum(n * seconds for at, n, seconds, _ in types if at == level - 1)
    left = time_left(work, recent, 30, now - pause, pause, slots)
    assert 0.5 < left / sum(lengths[level:]) < 2


def test_what_a_large_type_shows_counts_for_the_others() -> None:
    known = Work(0, 40, 40_000, 80.0, 0, 0)
    assert time_left([known, Work(1, 0, 0, 0.0, 40, 40_000)], 120.0, 30, 60, 5, 5) == pytest.approx(5 + 80 / 4)


def test_nothing_done_tells_nothing_and_nothing_left_takes_no_time() -> None:
    assert time_left([Work(0, 0, 0, 0.0, 5, 5000)], 0, 30, 3, 2) == float("inf")
    assert time_left([Work(0, 5, 5000, 9.0, 0, 0)], 9, 30, 12, 2) == 0
    assert time_left([], 0, 30, 0, 0) == 0


def test_a_pause_between_levels_does_not_make_the_end_infinitely_far() -> None:
    work = [Work(0, 100, 100_000, 200.0, 0, 0), Work(1, 0, 0, 0.0, 50, 50_000)]
    assert time_left(work, 0.0, 30, 50, 5) == pytest.approx(5 + 50 * 2 / 4)


def test_the_rate_is_taken_from_the_first_batch_on() -> None:
    assert rate(10_000, 30, 10) == 1000
    assert rate(30_000, 30, 500) == 1000
    assert rate(0, 30, 0) == 0


@given(
    st.lists(
        st.builds(
            Work, st.integers(0, 3), st.integers(0, 9), st.integers(0, 9000), st.floats(0, 100), st.integers(0, 9),
            st.integers(0, 9000),
        ),
        max_size=6,
    ),
    st.floats(0, 1000), st.floats(0, 1000), st.floats(0, 60),
)  # fmt: skip
def test_time_left_is_never_negative_nor_undefined(work: list[Work], recent: float, since: float, pause: float) -> None:
    left = time_left(work, recent, 30, since, pause)
    assert left >= 0
    if not any(each.left for each in work):
        assert left == 0
