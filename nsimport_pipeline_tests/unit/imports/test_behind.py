"""Who is behind a schedule, and why: by watermarks and moments of the schedule, whatever was written when."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nsimport_pipeline.imports.behind import Pace, Runs, Tables, Tick, due_at, judge, lagging
from nsimport_pipeline.imports.records import ImportJob
from nsimport_pipeline.imports.rollout import Switch
from nsimport_pipeline.imports.states import ImportState
from nsimport_pipeline.netsuite.circuit import Circuit, CircuitState
from nsimport_pipeline.schedule_settings import Schedule

NOW = datetime(2026, 3, 2, 12, 7, tzinfo=UTC)
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
DUE = NOW.replace(minute=45) - HOUR
"""Of every quarter of an hour, the last that is a quarter ago."""
ON = Runs(on=True, since=NOW - timedelta(days=2), tick=Tick(NOW.replace(minute=0), None))
ID = "acme-20260302114500-0001"


def schedule(**more: Any) -> Schedule:
    return Schedule.model_validate({"cron": "*/15 * * * *", "timezone": "UTC", "enabled": True} | more)


def job(state: ImportState, at: datetime = DUE + MINUTE, reason: str | None = None) -> ImportJob:
    return ImportJob(
        import_id=ID, tenant="acme", mode="incremental", origin="import", state=state, requested=("customer",),
        wave_size=300, completion_threshold=90, retry_attempts=3, continue_on_permanent=True, created_at=at,
        failure_reason=reason,
    )  # fmt: skip


LATE = Tables({"customer": DUE - HOUR, "currency": DUE})
DOWN = Circuit(CircuitState.OPEN, 4, 2, NOW - HOUR, NOW + MINUTE, NOW)


@pytest.mark.parametrize(
    ("more", "since", "due"),
    [
        ({}, NOW - timedelta(days=1), DUE),
        ({"grace": 60}, NOW - timedelta(days=1), NOW.replace(minute=0)),
        # A day is not waited for: an hour after it was due, it is behind.
        ({"cron": "0 11 * * *"}, NOW - timedelta(days=3), NOW.replace(hour=11, minute=0)),
        ({"cron": "30 11 * * *"}, NOW - timedelta(days=3), NOW.replace(hour=11, minute=30) - timedelta(days=1)),
        ({"quiet_hours": "11:00-12:00"}, NOW - timedelta(days=1), NOW.replace(hour=10, minute=45)),
        # Nothing was due before it was switched on.
        ({}, NOW - 5 * MINUTE, None),
        ({"quiet_hours": "11:00-12:00"}, NOW - HOUR, None),
        ({}, None, None),
    ],
)
def test_what_should_be_in_by_now(more: dict[str, Any], since: datetime | None, due: datetime | None) -> None:
    assert due_at("acme", "changes", schedule(**more), since, NOW) == due


@given(
    st.sampled_from(["H/15 * * * *", "H * * * *", "H 12 * * *", "H H(8-19) * * 6"]),
    st.integers(0, 60 * 24 * 14),
    st.integers(1, 60 * 24 * 30),
    st.booleans(),
)
def test_what_is_due_was_long_enough_ago_and_not_in_quiet_hours(
    cron: str, minutes: int, on_for: int, quiet: bool
) -> None:
    now = NOW + minutes * MINUTE
    one = schedule(cron=cron, timezone="Europe/Berlin", grace=600, quiet_hours=["20:00-07:00"] if quiet else [])
    due = due_at("acme", "changes", one, now - on_for * MINUTE, now)
    if due is not None:
        assert now - on_for * MINUTE <= due <= now - 10 * MINUTE
        assert one.is_quiet(due, "Europe/Berlin") is None


@given(
    st.dictionaries(st.sampled_from("abcdef"), st.none() | st.integers(-200, 200)), st.none() | st.integers(-100, 100)
)
def test_those_that_are_behind_are_the_ones_that_have_not_reached_it(
    minutes: dict[str, int | None], due: int | None
) -> None:
    reached = {name: None if at is None else NOW + at * MINUTE for name, at in minutes.items()}
    late = lagging(None if due is None else NOW + due * MINUTE, reached)
    # Clocks may be a minute apart.
    assert set(late) == {
        name for name, at in minutes.items() if due is not None and (at is None or at < due - 1)
    }  # fmt: skip
    known = [at for name in late if (at := minutes[name]) is not None]
    assert known == sorted(known)
    assert [name for name in late if minutes[name] is None] == late[: len(late) - len(known)]


def judged(runs: Runs = ON, tables: Tables | None = LATE, last: ImportJob | None = None, **more: Any) -> Pace:
    return judge("acme", "changes", schedule(**more), runs, tables, last, NOW)


@pytest.mark.parametrize(
    ("pace", "why", "command"),
    [
        (judged(tables=replace(LATE, switch=Switch(False, "the flag is off"), by_flag=True)),
         "the tenant is not enabled (the flag is off)", "nsimport flags --tenant acme --on"),
        (judged(tables=replace(LATE, circuit=DOWN)), "NetSuite is not answering since 11:07 UTC",
         "nsimport doctor --tenant acme"),
        (judged(last=job(ImportState.RUNNING)), f"{ID} is still running", f"nsimport status {ID}"),
        (judged(last=job(ImportState.FAILED, reason="401")), f"{ID} ended as failed: 401", f"nsimport status {ID}"),
        (judged(last=job(ImportState.COMPLETED_WITH_FAILURES)), f"{ID} ended as completed_with_failures",
         f"nsimport status {ID}"),
        # An old failure is not why.
        (judged(replace(ON, tick=Tick(DUE, "quiet hours")), last=job(ImportState.FAILED, DUE - HOUR)),
         "at 11:45 UTC nothing was begun: quiet hours", None),
        (judged(replace(ON, tick=Tick(DUE - HOUR, None)), last=job(ImportState.COMPLETED, DUE - HOUR)),
         "no Dagster daemon runs, or none did when it was due", "nsimport up"),
        (judged(replace(ON, tick=None)), "no Dagster daemon runs", "nsimport up"),
        (judged(last=job(ImportState.COMPLETED, DUE - HOUR)), "the run with the tag nsimport/schedule=changes",
         "nsimport import customer --tenant acme --mode incremental"),
    ],
)  # fmt: skip
def test_why_it_is_behind_and_what_to_type(pace: Pace, why: str, command: str | None) -> None:
    assert (pace.state, pace.record_types, pace.due_at) == ("behind", ("customer",), DUE)
    assert (pace.why or "").startswith(why)
    assert pace.command == command
    said = str(pace)
    assert said.startswith("acme/changes: customer, in step until 2026-03-02 10:45 UTC: ")
    assert command is None or f"`{command}`" in said


BEGAN_NOTHING = Tick(NOW.replace(minute=0), "acme-1 is still importing customer")
WEEKLY = {"cron": "0 12 * * 1"}


@pytest.mark.parametrize(
    ("tick", "more", "reached", "owed"),
    [
        (BEGAN_NOTHING, WEEKLY, DUE, BEGAN_NOTHING.at),
        (BEGAN_NOTHING, {}, DUE, None),  # the next one is near
        (Tick(BEGAN_NOTHING.at, None), WEEKLY, DUE, None),
        (BEGAN_NOTHING, WEEKLY, NOW, None),  # somebody has imported it since
        (BEGAN_NOTHING, WEEKLY | {"cron": "0 12,23 * * *", "quiet_hours": "11:00-13:00"}, DUE, None),
    ],
)
def test_a_moment_that_began_nothing_is_owed_if_the_next_is_far(
    tick: Tick, more: dict[str, Any], reached: datetime, owed: datetime | None
) -> None:
    assert judged(replace(ON, tick=tick), Tables({"customer": reached}), **more).owed == owed
    assert judged(replace(ON, tick=tick), Tables({"customer": DUE}, Switch(False, "off")), **WEEKLY).owed is None


def test_in_step_whenever_it_was_written_last() -> None:
    pace = judged(tables=Tables({"customer": DUE, "currency": NOW}))
    assert (pace.state, pace.in_step_until, pace.why) == ("in_step", DUE, None)
    assert pace.next_at == NOW.replace(minute=15)
    assert pace.document(NOW)["seconds_since"] == 22 * 60


def test_off_is_not_behind_and_unknown_is_said() -> None:
    assert judged(Runs(on=False), None, enabled=False).state == "off"
    switched_off = judged(Runs(on=False), Tables({"customer": None}))
    assert (switched_off.state, switched_off.next_at) == ("off", None)
    assert "switched off in Dagster" in str(switched_off.why)
    assert judged(tables=None).state == "unknown"


def test_the_next_moment_is_not_in_quiet_hours() -> None:
    assert judged(quiet_hours="12:10-13:40").next_at == NOW.replace(hour=13, minute=45)
