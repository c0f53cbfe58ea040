"""What a database error means: the one place that reads driver error numbers.

Belongs here: from any exception of SQLAlchemy or a driver to a class of ``nsimport_pipeline.errors``.
Does not belong here: retrying, bisecting, or anything else that is done about it.

The servers' texts quote the values they refuse. A message made here has the project's own words, the error's number and
at most the name of a column: never a value.
"""

import re
import sqlite3

import pymysql
import sqlalchemy as sa

from nsimport_pipeline.errors import AccessDenied, DatabaseSchemaError, ImportFailure, TimedOut

TRANSIENT = {
    1020: "the record changed while it was read",
    1040: "the server has too many connections",
    1047: "the server is not ready",
    1053: "the server is shutting down",
    1077: "the server is shutting down",
    1079: "the server is shutting down",
    1152: "the connection was aborted",
    1158: "the connection broke",
    1159: "the connection timed out",
    1160: "the connection broke",
    1161: "the connection timed out",
    1180: "the commit collided with another transaction",
    1184: "the connection was aborted",
    1203: "the user has too many connections",
    1205: "waited too long for a lock",
    1206: "the server's lock table is full",
    1213: "deadlock with another transaction",
    1226: "the user has reached a resource limit",
    1290: "the server is read-only at the moment",
    1317: "the statement was interrupted",
    1412: "the table changed meanwhile",
    1836: "the server is read-only at the moment",
    1927: "the connection was killed",
    1969: "the statement took too long",
    2002: "the server cannot be reached",
    2003: "the server cannot be reached",
    2005: "the server's host name is unknown",
    2006: "the connection was lost",
    2013: "the connection was lost while the server worked",
    2014: "the connection was out of step",
    2055: "the connection was lost",
    3024: "the statement took too long",
    3572: "a lock was not free",
    4031: "the server closed an idle connection",
}
"""Error numbers after which the same transaction may succeed."""

DISK_FULL = {1021, 1026, 1114, 3675}

ACCESS = {
    1044: "the user may not use this database",
    1045: "user or password refused",
    1049: "this database does not exist on the server",
    1130: "this host may not connect",
    1142: "the user lacks a right on a table",
    1143: "the user lacks a right on a column",
    1227: "the user lacks a right",
    1251: "the server's way of logging in is not supported",
    1396: "the user lacks a right",
    1410: "the user may not create users",
    1698: "user or password refused",
    1820: "the user's password has expired",
    1862: "the user's password has expired",
    2059: "the server's way of logging in is not supported",
    2061: "the server's way of logging in needs an encrypted connection",
    3118: "the user's account is locked",
    3159: "the server takes encrypted connections only",
    4151: "the user's account is locked",
}

ROW = {
    1048: "a value is missing",
    1062: "a unique value is there already",
    1138: "a value is missing",
    1216: "the record referred to is missing",
    1217: "another record refers to it",
    1264: "number out of range",
    1265: "value does not fit the column's type",
    1292: "not a valid date, time or number",
    1364: "a value is missing and the column has no default",
    1366: "wrong kind of value or characters that the column cannot hold",
    1367: "not a valid number",
    1406: "text too long",
    1411: "not a valid date or time",
    1416: "not a valid geometry",
    1451: "another record refers to it",
    1452: "the record referred to is missing",
    1525: "not a valid value",
    1644: "refused by a trigger",
    1690: "number out of range",
    1906: "a generated column cannot be written",
    3105: "a generated column cannot be written",
    3140: "not valid JSON",
    3141: "not valid JSON",
    3143: "not valid JSON",
    3730: "another record refers to it",
    3819: "refused by a check constraint",
    4025: "refused by a check constraint",
}
"""Error numbers that some rows cause and others do not."""

SCHEMA = {
    1054: "a column is missing",
    1060: "a column is there twice",
    1067: "a default does not fit its column",
    1071: "a key is too long",
    1072: "a key's column is missing",
    1101: "a text column cannot have a default here",
    1117: "too many columns",
    1118: "the columns together are too wide for one row",
    1136: "wrong number of values",
    1146: "the table is missing",
    1168: "the table is damaged or of different parts",
    1194: "the table is damaged",
    1932: "the table is missing in the storage engine",
    1153: "a statement is larger than the server's max_allowed_packet",
}

CONSTRAINTS = {
    1048: "NOT NULL",
    1062: "UNIQUE",
    1138: "NOT NULL",
    1216: "FOREIGN KEY",
    1217: "FOREIGN KEY",
    1364: "NOT NULL",
    1451: "FOREIGN KEY",
    1452: "FOREIGN KEY",
    3730: "FOREIGN KEY",
    3819: "CHECK",
    4025: "CHECK",
}
"""Kinds of constraints, by the number of the error that a row gets for hurting one."""

_CONSTRAINT = re.compile(
    # At the end: before it the server may quote a value with anything in it.
    r"for key '(?:\w+\.)?(?P<key>\w+)'$"
    r"|(?:a foreign key constraint fails \(`\w+`\.`\w+`, CONSTRAINT|^Check constraint|^CONSTRAINT) "
    r"['`](?P<name>\w+)['`]"
)
_COLUMN = re.compile(
    r"(?:[Cc]olumn|[Ff]ield) ['`](?:[^'`]*[`.]\.?`?)*(\w+)['`]"
    r"(?: at row \d+| cannot be null| doesn't have a default value| in '[\w ]+'|)\.?$"
)
_FOREIGN_KEY_COLUMN = re.compile(r"FOREIGN KEY \(`(\w+)`\) REFERENCES")
_NO_COLUMN = re.compile(r"no such column|has no column named")
_SQLITE_COLUMN = re.compile(r"constraint failed: (?:\w+)\.(\w+)$|has no column named (\w+)$")


def classify(error: BaseException) -> ImportFailure:
    """The project's error for ``error``: TimedOut, DatabaseSchemaError, AccessDenied or plain ImportFailure (unknown).

    Raise it ``from None``: the original's text holds values.
    """
    if isinstance(error, ImportFailure):
        return error
    if isinstance(error, sa.exc.TimeoutError):
        return TimedOut("no database connection became free in time")
    original = _driver_error(error)
    if isinstance(original, pymysql.err.Error):
        return _from_mysql(original)
    if isinstance(original, sqlite3.Error):
        return _from_sqlite(original)
    if isinstance(original, UnicodeEncodeError):
        return DatabaseSchemaError("the database refused a row: text that is not valid Unicode")
    if isinstance(original, OverflowError | TypeError | ValueError):
        return DatabaseSchemaError("the database refused a row: a value that no column can hold")
    if isinstance(original, OSError):
        return TimedOut(f"the database connection broke ({type(original).__name__})")
    if isinstance(error, sa.exc.NoSuchTableError):
        return DatabaseSchemaError("the database lacks a table: the table is missing")
    return ImportFailure(f"the database failed in an unknown way ({type(original).__name__})")


def row_at_fault(error: BaseException) -> bool:
    """Whether some rows may be refused while others of the same statement would not."""
    original = _driver_error(error)
    if isinstance(original, DatabaseSchemaError):
        return True
    if isinstance(original, pymysql.err.Error):
        number = _number(original)
        # A row can also be too wide by its contents (1118).
        return (
            number in ROW or number == 1118 or (number is None and isinstance(original, pymysql.err.ProgrammingError))
        )
    if isinstance(original, sqlite3.IntegrityError | sqlite3.InterfaceError | sqlite3.DataError):
        return True
    if isinstance(original, sqlite3.ProgrammingError):
        return "binding" in str(original)
    return isinstance(original, OverflowError | TypeError | ValueError)


def column_missing(error: BaseException) -> bool:
    """Whether the statement names a column that the table does not have."""
    original = _driver_error(error)
    if isinstance(original, pymysql.err.Error):
        return _number(original) == 1054
    return isinstance(original, sqlite3.OperationalError) and _NO_COLUMN.search(str(original)) is not None


def unreachable(error: BaseException) -> bool:
    """Whether no server answered at all."""
    original = _driver_error(error)
    return isinstance(original, pymysql.err.Error) and _number(original) in (2002, 2003, 2005)


def _driver_error(error: BaseException) -> BaseException:
    if isinstance(error, sa.exc.StatementError) and error.orig is not None:
        return error.orig
    return error


def _number(error: pymysql.err.Error) -> int | None:
    return error.args[0] if error.args and isinstance(error.args[0], int) else None


def _from_mysql(error: pymysql.err.Error) -> ImportFailure:
    number = _number(error)
    text = str(error.args[1]) if len(error.args) > 1 else ""
    if number in TRANSIENT:
        return TimedOut(f"the database was busy or gone for a moment: {TRANSIENT[number]} ({number})")
    if number in DISK_FULL:
        return TimedOut(f"the database has no disk space left: free some, the import then goes on ({number})")
    if number in ACCESS:
        return AccessDenied(f"the database refused access: {ACCESS[number]} ({number})")
    if number in ROW or number in SCHEMA:
        column = _column(text)
        about = f" in column {column}" if column else ""
        if number in ROW:
            return DatabaseSchemaError(
                f"the database refused a row{about}: {ROW[number]} ({number})",
                column=column,
                constraint=_constraint(number, text),
            )
        return DatabaseSchemaError(
            f"the database's tables do not fit{about}: {SCHEMA[number]} ({number})", column=column
        )
    if number in (0, None) and isinstance(error, pymysql.err.InterfaceError):
        return TimedOut("the database was busy or gone for a moment: the connection was closed")
    if number is None and isinstance(error, pymysql.err.ProgrammingError):
        return DatabaseSchemaError("the database refused a row: a value that no column can hold")
    return ImportFailure(f"the database refused a statement: {_without_values(text)} ({number})")


def _column(text: str) -> str | None:
    match = _COLUMN.search(text) or _FOREIGN_KEY_COLUMN.search(text)
    return match.group(1) if match else None


def _constraint(number: int, text: str) -> str | None:
    """The name of the constraint that a server's text says was hurt, or its kind if it gives none."""
    match = _CONSTRAINT.search(text)
    return match.group("key") or match.group("name") if match else CONSTRAINTS.get(number)


def _without_values(text: str) -> str:
    """The server's words before it quotes anything."""
    return re.split(r"['\"`]", text, maxsplit=1)[0].strip()[:120] or "no reason given"


def _from_sqlite(error: sqlite3.Error) -> ImportFailure:
    text = str(error)
    code = getattr(error, "sqlite_errorcode", None)
    primary = code & 0xFF if isinstance(code, int) else None
    if primary in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_INTERRUPT, sqlite3.SQLITE_PROTOCOL):
        return TimedOut("the database was busy: another process holds its lock")
    if primary == sqlite3.SQLITE_FULL:
        return TimedOut("the database has no disk space left: free some, the import then goes on")
    if primary == sqlite3.SQLITE_IOERR:
        return TimedOut("the database file could not be read or written")
    if primary == sqlite3.SQLITE_CANTOPEN:
        return AccessDenied("the database refused access: the file cannot be opened (does its folder exist?)")
    if primary in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH):
        return AccessDenied("the database refused access: the file may not be written")
    if primary in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
        return AccessDenied("the database refused access: the file is not a SQLite database, or is damaged")
    match = _SQLITE_COLUMN.search(text)
    column = next(filter(None, match.groups()), None) if match else None
    about = f" in column {column}" if column else ""
    if isinstance(error, sqlite3.IntegrityError):
        kind, meaning = _integrity(text)
        return DatabaseSchemaError(f"the database refused a row{about}: {meaning}", column=column, constraint=kind)
    if "no such table" in text:
        return DatabaseSchemaError("the database's tables do not fit: the table is missing")
    if _NO_COLUMN.search(text):
        return DatabaseSchemaError(f"the database's tables do not fit{about}: a column is missing", column=column)
    if isinstance(error, sqlite3.InterfaceError | sqlite3.DataError) or "binding" in text:
        return DatabaseSchemaError("the database refused a row: a value that no column can hold")
    return ImportFailure(f"the database refused a statement: {_without_values(text)}")


def _integrity(text: str) -> tuple[str | None, str]:
    """The kind of constraint that was hurt, and what that means."""
    for name, meaning in (
        ("NOT NULL", "a value is missing"),
        ("UNIQUE", "a unique value is there already"),
        ("FOREIGN KEY", "the record referred to is missing"),
        ("CHECK", "refused by a check constraint"),
    ):
        if text.startswith(name):
            return name, meaning
    return None, "value does not fit the column's type"
