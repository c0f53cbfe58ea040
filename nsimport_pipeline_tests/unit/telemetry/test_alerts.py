"""Alerts: each rule at its threshold and just below, the life of an alert, what is said of it, and to whom."""

import re
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nsimport_pipeline.alert_settings import AlertRules, RuleName
from nsimport_pipeline.telemetry.alert_rules import RULES, judge
from nsimport_pipeline.telemetry.alerts import (
    LONGEST_MESSAGE,
    SEVERITIES,
    Alert,
    Key,
    Standing,
    Told,
    advance,
    body,
    is_due,
    loudest,
    retry_delay,
    title,
)
from nsimport_pipeline.telemetry.facts import ImportFacts
from nsimport_pipeline.telemetry.notify import place
from nsimport_pipeline.telemetry.watched import Behind, Ended, FinalCount, Pace, Watched
from nsimport_pipeline_tests.unit.telemetry.facts_of import at, batch, facts

RUNBOOK = (Path(__file__).parents[3] / "docs" / "runbook.md").read_text(encoding="utf-8")
NOW = at(600)
ID = "acme-20260301120000-0001"


def running(*batches: Any, **more: Any) -> ImportFacts:
    return facts(*batches, **{"state": "running", "finished_at": None} | more)


def watched(*imports: ImportFacts, **more: Any) -> Watched:
    return Watched(**{"tenant": "acme", "slots": 5, "imports": imports} | more)


def queue(on_the_way: int) -> Watched:
    """A wave at work with so many batches on the way, and one that the gate holds."""
    begun = [batch(0, 0, 0, state="processing", finished_at=None)]
    waiting = {"state": "dispatched", "started_at": None, "finished_at": None}
    begun += [batch(number, 0, 0, **waiting) for number in range(1, on_the_way)]
    held = [batch(1000 + number, 0, 0, wave=2, **waiting) for number in range(300)]
    return watched(running(*begun, *held))


def failing(attempts: int, state: str = "retrying") -> Watched:
    return watched(running(batch(0, 0, 5), batch(1, 0, 0, state=state, attempts=attempts, finished_at=None)))


def rejecting(rejected: int) -> Watched:
    return watched(running(batch(0, 0, 5, rows_upserted=1000 - rejected, rows_rejected=rejected)))


def retried(in_vain: int) -> Watched:
    """Ten batches had requests sent again; so many of them for nothing."""
    batches = [batch(number, 0, 5, retries=1) for number in range(10 - in_vain)]
    return watched(running(*batches, *(batch(50 + n, 0, 5, state="failed", retries=1) for n in range(in_vain))))


def changing(settled: int, *, threshold: float = 90.0) -> Watched:
    """Of twenty batches, so many were settled when the next wave began."""
    first = [batch(number, 0, 100 if number < settled else 300) for number in range(20)]
    return watched(running(*first, batch(90, 200, 250, wave=2), completion_threshold=threshold))


def late(lag: float) -> Watched:
    return watched(running(batch(0, 0, 100), batch(1, 100 + lag, 400 + lag, wave=2)))


def not_begun(lag: float, **more: Any) -> Watched:
    waiting = {"state": "dispatched", "started_at": None, "finished_at": None}
    first = batch(0, 0, 600 - lag)
    return watched(running(first, batch(1, 0, 0, wave=2, **waiting)), **more)


def slowed(rate: float) -> Watched:
    """Recent batches at ``rate`` records a second, where 100 is usual."""
    recent = [batch(n, 500, 500 + 1000 / rate) for n in range(5)]
    return watched(running(*recent), usual={"customer": Pace(20, 20_000, 200.0)})


def ended(state: str, *later: Ended, hours_ago: float = 0) -> Watched:
    return watched(latest=(*later, Ended(ID, state, ("customer",), NOW - timedelta(hours=hours_ago), "it went wrong")))


def counted(table: int, in_sync: bool | None = False) -> Watched:
    return watched(counts=(FinalCount("customer", ID, 1000, table, in_sync),))


def again(state: str, *requested: str) -> Ended:
    return Ended("acme-20260302120000-0001", state, requested or ("customer",), NOW)


@pytest.mark.parametrize(
    ("rule", "quiet", "fires"),
    [
        ("queue_depth", queue(400), queue(401)),
        ("stuck_wave", watched(running()), watched(running(), stuck={ID: (3, at(10))})),
        ("netsuite_down", watched(), watched(netsuite_down_since=at(0))),
        ("import_failed", ended("cancelled"), ended("failed")),
        ("import_with_failures", ended("completed"), ended("completed_with_failures")),
        ("import_failed", ended("failed", hours_ago=25), ended("failed", hours_ago=23)),
        ("import_failed", ended("failed", again("completed")), ended("failed", again("completed", "invoice"))),
        ("import_failed", ended("failed", again("completed", "customer", "item")), ended("failed", again("cancelled"))),
        ("completeness", counted(1000, True), counted(999)),
        ("completeness", counted(1001), counted(0)),
        ("completeness", counted(990, True), counted(990)),  # ten were rejected, and are known
        ("batch_failures", failing(2), failing(3)),
        ("batch_failures", failing(3, state="completed"), failing(1, state="failed")),
        ("schema_errors", rejecting(100), rejecting(101)),
        ("retry_success", retried(3), retried(4)),
        ("behind", watched(), watched(behind=(Behind("often", "customer, in step until never", "nsimport up"),))),
        ("early_waves", changing(17), changing(16)),
        ("early_waves", changing(10, threshold=50), changing(9, threshold=50)),
        ("dispatch_lag", late(60), late(61)),
        ("dispatch_lag", not_begun(60), not_begun(61)),
        ("dispatch_lag", not_begun(300, netsuite_down_since=at(0)), not_begun(300)),
        ("throughput", slowed(80.01), slowed(79.9)),
        ("slot_utilisation", watched(slot_seconds=14_400), watched(slot_seconds=14_401)),
        ("database_connections", watched(connections=(80, 100)), watched(connections=(81, 100))),
    ],
)  # fmt: skip
def test_a_rule_fires_beyond_its_threshold_and_not_at_it(rule: RuleName, quiet: Watched, fires: Watched) -> None:
    def named(found: Watched, rules: AlertRules) -> list[Alert]:
        return [alert for alert in judge(found, rules, NOW) if alert.rule == rule]

    rules = AlertRules()
    assert named(quiet, rules) == []
    (alert,) = named(fires, rules)
    assert alert.message
    assert alert.command.startswith("nsimport ")
    assert named(fires, AlertRules(off=(rule,))) == []


def test_a_command_that_is_too_long_to_be_kept_is_replaced_by_one_that_leads_there() -> None:
    late = Behind("all", "x" * 1000, f"nsimport import {' '.join(f'type_{n}' for n in range(60))} --tenant acme")
    (alert,) = judge(watched(behind=(late,)), AlertRules(), NOW)
    assert (alert.command, len(alert.message)) == ("nsimport schedules --tenant acme", LONGEST_MESSAGE)


@pytest.mark.parametrize(
    "found",
    [
        watched(running(*(batch(n, 0, 5, state="failed", retries=1) for n in range(4)))),
        watched(running(*(batch(n, 500, 560) for n in range(4))), usual={"customer": Pace(20, 20_000, 200.0)}),
        watched(running(*(batch(n, 500, 560) for n in range(5))), usual={"customer": Pace(19, 19_000, 190.0)}),
    ],
)
def test_few_batches_say_nothing(found: Watched) -> None:
    assert not {"retry_success", "throughput"} & {alert.rule for alert in judge(found, AlertRules(), NOW)}


def test_what_has_passed_does_not_fire_any_more() -> None:
    for found in (changing(5), late(200), slowed(10)):
        assert judge(found, AlertRules(), NOW)
        assert judge(found, AlertRules(dispatch_lag=3600), at(200 + 3600)) == []


def test_a_failed_import_that_fires_goes_on_until_it_is_repeated() -> None:
    before = frozenset({("import_failed", ID)})
    assert judge(ended("failed", hours_ago=100), AlertRules(), NOW, before)
    assert not judge(ended("failed", again("completed"), hours_ago=100), AlertRules(), NOW, before)


def test_what_is_being_imported_again_is_not_complete_until_it_was_counted() -> None:
    before = frozenset({("completeness", "customer")})
    assert [alert.rule for alert in judge(counted(0, None), AlertRules(), NOW, before)] == ["completeness"]
    assert not judge(counted(0, None), AlertRules(), NOW)
    assert not judge(counted(1000, True), AlertRules(), NOW, before)


def test_a_healthy_import_fires_nothing() -> None:
    whole = facts(*(batch(n, n, n + 2, retries=n % 2) for n in range(30)), batch(99, 32, 34, level=1))
    done = Ended(ID, "completed", ("customer",), at(34))
    assert (
        judge(watched(whole, latest=(done,), counts=(FinalCount("customer", ID, 9, 9, True),)), AlertRules(), NOW) == []
    )


# ------------------------------------------------------------ the life of an alert

ALERT = Alert("stuck_wave", ID, "nothing has moved", f"nsimport waves reset {ID} 1", ID)
OTHER = Alert(
    "completeness", "customer", "NetSuite has 10 records, the table 9", f"nsimport status {ID}", ID, "customer"
)


class Receiver:
    """A destination, told as the shell tells it."""

    def __init__(self) -> None:
        self.known: dict[Key, Told] = {}
        self.heard: list[tuple[Key, str]] = []

    def tell(self, kept: dict[Key, Standing], now: datetime, *, works: bool = True) -> None:
        for key, standing in kept.items():
            told = self.known.get(key, Told())
            if not is_due(standing, told, now):
                continue
            if works:
                self.heard.append((key, standing.state))
                self.known[key] = Told(standing.state, now)
            else:
                until = now + timedelta(seconds=retry_delay(told.failures + 1))
                self.known[key] = replace(told, held_until=until, failures=told.failures + 1)


@given(st.lists(st.tuples(st.sets(st.sampled_from([ALERT, OTHER])), st.booleans()), max_size=30))
def test_every_destination_hears_of_each_beginning_and_end_once(ticks: list[tuple[set[Alert], bool]]) -> None:
    kept: dict[Key, Standing] = {}
    receiver = Receiver()
    now = at(0)
    for firing, works in ticks:
        kept |= {each.alert.key: each for each in advance(kept, firing, now, resolve_after=60)}
        assert {alert.key for alert in firing} <= {key for key, each in kept.items() if each.state == "firing"}
        assert advance(kept, firing, now, resolve_after=60) == [kept[a.key] for a in firing], "the same facts again"
        receiver.tell(kept, now, works=works)
        told = len(receiver.heard)
        receiver.tell(kept, now)
        assert len(receiver.heard) == told, "once told, or once failed, it has to wait"
        now += timedelta(seconds=30)
    for key in kept:
        states = [state for heard, state in receiver.heard if heard == key]
        assert states[:1] in ([], ["firing"])
        assert ("resolved", "resolved") not in set(pairwise(states))
        # An end that could not be told before it began anew is not told.
        assert ("firing", "firing") not in set(pairwise(states)) or not all(works for _, works in ticks)
    now += timedelta(hours=1)
    kept |= {each.alert.key: each for each in advance(kept, [], now, resolve_after=60)}
    receiver.tell(kept, now)
    for key in kept:
        assert [state for heard, state in receiver.heard if heard == key][-1:] in (["resolved"], [])


def test_an_alert_is_over_only_when_it_has_been_quiet_for_a_while() -> None:
    (first,) = advance({}, [ALERT], at(0), resolve_after=60)
    assert advance({ALERT.key: first}, [], at(59), resolve_after=60) == []
    (over,) = advance({ALERT.key: first}, [], at(60), resolve_after=60)
    assert (over.state, over.first_at, over.resolved_at) == ("resolved", at(0), at(60))
    assert advance({ALERT.key: over}, [], at(90), resolve_after=60) == []
    (anew,) = advance({ALERT.key: over}, [ALERT], at(90), resolve_after=60)
    assert (anew.state, anew.first_at, anew.resolved_at) == ("firing", at(90), None)


def test_a_destination_that_is_down_is_tried_at_the_next_tick_then_ever_more_rarely() -> None:
    delays = [retry_delay(failures) for failures in range(1, 30)]
    assert delays[0] < 30
    assert delays == sorted(delays)
    assert delays[-1] == 1800


def test_a_notice_says_what_where_since_when_and_what_to_type() -> None:
    standings = [Standing(ALERT, "firing", at(0), at(90)), Standing(OTHER, "resolved", at(0), at(30), at(90))]
    assert title("acme", standings) == "nsimport acme: stuck_wave (critical), 1 resolved"
    assert body("acme", standings) == (
        "CRITICAL stuck_wave since 2026-03-01 12:00 UTC\n"
        f"tenant acme, import {ID}\n"
        "nothing has moved\n"
        f"next: nsimport waves reset {ID} 1\n"
        "\n"
        "RESOLVED completeness: fired from 2026-03-01 12:00 UTC until 2026-03-01 12:01 UTC\n"
        f"tenant acme, import {ID}, record type customer\n"
        "NetSuite has 10 records, the table 9"
    )
    assert (loudest(standings), loudest(standings[1:])) == ("critical", None)


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("json://user:hush@127.0.0.1:8080/hush?x=hush", "json://127.0.0.1"),
        ("MAILTOS://me:hush@mail.example.com", "mailtos://mail.example.com"),
        ("slack://hush/hush/hush", "slack://…"),
        ("tgram://123:hush/456", "tgram://…"),
        ("jsons://[hush", "jsons://…"),
    ],
)
def test_of_an_address_nothing_secret_is_shown(address: str, shown: str) -> None:
    assert place(address) == shown


def test_every_rule_has_a_severity_and_a_section_in_the_runbook() -> None:
    names = set(get_args(RuleName))
    assert set(RULES) == set(SEVERITIES) == names
    rows = re.findall(r"^\| `([a-z_]+)` \| (\w+) \| ([^|]+) \| ([^|]+) \|$", RUNBOOK, re.MULTILINE)
    assert {name: severity for name, severity, _, _ in rows} == SEVERITIES
    assert all(means.strip() and do.strip() for _, _, means, do in rows)
