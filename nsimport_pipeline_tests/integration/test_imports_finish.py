"""The checks of a record type on real tables: each finds exactly what is wrong, and nothing where nothing is."""

from collections.abc import Iterator
from typing import Any

import dagster as dg
import pytest
import sqlalchemy as sa
from sqlalchemy import Engine

from nsimport_pipeline.defs.checks import result
from nsimport_pipeline.imports import store
from nsimport_pipeline.imports.finish import (
    CHECKS,
    COMPLETE,
    NO_FAILED,
    REFERENCES,
    UNIQUE_KEY,
    check_names,
    judge_rejected,
    judgeable,
    take_checks,
)
from nsimport_pipeline.imports.records import REJECTED_SHARE, Check, TypePlan
from nsimport_pipeline.imports.states import ImportState
from nsimport_pipeline.record_types.criteria import Catalog, RecordType, parse_criteria
from nsimport_pipeline.record_types.transform import RejectedRow
from nsimport_pipeline.warehouse.control import wave_batches
from nsimport_pipeline.warehouse.engine import make_engine
from nsimport_pipeline.warehouse.migrate import ensure_control_tables
from nsimport_pipeline.warehouse.schema import ensure_table, target_table
from nsimport_pipeline_tests.integration.imports_world import START, World
from nsimport_pipeline_tests.integration.warehouse_records import store as store_rows


def made(name: str, *references: str, dependencies: tuple[str, ...] = ()) -> RecordType:
    fields: list[dict[str, Any]] = [
        {"name": f"{other}_id", "type": "reference", "references": other} for other in references
    ]
    document = {
        "record_type": name,
        "family": "lists",
        "table": f"{name}s",
        "description": "Made up.",
        "source": {"from": name},
        "dependencies": list(dependencies),
        "fields": fields or [{"name": "name", "type": "string"}],
    }
    return parse_criteria(document, "test")


CATALOG = Catalog(
    {
        record.name: record
        for record in (
            made("owner"),
            made("off"),
            made("beside"),
            made("elsewhere"),
            made("thing", "thing", "owner", "off", "beside", "elsewhere", dependencies=("owner", "off")),
        )
    }
)
THING = CATALOG["thing"]


@pytest.fixture
def world(warehouse_url: str) -> Iterator[World]:
    """An import of owners (level 0), then things; their tables have what each test puts there."""
    engine = make_engine(warehouse_url, pool_size=3)
    ensure_control_tables(engine)
    for record in CATALOG.values():
        ensure_table(engine, record)
    yield World(engine, [("owner", 0, 1), ("thing", 1, 2), ("beside", 1, 1)]).plan()
    engine.dispose()


def put(engine: Engine, name: str, columns: tuple[str, ...], rows: list[tuple[Any, ...]]) -> None:
    with engine.begin() as connection:
        store_rows(connection, target_table(CATALOG[name]), columns, rows)


def work_all(world: World, rows: int = 1000, failing: tuple[str, ...] = ()) -> None:
    """Settle every batch; the partitions ``failing`` of things for good."""
    for batch in world.stored():
        fails = batch.record_type == "thing" and batch.range.partition_key in failing
        values = {"status": "failed" if fails else "completed", "rows_upserted": 0 if fails else rows}
        with world.engine.begin() as connection:
            connection.execute(sa.update(wave_batches).where(wave_batches.c.id == batch.id).values(values))


def checks(world: World, *, source: int | None = None, rejected_share: float = 1) -> dict[str, Check]:
    _, taken = take_checks(world.engine, world.id, THING, CATALOG, source=source, rejected_share=rejected_share)
    return {check.name: check for check in taken}


def test_references_that_lead_nowhere_are_counted_by_column_with_sample_ids(world: World) -> None:
    put(world.engine, "owner", ("refid",), [(1,), (5,)])
    columns = ("refid", "owner_id", "thing_id", "elsewhere_id")
    rows: list[tuple[Any, ...]] = [
        (1, 1, None, 77),
        (2, 5, 1, None),
        (3, None, 0, None),
        (4, 0, 99, None),  # there is no thing 99
        (5, 1001, None, None),  # made after the import was planned: its bound is 1000
        (6, 1000, 2001, None),  # no owner 1000; thing 2001 is above the bound
    ]
    rows += [(n, 7, None, None) for n in range(10, 20)]
    put(world.engine, "thing", columns, [*rows, (20, 8, 98, None)])
    with world.engine.begin() as connection:
        connection.execute(sa.text("UPDATE things SET deleted_at = '2026-01-01' WHERE refid = 20"))

    found = checks(world)[REFERENCES]

    assert not found.passed
    assert found.facts["owner_id"] == {
        "references": "owner",
        "orphans": 11,
        "sample": [{"refid": 6, "refers_to": 1000}, *({"refid": n, "refers_to": 7} for n in range(10, 14))],
    }
    assert found.facts["thing_id"] == {
        "references": "thing",
        "orphans": 1,
        "sample": [{"refid": 4, "refers_to": 99}],
    }
    assert found.detail.startswith(
        "1 rows whose thing_id leads to no thing; 11 rows whose owner_id leads to no owner; not"
    )
    assert "off_id (off is not part of the import)" in found.detail


def test_nothing_is_found_where_nothing_is_wrong(world: World) -> None:
    put(world.engine, "owner", ("refid",), [(1,)])
    put(world.engine, "thing", ("refid", "owner_id", "thing_id"), [(1, 1, 2), (2, 1, None)])
    work_all(world, rows=1)

    taken = checks(world, source=2)

    assert {name: check.passed for name, check in taken.items()} == dict.fromkeys(CHECKS, True)
    assert taken[COMPLETE].facts == {"source": 2, "table": 2, "rejected": 0}
    assert not checks(world, source=3)[COMPLETE].passed
    assert COMPLETE not in checks(world)


def test_partitions_that_are_missing_are_named(world: World) -> None:
    work_all(world, failing=("1000",))
    found = checks(world)[NO_FAILED]
    assert (found.passed, found.facts) == (False, {"missing": 1, "partitions": ["1000"]})


def test_a_key_that_the_database_does_not_enforce_is_counted(world: World) -> None:
    with world.engine.begin() as connection:
        connection.execute(sa.text("DROP TABLE things"))
        columns = "refid BIGINT, deleted_at DATETIME, " + ", ".join(f"{f.name} BIGINT" for f in THING.fields)
        connection.execute(sa.text(f"CREATE TABLE things ({columns})"))
        connection.execute(sa.text("INSERT INTO things (refid) VALUES (1), (1), (2), (2), (2), (3)"))
    found = checks(world)[UNIQUE_KEY]
    assert (found.passed, found.facts) == (False, {"duplicates": 2})


@pytest.mark.parametrize(
    ("rejected", "records", "most", "passed"),
    [
        (0, 0, 1, True),
        (10, 1000, 1, True),
        (11, 1000, 1, False),
        (1, 1000, 0, False),
        (0, 5, 0, True),
        (5, 5, 100, True),
    ],
)
def test_the_share_of_rejected_is_judged_exactly(rejected: int, records: int, most: float, passed: bool) -> None:
    assert judge_rejected(rejected, records, most).passed is passed


def test_an_import_with_too_many_rejected_records_ends_with_failures_and_names_the_type(world: World) -> None:
    work_all(world, rows=97)
    key_range = next(batch.range for batch in world.stored() if batch.record_type == "thing")
    rejected = [RejectedRow(n, "name", "too long", {"id": str(n)}) for n in range(6)]
    with world.engine.begin() as connection:
        store.replace_rejected(connection, world.id, key_range, rejected, START)
    taken = checks(world, rejected_share=3)
    assert taken[REJECTED_SHARE].facts == {"rejected": 6, "records": 200, "percent": 3.0}
    assert taken[REJECTED_SHARE].passed
    with world.engine.begin() as connection:
        for name in ("owner", "thing", "beside"):
            failing = list(checks(world).values()) if name == "thing" else []
            store.record_checks(
                connection, world.id, name, failing, source_count=1, table_count=1, in_sync=True, now=START
            )
        kept = {plan.record_type: plan for plan in store.type_plans(connection, world.id)}["thing"]
    assert kept.checks == tuple(failing_checks := list(checks(world).values()))
    assert not {check.name: check.passed for check in failing_checks}[REJECTED_SHARE]

    world.settle([])

    assert world.job.state is ImportState.COMPLETED_WITH_FAILURES
    assert world.job.failure_reason == "thing: 6 of 200 records rejected (3.00 %, at most 1 % are allowed)"


def plan(name: str, level: int, bound: int | None = 10, unavailable: str | None = None) -> TypePlan:
    return TypePlan(name, level, 5, bound, unavailable)


def test_only_references_to_what_is_sure_to_be_there_are_judged() -> None:
    plans = [plan("thing", 2), plan("owner", 0), plan("off", 1, unavailable="no such feature"), plan("beside", 2)]
    targets, skipped = judgeable(THING, {one.record_type: one for one in plans})
    assert list(targets) == ["thing_id", "owner_id"]
    assert skipped == {
        "off_id": "off is not available in this account",
        "beside_id": "beside is not imported before: it is no dependency",
        "elsewhere_id": "elsewhere is not part of the import",
    }
    targets, skipped = judgeable(THING, {one.record_type: one for one in (plan("thing", 0), plan("owner", 0, None))})
    assert list(targets) == ["thing_id"]


def test_a_type_without_references_has_no_check_of_them() -> None:
    assert check_names(CATALOG["owner"]) == [name for name in CHECKS if name != REFERENCES]
    assert check_names(THING) == list(CHECKS)


def test_dagster_shows_broken_references_as_a_warning_with_a_table(world: World) -> None:
    put(world.engine, "owner", ("refid",), [(1,)])
    put(world.engine, "thing", ("refid", "owner_id"), [(3, 7)])
    shown = result(checks(world)[REFERENCES], dg.AssetKey(["acme", "thing"]))
    assert (shown.passed, shown.severity) == (False, dg.AssetCheckSeverity.WARN)
    table = shown.metadata["references"]
    assert isinstance(table, dg.TableMetadataValue)
    assert {"column": "owner_id", "references": "owner", "orphans": 1, "sample": "3 → 7"} in [
        dict(record.data) for record in table.records
    ]
    failed = result(judge_rejected(1, 2, 1), dg.AssetKey(["acme", "thing"]))
    assert (failed.passed, failed.severity) == (False, dg.AssetCheckSeverity.ERROR)
