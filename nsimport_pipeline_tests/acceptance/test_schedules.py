"""A real daemon drives the schedules of five tenants, one of them broken throughout (longer: ``schedule_life.py``).

Minutes pass as they do, since Dagster's scheduler knows no shorter interval; two of them are enough.
"""

from collections.abc import Iterator

import pytest

from nsimport_pipeline_tests.acceptance.environment import Environment
from nsimport_pipeline_tests.acceptance.schedule_life import (
    BROKEN,
    HEALTHY,
    edit,
    everywhere,
    five_tenants,
    imports,
    ticks,
    wrong,
)

FIRST, SECOND = "before the first", "before the second"


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Environment]:
    """After each healthy tenant was imported by its schedule twice: everything, then one change."""
    with five_tenants(tmp_path_factory.mktemp("five") / "installation") as environment:
        edit(environment, FIRST)
        environment.start_daemon()
        everywhere(environment, FIRST)
        edit(environment, SECOND)
        everywhere(environment, SECOND)
        environment.stop_daemon()
        yield environment


def test_the_first_brings_everything_the_second_what_was_changed(environment: Environment) -> None:
    for tenant in HEALTHY:
        done = [one for one in imports(environment, tenant) if one["state"] == "completed"]
        assert {one["mode"] for one in done} == {"incremental"}
        assert done[0]["written"] >= 40
        assert {one["written"] for one in done[1:]} <= {0, 1}


def test_no_import_is_begun_twice_and_no_tick_fails(environment: Environment) -> None:
    assert wrong(environment) == []


def test_the_broken_one_is_skipped_with_its_reason(environment: Environment) -> None:
    told = ticks(environment, BROKEN)
    assert told
    assert {became for _, became, _ in told[:-1]} <= {"SKIPPED"}
    reasons = [reason for _, became, reason in told if became == "SKIPPED"]
    assert all("no answer for" in str(reason) or "does not answer" in str(reason) for reason in reasons), reasons
    assert reasons


def test_a_schedule_that_is_not_enabled_begins_nothing(environment: Environment) -> None:
    with environment.dagster() as instance:
        seen = {one.instigator_name: one.status.value for one in instance.all_instigator_state()}
    assert seen["acme__changes"] == "DECLARED_IN_CODE"
    assert "acme__never" not in seen


def test_the_command_says_how_they_stand(environment: Environment) -> None:
    found = {one["schedule"]: one for one in environment.json("schedules", "--tenant", "acme")}
    assert found["never"]["state"] == "off"
    assert (found["changes"]["behind"], found["changes"]["in_step_until"] is None) == ([], False)
    assert found["changes"]["last_tick"] is not None
