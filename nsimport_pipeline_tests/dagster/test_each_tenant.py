"""All tenants in one tick: none delays another, none is asked twice at once, and the tenants file may change."""

import itertools
import json
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import sqlalchemy as sa
import yaml
from hypothesis import given
from hypothesis import strategies as st

from nsimport_pipeline.defs.each_tenant import MOST_SAID, QUICK_SECONDS, EachTenant, Look, has_room, in_short
from nsimport_pipeline.defs.overview import overview_sensor
from nsimport_pipeline.defs.wave_sensor import THOROUGH_SECONDS, is_due, wave_sensor
from nsimport_pipeline.errors import AccessDenied
from nsimport_pipeline.warehouse.engine import make_engine
from nsimport_pipeline.warehouse.migrate import ensure_control_tables
from nsimport_pipeline_tests.integration.imports_world import World

LONG = 60.0


def fine(tenant: str) -> Look:
    return Look(said=(f"{tenant} is fine",))


def test_errors_are_told_and_cost_nobody_else_anything(caplog: pytest.LogCaptureFixture) -> None:
    def look(tenant: str) -> Look:
        if tenant == "refused":
            raise AccessDenied("the role was taken away")
        if tenant == "crowded":
            raise sa.exc.TimeoutError("QueuePool limit: values")
        if tenant == "buggy":
            raise KeyError("a mistake of ours")
        return fine(tenant)

    looks = EachTenant(patience=LONG).ask(["acme", "buggy", "crowded", "refused", "zeta"], look)

    assert {tenant: found.said for tenant, found in looks.items()} == {
        "acme": ("acme is fine",),
        "buggy": ("buggy: KeyError, see the log of the code server",),
        "crowded": ("crowded: no database connection became free in time",),
        "refused": ("refused: the role was taken away",),
        "zeta": ("zeta is fine",),
    }
    assert "a mistake of ours" in caplog.text


class Hole:
    """A tenant that answers when it is let to; how often each tenant was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.answers = threading.Event()

    def look(self, tenant: str) -> Look:
        self.asked.append(tenant)
        if tenant.startswith("hole"):
            assert self.answers.wait(LONG)
        return fine(tenant)


def until(each: EachTenant, tenants: list[str], hole: Hole, tenant: str) -> dict[str, Look]:
    """Ticks, until this tenant has answered; what the last one came to."""
    for _ in range(1000):
        looks = each.ask(tenants, hole.look)
        if f"{tenant} is fine" in looks.get(tenant, Look()).said:
            return looks
    raise AssertionError(f"{tenant} gets no turn")


def test_who_does_not_answer_is_told_of_and_not_asked_again_and_its_answer_is_for_a_later_tick() -> None:
    each, hole, tenants = EachTenant(patience=0.2), Hole(), ["acme", "hole"]
    looks = until(each, tenants, hole, "acme")
    assert "hole: no answer for " in looks["hole"].said[0]
    for _ in range(3):
        until(each, tenants, hole, "acme")
    assert hole.asked.count("hole") == 1
    assert hole.asked.count("acme") >= 4

    hole.answers.set()
    until(each, tenants, hole, "hole")
    until(each, tenants, hole, "hole")
    assert hole.asked.count("hole") >= 2


def test_those_that_do_not_answer_leave_room_for_the_others() -> None:
    each, hole = EachTenant(patience=0.05, at_once=1), Hole()
    tenants = ["hole_1", "hole_2", "zeta"]
    until(each, tenants, hole, "zeta")
    until(each, tenants, hole, "zeta")
    assert sorted(set(hole.asked)) == tenants
    hole.answers.set()


def test_one_that_waits_lets_the_others_begin_beside_it_in_the_same_tick() -> None:
    others, looked_at, all_others = ["acme", "beta", "zeta"], set(), threading.Event()

    def look(tenant: str) -> Look:
        if tenant == "hole":
            assert all_others.wait(LONG)
        looked_at.add(tenant)
        if looked_at.issuperset(others):
            all_others.set()
        return fine(tenant)

    looks = EachTenant(patience=LONG).ask(["hole", *others], look)
    assert {tenant: found.said for tenant, found in looks.items()} == {
        tenant: (f"{tenant} is fine",) for tenant in ("hole", *others)
    }


@given(st.lists(st.floats(0, 10), max_size=40), st.integers(1, 40))
def test_while_a_quick_look_goes_on_others_begin_only_for_as_many_as_are_slow(begun: list[float], at_once: int) -> None:
    now = 10.0
    slow = [since for since in begun if since <= now - QUICK_SECONDS]
    assert has_room(begun, now, at_once) == (len(begun) < at_once and len(begun) <= 2 * len(slow))
    assert not has_room([now], now, at_once)
    assert has_room(slow, now, len(slow) + 1)
    assert not has_room(begun, now, len(begun))


def test_if_nobody_answers_twice_as_many_are_asked_each_time_until_all_places_are_taken() -> None:
    begun: list[float] = []
    counts = []
    for step in range(7):
        while has_room(begun, now := step * 2 * QUICK_SECONDS, 32):
            begun.append(now)
        counts.append(len(begun))
    assert counts == [1, 3, 7, 15, 31, 32, 32]


def test_who_was_late_is_not_waited_for() -> None:
    each, hole = EachTenant(patience=0.05), Hole()
    while "no answer" not in each.ask(["hole"], hole.look).get("hole", Look(("",))).said[0]:
        pass
    each._patience = LONG  # so that a tick that waits for it would not end
    assert "no answer" in each.ask(["hole"], hole.look)["hole"].said[0]
    hole.answers.set()


def test_what_is_said_of_hundreds_of_tenants_has_an_end() -> None:
    lines = [f"t{number}: {'x' * 200}" for number in range(300)]
    told = in_short(lines)
    assert len(told) < MOST_SAID + 1000
    assert told.startswith(lines[0])
    assert told.endswith(f"and {300 - told.count('x;')} more")
    assert in_short(["x" * 2 * MOST_SAID]) == "x" * 2 * MOST_SAID


def test_tenants_are_compared_once_a_minute_and_not_all_in_the_same_tick() -> None:
    tenants = [f"t{number}" for number in range(200)]
    ticks = [float(second) for second in range(1_000_000, 1_000_000 + 2 * THOROUGH_SECONDS, 5)]
    due = [[t for t in tenants if is_due(t, last, now)] for last, now in itertools.pairwise(ticks)]
    assert all(sum(tenant in some for some in due[:12]) == 1 for tenant in tenants)
    assert max(map(len, due)) < 40
    assert all(is_due(tenant, 0, ticks[0]) for tenant in tenants)


# ---------------------------------------------------------------- the sensors, with real databases


@pytest.fixture
def tenants(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Writes the tenants file: these tenants, each with a SQLite database of its own."""
    monkeypatch.setenv("NSIMPORT_TENANTS", str(tmp_path / "tenants.yaml"))
    auth = {"method": "tba", **dict.fromkeys(("consumer_key", "consumer_secret", "token_id", "token_secret"), "x")}

    def write(*names: str, **more: dict[str, Any]) -> None:
        bodies = {
            name: {"account": "T1", "auth": auth, "warehouse_url": f"sqlite:///{tmp_path}/{name}.db"}
            | more.get(name, {})
            for name in (*names, *more)
        }
        (tmp_path / "tenants.yaml").write_text(yaml.safe_dump({"tenants": bodies}))

    return write


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        yield instance


def opened(tmp_path: Path, name: str) -> World:
    """An import in the database of a tenant."""
    engine = make_engine(f"sqlite:///{tmp_path}/{name}.db", pool_size=2)
    ensure_control_tables(engine)
    return World(engine, [("currency", 0, 2)]).plan()


def test_a_tick_sees_tenants_come_and_go_and_bears_with_broken_ones(
    tenants: Callable[..., None], instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    sensor = wave_sensor()

    def tick() -> tuple[set[str], str]:
        with dg.build_sensor_context(instance) as context:
            result = sensor.evaluate_tick(context)
        return {request.tags["nsimport/tenant"] for request in result.run_requests or ()}, str(result.skip_message)

    tenants("idle")
    assert tick() == (set(), "no import is open")
    opened(tmp_path, "acme")
    tenants("idle", "acme", broken={"warehouse_url": "${NOT_SET}"}, gone={"warehouse_url": "sqlite:////no/where.db"})
    assert tick()[0] == {"acme"}
    tenants("idle", broken={"warehouse_url": "${NOT_SET}"})
    asked, said = tick()
    assert (asked, said.partition(": ")[0]) == (set(), "broken")
    assert said.endswith("environment variable NOT_SET is not set; no import is open: 1 tenants")
    (tmp_path / "tenants.yaml").write_text("tenants: [")
    assert tick()[1].endswith("not valid YAML")


def test_the_overview_remembers_each_tenant_by_itself(
    tenants: Callable[..., None], instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    sensor = overview_sensor()

    def tick(cursor: str | None) -> tuple[set[str], str]:
        with dg.build_sensor_context(instance, cursor=cursor) as context:
            result = sensor.evaluate_tick(context)
        return {event.asset_key.path[0] for event in result.asset_events}, str(result.cursor)

    worlds = {name: opened(tmp_path, name) for name in ("acme", "globex")}
    tenants("idle", *worlds)
    observed, cursor = tick(None)
    assert (observed, set(json.loads(cursor))) == ({"acme", "globex"}, {"acme", "globex"})
    assert tick(cursor)[0] == set()
    worlds["globex"].cancel()
    observed, after = tick(cursor)
    assert observed == {"globex"}
    assert json.loads(after)["acme"] == json.loads(cursor)["acme"]
    assert datetime.fromisoformat(json.loads(after)["globex"]["at"]) <= datetime.now(UTC)
