"""Cron expressions: ``H`` is a number that a name decides, and moments come in order, whatever the clocks do."""

import re
from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise

import dagster as dg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nsimport_pipeline.cron import shortest_interval, spread, ticks_after, ticks_before

NAMES = st.from_regex(r"[a-z0-9_]{1,32} [a-z0-9_]{1,32}", fullmatch=True)
EXPRESSIONS = st.sampled_from(
    [
        "H/15 * * * *",
        "H * * * *",
        "H H * * *",
        "H H(1-5) * * *",
        "H(30-59)/10 H/6 * * 1-5",
        "H H H * *",
        "H H * H H",
        "0,H * * * mon,thu",
        "*/20 6-20 * * *",
    ]
)
MOMENTS = st.datetimes(datetime(2024, 1, 1), datetime(2027, 12, 31)).map(lambda moment: moment.replace(tzinfo=UTC))


@given(EXPRESSIONS, NAMES)
def test_h_becomes_numbers_that_dagster_takes_and_are_the_same_every_time(expression: str, name: str) -> None:
    plain = spread(expression, name)
    assert "H" not in plain
    assert spread(expression, name) == plain
    assert spread(plain, "another") == plain
    assert dg.ScheduleDefinition(name="any", job_name="any", cron_schedule=plain).cron_schedule == plain


@given(NAMES, st.integers(1, 60))
def test_a_step_comes_as_often_as_without_h(name: str, step: int) -> None:
    hour = datetime(2026, 3, 1, tzinfo=UTC)
    moments = islice(ticks_after(spread(f"H/{step} * * * *", name), hour - timedelta(seconds=1), "UTC"), 61)
    assert len([moment for moment in moments if moment < hour + timedelta(hours=1)]) in (60 // step, 60 // step + 1)


def test_tenants_are_spread_over_the_hour() -> None:
    minutes = [int(spread("H 2 * * *", f"tenant_{number} changes").split()[0]) for number in range(200)]
    assert len(set(minutes)) > 50
    assert max(minutes.count(minute) for minute in minutes) < 12


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("* * * *", "has 4 fields; a cron expression has five: minute, hour, day of the month, month"),
        ("@daily", "has 1 fields"),
        ("61 * * * *", "'61 * * * *' is no cron expression, or never comes: "),
        ("0 0 30 2 *", "or never comes"),
        ("H/70 * * * *", "'H/70': a step of 70 cannot be in the minute"),
        ("0 H(5-1) * * *", "'H(5-1)': the hour is 0 to 23, the lower one first"),
        ("H(0-99) * * * *", "the minute is 0 to 59"),
        ("Hourly * * * *", "no cron expression"),
        ("HH * * * *", "'HH' in the minute: H is written H, H(1-5), H/15 or H(1-5)/2"),
        ("r * * * *", "'r' in the minute: H is written"),
    ],
)
def test_what_is_wrong_is_said(expression: str, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        spread(expression, "acme changes")


@given(EXPRESSIONS, NAMES, MOMENTS, st.sampled_from(["UTC", "America/Los_Angeles", "Europe/Berlin", "Asia/Kolkata"]))
def test_moments_come_in_order_and_the_same_from_both_sides(
    expression: str, name: str, moment: datetime, zone: str
) -> None:
    plain = spread(expression, name)
    after = list(islice(ticks_after(plain, moment, zone), 3))
    before = next(ticks_before(plain, moment, zone))
    assert before <= moment < after[0] < after[1] < after[2]
    assert all(one.tzinfo is UTC for one in [before, *after])


@given(MOMENTS)
def test_a_moment_that_is_one_is_its_own_last(moment: datetime) -> None:
    minute = moment.replace(second=0, microsecond=0)
    assert next(ticks_before("* * * * *", minute, "Europe/Berlin")) == minute


def test_the_shortest_interval() -> None:
    assert shortest_interval("13-59/15 * * * *", "UTC") == 900
    assert shortest_interval("0 9,17 * * *", "UTC") == 8 * 3600
    assert shortest_interval("0 2 * * *", "America/Los_Angeles") == 86400


def test_no_moment_is_lost_or_doubled_when_clocks_change() -> None:
    begin = datetime(2026, 3, 7, tzinfo=UTC)
    found = list(islice(ticks_after("7/15 * * * *", begin, "America/Los_Angeles"), 4 * 48))
    assert {(later - earlier).total_seconds() for earlier, later in pairwise(found)} == {900}
