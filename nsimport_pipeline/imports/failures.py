"""What happens to a batch after a failure: retry in a later wave, or give it up.

Belongs here: one table of retry rules by failure category, and the pure function that applies it. Does not belong
here: telling which category a failure has (``netsuite/errors.py``, ``warehouse/errors.py``), or retries of single
requests (``netsuite/client.py`` owns those).
"""

from collections.abc import Mapping
from dataclasses import dataclass

from nsimport_pipeline.errors import Category


@dataclass(frozen=True, slots=True)
class RetryRule:
    """How often and how soon batches that failed in one category are tried again in a later wave."""

    attempts: int | None
    """Retries at most; None: the import's ``retry_attempts``."""
    delay: float
    """Seconds before the first retry; doubles with each one after."""
    counts: bool = True
    """Whether it uses up an attempt. Waiting for a slot at NetSuite does not, however long it takes."""


RETRY_RULES: Mapping[Category, RetryRule] = {
    Category.TIMEOUT: RetryRule(None, 5.0),
    Category.API_RATE_LIMIT: RetryRule(None, 60.0, counts=False),
    Category.API_UNAVAILABLE: RetryRule(None, 15.0),
    Category.DATABASE_SCHEMA: RetryRule(0, 0.0),
    Category.PERMANENT_ERROR: RetryRule(0, 0.0),
    Category.UNKNOWN: RetryRule(1, 5.0),
}
LONGEST_DELAY = 300.0


@dataclass(frozen=True, slots=True)
class Verdict:
    retry: bool
    delay: float = 0.0
    """Seconds to wait before the retry."""
    attempts: int = 1
    """Attempts that the failure uses up."""


def after_failure(category: Category, attempts: int, retry_attempts: int) -> Verdict:
    """Whether a batch that has now failed ``attempts`` times (this failure included) is tried again, and how soon."""
    rule = RETRY_RULES[category]
    if not rule.counts:
        return Verdict(retry=True, delay=rule.delay, attempts=0)
    budget = retry_attempts if rule.attempts is None else min(rule.attempts, retry_attempts)
    if attempts > budget:
        return Verdict(retry=False)
    return Verdict(retry=True, delay=min(LONGEST_DELAY, rule.delay * 2 ** (attempts - 1)))
