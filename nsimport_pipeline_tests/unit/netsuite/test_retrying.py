"""Failures use up attempts, refusals for lack of a slot use up patience, and delays grow with jitter."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nsimport_pipeline.errors import (
    AccessDenied,
    ApiUnavailable,
    Category,
    ImportFailure,
    IncompleteResponse,
    RateLimited,
    ServerError,
    TimedOut,
    UnknownColumn,
)
from nsimport_pipeline.netsuite.retrying import Effort, RetryPolicy, persevere
from nsimport_pipeline_tests.unit.netsuite.scripted import Clock, Listener

chances = st.floats(0, 1, exclude_max=True)
policies = st.builds(
    RetryPolicy,
    attempts=st.integers(1, 6),
    base_delay=st.floats(0, 5),
    max_delay=st.floats(0, 60),
    rate_limit_base=st.floats(0.01, 5),
    rate_limit_max=st.floats(0.01, 60),
    patience=st.floats(0, 500),
    retry_after_max=st.floats(0, 120),
)


def failing(failures: list[ImportFailure]) -> Callable[[], str]:
    """An operation that raises these in order, then returns "done"."""
    left = iter(failures)

    def operation() -> str:
        for failure in left:
            raise failure
        return "done"

    return operation


def half() -> float:
    return 0.5


def test_a_first_success_costs_one_request_and_no_wait() -> None:
    clock = Clock()

    assert persevere(failing([]), RetryPolicy(), sleep=clock.sleep, random=half) == ("done", Effort(1, 0.0))


def test_refusals_cost_patience_and_no_attempts() -> None:
    clock, listener = Clock(), Listener()
    failures: list[ImportFailure] = [RateLimited("busy")] * 20 + [TimedOut("slow")] * 3

    result, effort = persevere(
        failing(failures), RetryPolicy(attempts=4), sleep=clock.sleep, random=half, listener=listener
    )

    assert result == "done"
    assert effort.attempts == 24
    assert effort.waited_seconds == pytest.approx(sum(clock.slept))
    assert [event.category for event in listener.events] == [Category.API_RATE_LIMIT] * 20 + [Category.TIMEOUT] * 3
    assert [event.attempt for event in listener.events] == list(range(1, 24))
    assert [event.delay for event in listener.events] == clock.slept


@pytest.mark.parametrize("failure", [TimedOut("x"), ApiUnavailable("x"), ServerError("x"), IncompleteResponse("x")])
def test_the_last_failure_is_raised_as_its_own_kind_when_the_attempts_are_used_up(failure: ImportFailure) -> None:
    clock = Clock()

    with pytest.raises(type(failure), match="given up at attempt 4") as caught:
        persevere(failing([failure] * 10), RetryPolicy(attempts=4), sleep=clock.sleep, random=half)

    assert type(caught.value) is type(failure)
    assert len(clock.slept) == 3


@pytest.mark.parametrize("failure", [AccessDenied("x"), UnknownColumn("x", column="y"), ImportFailure("x")])
def test_a_permanent_failure_is_raised_at_once(failure: ImportFailure) -> None:
    clock = Clock()

    with pytest.raises(type(failure)) as caught:
        persevere(failing([failure, failure]), RetryPolicy(), sleep=clock.sleep, random=half)

    assert caught.value is failure
    assert clock.slept == []


def test_patience_with_refusals_ends() -> None:
    clock = Clock()
    policy = RetryPolicy(patience=100)

    with pytest.raises(RateLimited, match="given up after waiting"):
        persevere(failing([RateLimited("busy")] * 1000), policy, sleep=clock.sleep, random=half)

    assert 80 < sum(clock.slept) <= 100


def test_what_sleep_raises_breaks_off_the_wait() -> None:
    def cancelled(_: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        persevere(failing([RateLimited("busy")]), RetryPolicy(), sleep=cancelled, random=half)


@given(policy=policies, tries=st.integers(1, 2000), chance=chances)
def test_delays_stay_within_their_bounds(policy: RetryPolicy, tries: int, chance: float) -> None:
    assert 0 <= policy.failure_delay(tries, None, chance) <= policy.max_delay
    assert 0 < policy.rate_limit_delay(tries, None, chance) <= policy.rate_limit_max


@given(policy=policies, tries=st.integers(1, 50), chance=chances, asked=st.floats(0, 10_000))
def test_nobody_comes_back_before_netsuite_asked_within_the_cap(
    policy: RetryPolicy, tries: int, chance: float, asked: float
) -> None:
    least = min(asked, policy.retry_after_max)
    for delay in (policy.failure_delay(tries, asked, chance), policy.rate_limit_delay(tries, asked, chance)):
        assert least <= delay <= max(policy.max_delay, policy.rate_limit_max, least + policy.base_delay)


def test_delays_grow_until_the_cap() -> None:
    policy = RetryPolicy()

    assert [policy.failure_delay(n, None, 1.0) for n in range(1, 8)] == [1, 2, 4, 8, 16, 30, 30]
    assert [policy.rate_limit_delay(n, None, 1.0) for n in range(1, 8)] == [0.5, 1, 2, 4, 8, 15, 15]


def test_those_refused_together_do_not_come_back_together() -> None:
    policy = RetryPolicy()

    for asked in (None, 5.0):
        assert policy.rate_limit_delay(3, asked, 0.0) != policy.rate_limit_delay(3, asked, 0.9)
