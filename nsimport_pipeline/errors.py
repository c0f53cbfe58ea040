"""The one tree of errors, sorted by what to do about them.

Belongs here: exception classes and the failure categories they carry.
Does not belong here: deciding which one a response or a driver error is (``netsuite/errors.py`` and
``warehouse/errors.py`` do that, once, at their boundary), or what is retried when (``imports/failures.py``).

A message is one sentence for a person: what happened, where, what to do. It never holds a secret or a record's values.
"""

from enum import StrEnum
from typing import ClassVar


class Category(StrEnum):
    """Failure categories, as they are stored, shown and retried by."""

    TIMEOUT = "timeout"
    API_RATE_LIMIT = "api_rate_limit"
    API_UNAVAILABLE = "api_unavailable"
    DATABASE_SCHEMA = "database_schema"
    PERMANENT_ERROR = "permanent_error"
    UNKNOWN = "unknown"


class NsimportError(Exception):
    """Anything this project raises on purpose. ``str(error)`` can be shown to a user as it is."""


class ConfigurationError(NsimportError):
    """Wrong usage or configuration: the user has to change something before trying again (exit code 2)."""


class RefusedError(NsimportError):
    """A valid request that is not carried out now: tenant not enabled, or already importing (exit code 4)."""


class ImportFailure(NsimportError):
    """Something went wrong while records were fetched, transformed or stored."""

    category: ClassVar[Category] = Category.UNKNOWN
    retry_after: float | None = None
    """Seconds the other side asked to wait before trying again, if it said so."""


class TimedOut(ImportFailure):
    """NetSuite or the database did not answer in time, or the database was busy or gone for a moment."""

    category = Category.TIMEOUT


class RateLimited(ImportFailure):
    """NetSuite refused a request because too many were in flight. Waiting for it costs no attempt."""

    category = Category.API_RATE_LIMIT

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        """Seconds NetSuite asked to wait, if it said so."""


class ApiUnavailable(ImportFailure):
    """NetSuite failed (5xx), could not be reached, or broke off its answer."""

    category = Category.API_UNAVAILABLE


class IncompleteResponse(ApiUnavailable):
    """An answer that cannot be whole: empty, cut, fewer rows than ``totalResults``, keys out of order or range."""


class NotAnswering(ApiUnavailable):
    """No request was sent: NetSuite has not been answering anybody, and it is not time to ask again."""


class ServerError(ApiUnavailable):
    """A 500 ``UNEXPECTED_ERROR``: an outage, or one bad column; only repeating it with fewer columns tells."""


class DatabaseSchemaError(ImportFailure):
    """The tenant's database cannot take the rows as they are (constraint, type, length, missing column)."""

    category = Category.DATABASE_SCHEMA

    def __init__(self, message: str, *, column: str | None = None, constraint: str | None = None) -> None:
        super().__init__(message)
        self.column = column
        """The column at fault, where the database named one."""
        self.constraint = constraint
        """The constraint that refused the row: its name, or its kind where the database names none."""


class PermanentError(ImportFailure):
    """NetSuite refused the request for good (400, 403, 404): repeating it changes nothing."""

    category = Category.PERMANENT_ERROR


class UnknownColumn(PermanentError):
    """A column that the account's table does not have, or had and removed."""

    def __init__(self, message: str, *, column: str) -> None:
        super().__init__(message)
        self.column = column


class RecordNotAvailable(PermanentError):
    """A table that the account does not have, because of a feature, or that the role may not see."""

    def __init__(self, message: str, *, table: str | None = None) -> None:
        super().__init__(message)
        self.table = table
        """Its name, as NetSuite gave it."""


class RecordDenied(RecordNotAvailable):
    """A table that the role may not see, or that no account has."""


class UnsupportedSearch(PermanentError):
    """A statement that NetSuite does not carry out: for its shape, or, if it is a plain count, for this role."""


class AccessDenied(PermanentError):
    """401 or 403: no request of this tenant can succeed until a person mends its credentials or role."""
