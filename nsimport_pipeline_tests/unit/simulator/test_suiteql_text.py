"""Statements as text: shapes, parameters, refusals by name, date formats."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nsimport_pipeline.simulator.suiteql_text import SuiteQLError, bind, date_format, fill, shape_of, tokens


def test_statements_that_differ_only_in_whole_numbers_share_a_shape() -> None:
    first, numbers = shape_of("SELECT id FROM customer t WHERE t.id > 17 AND t.id <= 2000")
    second, others = shape_of("SELECT id FROM customer t WHERE t.id > 5 AND t.id <= 9")
    assert first == second
    assert (numbers, others) == (("17", "2000"), ("5", "9"))


def test_moments_are_no_part_of_the_shape_either() -> None:
    statement = "SELECT id FROM x WHERE d >= TO_DATE('{}', 'YYYY-MM-DD HH24:MI:SS') AND id < 3 AND name = '2031-03-09'"
    one, values = shape_of(statement.format("2031-03-09 10:00:00"))
    other, others = shape_of(statement.format("2031-03-09 10:15:00"))
    assert one == other
    assert (values, others[0]) == (("2031-03-09 10:00:00", "3"), "2031-03-09 10:15:00")
    assert "'2031-03-09 10:00:00'" in fill(one, values)


def test_numbers_in_names_and_texts_are_not_part_of_the_shape() -> None:
    shape, numbers = shape_of("SELECT t1.custrecord_2 FROM x t1 WHERE a = '2024' AND b = 1.5")
    assert numbers == ()
    assert "custrecord_2" in shape
    assert "'2024'" in shape
    assert "1.5" in shape


def test_filling_a_shape_gives_the_numbers_back() -> None:
    shape, numbers = shape_of("SELECT id FROM x WHERE id IN (3, 1, 2)")
    assert fill(shape, numbers).split("IN")[1].split() == ["(", "3", ",", "1", ",", "2", ")"]


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=80))
def test_tokens_lose_nothing(text: str) -> None:
    assert "".join(tokens(text)) == text


@given(st.text(max_size=60))
def test_any_text_either_has_a_shape_or_is_refused(text: str) -> None:
    with contextlib.suppress(SuiteQLError):
        shape, numbers = shape_of("SELECT " + text)
        assert shape.startswith("SELECT")
        assert all(number.isdigit() for number in numbers)


@given(st.text(max_size=30))
def test_a_bound_parameter_is_one_text_whatever_it_holds(value: str) -> None:
    bound = bind("SELECT id FROM x WHERE a = ?", [value])
    assert tokens(bound)[-1] == "'" + value.replace("'", "''") + "'"


def test_question_marks_in_texts_are_not_parameters() -> None:
    assert bind("SELECT '?' FROM x WHERE a = ?", [7]) == "SELECT '?' FROM x WHERE a = '7'"


@pytest.mark.parametrize("parameters", [[], [1, 2]])
def test_parameters_must_be_as_many_as_question_marks(parameters: list[int]) -> None:
    with pytest.raises(SuiteQLError):
        bind("SELECT id FROM x WHERE a = ?", parameters)


@pytest.mark.parametrize(
    "statement",
    [
        "",
        "DELETE FROM customer",
        "WITH q AS (SELECT 1 FROM dual) SELECT * FROM q",
        "SELECT id FROM customer LIMIT 5",
        "SELECT [id] FROM customer",
        "SELECT id FROM customer; SELECT 1 FROM dual",
    ],
)
def test_what_is_no_suiteql_is_a_syntax_error(statement: str) -> None:
    with pytest.raises(SuiteQLError, match="syntax error"):
        shape_of(statement)


@pytest.mark.parametrize(
    "expression",
    [
        "LISTAGG(id)",
        "DATEDIFF(a, b)",
        "LEFT(name, 2)",
        "RIGHT(name, 2)",
        "SUBSTRING(name, 1)",
        "CEILING(id)",
        "CONVERT(id, 1)",
        "LCASE(name)",
        "UCASE(name)",
        "DATE '2024-01-01'",
        "READ_CSV('x')",
    ],
)
def test_functions_and_literals_that_suiteql_lacks_are_refused(expression: str) -> None:
    with pytest.raises(SuiteQLError, match="Invalid or unsupported search"):
        shape_of(f"SELECT {expression} FROM customer")


@pytest.mark.parametrize(
    ("oracle", "expected"),
    [
        ("YYYY-MM-DD HH24:MI:SS", "%Y-%m-%d %H:%M:%S"),
        ('YYYY-MM-DD"T"HH24:MI:SS"Z"', "%Y-%m-%dT%H:%M:%SZ"),
        ("DD-MON-YYYY HH12:MI AM", "%d-%b-%Y %I:%M %p"),
        ("yyyy/mm/dd", "%Y/%m/%d"),
        ("FMMM/DD/YYYY", "%-m/%-d/%Y"),
        ("9990.00", None),
    ],
)
def test_oracle_date_formats(oracle: str, expected: str | None) -> None:
    assert date_format(oracle) == expected


@pytest.mark.parametrize(
    ("preference", "expected"),
    [("M/D/YYYY", "%-m/%-d/%Y"), ("DD/MM/YYYY", "%d/%m/%Y"), ("D.M.YYYY", "%-d.%-m.%Y"), ("YYYY-MM-DD", "%Y-%m-%d")],
)
def test_account_date_preferences(preference: str, expected: str) -> None:
    assert date_format(preference, account=True) == expected
