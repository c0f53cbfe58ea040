"""The first line of a failed run says what, where, whether it is retried and what to do; a tick says what is wrong."""

import pytest
import sqlalchemy as sa

from nsimport_pipeline.defs.saying import failed_batches, failed_planning, failed_run
from nsimport_pipeline.errors import (
    ApiUnavailable,
    Category,
    ConfigurationError,
    NsimportError,
    PermanentError,
)
from nsimport_pipeline.imports.batch import Result
from nsimport_pipeline.imports.records import Batch, KeyRange
from nsimport_pipeline.imports.states import BatchState

IMPORT = "acme-20260301120000-0001"


def result(offset: int, outcome: str) -> Result:
    batch = Batch(offset, KeyRange("customer", 0, str(offset), 0, 9, 9), 1, 1, BatchState.PROCESSING)
    return Result(batch, outcome, category=Category.TIMEOUT, reason="NetSuite did not\nanswer.")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("outcomes", "then", "retryable"),
    [
        (["retrying"], "Retryable: 1 will be tried again in a later wave by themselves.", True),
        (["failed"], f"Not retryable: mend that, then `nsimport retry {IMPORT}`.", False),
        (
            ["retrying", "failed", "failed"],
            "Retryable: 1 will be tried again in a later wave by themselves. 2 are not retryable: mend "
            f"that, then `nsimport retry {IMPORT}`.",
            True,
        ),
    ],
)
def test_failed_batches_say_which_why_and_what_becomes_of_them(outcomes: list[str], then: str, retryable: bool) -> None:
    failed = [result(1000 * place, outcome) for place, outcome in enumerate(outcomes)]
    failure = failed_batches("acme", 4, failed, IMPORT)
    assert failure.description == (
        f"acme: {len(outcomes)} of 4 batches of customer failed; first: batch 0, timeout: NetSuite did not answer. "
        f"{then} `nsimport errors {IMPORT}` shows all failures."
    )
    assert failure.metadata["retryable"].value is retryable
    assert failure.metadata["import"].value == IMPORT
    assert str(failure.metadata["runs_of_import"].value).startswith("/runs?")
    assert failure.allow_retries is False


def test_a_run_that_could_not_begin_says_whether_its_batches_are_tried_again() -> None:
    error = ConfigurationError("ACME_KEY is not set")
    by_wave = failed_run("acme/customer", error, IMPORT)
    assert by_wave.description is not None
    assert by_wave.description.startswith("acme/customer: ACME_KEY is not set. Retryable: its batches are tried again")
    by_hand = failed_run("acme/customer", error, None)
    assert by_hand.description == (
        "acme/customer: ACME_KEY is not set. Not tried again by itself: mend that, then execute the run again."
    )
    assert "import" not in by_hand.metadata


@pytest.mark.parametrize("error", [ApiUnavailable("NetSuite is down"), sa.exc.TimeoutError("no connection")])
def test_planning_that_failed_says_that_it_is_tried_again(error: NsimportError | sa.exc.SQLAlchemyError) -> None:
    text = failed_planning("acme/transaction_line", error, IMPORT).description
    assert text is not None
    assert text.startswith("acme/transaction_line could not be planned: ")
    assert f"Retryable: it is tried again by itself; `nsimport status {IMPORT}` says when." in text


def test_planning_that_was_refused_for_good_says_how_to_go_on() -> None:
    text = failed_planning("acme/transaction_line", PermanentError("no such column"), IMPORT).description
    assert text == (
        "acme/transaction_line could not be planned: no such column. Not retryable: mend that, then "
        f"`nsimport resume {IMPORT}`."
    )
