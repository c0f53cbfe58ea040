"""Rows into real databases: values arrive exactly, and only the rows at fault stay behind."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.engine import Engine

from nsimport_pipeline.errors import DatabaseSchemaError
from nsimport_pipeline.warehouse.engine import make_engine
from nsimport_pipeline.warehouse.schema import ensure_table, target_table
from nsimport_pipeline.warehouse.unchanged import differing
from nsimport_pipeline.warehouse.upsert import STATEMENT_BYTES
from nsimport_pipeline_tests.integration.warehouse_records import NOW, record_type, statements, store, stored

EVERY_TYPE = record_type(
    [
        {"name": "title", "type": "string", "length": 200},
        {"name": "body", "type": "text"},
        {"name": "count", "type": "integer"},
        {"name": "rate", "type": "decimal", "precision": 38, "scale": 18},
        {"name": "amount", "type": "money"},
        {"name": "share", "type": "percent"},
        {"name": "active", "type": "boolean"},
        {"name": "day", "type": "date"},
        {"name": "at", "type": "datetime"},
        {"name": "parent_id", "type": "reference", "references": "thing"},
        {"name": "document", "type": "json"},
    ]
)
COLUMNS = ("refid", "external_id", *(field.name for field in EVERY_TYPE.fields), "raw")
TYPE = {field.name: field.type for field in EVERY_TYPE.fields}

HOSTILE_TEXTS = [
    "",
    " ",
    " leading and trailing ",
    "trailing spaces   ",
    "O'Brien",
    "''",
    "'",
    '"',
    "`",
    "\\",
    "\\\\",
    "\\'",
    "'\\",
    "C:\\new\\temp\\0",
    "\\0",
    "\\Z\\%\\_",
    "\x00",
    "a\x00b",
    "\x1a",
    "\x08\x1b\x7f",
    "line\nfeed\r\nreturn\ttab\vvertical\fform",
    "\u2028\u2029\u0085",
    "%",
    "%s %(name)s %% %d",
    "{0} {name} ${VAR} $1",
    ":name ?1 @variable #{x}",
    "'); DROP TABLE things; --",
    "/* comment */ -- comment # comment",
    "NULL",
    "null",
    "None",
    "NaN",
    "0",
    "1E400",
    "true",
    "T",
    "2024-02-30",
    "😀",
    "👩‍👩‍👧‍👦🇩🇪",
    "𝔘𝔫𝔦𝔠𝔬𝔡𝔢",
    "Zürich",
    "Zu\u0308rich",
    "ß",
    "ẞ",
    "İıſK",
    "東京都",
    "شركة",
    "עברית",
    "\u200b",
    "zero\u200bwidth\u200d\ufeff",
    "\ufeffbyte order mark",
    "\ufffd\uffff\U0010ffff",
    "\u202eright to left",
    "ﷺ",
    "\ud7ff\ue000",
    "a" * 200,
    "😀" * 200,
    "'" * 200,
    "\\" * 200,
    '{"json": "text", "escape": "\\u0000"}',
    "<script>alert(1)</script>",
    "_utf8'x'",
    "0x41",
    "X'41'",
]
HOSTILE_NUMBERS = [
    "0",
    "-0",
    "0.1",
    "0.3",
    "1.10",
    "2.675",
    "8.35",
    "1E+5",
    "1E-8",
    "123456789012345",
    "1234567890123456",
    "9007199254740993",
    "1234567890.12345678",
    "-0.00000001",
    "9999999999999999.99999999",
    "-9999999999999999.99999999",
    "0.12345678",
]


@pytest.fixture
def engine(warehouse_url: str) -> Iterator[Engine]:
    engine = make_engine(warehouse_url, pool_size=2)
    yield engine
    engine.dispose()


def row(refid: int, **values: Any) -> tuple[Any, ...]:
    return tuple(refid if name == "refid" else values.get(name) for name in COLUMNS)


def test_every_type_arrives_exactly_as_it_was_given(engine: Engine) -> None:
    ensure_table(engine, EVERY_TYPE)
    table = target_table(EVERY_TYPE)
    rows = [row(i, external_id=t, title=t, body=t, document=t, raw=t) for i, t in enumerate(HOSTILE_TEXTS)]
    rows += [row(1000 + i, amount=Decimal(n), rate=Decimal(n)) for i, n in enumerate(HOSTILE_NUMBERS)]
    rows += [
        row(2000, count=2**63 - 1, parent_id=-(2**63)),
        row(2001, active=True, day=date(1000, 1, 1), at=datetime(1000, 1, 1)),
        row(2002, active=False, day=date(9999, 12, 31), at=datetime(9999, 12, 31, 23, 59, 59, 999999)),
        row(2003, day=date(2024, 2, 29), at=datetime(2024, 3, 10, 2, 30, 0, 1)),
        row(2004, share=Decimal("33.3333333333333333")),
        row(2**62),
    ]
    with engine.begin() as connection:
        done = store(connection, table, COLUMNS, rows)
        assert differing(connection, table, COLUMNS, rows) == []
    assert (done.written, done.rejected) == (len(rows), [])
    assert stored(engine, table, *COLUMNS) == rows


values_of = {
    "string": st.text(st.characters(exclude_categories=["Cs"]), max_size=200),
    "text": st.text(st.characters(exclude_categories=["Cs"]), max_size=500),
    "json": st.text(st.characters(exclude_categories=["Cs"]), max_size=500),
    "integer": st.integers(-(2**63), 2**63 - 1),
    "reference": st.integers(-(2**63), 2**63 - 1),
    "decimal": st.decimals(min_value=-(10**20) + 1, max_value=10**20 - 1, places=18),
    "money": st.decimals(min_value=-(10**16) + 1, max_value=10**16 - 1, places=8),
    "percent": st.decimals(min_value=-(10**8) + 1, max_value=10**8 - 1, places=16),
    "boolean": st.booleans(),
    "date": st.dates(min_value=date(1000, 1, 1)),
    "datetime": st.datetimes(min_value=datetime(1000, 1, 1)),
}


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_batch_arrives_exactly_and_a_second_time_changes_it(engine: Engine, data: st.DataObject) -> None:
    ensure_table(engine, EVERY_TYPE)
    table = target_table(EVERY_TYPE)
    refids = sorted(data.draw(st.sets(st.integers(1, 50), min_size=1, max_size=8)))
    for revision in (0, 1):
        before = {r[0]: r for r in stored(engine, table, *COLUMNS)}
        rows = [
            row(refid, **{name: data.draw(st.none() | values_of[kind]) for name, kind in TYPE.items()})
            for refid in refids
        ]
        if revision:
            rows = [data.draw(st.sampled_from([r, before[r[0]]])) for r in rows]
        with engine.begin() as connection:
            new = [place for place, r in enumerate(rows) if before.get(r[0]) != r]
            assert differing(connection, table, COLUMNS, rows) == new
            assert store(connection, table, COLUMNS, rows).rejected == []
        assert [r for r in stored(engine, table, *COLUMNS) if r[0] in refids] == rows


def test_a_change_of_case_or_accent_only_is_a_change(engine: Engine) -> None:
    ensure_table(engine, EVERY_TYPE)
    table = target_table(EVERY_TYPE)
    for text in ("abc", "ABC", "ábc", "abc ", "abc\u200b"):
        with engine.begin() as connection:
            assert differing(connection, table, COLUMNS, [row(1, title=text)]) == [0]
            store(connection, table, COLUMNS, [row(1, title=text)])
        assert stored(engine, table, "title") == [(text,)]


def test_a_row_does_not_differ_by_the_order_of_its_raw_keys_or_by_what_is_kept(engine: Engine) -> None:
    ensure_table(engine, EVERY_TYPE)
    table = target_table(EVERY_TYPE)
    with engine.begin() as connection:
        store(connection, table, COLUMNS, [row(1, title="a", raw='{"a": "1", "b": "2"}')])
        same = [row(1, title="a", raw='{"b": "2", "a": "1"}')]
        assert differing(connection, table, COLUMNS, same) == []
        assert differing(connection, table, COLUMNS, [row(1, title="a", raw='{"a": "1", "b": "3"}')]) == [0]
        other = [row(1, title="b", raw='{"a": "1", "b": "2"}')]
        assert differing(connection, table, COLUMNS, other) == [0]
        assert differing(connection, table, COLUMNS, other, keep=["title"]) == []
        assert differing(connection, table, COLUMNS, [*same, row(2)]) == [1]
        connection.execute(table.update().values(deleted_at=NOW))
        assert differing(connection, table, COLUMNS, same) == [0]
        connection.execute(sa.text("ALTER TABLE things DROP COLUMN body"))
        assert differing(connection, table, COLUMNS, same) == [0]


def test_the_stamp_is_renewed_and_a_record_that_comes_back_is_undeleted(engine: Engine) -> None:
    ensure_table(engine, EVERY_TYPE)
    table = target_table(EVERY_TYPE)
    with engine.begin() as connection:
        store(connection, table, COLUMNS, [row(1)])
        connection.execute(table.update().values(deleted_at=NOW))
    later = datetime(2026, 4, 1, tzinfo=UTC).replace(tzinfo=None)
    with engine.begin() as connection:
        store(connection, table, COLUMNS, [row(1)], import_id="i2", imported_at=later)
    assert stored(engine, table, "import_id", "imported_at", "deleted_at") == [("i2", later, None)]


def test_a_value_is_never_rounded_or_cut_to_fit(engine: Engine) -> None:
    ensure_table(engine, EVERY_TYPE)
    table = target_table(EVERY_TYPE)
    rows = [row(1, count=Decimal("2.5")), row(2, day=datetime(2024, 1, 1, 23)), row(3, count=2)]
    with engine.begin() as connection:
        done = store(connection, table, COLUMNS, rows)
    assert [(r.refid, r.column) for r in done.rejected] == [(1, "count"), (2, "day")]
    assert stored(engine, table, "refid", "count") == [(3, 2)]


def test_a_time_of_another_zone_is_stored_in_utc(engine: Engine) -> None:
    ensure_table(engine, EVERY_TYPE)
    table = target_table(EVERY_TYPE)
    east = datetime(2024, 3, 1, 1, tzinfo=timezone(timedelta(hours=2)))
    with engine.begin() as connection:
        assert store(connection, table, COLUMNS, [row(1, at=east)]).rejected == []
    assert stored(engine, table, "at") == [(datetime(2024, 2, 29, 23),)]


def test_columns_that_are_not_given_keep_their_values(engine: Engine) -> None:
    ensure_table(engine, EVERY_TYPE)
    table = target_table(EVERY_TYPE)
    with engine.begin() as connection:
        store(connection, table, COLUMNS, [row(1, title="kept", count=1)])
        store(connection, table, ("count", "refid"), [(2, 1)])
    assert stored(engine, table, "title", "count") == [("kept", 2)]


@pytest.mark.parametrize("width", [200, 400])
def test_a_wide_table_takes_a_full_batch_in_few_statements(engine: Engine, width: int) -> None:
    wide = record_type([{"name": f"c{i:03}", "type": "string"} for i in range(width)])
    ensure_table(engine, wide)
    assert ensure_table(engine, wide) == []
    table = target_table(wide)
    columns = ("refid", *(field.name for field in wide.fields))
    rows = [(n, *(f"value {n} {i}" if i % 3 == 0 else None for i in range(width))) for n in range(1000)]
    with engine.begin() as connection, statements(engine) as seen:
        assert store(connection, table, columns, rows).written == 1000
    size = sum(len(str(value)) + len(",''") for row in rows for value in row)
    assert len(seen) <= size / STATEMENT_BYTES + 4
    assert stored(engine, table, *columns) == rows


def test_a_clean_batch_costs_one_statement(engine: Engine) -> None:
    ensure_table(engine, EVERY_TYPE)
    table = target_table(EVERY_TYPE)
    rows = [row(i, title=f"thing {i}") for i in range(1000)]
    with engine.begin() as connection:
        store(connection, table, COLUMNS, rows)
        with statements(engine) as seen:
            done = store(connection, table, COLUMNS, rows)
    assert (len(seen), done.statements) == (1, 1)


def test_a_batch_larger_than_a_statement_may_be_goes_in_several(engine: Engine) -> None:
    ensure_table(engine, EVERY_TYPE)
    table = target_table(EVERY_TYPE)
    rows = [row(i, body="ü" * 500_000) for i in range(12)]
    with engine.begin() as connection:
        done = store(connection, table, COLUMNS, rows)
    assert done.written == 12
    assert stored(engine, table, *COLUMNS) == rows


# Rows that the database refuses


@pytest.fixture
def checked(engine: Engine) -> tuple[Engine, sa.Table]:
    """A table with a rule that only the database knows."""
    ensure_table(engine, EVERY_TYPE)
    table = target_table(EVERY_TYPE)
    with engine.begin() as connection:
        if engine.dialect.name == "sqlite":
            connection.exec_driver_sql(
                "CREATE TRIGGER rule BEFORE INSERT ON things WHEN NEW.count < 0 "
                "BEGIN SELECT RAISE(ABORT, 'not with secret-value'); END"
            )
        else:
            connection.exec_driver_sql("ALTER TABLE things ADD CONSTRAINT rule CHECK (count >= 0)")
    return engine, table


@pytest.mark.parametrize("bad", [0, 1, 499, 500, 777, 999])
def test_one_bad_row_in_a_thousand_costs_few_statements_and_the_others_are_stored(
    checked: tuple[Engine, sa.Table], bad: int
) -> None:
    engine, table = checked
    rows = [row(i, count=-1 if i == bad else i) for i in range(1000)]
    with engine.begin() as connection, statements(engine) as seen:
        done = store(connection, table, COLUMNS, rows)
    upserts = [statement for statement in seen if statement.startswith("INSERT")]
    assert len(upserts) <= 22
    assert done.statements <= 25
    assert done.written == 999
    (rejected,) = done.rejected
    assert rejected.refid == bad
    assert rejected.raw == {"id": str(bad), "of": "the row"}
    assert "secret-value" not in rejected.reason
    assert [r[0] for r in stored(engine, table, "refid")] == [i for i in range(1000) if i != bad]


def test_a_batch_of_bad_rows_ends_with_every_row_rejected(checked: tuple[Engine, sa.Table]) -> None:
    engine, table = checked
    with engine.begin() as connection:
        done = store(connection, table, COLUMNS, [row(i, count=-1) for i in range(64)])
    assert (done.written, [r.refid for r in done.rejected]) == (0, list(range(64)))
    assert stored(engine, table) == []


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(bad=st.sets(st.integers(0, 59)))
def test_exactly_the_bad_rows_are_rejected_wherever_they_stand(checked: tuple[Engine, sa.Table], bad: set[int]) -> None:
    engine, table = checked
    with engine.begin() as connection:
        connection.execute(table.delete())
        done = store(connection, table, COLUMNS, [row(i, count=-1 if i in bad else i) for i in range(60)])
    assert {r.refid for r in done.rejected} == bad
    assert {r[0] for r in stored(engine, table, "refid")} == set(range(60)) - bad
    assert done.written == 60 - len(bad)


UNSTORABLE = [
    ({"title": "lone \ud800 surrogate"}, "title"),
    ({"body": "lone \udfff surrogate"}, "body"),
    ({"raw": "\ud83d"}, "raw"),
    ({"count": "twelve"}, "count"),
    ({"count": Decimal("1.5")}, "count"),
    ({"amount": Decimal("NaN")}, "amount"),
    ({"amount": Decimal("Infinity")}, "amount"),
    ({"rate": float("nan")}, "rate"),
    ({"amount": "1,234"}, "amount"),
    ({"day": "31/12/2024"}, "day"),
    ({"day": datetime(2024, 1, 1, 5)}, "day"),
    ({"at": "yesterday"}, "at"),
    ({"active": "maybe"}, "active"),
    ({"active": 2}, "active"),
    ({"title": ["a", "list"]}, "title"),
    ({"title": {"a": "mapping"}}, "title"),
    ({"parent_id": object()}, "parent_id"),
]


@pytest.mark.parametrize(("values", "column"), UNSTORABLE)
def test_a_value_that_cannot_be_stored_rejects_its_row_and_names_the_column(
    engine: Engine, values: dict[str, Any], column: str
) -> None:
    ensure_table(engine, EVERY_TYPE)
    table = target_table(EVERY_TYPE)
    with engine.begin() as connection:
        done = store(connection, table, COLUMNS, [row(1, title="good"), row(2, **values), row(3, title="good")])
    assert [(r.refid, r.column) for r in done.rejected] == [(2, column)]
    assert [r[0] for r in stored(engine, table, "refid")] == [1, 3]
    for value in values.values():
        assert str(value) not in done.rejected[0].reason


COERCED = [
    ({"count": "12"}, "count", 12),
    ({"count": Decimal("12.0")}, "count", 12),
    ({"amount": "12.50"}, "amount", Decimal("12.5")),
    ({"amount": 12}, "amount", Decimal(12)),
    ({"active": "T"}, "active", True),
    ({"active": 0}, "active", False),
    ({"day": "2024-12-31"}, "day", date(2024, 12, 31)),
    ({"day": datetime(2024, 12, 31)}, "day", date(2024, 12, 31)),
    ({"at": "2024-12-31T23:00:00Z"}, "at", datetime(2024, 12, 31, 23)),
    ({"title": 12}, "title", "12"),
    ({"title": Decimal("1E+3")}, "title", "1000"),
]


@pytest.mark.parametrize(("values", "column", "expected"), COERCED)
def test_a_value_of_another_type_that_is_exactly_the_same_is_stored(
    engine: Engine, values: dict[str, Any], column: str, expected: Any
) -> None:
    ensure_table(engine, EVERY_TYPE)
    table = target_table(EVERY_TYPE)
    with engine.begin() as connection:
        # The broken row beside it makes sure that the constraint analysis runs.
        done = store(connection, table, COLUMNS, [row(1, **values), row(2, body="\ud800")])
    assert [r.refid for r in done.rejected] == [2]
    assert stored(engine, table, column) == [(expected,)]


def test_a_missing_value_takes_the_default_of_the_column_or_of_the_criteria(engine: Engine) -> None:
    thing = record_type(
        [
            {"name": "status", "type": "string", "nullable": False, "default": "it's open"},
            {"name": "note", "type": "text", "nullable": False, "default": "from the criteria"},
            {"name": "total", "type": "money", "nullable": False, "default": "0.50"},
            {"name": "active", "type": "boolean", "nullable": False, "default": True},
        ]
    )
    ensure_table(engine, thing)
    table = target_table(thing)
    columns = ("refid", "status", "note", "total", "active")
    with engine.begin() as connection:
        done = store(connection, table, columns, [(1, None, None, None, None), (2, "shut", "", Decimal(1), False)])
    assert done.rejected == []
    assert stored(engine, table, *columns) == [
        (1, "it's open", "from the criteria", Decimal("0.5"), True),
        (2, "shut", "", Decimal(1), False),
    ]


def test_a_missing_value_without_any_default_rejects_its_row(engine: Engine) -> None:
    ensure_table(engine, EVERY_TYPE)
    table = target_table(EVERY_TYPE)
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE things")
        connection.exec_driver_sql(
            "CREATE TABLE things (refid BIGINT PRIMARY KEY, title VARCHAR(20) NOT NULL,"
            " imported_at DATETIME(6), import_id VARCHAR(64), deleted_at DATETIME(6))"
        )
        done = store(connection, table, ("refid", "title"), [(1, "there"), (2, None)])
    assert [(r.refid, r.column) for r in done.rejected] == [(2, "title")]
    assert stored(engine, table, "refid", "title") == [(1, "there")]


def test_a_column_that_the_table_lacks_is_left_out_and_reported(engine: Engine) -> None:
    ensure_table(engine, EVERY_TYPE)
    table = target_table(EVERY_TYPE)
    with engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE things DROP COLUMN title")
    with engine.begin() as connection:
        done = store(connection, table, COLUMNS, [row(1, title="lost here, kept in raw", count=5)])
    assert (done.written, done.rejected, done.left_out) == (1, [], ("title",))
    assert stored(engine, table, "refid", "count") == [(1, 5)]


def test_a_table_that_is_not_there_is_an_error_of_the_schema_and_rejects_nothing(engine: Engine) -> None:
    table = target_table(EVERY_TYPE)
    with engine.connect() as connection, pytest.raises(DatabaseSchemaError, match="table is missing"):
        store(connection, table, COLUMNS, [row(1)])


def test_no_rows_are_no_statements(engine: Engine) -> None:
    with engine.connect() as connection:
        assert store(connection, target_table(EVERY_TYPE), COLUMNS, []).statements == 0


# What only MySQL and MariaDB enforce


@pytest.fixture
def mysql_engine(mysql_url: str) -> Iterator[Engine]:
    engine = make_engine(mysql_url, pool_size=2)
    yield engine
    engine.dispose()


def test_a_text_that_is_too_long_is_cut_only_where_the_criteria_allow_it(mysql_engine: Engine) -> None:
    thing = record_type(
        [
            {"name": "short", "type": "string", "length": 5},
            {"name": "cut", "type": "string", "length": 5, "truncate": True},
        ]
    )
    ensure_table(mysql_engine, thing)
    table = target_table(thing)
    with mysql_engine.begin() as connection:
        done = store(connection, table, ("refid", "short", "cut"), [(1, "12345", "😀" * 9), (2, "123456", None)])
    assert stored(mysql_engine, table, "refid", "short", "cut") == [(1, "12345", "😀" * 5)]
    (rejected,) = done.rejected
    assert (rejected.refid, rejected.column) == (2, "short")
    assert rejected.reason == "short: text of 6 characters, the column takes 5"


@pytest.mark.parametrize(
    ("values", "column"),
    [
        ({"count": 2**63}, "count"),
        ({"amount": Decimal(10**16)}, "amount"),
        ({"external_id": "x" * 256}, "external_id"),
        ({"body": "x" * 2**24}, "body"),
    ],
)
def test_a_value_out_of_range_rejects_its_row_and_names_the_column(
    mysql_engine: Engine, values: dict[str, Any], column: str
) -> None:
    ensure_table(mysql_engine, EVERY_TYPE)
    table = target_table(EVERY_TYPE)
    with mysql_engine.begin() as connection:
        done = store(connection, table, COLUMNS, [row(1), row(2, **values)])
    assert [(r.refid, r.column) for r in done.rejected] == [(2, column)]
    assert [r[0] for r in stored(mysql_engine, table, "refid")] == [1]


def test_a_row_larger_than_a_packet_is_rejected_and_the_connection_lives(mysql_engine: Engine) -> None:
    ensure_table(mysql_engine, EVERY_TYPE)
    table = target_table(EVERY_TYPE)
    with mysql_engine.begin() as connection:
        packet = connection.scalar(sa.text("SELECT @@max_allowed_packet"))
        done = store(connection, table, COLUMNS, [row(1), row(2, document="x" * packet), row(3)])
    assert [r.refid for r in done.rejected] == [2]
    assert "max_allowed_packet" in done.rejected[0].reason
    assert [r[0] for r in stored(mysql_engine, table, "refid")] == [1, 3]


def test_a_foreign_key_rejects_only_the_orphan_and_names_the_column(mysql_engine: Engine) -> None:
    ensure_table(mysql_engine, EVERY_TYPE)
    table = target_table(EVERY_TYPE)
    with mysql_engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE things ADD FOREIGN KEY (parent_id) REFERENCES things (refid)")
    with mysql_engine.begin() as connection:
        done = store(connection, table, COLUMNS, [row(1), row(2, parent_id=1), row(3, parent_id=4711)])
    assert [(r.refid, r.column) for r in done.rejected] == [(3, "parent_id")]
    assert "4711" not in done.rejected[0].reason


def test_a_table_in_an_old_character_set_rejects_only_what_it_cannot_hold(mysql_engine: Engine) -> None:
    table = target_table(EVERY_TYPE)
    with mysql_engine.begin() as connection:
        connection.exec_driver_sql(
            "CREATE TABLE things (refid BIGINT UNSIGNED PRIMARY KEY, title VARCHAR(20)) CHARACTER SET latin1"
        )
    changes = ensure_table(mysql_engine, EVERY_TYPE)
    assert any(change.kind == "kept" and "latin1" in change.detail for change in changes)
    with mysql_engine.begin() as connection:
        done = store(connection, table, ("refid", "title"), [(1, "Zürich"), (2, "東京"), (3, "plain")])
    assert [(r.refid, r.column) for r in done.rejected] == [(2, "title")]
    assert stored(mysql_engine, table, "refid", "title") == [(1, "Zürich"), (3, "plain")]
