"""How failures are borne: the typed settings of retries and of the circuit breaker.

Belongs here: each category's budget and delays, their defaults and bounds. Does not belong here: reading the file
(``settings.py``), or following the rules (``netsuite/retrying.py`` within a run, ``imports/failures.py`` for batches).
Times are in seconds.
"""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from nsimport_pipeline.errors import Category

Seconds = Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False)]
Times = Annotated[int, Field(ge=0, le=100)]


class StrictModel(BaseModel):
    """Settings: unknown keys are errors, values are never changed and never quoted."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class LaterRetries(StrictModel):
    """A batch in a later wave of its level."""

    later: Times | None
    """How often; null: ``retry_attempts``, which is the most in any case."""
    later_delay: Seconds
    """Before the first retry; doubles with each one after."""


class RequestRetries(LaterRetries):
    """A request within the run first, its batch in a later wave after."""

    in_run: Times
    in_run_delay: Seconds
    """Before the first retry; doubles with each one after, with jitter."""


class RateLimitRetries(StrictModel):
    """Refusals for lack of a slot: waited for, never counted."""

    patience: Seconds
    """How long, in all, one request may be put off within the run."""
    in_run_delay: Annotated[float, Field(gt=0, le=3600)]
    later_delay: Annotated[float, Field(gt=0, le=3600)]


_DEFAULTS: dict[str, dict[str, Any]] = {
    Category.TIMEOUT.value: {"in_run": 3, "in_run_delay": 1, "later": None, "later_delay": 5},
    Category.API_UNAVAILABLE.value: {"in_run": 3, "in_run_delay": 2, "later": None, "later_delay": 15},
    Category.API_RATE_LIMIT.value: {"patience": 1800, "in_run_delay": 0.5, "later_delay": 60},
    Category.DATABASE_SCHEMA.value: {"later": 0, "later_delay": 0},
    Category.PERMANENT_ERROR.value: {"later": 0, "later_delay": 0},
    Category.UNKNOWN.value: {"later": 1, "later_delay": 5},
}


class Retries(StrictModel):
    """Where, how often and how soon a failure of each category is tried again. What is not set keeps its default."""

    timeout: RequestRetries
    api_unavailable: RequestRetries
    api_rate_limit: RateLimitRetries
    database_schema: LaterRetries
    permanent_error: LaterRetries
    unknown: LaterRetries
    longest_delay: Seconds = 300
    """No delay before a later wave grows beyond it."""

    @model_validator(mode="before")
    @classmethod
    def _over_defaults(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        defaults = {category: rule | _mapping(given.get(category)) for category, rule in _DEFAULTS.items()}
        wrong = {key: value for key, value in given.items() if key not in defaults or not _is_mapping(value)}
        return defaults | wrong

    def later(self, category: Category) -> LaterRetries:
        """The rule for a batch. Not for ``api_rate_limit``, which has no budget."""
        rule: LaterRetries = getattr(self, category.value)
        return rule


class CircuitSettings(StrictModel):
    """When NetSuite counts as not answering, and how often it is asked whether it does again."""

    failures: Annotated[int, Field(ge=2, le=1000)] = 4
    """So many requests of the tenant in a row, of whatever run, have to fail."""
    probe_delay: Annotated[float, Field(gt=0, le=3600)] = 5.0
    """Between the first two probes; doubles with each one after."""
    longest_probe_delay: Annotated[float, Field(gt=0, le=3600)] = 60.0


def _is_mapping(value: Any) -> bool:
    return value is None or isinstance(value, dict)


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
