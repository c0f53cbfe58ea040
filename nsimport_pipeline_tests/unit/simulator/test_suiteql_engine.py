"""SuiteQL against a small account: what it answers, and what it refuses in NetSuite's words."""

from datetime import UTC, datetime
from itertools import product
from zoneinfo import ZoneInfo

import pytest

from nsimport_pipeline.simulator.accounts import AccountView, Variant
from nsimport_pipeline.simulator.dataset import Dataset
from nsimport_pipeline.simulator.suiteql_engine import Engine
from nsimport_pipeline.simulator.suiteql_text import ColumnFailureError, SuiteQLError

ZONE = ZoneInfo("America/Los_Angeles")


def rows(engine: Engine, statement: str, limit: int = 1000, offset: int = 0) -> list[dict[str, str]]:
    items = engine.page(statement, limit, offset).items
    assert all(item.pop("links") == [] for item in items)
    return items


def refusal(engine: Engine, statement: str) -> str:
    with pytest.raises(SuiteQLError) as caught:
        engine.page(statement, 10, 0)
    return caught.value.detail


def test_every_value_is_a_text_and_keys_are_lower_case(engine: Engine) -> None:
    items = rows(engine, "SELECT id AS TheId, CreditLimit, isperson FROM customer WHERE creditlimit IS NOT NULL")
    assert set(items[0]) == {"theid", "creditlimit", "isperson"}
    assert all(isinstance(value, str) for item in items for value in item.values())
    assert {item["isperson"] for item in items} <= {"T", "F"}


def test_nulls_are_left_out(engine: Engine) -> None:
    items = rows(engine, "SELECT id, parent FROM customer WHERE parent IS NULL")
    assert items
    assert all(set(item) == {"id"} for item in items)


def test_numbers_have_no_trailing_zeros(engine: Engine) -> None:
    assert rows(engine, "SELECT 1.50 AS a, 2.00 AS b, 10 / 4 AS c, -100 AS d FROM DUAL") == [
        {"a": "1.5", "b": "2", "c": "2.5", "d": "-100"}
    ]


def test_columns_without_a_name_are_numbered(engine: Engine) -> None:
    assert rows(engine, "SELECT MAX(1), 2 AS two, UPPER('x') FROM DUAL") == [{"expr1": "1", "two": "2", "expr2": "X"}]


def test_a_page_says_how_many_rows_there_are_in_all(engine: Engine) -> None:
    result = engine.page("SELECT id FROM customer ORDER BY id ASC", 20, 40)
    assert (len(result.items), result.total) == (20, 300)
    assert engine.page("SELECT id FROM customer WHERE id < 0", 20, 0).total == 0
    assert engine.page("SELECT id FROM customer", 20, 400).total == 300


def test_the_boundary_query_finds_the_last_id_of_each_batch(engine: Engine) -> None:
    ids = [
        int(item["id"]) for item in rows(engine, "SELECT id FROM transaction WHERE type = 'SalesOrd' ORDER BY id ASC")
    ]
    found = rows(
        engine,
        "SELECT b.id AS id, b.n AS n FROM (SELECT t.id AS id, ROW_NUMBER() OVER (ORDER BY t.id ASC) AS n "
        "FROM transaction t WHERE t.type = 'SalesOrd' AND t.id > 0 AND t.id <= 99999) b "
        "WHERE MOD(b.n, 100) = 0 ORDER BY b.id ASC",
    )
    assert [(int(item["id"]), item["n"]) for item in found] == [(ids[99], "100"), (ids[199], "200")]


def test_raw_dates_are_in_the_accounts_format_and_zone_and_to_char_gives_the_rest(engine: Engine) -> None:
    items = rows(
        engine,
        "SELECT t.lastmodifieddate AS raw, TO_CHAR(t.lastmodifieddate, 'YYYY-MM-DD HH24:MI:SS') AS local, "
        "TO_CHAR(SYS_EXTRACT_UTC(t.lastmodifieddate), 'YYYY-MM-DD HH24:MI:SS') AS utc FROM customer t",
    )
    assert len(items) == 300
    for item in items:
        utc = datetime.fromisoformat(item["utc"]).replace(tzinfo=UTC)
        local = utc.astimezone(ZONE)
        assert item["local"] == f"{local:%Y-%m-%d %H:%M:%S}"
        assert item["raw"] == f"{local.month}/{local.day}/{local.year}"


def test_pure_dates_have_no_zone(own_dataset: Dataset) -> None:
    own_dataset.change("UPDATE customer SET startdate = DATE '2024-03-01'")
    engine = Engine(own_dataset, AccountView(own_dataset.tables))
    items = rows(engine, "SELECT startdate, TO_CHAR(startdate, 'YYYY-MM-DD') AS iso FROM customer", 1)
    assert items == [{"startdate": "3/1/2024", "iso": "2024-03-01"}]


@pytest.mark.parametrize(
    ("instant", "seen"),
    [("2024-03-10 09:59:59", "2024-03-10 01:59:59"), ("2024-03-10 10:00:00", "2024-03-10 03:00:00")],
)
def test_times_around_the_change_to_summer_time(own_dataset: Dataset, instant: str, seen: str) -> None:
    own_dataset.change(f"UPDATE customer SET lastmodifieddate = TIMESTAMP '{instant}'")
    engine = Engine(own_dataset, AccountView(own_dataset.tables))
    statement = "SELECT TO_CHAR(lastmodifieddate, 'YYYY-MM-DD HH24:MI:SS') AS seen FROM customer"
    assert rows(engine, statement, 1) == [{"seen": seen}]


def test_a_watermark_compares_in_the_zone_it_is_written_in(own_dataset: Dataset) -> None:
    own_dataset.change("UPDATE customer SET lastmodifieddate = TIMESTAMP '2024-07-01 12:00:00'")
    engine = Engine(own_dataset, AccountView(own_dataset.tables))
    moment = "TO_DATE('2024-07-01 {}', 'YYYY-MM-DD HH24:MI:SS')"
    local = "SELECT id FROM customer WHERE lastmodifieddate >= " + moment
    assert engine.page(local.format("05:00:00"), 1, 0).total == 300
    assert engine.page(local.format("05:00:01"), 1, 0).total == 0
    utc = "SELECT id FROM customer WHERE SYS_EXTRACT_UTC(lastmodifieddate) >= " + moment
    assert engine.page(utc.format("12:00:00"), 1, 0).total == 300
    assert engine.page(utc.format("12:00:01"), 1, 0).total == 0


def test_the_newest_change_can_be_asked_for_in_utc_through_a_sub_select(engine: Engine) -> None:
    direct = rows(
        engine, "SELECT TO_CHAR(SYS_EXTRACT_UTC(MAX(lastmodifieddate)), 'YYYY-MM-DD HH24') AS m FROM customer"
    )
    nested = rows(
        engine,
        "SELECT TO_CHAR(SYS_EXTRACT_UTC(a.newest), 'YYYY-MM-DD HH24') AS m "
        "FROM (SELECT MAX(t.lastmodifieddate) AS newest FROM customer t) a",
    )
    inner = rows(engine, "SELECT TO_CHAR(MAX(SYS_EXTRACT_UTC(lastmodifieddate)), 'YYYY-MM-DD HH24') AS m FROM customer")
    assert direct == nested == inner


def test_now_is_the_accounts_now(engine: Engine) -> None:
    item = rows(engine, "SELECT TO_CHAR(SYSDATE, 'YYYY-MM-DD HH24:MI:SS') AS now FROM DUAL")[0]
    now = datetime.fromisoformat(item["now"]).replace(tzinfo=ZONE)
    assert abs((datetime.now(UTC) - now).total_seconds()) < 60


def test_dates_are_counted_in_days(engine: Engine) -> None:
    item = rows(
        engine,
        "SELECT TO_CHAR(TO_DATE('2024-03-01', 'YYYY-MM-DD') - 1, 'YYYY-MM-DD') AS eve, "
        "TO_DATE('2024-03-01', 'YYYY-MM-DD') - TO_DATE('2024-02-01', 'YYYY-MM-DD') AS days FROM DUAL",
    )[0]
    assert item == {"eve": "2024-02-29", "days": "29"}


def test_display_texts(engine: Engine) -> None:
    items = rows(
        engine,
        "SELECT t.status, t.type, BUILTIN.DF(t.status) AS shown, BUILTIN.CF(t.status) AS code, t.entity, "
        "BUILTIN.DF(t.entity) AS entity_name, (SELECT c.entityid FROM customer c WHERE c.id = t.entity) AS name "
        "FROM transaction t WHERE t.type = 'SalesOrd'",
    )
    assert all(item["shown"].startswith("Sales Order : ") for item in items)
    assert all(item["code"] == f"SalesOrd:{item['status']}" for item in items)
    assert all(item["entity_name"] == item["name"] for item in items)
    invoices = rows(engine, "SELECT BUILTIN.DF(status) AS shown FROM transaction WHERE type = 'CustInvc'")
    assert {item["shown"] for item in invoices} == {"Invoice : Open", "Invoice : Paid In Full"}


def test_a_null_adds_nothing_to_a_text(engine: Engine) -> None:
    assert rows(engine, "SELECT 'a' || NULL || 'b' AS x, NVL(NULL, 'n') AS y FROM DUAL") == [{"x": "ab", "y": "n"}]


def test_oracle_functions(engine: Engine) -> None:
    assert rows(
        engine,
        "SELECT DECODE(2, 1, 'one', 2, 'two', 'many') AS d, MOD(7, 3) AS m, INSTR('abc', 'c') AS i, "
        "SUBSTR('abcdef', 2, 3) AS s, CASE WHEN 1 = 1 THEN 'yes' END AS c, TRUNC(2.7) AS t, "
        "NVL2(NULL, 1, 2) AS n FROM DUAL",
    ) == [{"d": "two", "m": "1", "i": "3", "s": "bcd", "c": "yes", "t": "2", "n": "2"}]


def test_star_gives_every_column_and_an_explicit_one_after_it_wins(engine: Engine) -> None:
    item = rows(engine, "SELECT s.*, 'mine' AS name FROM subsidiary s ORDER BY s.id ASC", 1)[0]
    assert item["name"] == "mine"
    assert {"id", "lastmodifieddate"} <= set(item)


def test_lines_can_be_joined_and_united(engine: Engine) -> None:
    joined = engine.page(
        "SELECT l.id FROM transactionline l JOIN transaction t ON t.id = l.transaction WHERE t.type = 'SalesOrd'", 1, 0
    )
    everything = engine.page("SELECT id FROM transactionline", 1, 0)
    assert 0 < joined.total < everything.total
    united = engine.page("SELECT id FROM subsidiary UNION SELECT id FROM subsidiary ORDER BY id", 10, 0)
    assert united.total == 4


def test_without_a_unique_order_ties_come_in_another_order_each_time(engine: Engine) -> None:
    def order(statement: str) -> list[str]:
        return [item["id"] for item in rows(engine, statement)]

    assert order("SELECT id FROM customer") != order("SELECT id FROM customer")
    tied = "SELECT id FROM customer ORDER BY isperson ASC"
    assert order(tied) != order(tied)
    stable = "SELECT id FROM customer ORDER BY id ASC"
    assert order(stable) == order(stable) == sorted(order(stable), key=int)


def test_offset_inside_a_statement_is_ignored_and_fetch_first_is_not(engine: Engine) -> None:
    first = rows(engine, "SELECT id FROM customer ORDER BY id ASC FETCH FIRST 3 ROWS ONLY")
    skipped = rows(engine, "SELECT id FROM customer ORDER BY id ASC OFFSET 10 ROWS FETCH NEXT 3 ROWS ONLY")
    assert len(first) == 3
    assert first == skipped


def test_a_thousand_values_in_a_list_are_allowed_and_one_more_is_not(engine: Engine) -> None:
    statement = "SELECT id FROM customer WHERE id IN ({})"
    engine.page(statement.format(", ".join(map(str, range(1000)))), 1, 0)
    assert "1000" in refusal(engine, statement.format(", ".join(map(str, range(1001)))))


PREFIX = "Invalid search query. Detailed unprocessed description follows. "


def test_an_unknown_column_in_netsuites_words(engine: Engine) -> None:
    assert refusal(engine, "SELECT subsidiary FROM transaction") == (
        f"{PREFIX}Search error occurred: Unknown identifier 'subsidiary'. "
        "Available identifiers are: {transaction=transaction}."
    )
    assert "Unknown identifier 'nope'. Available identifiers are: {t=customer}." in refusal(
        engine, "SELECT t.id FROM customer t WHERE t.nope = 1"
    )


def test_an_unknown_table_in_netsuites_words(engine: Engine) -> None:
    assert refusal(engine, "SELECT id FROM nowhere") == f"{PREFIX}Invalid search type: nowhere."


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT type, COUNT(*) AS n FROM transaction GROUP BY type ORDER BY n DESC",
        "SELECT 'a' + 'b' FROM DUAL",
        "SELECT id FROM (SELECT id FROM customer) WHERE ROWNUM <= 5",
        "SELECT c.id FROM customer c, subsidiary s WHERE c.subsidiary = s.id(+)",
    ],
)
def test_shapes_that_suiteql_does_not_search(engine: Engine, statement: str) -> None:
    assert refusal(engine, statement) == f"{PREFIX}Search error occurred: Invalid or unsupported search."


@pytest.mark.parametrize("statement", ["SELECT id FROM", "SELECT FROM customer WHERE", "SELECT (id FROM customer"])
def test_syntax_errors(engine: Engine, statement: str) -> None:
    assert "syntax error" in refusal(engine, statement)


def test_an_account_without_some_tables_and_columns(dataset: Dataset) -> None:
    variant = Variant(
        missing=frozenset({"subsidiary"}),
        denied=frozenset({"customrecord_gadget"}),
        unknown=frozenset({("*", "subsidiary")}),
        removed=frozenset({("transaction", "memo")}),
        broken=frozenset({("customer", "creditlimit")}),
    )
    engine = Engine(dataset, AccountView(dataset.tables, variant))
    assert refusal(engine, "SELECT id FROM subsidiary").endswith("Record 'subsidiary' was not found.")
    assert refusal(engine, "SELECT id FROM customrecord_gadget").endswith("Invalid search type: customrecord_gadget.")
    assert "Unknown identifier 'subsidiary'" in refusal(engine, "SELECT subsidiary FROM customer")
    assert refusal(engine, "SELECT memo FROM transaction").endswith(
        "Field 'memo' for record 'transaction' was not found. Reason: REMOVED - Field is removed"
    )
    with pytest.raises(ColumnFailureError):
        engine.page("SELECT id FROM customer WHERE creditlimit > 0", 1, 0)
    assert "creditlimit" not in rows(engine, "SELECT * FROM customer", 1)[0]


def test_a_column_added_later_can_be_selected(own_dataset: Dataset) -> None:
    engine = Engine(own_dataset, AccountView(own_dataset.tables))
    assert "Unknown identifier" in refusal(engine, "SELECT custentity_new FROM customer")
    own_dataset.change("ALTER TABLE customer ADD COLUMN custentity_new VARCHAR DEFAULT 'x'")
    assert rows(engine, "SELECT custentity_new FROM customer", 1) == [{"custentity_new": "x"}]


COLUMNS = ("id", "t.id", "creditlimit", "lastmodifieddate", "nope", "t.startdate", "BUILTIN.DF(t.parent)", "1", "'x'")
FUNCTIONS = ("", "MAX", "TO_CHAR", "NVL", "SYS_EXTRACT_UTC", "TRUNC", "LENGTH")
TAILS = ("", " ORDER BY 1", " WHERE id > 5", " GROUP BY id", " WHERE", " ORDER BY t.id ASC", " HAVING 1")


@pytest.mark.parametrize("function", FUNCTIONS)
def test_any_statement_is_answered_or_refused(engine: Engine, function: str) -> None:
    answered = 0
    for column, tail in product(COLUMNS, TAILS):
        try:
            result = engine.page(f"SELECT {function}({column}) FROM customer t{tail}", 3, 0)
        except SuiteQLError:
            continue
        answered += 1
        assert all(isinstance(v, str) for item in result.items for k, v in item.items() if k != "links")
    assert answered > 0


def test_lookups_that_share_their_rows_give_the_same_as_alone(engine: Engine) -> None:
    lookup = "(SELECT MAX(l.{}) FROM transactionline l WHERE l.transaction = t.id AND l.mainline = '{}')"
    lookups = {"a": lookup.format("subsidiary", "T"), "b": lookup.format("memo", "T"), "c": lookup.format("memo", "F")}
    statement = "SELECT t.id AS id, {} FROM transaction t WHERE t.id > 40 ORDER BY t.id ASC"
    together = rows(engine, statement.format(", ".join(f"{sql} AS {name}" for name, sql in lookups.items())))
    alone: dict[str, dict[str, str]] = {}
    for name, sql in lookups.items():
        for item in rows(engine, statement.format(f"{sql} AS {name}")):
            alone.setdefault(item["id"], {}).update(item)
    assert together == list(alone.values())
    assert {"a", "b", "c"} <= {key for item in together for key in item}
