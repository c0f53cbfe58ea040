"""Statements carry the rules NetSuite imposes, and an answer that cannot be whole is found out."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
import sqlglot
from hypothesis import given
from hypothesis import strategies as st

from nsimport_pipeline.errors import ConfigurationError, IncompleteResponse
from nsimport_pipeline.imports.comparing import WAYS
from nsimport_pipeline.netsuite.suiteql import (
    COLUMN_LIMIT,
    PAGE_LIMIT,
    Selected,
    boundary_statement,
    changed_within,
    check_page,
    column_groups,
    count_statement,
    deleted_statement,
    key_page_statement,
    page_statement,
    selected,
    tally_statement,
    there_statement,
    without,
)
from nsimport_pipeline.record_types.criteria import load_catalog
from nsimport_pipeline_tests.unit.netsuite.scripted import record_type

CATALOG = load_catalog()
bounds = st.none() | st.integers(-(10**18), 10**18)


def sql_of(columns: list[Selected]) -> list[str]:
    return [column.sql for column in columns]


def test_each_field_is_selected_in_the_form_that_keeps_its_meaning() -> None:
    assert sql_of(selected(record_type())) == [
        "t.id AS id",
        "t.email AS email",
        "TO_CHAR(t.startdate, 'YYYY-MM-DD') AS startdate",
        "TO_CHAR(SYS_EXTRACT_UTC(t.datecreated), 'YYYY-MM-DD HH24:MI:SS') AS datecreated",
        "BUILTIN.DF(t.entitystatus) AS entitystatus_display",
        "t.currency AS currency",
        "BUILTIN.DF(t.currency) AS currency_display",
        "(t.firstname || ' ' || t.lastname) AS full_name",
    ]


def test_every_field_finds_its_value_under_the_alias_it_is_selected_as() -> None:
    kind = record_type()
    aliases = {column.alias for column in selected(kind)}

    for field in kind.fields:
        assert (field.display_key if field.display and field.type == "string" else field.key) in aliases


def test_a_column_that_the_account_lacks_takes_computed_fields_with_it() -> None:
    columns = selected(record_type())

    assert "full_name" not in [c.alias for c in without(columns, {"lastname"})]
    assert "full_name" in [c.alias for c in without(columns, {"name"})]
    assert without(columns, {"lastname"}) == selected(record_type(), missing={"LASTNAME"})
    assert without(columns, {"id"})[0].alias == "id"


def test_one_column_in_two_forms_is_refused_because_one_would_hide_the_other() -> None:
    fields = [
        {"name": "day", "source": "trandate", "type": "date"},
        {"name": "moment", "source": "trandate", "type": "datetime"},
    ]
    with pytest.raises(ConfigurationError, match=r"customer: moment: .*trandate"):
        selected(record_type(fields=fields))


def test_one_column_can_feed_two_fields_of_the_same_form() -> None:
    fields = [
        {"name": "code", "source": "tranid", "type": "string"},
        {"name": "number", "source": "tranid", "type": "text"},
    ]

    assert [c.alias for c in selected(record_type(fields=fields))] == ["id", "tranid"]


def test_a_page_is_a_range_of_keys_in_explicit_order() -> None:
    columns = [Selected("id", "t.id", "id", identifies=True)]

    assert page_statement(record_type(), 5, 10, columns) == (
        "SELECT t.id AS id FROM customer t WHERE t.id > 5 AND t.id <= 10 ORDER BY t.id ASC"
    )
    assert key_page_statement(record_type(), 5) == "SELECT t.id AS id FROM customer t WHERE t.id > 5 ORDER BY t.id ASC"


def test_the_condition_of_the_record_type_cannot_escape_the_range() -> None:
    source = {"from": "transactionline", "key": "uniqueKey", "where": "t.a = 'x' OR t.b = 'y'"}
    statement = key_page_statement(record_type(source=source), 5)

    assert "WHERE (t.a = 'x' OR t.b = 'y') AND t.uniquekey > 5 ORDER BY t.uniquekey ASC" in statement


@given(low=bounds, high=bounds, size=st.integers(1, 1000))
def test_every_statement_is_one_oracle_select_without_what_suiteql_refuses(
    low: int | None, high: int | None, size: int
) -> None:
    kind = record_type(source={"from": "transaction", "where": "t.type = 'SalesOrd'"})
    statements = [
        count_statement(kind, low, high),
        boundary_statement(kind, low, high, size),
        page_statement(kind, low, high, selected(kind)),
        key_page_statement(kind, low, high),
    ]
    for statement in statements:
        (parsed,) = sqlglot.parse(statement, read="oracle")
        assert isinstance(parsed, sqlglot.exp.Select)
        assert '"' not in statement
        assert not any(word in statement for word in (" OFFSET ", " LIMIT ", "ROWNUM", "WITH "))
        assert statement.count("ORDER BY") == statement.count(" ASC")


@pytest.mark.parametrize("bad", ["1; DROP", "5 OR 1=1"])
def test_only_numbers_become_bounds(bad: str) -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        key_page_statement(record_type(), bad)  # type: ignore[arg-type]


def test_boundaries_are_the_last_keys_of_full_batches_when_run() -> None:
    import duckdb

    database = duckdb.connect()
    database.execute("CREATE TABLE customer AS SELECT 3 * range AS id FROM range(1, 2501)")
    statement = sqlglot.transpile(boundary_statement(record_type(), 0, 3 * 2400, 1000), read="oracle", write="duckdb")[
        0
    ]

    assert database.execute(statement).fetchall() == [(3000, 1000), (6000, 2000)]


def test_columns_are_grouped_below_the_limit_each_with_the_key() -> None:
    columns = [
        Selected("id", "t.id", "id", identifies=True),
        *(Selected(f"c{n}", f"t.c{n}", f"c{n}") for n in range(250)),
    ]
    groups = column_groups(columns, 100)

    assert [len(group) for group in groups] == [100, 100, 53]
    assert all(group[0] == columns[0] for group in groups)
    assert [c for group in groups for c in group[1:]] == columns[1:]
    assert column_groups(columns[:1]) == [columns[:1]]


keys = st.lists(st.integers(-(10**9), 10**9), unique=True, max_size=30).map(sorted)


@given(numbers=keys)
def test_a_whole_range_passes(numbers: list[int]) -> None:
    low, high = (numbers[0] - 1, numbers[-1]) if numbers else (0, 10)

    check_page([{"id": str(n)} for n in numbers], len(numbers), low, high, "id")
    check_page([{"id": str(n)} for n in numbers], len(numbers), None, None, "id")


@given(numbers=keys.filter(lambda numbers: len(numbers) > 1), data=st.data())
def test_a_range_with_a_row_lost_doubled_or_out_of_place_never_passes(numbers: list[int], data: st.DataObject) -> None:
    low, high = numbers[0] - 1, numbers[-1]
    place = data.draw(st.integers(0, len(numbers) - 2))
    damage = data.draw(st.sampled_from(["lost", "doubled", "swapped", "below", "above", "no key"]))
    items = [{"id": str(n)} for n in numbers]
    if damage == "lost":
        del items[place]
    elif damage == "doubled":
        items[place + 1] = items[place]
    elif damage == "swapped":
        items[place], items[place + 1] = items[place + 1], items[place]
    elif damage == "below":
        items[0] = {"id": str(low)}
    elif damage == "above":
        items[-1] = {"id": str(high + 1)}
    else:
        items[place] = {"id": data.draw(st.sampled_from(["", "x", "1.0", "1_0", "١"]))}

    with pytest.raises(IncompleteResponse):
        check_page(items, len(numbers), low, high, "id")


def test_a_range_that_outgrew_a_page_must_fill_the_page() -> None:
    items = [{"id": str(n)} for n in range(1, PAGE_LIMIT + 1)]

    check_page(items, 1500, 0, None, "id")
    with pytest.raises(IncompleteResponse, match="999 rows"):
        check_page(items[:-1], 1500, 0, None, "id")


def test_the_message_holds_no_value_of_a_record() -> None:
    with pytest.raises(IncompleteResponse) as caught:
        check_page([{"id": "7", "email": "ann@example.com"}], 2, 0, 10, "id")

    assert "ann" not in str(caught.value)


SINCE, UNTIL = datetime(2026, 11, 1, 7, tzinfo=UTC), datetime(2026, 11, 2, 8, 0, 1, tzinfo=UTC)


def test_changes_are_told_by_utc_behind_a_condition_that_holds_in_any_zone() -> None:
    narrowed = changed_within(CATALOG["sales_order"], SINCE, UNTIL.astimezone(ZoneInfo("Asia/Tokyo")))
    assert count_statement(narrowed) == (
        "SELECT COUNT(*) AS n, MIN(t.id) AS low, MAX(t.id) AS high FROM transaction t WHERE ((t.type = 'SalesOrd') AND "
        "((t.lastmodifieddate >= TO_DATE('2026-10-31 07:00:00', 'YYYY-MM-DD HH24:MI:SS') AND "
        "SYS_EXTRACT_UTC(t.lastmodifieddate) >= TO_DATE('2026-11-01 07:00:00', 'YYYY-MM-DD HH24:MI:SS') AND "
        "SYS_EXTRACT_UTC(t.lastmodifieddate) <= TO_DATE('2026-11-02 08:00:01', 'YYYY-MM-DD HH24:MI:SS')) OR "
        "t.lastmodifieddate IS NULL))"
    )
    with pytest.raises(ConfigurationError, match="customer_subsidiary: no column says when"):
        changed_within(CATALOG["customer_subsidiary"], SINCE, UNTIL)


def test_changes_of_lines_are_all_lines_of_whatever_had_one() -> None:
    lines = CATALOG["transaction_line"]
    where = changed_within(lines, SINCE, UNTIL, [CATALOG[name] for name in lines.derived_from]).source.where or ""
    assert where.count("t.transaction IN (SELECT") == 2
    assert "SELECT c.transaction FROM transactionline c WHERE c.linelastmodifieddate >=" in where
    assert "SELECT c.id FROM transaction c WHERE c.lastmodifieddate >=" in where


def test_what_is_deleted_and_what_is_there_are_asked_for_by_id() -> None:
    assert deleted_statement(SINCE, UNTIL).endswith("GROUP BY d.recordid ORDER BY d.recordid ASC")
    assert " AND d.recordid > 7 " in deleted_statement(SINCE, UNTIL, 7)
    assert there_statement(CATALOG["sales_order"], [3, 5]) == (
        "SELECT t.id AS id FROM transaction t WHERE ((t.type = 'SalesOrd') AND t.id IN (3, 5)) ORDER BY t.id ASC"
    )


@pytest.mark.parametrize(("begun", "place"), [(0, "b.place"), (250, "b.place + 250")])
def test_boundaries_count_what_the_first_batch_has_already(begun: int, place: str) -> None:
    assert f"WHERE MOD({place}, 1000) = 0" in boundary_statement(CATALOG["customer"], 9, 99, begun=begun)


def test_a_tally_asks_for_three_sums_of_each_range_and_the_lowest_key() -> None:
    assert tally_statement(record_type(), [(None, 9)], 613).startswith(
        "SELECT MIN(t.id) AS low, SUM(CASE WHEN t.id <= 9 THEN 1 ELSE 0 END) AS n0, "
        "SUM(CASE WHEN t.id <= 9 THEN t.id ELSE 0 END) AS t0, "
        "SUM(CASE WHEN t.id <= 9 THEN MOD(t.id, 613) * MOD(t.id, 613) ELSE 0 END) AS s0 FROM "
    )
    statement = tally_statement(record_type(), [(n, n + 1) for n in range(WAYS)], 613)
    assert len(sqlglot.parse_one(statement, read="oracle").expressions) <= COLUMN_LIMIT
    assert statement.endswith(f"t.id > 0 AND t.id <= {WAYS}")
