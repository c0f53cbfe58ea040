"""What happens after a failure: retried how often, how soon; and how a run holds back after refusals."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nsimport_pipeline.errors import Category
from nsimport_pipeline.imports.execute import CALM_SECONDS, Throttle
from nsimport_pipeline.imports.failures import after_failure, what_to_do
from nsimport_pipeline.netsuite.retrying import RetryEvent
from nsimport_pipeline.retry_settings import Retries

DEFAULTS = Retries.model_validate({})


@pytest.mark.parametrize(
    ("category", "tries"),
    [
        (Category.TIMEOUT, 4),
        (Category.API_UNAVAILABLE, 4),
        (Category.UNKNOWN, 2),
        (Category.DATABASE_SCHEMA, 1),
        (Category.PERMANENT_ERROR, 1),
    ],
)
def test_each_category_has_its_own_budget(category: Category, tries: int) -> None:
    retried = [after_failure(category, failures, 3, DEFAULTS).retry for failures in range(1, 8)]
    assert retried == [failures < tries for failures in range(1, 8)]


seconds = st.floats(0, 86_400)
later = st.fixed_dictionaries({"later": st.none() | st.integers(0, 100), "later_delay": seconds})
rules = st.builds(
    lambda longest, **categories: Retries.model_validate({"longest_delay": longest, **categories}),
    longest=seconds,
    **{category.value: later for category in Category if category is not Category.API_RATE_LIMIT},
    api_rate_limit=st.fixed_dictionaries({"later_delay": st.floats(0.01, 3600)}),
)


@given(st.sampled_from(list(Category)), st.integers(1, 500), st.integers(0, 100), rules)
def test_a_budget_is_never_exceeded_and_a_delay_never_endless(
    category: Category, failures: int, budget: int, rules: Retries
) -> None:
    verdict = after_failure(category, failures, budget, rules)
    assert 0 <= verdict.delay <= rules.longest_delay
    if category is Category.API_RATE_LIMIT:
        assert (verdict.retry, verdict.attempts) == (True, 0)
    else:
        own = rules.later(category).later
        assert verdict.attempts == 1
        assert verdict.retry == (failures <= (budget if own is None else min(own, budget)))


def refusal(category: Category = Category.API_RATE_LIMIT) -> RetryEvent:
    return RetryEvent(category, 1, 0.5, "refused")


def test_refusals_cost_fetchers_and_calm_brings_them_back() -> None:
    throttle = Throttle(3)
    assert throttle.adjust(0.0) == 3
    throttle.on_retry(refusal(Category.TIMEOUT))
    assert throttle.adjust(1.0) == 3
    for _ in range(5):
        throttle.on_retry(refusal())
    assert throttle.adjust(2.0) == 2  # a burst counts once
    throttle.on_retry(refusal())
    assert throttle.adjust(4.0) == 1
    throttle.on_retry(refusal())
    assert throttle.adjust(6.0) == 1  # never none
    assert throttle.adjust(6.0 + CALM_SECONDS - 0.1) == 1
    assert throttle.adjust(6.0 + CALM_SECONDS) == 2
    assert throttle.adjust(6.0 + 2 * CALM_SECONDS) == 3
    assert throttle.adjust(6.0 + 9 * CALM_SECONDS) == 3


@pytest.mark.parametrize("category", Category)
def test_what_was_given_up_has_a_command_to_type(category: Category) -> None:
    said = what_to_do(category, "acme-20260301120000-0001", column="email")
    if category is Category.API_RATE_LIMIT:
        assert said.startswith("nothing")  # it is never given up
    else:
        assert "`nsimport retry acme-20260301120000-0001`" in said
    assert ("email" in said) == (category is Category.DATABASE_SCHEMA)


def test_a_column_that_was_left_out_is_asked_for_again() -> None:
    said = what_to_do(Category.PERMANENT_ERROR, "acme-20260301120000-0001", column="email", left_out_of="vendor")
    assert "`nsimport record-types vendor --tenant acme --probe`" in said
