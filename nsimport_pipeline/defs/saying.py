"""Errors in the words that Dagster's pages show: reasons of sensor ticks, first lines of failed runs.

Belongs here: turning what was raised on purpose into those. Does not belong here: the errors' own messages, or what
is done about them.
"""

from collections.abc import Sequence
from typing import Any

import dagster as dg
from sqlalchemy.exc import SQLAlchemyError

from nsimport_pipeline.defs import names
from nsimport_pipeline.errors import Category, ImportFailure, NsimportError
from nsimport_pipeline.imports.batch import Result
from nsimport_pipeline.warehouse.errors import classify


def in_words(error: NsimportError | SQLAlchemyError) -> str:
    """One sentence, without a secret or a record's values."""
    return str(classify(error) if isinstance(error, SQLAlchemyError) else error)


def failed_run(where: str, error: NsimportError | SQLAlchemyError, import_id: str | None) -> dg.Failure:
    """The failure of a run that could not work on its batches at all. ``import_id``: None if it was started by hand."""
    then = (
        "Retryable: its batches are tried again in a later wave by themselves, as often as retry_attempts says; mend "
        f"that meanwhile. `nsimport status {import_id}` says how far it is."
        if import_id
        else "Not tried again by itself: mend that, then execute the run again."
    )
    return _failure(f"{where}: {in_words(error)}", then, import_id, retryable=import_id is not None)


def failed_planning(where: str, error: NsimportError | SQLAlchemyError, import_id: str) -> dg.Failure:
    """The failure of a run that was to plan a derived record type."""
    hopeless = isinstance(error, ImportFailure) and error.category is Category.PERMANENT_ERROR
    then = (
        f"Not retryable: mend that, then `nsimport resume {import_id}`."
        if hopeless
        else f"Retryable: it is tried again by itself; `nsimport status {import_id}` says when."
    )
    return _failure(f"{where} could not be planned: {in_words(error)}", then, import_id, retryable=not hopeless)


def failed_batches(tenant: str, batches: int, failed: Sequence[Result], import_id: str) -> dg.Failure:
    """The failure of a run of which some batches did not make it; the first of ``failed`` is told."""
    first, again = failed[0], sum(result.outcome == "retrying" for result in failed)
    lost = len(failed) - again
    told = [f"Retryable: {again} will be tried again in a later wave by themselves."] if again else []
    if lost:
        which = f"{lost} are not retryable" if again else "Not retryable"
        told.append(f"{which}: mend that, then `nsimport retry {import_id}`.")
    told.append(f"`nsimport errors {import_id}` shows all failures.")
    what = f"{len(failed)} of {batches} batches of {first.batch.record_type} failed"
    first_of_them = f"first: batch {first.batch.range.partition_key}, {first.category}: {first.reason}"
    return _failure(f"{tenant}: {what}; {first_of_them}", " ".join(told), import_id, retryable=again > 0)


def _failure(said: str, then: str, import_id: str | None, *, retryable: bool) -> dg.Failure:
    """All that a person wants to know, on the first line: Dagster shows it in its list of a run's events."""
    of_import: dict[str, Any] = {}
    if import_id is not None:
        of_import = {"import": import_id, "runs_of_import": names.runs_of(import_id)}
    text = " ".join(f"{said.rstrip('. ')}. {then}".split())
    return dg.Failure(text, metadata={"retryable": retryable, **of_import}, allow_retries=False)
