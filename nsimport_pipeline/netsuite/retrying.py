"""When a request to NetSuite is sent again, and how long before that.

Belongs here: the policy, and the one loop that follows it. Does not belong here: HTTP, or what counts as which failure
(``errors.py``). A plain loop rather than a retry library, because there are two budgets at once: failures use up
attempts, while refusals for lack of a slot use up only patience, each with a back-off of its own.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from nsimport_pipeline.errors import ApiUnavailable, Category, ImportFailure, RateLimited, TimedOut

T = TypeVar("T")


@dataclass(frozen=True)
class RetryPolicy:
    """Times are in seconds. Only ``attempts`` failures are borne; then the last one is raised."""

    attempts: int = 4
    base_delay: float = 1.0
    max_delay: float = 30.0
    rate_limit_base: float = 0.5
    rate_limit_max: float = 15.0
    patience: float = 1800.0
    """How long, in all, one request may be put off by 429 before it is given up."""
    retry_after_max: float = 120.0
    """The longest ``Retry-After`` that is believed."""

    def failure_delay(self, failures: int, retry_after: float | None, chance: float) -> float:
        """Seconds before the next attempt after ``failures`` (1, 2, …) failures; ``chance`` is uniform in [0, 1).

        Exponential with full jitter, and never earlier than NetSuite asked for.
        """
        delay = chance * min(self.max_delay, self.base_delay * 2.0 ** min(failures - 1, 60))
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
) -> tuple[T, Effort]:
    """Run ``operation`` until it succeeds or the policy says to give up; ``operation`` sends and signs anew each time.

    Raises the last failure: at once if it is permanent, after ``policy.attempts`` failures if it is retriable, after
    ``policy.patience`` seconds of waiting if NetSuite keeps refusing for lack of a slot. What ``sleep`` raises goes
    through to the caller.
    """
    sent = failures = refusals = 0
    waited = put_off = 0.0
    while True:
        sent += 1
        try:
            return operation(), Effort(sent, waited)
        except RateLimited as refused:
            refusals += 1
            failure: ImportFailure = refused
            delay = policy.rate_limit_delay(refusals, refused.retry_after, random())
            put_off += delay
            if put_off > policy.patience:
                raise RateLimited(
                    f"{refused}; given up after waiting {put_off - delay:.0f} s: use fewer slots, or stop what else "
                    "uses the account",
                    retry_after=refused.retry_after,
                ) from None
        except (ApiUnavailable, TimedOut) as failed:
            failures += 1
            failure = failed
            if failures >= policy.attempts:
                # Not the same instance: it may be shared with threads that waited for the same token.
                raise type(failed)(f"{failed}; given up at attempt {failures}") from None
            delay = policy.failure_delay(failures, failed.retry_after, random())
        if listener is not None:
            listener.on_retry(RetryEvent(failure.category, sent, delay, str(failure)))
        sleep(delay)
        waited += delay
