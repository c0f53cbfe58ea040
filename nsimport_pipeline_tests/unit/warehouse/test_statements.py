"""The statements and literals that each server is sent, without a server."""

from datetime import date, datetime
from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.dialects.mysql import pymysql as mysql_dialect
from sqlalchemy.dialects.sqlite import pysqlite

from nsimport_pipeline.record_types.criteria import load_catalog
from nsimport_pipeline.warehouse.literals import RowsText, row_literals
from nsimport_pipeline.warehouse.schema import target_table
from nsimport_pipeline.warehouse.upsert import _chunks, upsert_statement

TABLE = sa.Table(
    "things",
    sa.MetaData(),
    sa.Column("refid", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("name", sa.String(20)),
)


def server(version: tuple[int, ...], *, mariadb: bool = False) -> sa.Dialect:
    dialect = mysql_dialect.dialect(paramstyle="format", is_mariadb=mariadb)
    dialect.server_version_info = version
    # What SQLAlchemy concludes from the version when it connects.
    dialect._requires_alias_for_on_duplicate_key = not mariadb and version >= (8, 0, 20)
    return dialect


def test_mysql_8_is_sent_a_row_alias() -> None:
    assert " ".join(upsert_statement(TABLE, ["refid", "name"], server((8, 4, 3))).split()) == (
        "INSERT INTO things (refid, name) VALUES (%s, %s) AS new ON DUPLICATE KEY UPDATE name = new.name"
    )


@pytest.mark.parametrize("dialect", [server((8, 0, 18)), server((5, 7)), server((10, 11, 4), mariadb=True)])
def test_mariadb_and_older_mysql_are_sent_the_values_function(dialect: sa.Dialect) -> None:
    assert " ".join(upsert_statement(TABLE, ["refid", "name"], dialect).split()) == (
        "INSERT INTO things (refid, name) VALUES (%s, %s) ON DUPLICATE KEY UPDATE name = VALUES(name)"
    )


def test_sqlite_is_sent_on_conflict() -> None:
    assert " ".join(upsert_statement(TABLE, ["refid", "name"], pysqlite.dialect()).split()) == (
        "INSERT INTO things (refid, name) VALUES (?, ?) ON CONFLICT (refid) DO UPDATE SET name = excluded.name"
    )


@pytest.mark.parametrize("name", load_catalog())
def test_every_built_in_table_compiles_for_every_server(name: str) -> None:
    table = target_table(load_catalog()[name])
    columns = table.columns.keys()
    for dialect in (server((8, 4, 3)), server((10, 11, 4), mariadb=True), pysqlite.dialect()):
        assert str(sa.schema.CreateTable(table).compile(dialect=dialect))
        statement = upsert_statement(table, columns, dialect)
        assert statement.count("%s" if dialect.name != "sqlite" else "?") == len(columns)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        (True, "true"),
        (False, "false"),
        (-5, "-5"),
        (Decimal("1E+5"), '"100000"'),
        (Decimal("0.10"), '"0.10"'),
        (date(2024, 2, 29), '"2024-02-29"'),
        (date(1, 1, 1), '"0001-01-01"'),
        (datetime(2024, 2, 29, 1, 2, 3), '"2024-02-29T01:02:03"'),
        (datetime(2024, 2, 29, 1, 2, 3, 4), '"2024-02-29T01:02:03.000004"'),
        ("", '""'),
        ("plain 東京 😀", '"plain 東京 😀"'),
        ("O'Brien \\ \x00\n\"", '"O\'Brien \\\\ \x00\\n\\""'),
        ("\\u0000 \\f \f \x1f \x7f", '"\\\\u0000 \\\\f \f \x1f \x7f"'),
    ],
)
def test_a_value_is_written_as_sql(value: Any, text: str) -> None:
    assert row_literals([value]).decode() == text
    assert row_literals((None, value, "x'", value)).decode() == f'null,{text},"x\'",{text}'


@pytest.mark.parametrize("value", [Decimal("NaN"), Decimal("-Infinity"), object(), b"bytes", "\ud800", 10**30])
def test_a_value_that_sql_has_no_word_for_is_refused_without_repeating_it(value: Any) -> None:
    with pytest.raises(TypeError) as caught:
        row_literals([value])
    assert repr(value) not in str(caught.value)


@given(st.lists(st.text(), min_size=1))
def test_the_server_reads_back_the_texts_of_a_row(texts: list[str]) -> None:
    """A plain reader of the server's own rules gets the texts back and nothing else."""
    escapes = {"n": "\n", "r": "\r", "t": "\t", "b": "\b", "0": "\0", "Z": "\x1a"}
    literals, found, position = row_literals(texts).decode(), [], 0
    while position < len(literals):
        assert literals[position] == '"'
        text, position = "", position + 1
        while literals[position] != '"':
            if literals[position] == "\\":
                position += 1
                text += escapes.get(literals[position], literals[position])
            else:
                text += literals[position]
            position += 1
        found.append(text)
        position += 1
        assert literals[position : position + 1] in (",", "")
        position += 1
    assert found == texts


def test_rows_do_not_show_in_a_representation() -> None:
    assert "secret" not in repr(RowsText(b"('secret')"))


@given(st.lists(st.text(alphabet="aü😀", max_size=12).map(str.encode), max_size=30), st.integers(5, 50))
def test_chunks_hold_every_row_in_order_and_stay_within_the_limit(texts: list[bytes], limit: int) -> None:
    chunks = list(_chunks(texts, limit, between=2))
    assert [text for chunk in chunks for text in chunk] == texts
    assert all(len(b"()".join([b"", *chunk])) <= limit or len(chunk) == 1 for chunk in chunks)
