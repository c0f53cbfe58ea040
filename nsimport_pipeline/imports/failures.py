"""What happens to a batch after a failure: retry in a later wave, or give it up; and what a person does about it.

Belongs here: the pure functions that apply the retry rules to a batch and say what to type. Does not belong here: the
rules (``retry_settings.py``), telling which category a failure has (``netsuite/errors.py``, ``warehouse/errors.py``),
or retries of single requests (``netsuite/retrying.py`` owns those).
"""

from dataclasses import dataclass

from nsimport_pipeline.errors import Category
from nsimport_pipeline.imports.records import tenant_of
from nsimport_pipeline.retry_settings import Retries


@dataclass(frozen=True, slots=True)
class Verdict:
    retry: bool
    delay: float = 0.0
    """Seconds to wait before the retry."""
    attempts: int = 1
    """Attempts that the failure uses up."""


def after_failure(category: Category, attempts: int, retry_attempts: int, rules: Retries) -> Verdict:
    """Whether a batch that has now failed ``attempts`` times (this failure included) is tried again, and how soon.

    Waiting for a slot at NetSuite uses up no attempt, however long it takes.
    """
    if category is Category.API_RATE_LIMIT:
        return Verdict(retry=True, delay=min(rules.longest_delay, rules.api_rate_limit.later_delay), attempts=0)
    rule = rules.later(category)
    if attempts > (retry_attempts if rule.later is None else min(rule.later, retry_attempts)):
        return Verdict(retry=False)
    return Verdict(retry=True, delay=min(rules.longest_delay, rule.later_delay * 2.0 ** min(attempts - 1, 60)))


def what_to_do(category: Category, import_id: str, *, column: str | None = None, left_out_of: str | None = None) -> str:
    """What a person does about failures of a category that were given up: one line, with the command to type.

    ``left_out_of``: the record type that goes on without ``column``, for these failures made nothing else fail.
    """
    again = f"`nsimport retry {import_id}`"
    if left_out_of is not None:
        probe = f"`nsimport record-types {left_out_of} --tenant {tenant_of(import_id)} --probe`"
        return f"the column is left out, all else goes on: once it is back, {probe}, then import again"
    if category is Category.DATABASE_SCHEMA:
        field = f"the field {column}" if column else "the field at fault"
        return (
            f"`nsimport rejects {import_id}` has the rows: make {field} fit in its criteria or in the table, then "
            f"`nsimport retry {import_id} --rejected`, and {again} for batches that failed as a whole"
        )
    return {
        Category.TIMEOUT: f"tried again by itself; if it was given up, a longer batch_timeout may help, then {again}",
        Category.API_RATE_LIMIT: "nothing, it costs no attempt; if it goes on, give the tenant fewer slots",
        Category.API_UNAVAILABLE: f"tried again by itself; if it was given up, {again} when NetSuite answers",
        Category.PERMANENT_ERROR: f"mend what the message says, then {again}",
    }.get(category, f"{again} once; if it comes back, report it with the message")
