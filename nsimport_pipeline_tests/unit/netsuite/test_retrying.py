"""Failures use up attempts, refusals for lack of a slot use up patience, and delays grow with jitter."""

from collections.abc import Callable
from itertools import pairwise

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
from nsimport_pipeline.netsuite.retrying import Allowance, Effort, Line, RetryPolicy, persevere, spread
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


@pytest.mark.parametrize("failure", [RateLimited("busy"), ServerError("x"), TimedOut("late")])
def test_what_sleep_raises_ends_it_before_anything_is_sent_again(failure: ImportFailure) -> None:
    sent = []

    def cancelled(_: float) -> None:
        raise KeyboardInterrupt

    def request() -> None:
        sent.append(1)
        raise failure

    with pytest.raises(KeyboardInterrupt):
        persevere(request, RetryPolicy(), sleep=cancelled, random=half, asks_for_less=lambda late: True)
    assert len(sent) == 1


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


@given(
    policy=policies,
    refused=st.lists(st.tuples(st.integers(1, 20), st.none() | st.floats(0, 200), chances), min_size=1, max_size=30),
    slots=st.integers(1, 30),
)
def test_those_refused_together_never_come_back_together(
    policy: RetryPolicy, refused: list[tuple[int, float | None, float]], slots: int
) -> None:
    """However often each was refused before, whatever NetSuite asked for, whatever the dice say."""
    line = Line(slots, lambda: 0.0)
    wanted = [policy.rate_limit_delay(*one) for one in refused]

    returns = [line.join(one, policy.rate_limit_base) for one in wanted]

    gap = policy.rate_limit_base / slots
    assert all(later - sooner >= gap * 0.999 - 1e-9 for sooner, later in pairwise(sorted(returns)))
    assert all(delay >= least for delay, least in zip(returns, wanted, strict=True))
    assert max(returns) <= max(wanted) + 2 * len(refused) * policy.rate_limit_base


def test_the_more_of_the_slots_are_refused_the_further_they_are_kept_apart() -> None:
    assert spread(1.0, [], 4, 1.0) == 1.0
    assert spread(1.0, [1.0], 4, 1.0) == 1.5
    assert spread(1.0, [1.0, 1.5], 4, 1.0) == 2.25
    assert spread(1.0, [1.0, 1.5, 2.25], 4, 1.0) == 3.25
    assert spread(5.0, [1.0, 1.5, 2.25], 4, 1.0) == 5.0


def test_who_has_come_back_stands_in_nobodys_way() -> None:
    clock = Clock()
    line = Line(2, clock)
    assert line.join(1.0, 1.0) == 1.0
    assert line.join(1.0, 1.0) == 2.0
    clock.sleep(2.0)
    assert line.join(1.0, 1.0) == 1.0


def slowly(clock: Clock, seconds: float, then: Callable[[], str]) -> Callable[[], str]:
    """``then``, after so long."""

    def operation() -> str:
        clock.now += seconds
        return then()

    return operation


def test_requests_and_pauses_after_failures_use_up_the_allowance_of_a_batch() -> None:
    clock = Clock()
    allowance = Allowance(30, clock)
    policy = RetryPolicy(attempts=100, base_delay=2, max_delay=2)

    with pytest.raises(TimedOut, match=r"batch_timeout \(30 s\)"):
        persevere(
            slowly(clock, 9, failing([ServerError("x")] * 100)), policy, sleep=clock.sleep, random=half,
            allowance=allowance,
        )  # fmt: skip
    assert clock.slept == [1.0, 1.0]
    sent = []
    with pytest.raises(TimedOut, match="batch_timeout"):  # nor is another request of the same batch sent
        persevere(lambda: sent.append(1), policy, sleep=clock.sleep, random=half, allowance=allowance)
    assert not sent


def test_a_batch_that_only_waits_uses_up_nothing_of_its_allowance() -> None:
    class Outage:
        def before(self, probe: Callable[[], object]) -> float:
            clock.now += 500
            return 500.0

        def after(self, failure: ImportFailure | None) -> bool:
            return isinstance(failure, ApiUnavailable)

    clock = Clock()
    allowance = Allowance(30, clock)
    failures: list[ImportFailure] = [RateLimited("busy", retry_after=100), ApiUnavailable("down"), RateLimited("busy")]

    result, effort = persevere(
        slowly(clock, 1, failing(failures * 3)), RetryPolicy(), sleep=clock.sleep, random=half,
        breaker=Outage(), allowance=allowance,
    )  # fmt: skip

    assert (result, allowance.spent) == ("done", 1.0)
    assert effort.waited_seconds > 5300


def test_asking_for_too_much_costs_no_attempt_and_up_to_the_allowance_no_time_of_it() -> None:
    clock = Clock()
    allowance = Allowance(30, clock)
    late: list[ImportFailure] = [TimedOut("late")] * 9
    attempts = persevere(
        slowly(clock, 10, failing(late[:3])), RetryPolicy(attempts=1), sleep=clock.sleep, random=half,
        allowance=allowance, asks_for_less=lambda failure: True,
    )  # fmt: skip

    assert attempts == ("done", Effort(4, 0.0))
    assert (allowance.spent, allowance.forgiven, clock.slept) == (10.0, 30.0, [0, 0, 0])
    with pytest.raises(TimedOut, match="given up at attempt 1"):  # there is an end to it
        persevere(
            slowly(clock, 10, failing(late)), RetryPolicy(attempts=1), sleep=clock.sleep, random=half,
            allowance=allowance, asks_for_less=lambda failure: True,
        )  # fmt: skip


def test_only_an_answer_that_does_not_come_was_asked_for_too_much() -> None:
    clock = Clock()
    with pytest.raises(ServerError, match="given up"):
        persevere(
            failing([ServerError("x")] * 9), RetryPolicy(attempts=2), sleep=clock.sleep, random=half,
            asks_for_less=lambda failure: True,
        )  # fmt: skip
