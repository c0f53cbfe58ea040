"""What a driver's error means, by its number, and that no value is repeated."""

import sqlite3

import pymysql
import pytest
import sqlalchemy as sa

from nsimport_pipeline.errors import AccessDenied, Category, DatabaseSchemaError, ImportFailure, TimedOut
from nsimport_pipeline.warehouse.errors import ACCESS, DISK_FULL, ROW, SCHEMA, TRANSIENT, classify, row_at_fault


def wrapped(original: Exception) -> sa.exc.DBAPIError:
    return sa.exc.OperationalError("INSERT INTO t VALUES %s", {}, original)


def mysql_error(number: int, text: str = "the server's text with 'secret'") -> sa.exc.DBAPIError:
    return wrapped(pymysql.err.OperationalError(number, text))


@pytest.mark.parametrize("number", [1205, 1213, 2006, 2013, 2002, 2003, 2055, 1040, 1053, 1927, 1021, 1114, 3675])
def test_what_may_succeed_another_time_is_a_timeout(number: int) -> None:
    failure = classify(mysql_error(number))
    assert isinstance(failure, TimedOut)
    assert failure.category is Category.TIMEOUT
    assert not row_at_fault(mysql_error(number))


@pytest.mark.parametrize("number", [1048, 1062, 1264, 1265, 1292, 1364, 1366, 1406, 1452])
def test_what_single_rows_cause_is_worth_bisecting(number: int) -> None:
    assert isinstance(classify(mysql_error(number)), DatabaseSchemaError)
    assert row_at_fault(mysql_error(number))


@pytest.mark.parametrize("number", [1054, 1146])
def test_what_the_table_causes_is_not_worth_bisecting(number: int) -> None:
    assert isinstance(classify(mysql_error(number)), DatabaseSchemaError)
    assert not row_at_fault(mysql_error(number))


@pytest.mark.parametrize("number", [1044, 1045, 1049, 1142, 2061])
def test_a_refused_user_is_for_a_person_to_mend(number: int) -> None:
    assert isinstance(classify(mysql_error(number)), AccessDenied)


def test_no_number_means_two_things() -> None:
    groups = [set(TRANSIENT), set(DISK_FULL), set(ACCESS), set(ROW), set(SCHEMA)]
    assert sum(map(len, groups)) == len(set.union(*groups))


@pytest.mark.parametrize("number", [*TRANSIENT, *DISK_FULL, *ACCESS, *ROW, *SCHEMA, 1064, 9999])
def test_no_message_repeats_what_the_server_quoted(number: int) -> None:
    for text in ("Wrong value: 'secret' for it", "near 'secret", 'bad "secret"', "bad `secret` thing"):
        message = str(classify(mysql_error(number, text)))
        assert "secret" not in message
        assert str(number) in message


@pytest.mark.parametrize(
    ("number", "text", "column"),
    [
        (1048, "Column 'total' cannot be null", "total"),
        (1054, "Unknown column 'total' in 'field list'", "total"),
        (1054, "Unknown column 'total' in 'SET'", "total"),
        (1264, "Out of range value for column 'total' at row 12", "total"),
        (1265, "Data truncated for column 'total' at row 1", "total"),
        (1292, "Incorrect date value: 'x' for column `acme`.`things`.`total` at row 1", "total"),
        (1364, "Field 'total' doesn't have a default value", "total"),
        (1366, "Incorrect string value: '\\xF0\\x9F' for column 'total' at row 3", "total"),
        (1366, "Incorrect decimal value: '' for column 'secret' at row 1' for column 'total' at row 1", "total"),
        (1406, "Data too long for column 'total' at row 1", "total"),
        (
            1452,
            "Cannot add or update a child row: a foreign key constraint fails (`a`.`t`, CONSTRAINT `fk` FOREIGN KEY"
            " (`total`) REFERENCES `p` (`refid`))",
            "total",
        ),
        (1062, "Duplicate entry 'for column 'secret' at row 1' for key 'PRIMARY'", None),
    ],
)
def test_the_column_is_named_where_the_server_names_it(number: int, text: str, column: str | None) -> None:
    failure = classify(mysql_error(number, text))
    assert isinstance(failure, DatabaseSchemaError)
    assert failure.column == column


@pytest.mark.parametrize(
    ("number", "text", "constraint"),
    [
        (1048, "Column 'total' cannot be null", "NOT NULL"),
        (1062, "Duplicate entry 'secret' for key 'uq_name'", "uq_name"),
        (1062, "Duplicate entry 'secret' for key 'things.uq_name'", "uq_name"),
        (1062, "Duplicate entry 'x' for key 'secret' for key 'uq_name'", "uq_name"),
        (1062, "Duplicate entry", "UNIQUE"),
        (1406, "Data too long for column 'total' at row 1", None),
        (
            1452,
            "Cannot add or update a child row: a foreign key constraint fails (`a`.`t`, CONSTRAINT `fk` FOREIGN KEY"
            " (`total`) REFERENCES `p` (`refid`))",
            "fk",
        ),
        (3819, "Check constraint 'positive' is violated.", "positive"),
        (4025, "CONSTRAINT `positive` failed for `acme`.`things`", "positive"),
    ],
)
def test_the_constraint_is_named_or_its_kind(number: int, text: str, constraint: str | None) -> None:
    failure = classify(mysql_error(number, text))
    assert isinstance(failure, DatabaseSchemaError)
    assert failure.constraint == constraint


def test_a_full_disk_says_what_to_do() -> None:
    assert "free some" in str(classify(mysql_error(1021)))


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (sa.exc.TimeoutError("QueuePool limit"), TimedOut),
        (wrapped(pymysql.err.InterfaceError(0, "")), TimedOut),
        (ConnectionResetError("reset"), TimedOut),
        (UnicodeEncodeError("utf-8", "secret\ud800", 6, 7, "surrogates not allowed"), DatabaseSchemaError),
        (OverflowError("Python int too large"), DatabaseSchemaError),
        (RuntimeError("secret"), ImportFailure),
        (sa.exc.NoSuchTableError("things"), DatabaseSchemaError),
    ],
)
def test_errors_without_a_number_have_their_meaning_too(error: Exception, kind: type[ImportFailure]) -> None:
    failure = classify(error)
    assert type(failure) is kind
    assert "secret" not in str(failure)


def test_a_failure_that_is_known_already_stays_what_it_is() -> None:
    failure = TimedOut("already known")
    assert classify(failure) is failure


def test_sqlite_errors_come_with_their_column() -> None:
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE TABLE things (refid INTEGER PRIMARY KEY, name TEXT NOT NULL CHECK (name <> 'secret'))")

    def failure(statement: str) -> ImportFailure:
        with pytest.raises(sqlite3.Error) as caught:
            connection.execute(statement)
        return classify(wrapped(caught.value))

    missing = failure("INSERT INTO things VALUES (1, NULL)")
    assert isinstance(missing, DatabaseSchemaError)
    assert (missing.column, missing.constraint) == ("name", "NOT NULL")
    assert "secret" not in str(failure("INSERT INTO things VALUES (1, 'secret')"))
    assert "a column is missing" in str(failure("INSERT INTO things (colour) VALUES (1)"))
    assert "table is missing" in str(failure("INSERT INTO elsewhere VALUES (1)"))
    connection.close()
