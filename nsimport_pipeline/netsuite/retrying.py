"""When a request to NetSuite is sent again, and how long before that.

Belongs here: the policy, and the one loop that follows it. Does not belong here: HTTP, or what counts as which failure
(``errors.py``). A plain loop rather than a retry library, because there are two budgets at once: failures use up
attempts, while refusals for lack of a slot use up only patience, each with a back-off of its own.
"""

import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from nsimport_pipeline.errors import ApiUnavailable, Category, ImportFailure, RateLimited, TimedOut
from nsimport_pipeline.netsuite.circuit import Breaker
from nsimport_pipeline.retry_settings import Retries

T = TypeVar("T")


@dataclass(frozen=True)
class Budget:
    """How many requests may fail before the last failure is raised, and the delay after the first, in seconds."""

    attempts: int
    base_delay: float


@dataclass(frozen=True)
class RetryPolicy:
    """Times are in seconds. Only so many failures are borne; then the last one is raised."""

    attempts: int = 4
    base_delay: float = 1.0
    budgets: Mapping[Category, Budget] = field(default_factory=dict)
    """Instead of ``attempts`` and ``base_delay``, for single categories."""
    max_delay: float = 30.0
    rate_limit_base: float = 0.5
    rate_limit_max: float = 15.0
    patience: float = 1800.0
    """How long, in all, one request may be put off by 429 before it is given up."""
    retry_after_max: float = 120.0
    """The longest ``Retry-After`` that is believed."""

    @classmethod
    def of(cls, retries: Retries) -> "RetryPolicy":
        """What a tenant's settings say about requests within a run."""
        rules = {Category.TIMEOUT: retries.timeout, Category.API_UNAVAILABLE: retries.api_unavailable}
        return cls(
            budgets={category: Budget(rule.in_run + 1, rule.in_run_delay) for category, rule in rules.items()},
            rate_limit_base=retries.api_rate_limit.in_run_delay,
            patience=retries.api_rate_limit.patience,
        )

    def budget(self, category: Category) -> Budget:
        return self.budgets.get(category) or Budget(self.attempts, self.base_delay)

    def failure_delay(
        self, failures: int, retry_after: float | None, chance: float, category: Category = Category.TIMEOUT
    ) -> float:
        """Seconds before the next attempt after ``failures`` (1, 2, …) failures; ``chance`` is uniform in [0, 1).

        Exponential with full jitter, and never earlier than NetSuite asked for.
        """
        delay = chance * min(self.max_delay, self.budget(category).base_delay * 2.0 ** min(failures - 1, 60))
        return max(delay, self._asked(retry_after, chance))

    def rate_limit_delay(self, refusals: int, retry_after: float | None, chance: float) -> float:
        """Seconds before asking again after ``refusals`` (1, 2, …) refusals.

        Grows, and is spread over the upper half, so that those refused together do not come back together.
        """
        delay = (0.5 + chance / 2) * min(self.rate_limit_max, self.rate_limit_base * 2.0 ** min(refusals - 1, 60))
        return max(delay, self._asked(retry_after, chance))

    def _asked(self, retry_after: float | None, chance: float) -> float:
        if retry_after is None:
            return 0.0
        return min(retry_after, self.retry_after_max) + chance * self.base_delay


def spread(wanted: float, others: Iterable[float], slots: int, base: float) -> float:
    """Seconds until a refused worker asks again: ``wanted`` or later, and never together with another one.

    ``others``: seconds until each other refused worker of the process does. The more of the tenant's ``slots`` are
    refused, the further they are kept apart: from ``base / slots`` for one up to ``base`` for all.
    """
    taken = sorted(others)
    gap = base * min(1.0, (len(taken) + 1) / slots)
    delay = wanted
    for other in taken:
        if abs(delay - other) < gap:
            delay = other + gap
    return delay


class Line:
    """The refused workers of one process, by when each asks again. Thread-safe; ``timer`` gives seconds."""

    def __init__(self, slots: int, timer: Callable[[], float] = time.monotonic) -> None:
        self._slots = slots
        self._timer = timer
        self._lock = threading.Lock()
        self._due: list[float] = []

    def join(self, wanted: float, base: float) -> float:
        """Seconds to wait, at least ``wanted``: see ``spread``."""
        now = self._timer()
        with self._lock:
            self._due = [due for due in self._due if due > now]
            delay = spread(wanted, [due - now for due in self._due], self._slots, base)
            self._due.append(now + delay)
        return delay


@dataclass
class Allowance:
    """How long a batch's requests may take in all, with the pauses after failures. Used by one thread at a time.

    Waiting is not charged: for a slot, after a refusal for lack of one, while the circuit is open. Nor is, up to as
    much again, what it took to find out that too much was asked for at once.
    """

    seconds: float = math.inf
    timer: Callable[[], float] = time.monotonic
    spent: float = 0.0
    forgiven: float = 0.0

    @property
    def left(self) -> float:
        return self.seconds - self.spent

    def check(self) -> None:
        """Raises TimedOut if nothing is left."""
        if self.left <= 0:
            raise TimedOut(f"the batch took longer than batch_timeout ({self.seconds:g} s) in all, waits not counted")

    def forgive(self, seconds: float) -> bool:
        """Whether that time is not charged: so long as what was forgiven before is less than the whole allowance."""
        if self.forgiven >= self.seconds:
            return False
        self.forgiven += seconds
        return True


@dataclass(frozen=True)
class RetryEvent:
    """A request failed and will be sent again after ``delay`` seconds; ``attempt`` requests were sent so far."""

    category: Category
    attempt: int
    delay: float
    message: str


class RetryListener(Protocol):
    """Whoever wants to know of retries as they happen: metrics, adaptive concurrency. Called on the worker's thread."""

    def on_retry(self, event: RetryEvent) -> None: ...


@dataclass(frozen=True)
class Effort:
    """What a result cost: requests sent, and seconds slept between them."""

    attempts: int
    waited_seconds: float


def persevere(
    operation: Callable[[], T],
    policy: RetryPolicy,
    *,
    sleep: Callable[[float], None],
    random: Callable[[], float],
    listener: RetryListener | None = None,
    breaker: Breaker | None = None,
    probe: Callable[[], object] = lambda: None,
    line: Line | None = None,
    allowance: Allowance | None = None,
    asks_for_less: Callable[[TimedOut], bool] = lambda failure: False,
) -> tuple[T, Effort]:
    """Run ``operation`` until it succeeds or the policy says to give up; ``operation`` sends and signs anew each time.

    Raises the last failure: at once if it is permanent, after ``policy.attempts`` failures if it is retriable, after
    ``policy.patience`` seconds of waiting if NetSuite keeps refusing for lack of a slot. ``sleep`` is called
    before each request but the first, with 0 if there is nothing to wait for. What it raises goes through to the
    caller, and so does what ``breaker`` raises while NetSuite is down; failures that it takes the blame
    for are not counted. ``line`` keeps those refused together apart. TimedOut is raised once ``allowance`` is used up.
    ``asks_for_less``: whether the ``operation`` that was not answered in time will ask for less from now on; then that
    costs no attempt.
    """
    allowance = allowance or Allowance()
    sent = refusals = 0
    failures: Counter[Category] = Counter()
    waited = put_off = 0.0
    while True:
        if breaker is not None:
            waited += breaker.before(probe)
        allowance.check()
        sent += 1
        begun = allowance.timer()
        try:
            result = operation()
            allowance.spent += allowance.timer() - begun
            if breaker is not None:
                breaker.after(None)
            return result, Effort(sent, waited)
        except RateLimited as refused:
            if breaker is not None:
                breaker.after(refused)
            refusals += 1
            failure: ImportFailure = refused
            delay = policy.rate_limit_delay(refusals, refused.retry_after, random())
            if line is not None:
                delay = line.join(delay, policy.rate_limit_base)
            put_off += delay
            if put_off > policy.patience:
                raise RateLimited(
                    f"{refused}; given up after waiting {put_off - delay:.0f} s: use fewer slots, or stop what else "
                    "uses the account",
                    retry_after=refused.retry_after,
                ) from None
        except (ApiUnavailable, TimedOut) as failed:
            failure = failed
            too_much = isinstance(failed, TimedOut) and asks_for_less(failed)
            if (too_much and allowance.forgive(allowance.timer() - begun)) or (
                breaker is not None and breaker.after(failed)
            ):
                delay = 0.0
            else:
                failures[failed.category] += 1
                if failures[failed.category] >= policy.budget(failed.category).attempts:
                    # Not the same instance: it may be shared with threads that waited for the same token.
                    raise type(failed)(f"{failed}; given up at attempt {failures.total()}") from None
                delay = policy.failure_delay(failures[failed.category], failed.retry_after, random(), failed.category)
                allowance.spent += allowance.timer() - begun + delay
                # Nobody sleeps for a request that will not be sent.
                allowance.check()
        except ImportFailure as refused:
            if breaker is not None:
                breaker.after(refused)
            raise
        if listener is not None:
            listener.on_retry(RetryEvent(failure.category, sent, delay, str(failure)))
        sleep(delay)
        waited += delay
