"""Tables in real databases follow the criteria, and nothing in them is lost on the way."""

import multiprocessing
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from nsimport_pipeline.errors import ConfigurationError
from nsimport_pipeline.record_types.criteria import FieldSpec, load_catalog
from nsimport_pipeline.warehouse.engine import make_engine
from nsimport_pipeline.warehouse.schema import ensure_table, target_table
from nsimport_pipeline_tests.integration.warehouse_records import record_type, statements, store, stored


@pytest.fixture
def engine(warehouse_url: str) -> Iterator[Engine]:
    engine = make_engine(warehouse_url, pool_size=2)
    yield engine
    engine.dispose()


@pytest.fixture
def mysql_engine(mysql_url: str) -> Iterator[Engine]:
    engine = make_engine(mysql_url, pool_size=2)
    yield engine
    engine.dispose()


def kinds(engine: Engine, *fields: dict[str, Any], **more: Any) -> list[tuple[str, str | None]]:
    return [(change.kind, change.column) for change in ensure_table(engine, record_type(fields, **more))]


def types(engine: Engine, table: str = "things") -> dict[str, str]:
    return {
        column["name"]: str(column["type"]).partition(" COLLATE")[0] for column in sa.inspect(engine).get_columns(table)
    }


NAME = {"name": "name", "type": "string", "length": 50}


def test_every_built_in_record_type_gets_its_table_and_a_second_look_finds_nothing_to_do(engine: Engine) -> None:
    for record in load_catalog().values():
        assert [change.kind for change in ensure_table(engine, record)] == ["created"]
        assert ensure_table(engine, record) == []
        assert set(types(engine, record.table)) == set(target_table(record).columns.keys())


def test_the_tables_have_the_columns_of_the_contract(mysql_engine: Engine) -> None:
    fields = [
        NAME,
        {"name": "total", "type": "money", "description": "50% off, it's"},
        {"name": "active", "type": "boolean"},
        {"name": "day", "type": "date"},
        {"name": "at", "type": "datetime"},
        {"name": "parent_id", "type": "reference", "references": "thing", "display": True},
    ]
    ensure_table(mysql_engine, record_type(fields))
    assert types(mysql_engine) == {
        "refid": "BIGINT",
        "external_id": "VARCHAR(255)",
        "name": "VARCHAR(50)",
        "total": "DECIMAL(24, 8)",
        "active": "TINYINT",
        "day": "DATE",
        "at": "DATETIME",
        "parent_id": "BIGINT",
        "parent_display": "TEXT",
        "raw": "LONGTEXT",
        "imported_at": "DATETIME",
        "import_id": "VARCHAR(64)",
        "deleted_at": "DATETIME",
    }
    comments = {c["name"]: c["comment"] for c in sa.inspect(mysql_engine).get_columns("things")}
    assert comments["total"] == "50% off, it's"
    with mysql_engine.connect() as connection:
        created = connection.exec_driver_sql("SHOW CREATE TABLE things").one()[1]
    assert "PRIMARY KEY (`refid`)" in created
    assert "ENGINE=InnoDB" in created
    assert "utf8mb4" in created
    assert "ROW_FORMAT=DYNAMIC" in created


def test_a_new_field_becomes_a_column_and_the_rows_stay(engine: Engine) -> None:
    ensure_table(engine, record_type([NAME]))
    with engine.begin() as connection:
        store(connection, target_table(record_type([NAME])), ("refid", "name"), [(1, "old")])
    required = {"name": "state", "type": "string", "nullable": False, "default": "open"}
    undated = {"name": "since", "type": "date", "nullable": False, "default": "unknown"}
    assert kinds(engine, NAME, required, undated) == [("added", "state"), ("added", "since")]
    table = target_table(record_type([NAME, required, undated]))
    assert stored(engine, table, "refid", "name", "state", "since") == [(1, "old", "open", None)]


def test_a_tenants_own_fields_are_columns_too(engine: Engine) -> None:
    extra = [FieldSpec(name="custom_colour", type="string", length=30)]
    ensure_table(engine, record_type([NAME]), extra_fields=extra)
    assert "custom_colour" in types(engine)
    assert ensure_table(engine, record_type([NAME]), extra_fields=extra) == []


def test_a_field_that_vanishes_keeps_its_column_and_its_values(engine: Engine) -> None:
    gone = {"name": "gone", "type": "string"}
    ensure_table(engine, record_type([NAME, gone]))
    table = target_table(record_type([NAME, gone]))
    with engine.begin() as connection:
        store(connection, table, ("refid", "gone"), [(1, "kept")])
    assert kinds(engine, NAME) == [("kept", "gone")]
    assert stored(engine, table, "gone") == [("kept",)]


WIDENINGS = [
    ({"type": "string", "length": 10}, {"type": "string", "length": 300}, "x" * 10, "y" * 300),
    ({"type": "string", "length": 10}, {"type": "text"}, "x" * 10, "y" * 100_000),
    ({"type": "text"}, {"type": "json"}, "x", "y" * 100_000),
    (
        {"type": "decimal", "precision": 5, "scale": 2},
        {"type": "decimal", "precision": 12, "scale": 4},
        Decimal("999.99"),
        Decimal("12345678.1234"),
    ),
]


@pytest.mark.parametrize(("before", "after", "old", "new"), WIDENINGS)
def test_a_column_is_widened_without_touching_what_it_holds(
    engine: Engine, before: dict[str, Any], after: dict[str, Any], old: Any, new: Any
) -> None:
    first, second = (record_type([{"name": "value", **shape}]) for shape in (before, after))
    ensure_table(engine, first)
    with engine.begin() as connection:
        store(connection, target_table(first), ("refid", "value"), [(1, old)])
    expected = [] if engine.dialect.name == "sqlite" else [("widened", "value")]
    assert [(change.kind, change.column) for change in ensure_table(engine, second)] == expected
    assert ensure_table(engine, second) == []
    with engine.begin() as connection:
        assert store(connection, target_table(second), ("refid", "value"), [(2, new)]).rejected == []
    assert stored(engine, target_table(second), "value") == [(old,), (new,)]


def test_an_integer_column_of_an_older_system_becomes_bigint(mysql_engine: Engine) -> None:
    with mysql_engine.begin() as connection:
        connection.exec_driver_sql(
            "CREATE TABLE things (id INT AUTO_INCREMENT PRIMARY KEY, refid BIGINT UNSIGNED UNIQUE, number INT NOT NULL)"
        )
        connection.exec_driver_sql("INSERT INTO things (refid, number) VALUES (5, 7)")
    number = {"name": "number", "type": "integer"}
    changes = kinds(mysql_engine, number)
    assert ("widened", "number") in changes
    assert ("kept", "id") in changes
    table = target_table(record_type([number]))
    with mysql_engine.begin() as connection:
        assert store(connection, table, ("refid", "number"), [(5, 2**40), (6, None)]).written == 2
    assert stored(mysql_engine, table, "refid", "number") == [(5, 2**40), (6, None)]


@pytest.mark.parametrize(
    ("before", "after", "was"),
    [
        ({"type": "string", "length": 50}, {"type": "string", "length": 20}, r"VARCHAR\(50\)"),
        ({"type": "money"}, {"type": "decimal", "precision": 10, "scale": 2}, r"DECIMAL\(24,8\)"),
        (
            {"type": "decimal", "precision": 10, "scale": 4},
            {"type": "decimal", "precision": 12, "scale": 2},
            r"DECIMAL\(10,4\)",
        ),
        ({"type": "string"}, {"type": "integer"}, r"VARCHAR\(255\)"),
        ({"type": "money"}, {"type": "string"}, r"DECIMAL\(24,8\)"),
        ({"type": "datetime"}, {"type": "date"}, "DATETIME"),
        ({"type": "integer"}, {"type": "boolean"}, "BIGINT"),
    ],
)
def test_a_narrower_or_another_type_is_refused_and_says_which_column(
    engine: Engine, before: dict[str, Any], after: dict[str, Any], was: str
) -> None:
    ensure_table(engine, record_type([{"name": "value", **before}]))
    earlier = types(engine)
    with pytest.raises(ConfigurationError, match=rf"table things: column value is {was} and the criteria ask for"):
        ensure_table(engine, record_type([{"name": "value", **after}]))
    assert types(engine) == earlier


def test_a_table_of_someone_else_is_left_alone(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE things (id INTEGER PRIMARY KEY, refid BIGINT)")
    with pytest.raises(ConfigurationError, match="no unique refid"):
        ensure_table(engine, record_type([NAME]))
    assert set(types(engine)) == {"id", "refid"}


@pytest.mark.parametrize("lengths", [[1000] * 29, [255] * 80, [16_000] * 12, [63] * 180, [255, 4000] * 40])
def test_strings_that_would_not_fit_a_row_become_text(mysql_engine: Engine, lengths: list[int]) -> None:
    fields = [{"name": f"c{i:03}", "type": "string", "length": length} for i, length in enumerate(lengths)]
    wide = record_type(fields)
    ensure_table(mysql_engine, wide)
    assert ensure_table(mysql_engine, wide) == []
    table = target_table(wide)
    filled = {f["name"]: "ü" * f["length"] for f in fields}
    with mysql_engine.begin() as connection:
        done = store(connection, table, ("refid", *filled), [(1, *filled.values())])
    assert (done.rejected, stored(mysql_engine, table, *filled)) == ([], [tuple(filled.values())])


def test_a_field_added_to_a_full_row_moves_strings_out_of_it(mysql_engine: Engine) -> None:
    fields = [{"name": f"c{i:03}", "type": "string"} for i in range(62)]
    ensure_table(mysql_engine, record_type(fields))
    more = [{"name": f"d{i:03}", "type": "string"} for i in range(10)]
    changes = kinds(mysql_engine, *fields, *more)
    assert ("widened", "c000") in changes
    assert ("added", "d009") in changes
    # Left-over columns still take their room, and what became TEXT stays TEXT.
    assert {kind for kind, _ in kinds(mysql_engine, *more)} == {"kept"}
    assert kinds(mysql_engine, *fields, *more) == []


def test_the_reference_of_a_derived_type_to_its_parent_has_an_index(engine: Engine) -> None:
    fields = [
        {"name": "order_id", "type": "reference", "references": "order"},
        {"name": "item_id", "type": "reference", "references": "item"},
    ]
    source = {"from": "thing", "parent": "order_id"}
    lines = record_type(fields, dependencies=["item"], derived_from=["order"], source=source)
    ensure_table(engine, lines)
    assert [index["column_names"] for index in sa.inspect(engine).get_indexes("things")] == [["order_id"]]
    assert ensure_table(engine, lines) == []


def test_a_second_look_costs_a_few_reads_and_no_change(engine: Engine) -> None:
    ensure_table(engine, record_type([NAME]))
    with statements(engine) as seen:
        assert ensure_table(engine, record_type([NAME])) == []
    assert len(seen) <= 12
    assert not [statement for statement in seen if statement.startswith(("CREATE", "ALTER"))]


def _ensure(url: str, count: int, together: Any, results: Any) -> None:
    engine = make_engine(url, pool_size=1)
    together.wait()
    try:
        for fields in range(1, count):
            ensure_table(engine, record_type([{"name": f"c{i}", "type": "string"} for i in range(fields)]))
        results.put("done")
    except Exception as error:
        results.put(f"{type(error).__name__}: {error}")


def test_processes_that_create_and_extend_a_table_at_once_do_not_disturb_each_other(warehouse_url: str) -> None:
    context = multiprocessing.get_context("spawn")
    together, results = context.Barrier(4), context.Queue()
    processes = [context.Process(target=_ensure, args=(warehouse_url, 6, together, results)) for _ in range(4)]
    for process in processes:
        process.start()
    assert [results.get(timeout=60) for _ in processes] == ["done"] * 4
    for process in processes:
        process.join()
    engine = make_engine(warehouse_url, pool_size=1)
    assert {"c0", "c1", "c2", "c3", "c4"} < set(types(engine))
    engine.dispose()
