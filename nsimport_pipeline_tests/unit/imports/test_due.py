"""Whether a schedule begins its import: not if the tenant is off, in quiet hours, beside another, or while down."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nsimport_pipeline.imports.due import Found, due
from nsimport_pipeline.imports.rollout import Switch
from nsimport_pipeline.netsuite.circuit import Circuit, CircuitState
from nsimport_pipeline.schedule_settings import Schedule

ON, OFF = Switch(True, "enabled: true in the tenants file"), Switch(False, "the flag is off")
NIGHT = datetime(2026, 3, 2, 6, 30, tzinfo=UTC)
"""Half past ten in the evening in Los Angeles."""
DAY = NIGHT + timedelta(hours=12)
TAKEN = ("acme-20260301120000-0001", "customer")
DOWN = Circuit(CircuitState.OPEN, 4, 2, NIGHT, DAY + timedelta(minutes=1), NIGHT)


def schedule(**more: object) -> Schedule:
    return Schedule.model_validate({"cron": "H/15 * * * *", "timezone": "America/Los_Angeles", **more})


@pytest.mark.parametrize(
    ("more", "found", "now", "said"),
    [
        ({}, Found(ON), DAY, None),
        ({}, Found(OFF), DAY, "the tenant is not enabled (the flag is off)"),
        ({}, Found(ON, TAKEN), DAY, f"{TAKEN[0]} is still importing customer: `nsimport status {TAKEN[0]}`"),
        ({"quiet_hours": "22:00-06:00"}, Found(ON), NIGHT, "quiet hours: 22:00-06:00 America/Los_Angeles"),
        ({"quiet_hours": "22:00-06:00"}, Found(ON), DAY, None),
        ({"quiet_hours": ["12:00-13:00", "22:15-22:45"]}, Found(ON), NIGHT, "quiet hours: 22:15-22:45"),
        ({}, Found(ON, circuit=DOWN), DAY, "NetSuite is not answering since 06:30 UTC; next probe at 18:31:00"),
        # Its import asks whether NetSuite answers again: nobody else does.
        ({}, Found(ON, circuit=DOWN), DAY + timedelta(minutes=2), None),
        # Whether it is NetSuite, only a probe tells.
        ({}, Found(ON, circuit=Circuit(CircuitState.OPEN, 4, 0, DAY, DAY, DAY)), DAY, None),
    ],
)
def test_it_begins_or_says_why_not(more: dict[str, object], found: Found, now: datetime, said: str | None) -> None:
    reason = due(schedule(**more), found, now)
    assert reason == said if said is None else (reason or "").startswith(said)


CLOCK = st.times().map(lambda at: f"{at:%H:%M}")


@given(CLOCK, CLOCK, st.datetimes(datetime(2026, 1, 1), datetime(2026, 12, 31)), st.booleans(), st.booleans())
def test_nothing_begins_in_quiet_hours_or_beside_another_import(
    begin: str, end: str, moment: datetime, taken: bool, on: bool
) -> None:
    quiet = [] if begin == end else [f"{begin}-{end}"]
    now = moment.replace(tzinfo=UTC)
    # Every minute: a schedule whose ticks are all in quiet hours is refused.
    each_minute = schedule(cron="* * * * *", quiet_hours=quiet)
    reason = due(each_minute, Found(ON if on else OFF, TAKEN if taken else None), now)
    local = f"{now.astimezone(ZoneInfo('America/Los_Angeles')):%H:%M}"
    within = bool(quiet) and (begin <= local < end if begin < end else not end <= local < begin)
    assert (reason is None) == (on and not taken and not within)
