"""What one account has of the record types: asked once, kept in the tenant's database, used by every import.

Belongs here: telling a table that is off from one that the role may not see, and probing the columns of a record type.
Does not belong here: the search for a bad column (``columns.py``), statements over the control tables (``store/``).

A feature that is off is a fact about the account; a table that the role may not see is not, because its records are
missing from the import. Where NetSuite says the same for both, the criteria decide: a table that needs no feature is
there in every account.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Literal, Protocol

from sqlalchemy import Connection, Engine

from nsimport_pipeline.errors import (
    AccessDenied,
    Category,
    ImportFailure,
    RecordDenied,
    RecordNotAvailable,
    UnsupportedSearch,
)
from nsimport_pipeline.imports import store
from nsimport_pipeline.imports.columns import Ask, Columns
from nsimport_pipeline.imports.records import AccountType, LeftOut
from nsimport_pipeline.netsuite.answers import KeyCount, Page
from nsimport_pipeline.netsuite.suiteql import Selected, column_groups, page_statement, selected
from nsimport_pipeline.record_types.criteria import RecordType
from nsimport_pipeline.warehouse.migrate import serialise

ASK_AGAIN = timedelta(days=1)
"""After this time a column that was left out is asked for again: features are switched on, rights are given."""


class Querier(Protocol):
    """What probing needs of a NetSuite client, which takes a slot for each request."""

    def query(self, statement: str, *, limit: int = 1000, offset: int = 0) -> Page: ...

    def count(self, record_type: RecordType, low: int | None = None, high: int | None = None) -> KeyCount: ...


@dataclass(frozen=True, slots=True)
class Question:
    """A record type whose columns are to be probed, on the first record above ``low`` and up to ``high``."""

    record_type: RecordType
    low: int = 0
    high: int = 0
    """By default no record at all, which still shows columns that are not there."""


@dataclass(frozen=True, slots=True)
class Probed:
    """What came of a question: what is known now, or why it is not."""

    record_type: str
    found: AccountType | None
    failure: str | None = None


def absence(
    record_type: RecordType, error: RecordNotAvailable | UnsupportedSearch
) -> tuple[Literal["unavailable", "denied"], str]:
    """What it means that NetSuite does not give a table out, and why, for people."""
    feature, permission = record_type.source.requires, record_type.source.permission
    if feature is not None and not isinstance(error, RecordDenied | UnsupportedSearch):
        return "unavailable", f"the account's {feature} feature is off, or the role may not see it: {error}"
    wanted = f"the permission {permission}" if permission else f"a permission for {record_type.source.from_}"
    off = (
        f" (or the account's {feature} feature is off: then disable {record_type.name} for the tenant)"
        if feature
        else ""
    )
    return "denied", f"give the integration's role {wanted}, at level View or higher{off}: {error}"


def fingerprint(record_type: RecordType) -> str:
    """Of everything that is asked of NetSuite for a record type: what was probed for another has to be probed again."""
    source = record_type.source
    asked = [source.from_, source.where or "", *(column.sql for column in selected(record_type))]
    return sha256("\n".join(asked).encode()).hexdigest()[:32]


def outdated(known: AccountType | None, record_type: RecordType, now: datetime) -> bool:
    """Whether a record type's columns have to be probed: never were, for others, or a column may be there by now."""
    if known is None or known.probed_for != fingerprint(record_type):
        return True
    return bool(known.left_out) and now - known.checked_at >= ASK_AGAIN


def probe(
    questions: Sequence[Question],
    *,
    patient: Querier,
    brisk: Querier,
    workers: int,
    now: Callable[[], datetime],
    on_probed: Callable[[Probed], None] = lambda probed: None,
) -> list[Probed]:
    """Find out which columns of each record type the account lets us fetch, ``workers`` record types at a time.

    One request where all is well, one more for each column that is refused, about 2·log2(n) more for each that makes
    NetSuite fail; a record type with more than 100 columns takes as many requests as it takes to fetch it.
    ``brisk`` asks once where ``patient`` tries again. Raises AccessDenied; another failure is the record type's.
    """

    def one(question: Question) -> Probed:
        name = question.record_type.name
        try:
            probed = Probed(name, _probe(question, patient, brisk, now))
        except AccessDenied:
            raise
        except ImportFailure as error:
            probed = Probed(name, None, str(error))
        on_probed(probed)
        return probed

    with ThreadPoolExecutor(max_workers=max(1, min(workers, len(questions) or 1))) as executor:
        return list(executor.map(one, questions))


def probe_account(
    record_types: Sequence[RecordType],
    *,
    patient: Querier,
    brisk: Querier,
    workers: int,
    now: Callable[[], datetime],
    on_probed: Callable[[Probed], None] = lambda probed: None,
) -> list[Probed]:
    """Like ``probe``, for whole record types: whether they are there at all is asked as well, by counting them."""

    def one(record_type: RecordType) -> Probed | Question:
        try:
            counted = patient.count(record_type)
        except (RecordNotAvailable, UnsupportedSearch) as error:
            state, reason = absence(record_type, error)
            return Probed(record_type.name, AccountType(record_type.name, state, now(), reason))
        except AccessDenied:
            raise
        except ImportFailure as error:
            return Probed(record_type.name, None, str(error))
        if counted.low is None:
            return Question(record_type)
        return Question(record_type, counted.low - 1, counted.low)

    with ThreadPoolExecutor(max_workers=max(1, min(workers, len(record_types) or 1))) as executor:
        answers = list(executor.map(one, record_types))
    absent = [answer for answer in answers if isinstance(answer, Probed)]
    for answer in absent:
        on_probed(answer)
    questions = [answer for answer in answers if isinstance(answer, Question)]
    return absent + probe(questions, patient=patient, brisk=brisk, workers=workers, now=now, on_probed=on_probed)


def keep(engine: Engine, found: Sequence[AccountType], *, import_id: str | None = None) -> None:
    """Store what is known of record types, in place of what was known; ``import_id``: the import that found it out.

    A column that is refused is a fact about the account, so it is no failure of the import; one that makes NetSuite
    fail is.
    """
    with engine.begin() as connection:
        serialise(connection)
        store.keep_account_types(connection, found)
        for one in found if import_id is not None else ():
            _tell(connection, import_id or "", one.record_type, one.left_out, one.checked_at, Category.API_UNAVAILABLE)


def record_left_out(engine: Engine, import_id: str, record_type: str, found: Sequence[LeftOut], now: datetime) -> None:
    """Keep columns of which a run found, in the middle of its work, that they cannot be fetched."""
    with engine.begin() as connection:
        serialise(connection)
        store.leave_out(connection, record_type, found, now)
        _tell(connection, import_id, record_type, found, now, *Category)


def _tell(
    connection: Connection,
    import_id: str,
    record_type: str,
    found: Sequence[LeftOut],
    now: datetime,
    *failures: Category,
) -> None:
    """Into the import's journal: every column as an event, those of the categories ``failures`` as errors too."""
    for one in found:
        if one.category in failures:
            store.record_error(
                connection, import_id, one.category, one.reason, now, record_type=record_type, column=one.column
            )
        message = f"{one.column}: {one.reason}"
        store.record_event(connection, import_id, "column_left_out", now, record_type=record_type, message=message)


def _probe(question: Question, patient: Querier, brisk: Querier, now: Callable[[], datetime]) -> AccountType:
    record_type = question.record_type

    def by(client: Querier) -> Ask[None]:
        def ask(columns: Sequence[Selected]) -> None:
            for group in column_groups(columns):
                client.query(page_statement(record_type, question.low, question.high, group), limit=1)

        return ask

    columns = Columns(selected(record_type))
    columns.fetch(by(patient), by(brisk))
    return AccountType(
        record_type.name,
        "available",
        now(),
        probed_for=fingerprint(record_type),
        left_out=tuple(columns.left_out),
    )
