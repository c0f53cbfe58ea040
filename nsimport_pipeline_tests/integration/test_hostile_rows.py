"""Values nobody expects, all the way into the database: stored exactly, or in ``rejected_records`` naming the column.

Belongs here: the table of ``unit/record_types/test_hostile.py`` and hostile shapes of rows, worked as whole batches by
the code that imports. Does not belong here: what a single value becomes (that table says it).
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa
from sqlalchemy import Engine

from nsimport_pipeline.imports import store
from nsimport_pipeline.imports.batch import Columns, Page, Result, RetryLog, Workshop, keep
from nsimport_pipeline.imports.execute import Throttle
from nsimport_pipeline.imports.records import Batch
from nsimport_pipeline.imports.settle import settle
from nsimport_pipeline.imports.snapshot import Rules
from nsimport_pipeline.imports.start import Request, open_import, write_plan
from nsimport_pipeline.netsuite.client import Fetched, NetSuiteClient
from nsimport_pipeline.netsuite.suiteql import selected
from nsimport_pipeline.warehouse.engine import make_engine
from nsimport_pipeline.warehouse.migrate import ensure_control_tables
from nsimport_pipeline.warehouse.schema import ensure_table, target_table
from nsimport_pipeline_tests.integration.imports_world import START, plan_of, tenant
from nsimport_pipeline_tests.integration.warehouse_records import record_type
from nsimport_pipeline_tests.unit.record_types.test_hostile import HOSTILE, PLAIN, REJECTED, specification

THING = record_type([specification(kind) | {"name": f"of_{kind}"} for kind in PLAIN])
TABLE = target_table(THING)
BATCHES = 3
ALL_PLAIN = {f"of_{kind}": text for kind, text in PLAIN.items()}

Item = Mapping[str, Any]


@pytest.fixture
def engine(warehouse_url: str) -> Iterator[Engine]:
    made = make_engine(warehouse_url, pool_size=2)
    yield made
    made.dispose()


def work_through(engine: Engine, items: Sequence[Sequence[Item]]) -> list[Result]:
    """Import batches of these rows of NetSuite as a run does, from what was fetched on; batch n has ids from n000."""
    owner = tenant()
    ensure_control_tables(engine)
    ensure_table(engine, THING)
    request = Request((THING.name,), (THING.name,))
    job = open_import(engine, owner, request, now=START, suffix="0001")
    write_plan(engine, job, plan_of([(THING.name, 0, len(items))], wave_size=300), now=START)
    settle(engine, job.import_id, rules=Rules(1), now=lambda: START, runs=list)
    with engine.connect() as connection:
        batches = store.batches(connection, job.import_id)
        found = store.find_job(connection, job.import_id)
    assert found is not None
    with NetSuiteClient(owner) as client:
        shop = Workshop(
            job=found,
            record_type=THING,
            client=client,
            engine=engine,
            table=TABLE,
            columns=Columns(selected(THING)),
            retries=RetryLog(Throttle(1)),
            run_id="run",
            timezone=ZoneInfo("America/Los_Angeles"),
            date_format="M/D/YYYY",
            store_raw=True,
            rules=Rules(1).retries,
            sleep=lambda _: None,
            now=lambda: START,
        )
        return [keep(_fetched(batch, rows, shop), shop) for batch, rows in zip(batches, items, strict=True)]


def _fetched(batch: Batch, rows: Sequence[Item], shop: Workshop) -> Page:
    with shop.engine.begin() as connection:
        assert store.claim_batch(connection, batch, shop.run_id, START)
        (claimed,) = [b for b in store.batches(connection, shop.job.import_id) if b.range == batch.range]
    return Page(claimed, Fetched([dict(row) for row in rows], 1, 0, 0.0, 0.0), tuple(selected(THING)), [])


def stored(engine: Engine) -> dict[int, Mapping[str, Any]]:
    with engine.connect() as connection:
        return {row["refid"]: row for row in connection.execute(sa.select(TABLE)).mappings()}


def rejected(engine: Engine) -> dict[int, Mapping[str, Any]]:
    statement = sa.text("SELECT refid, column_name, reason, raw FROM rejected_records")
    with engine.connect() as connection:
        rows = connection.execute(statement).mappings().all()
    assert len({row["refid"] for row in rows}) == len(rows)
    return {row["refid"]: row for row in rows}


def test_every_hostile_value_ends_stored_exactly_or_rejected_with_its_column(engine: Engine) -> None:
    batches: list[list[Item]] = [[] for _ in range(BATCHES)]
    wanted: dict[int, tuple[str, Any]] = {}
    plain: list[int] = []
    for number, (kind, value, expected) in enumerate(HOSTILE):
        batch = batches[number % BATCHES]
        refid = number % BATCHES * 1000 + len(batch) + 1
        batch += [{"id": str(refid), **ALL_PLAIN, f"of_{kind}": value}, {"id": str(refid + 1), **ALL_PLAIN}]
        wanted[refid] = (f"of_{kind}", expected)
        plain.append(refid + 1)

    results = work_through(engine, batches)

    assert [(result.outcome, result.reason) for result in results] == [("completed", None)] * BATCHES
    there, refused = stored(engine), rejected(engine)
    bad = {refid for refid, (_, expected) in wanted.items() if expected is REJECTED}
    assert refused.keys() == bad
    assert there.keys() == {*wanted, *plain} - bad
    assert sum(result.stats.rows_upserted for result in results) == len(there)
    assert sum(result.stats.rows_rejected for result in results) == len(bad)
    for refid in bad:
        column = wanted[refid][0]
        assert refused[refid]["column_name"] == column
        assert refused[refid]["reason"].startswith(f"{column}: ")
        assert json.loads(refused[refid]["raw"])["id"] == str(refid)
    model = there[plain[0]]
    ignored = {"refid", "raw"}
    for refid, row in there.items():
        column, expected = wanted.get(refid, (None, None))
        for name in row.keys() - ignored:
            value = expected if name == column else model[name]
            assert row[name] == value, (refid, name)
            assert type(row[name]) is type(value) or isinstance(value, Decimal), (refid, name)


def test_rows_of_every_shape_in_one_batch_are_kept_apart(engine: Engine) -> None:
    """Keys in any case, columns that one row alone has, unknown ones, nulls, rows with nothing but an id."""
    rows: list[Item] = [
        {"id": "1", **ALL_PLAIN},
        {"ID": "2", **{key.upper(): value for key, value in ALL_PLAIN.items()}},
        {"id": "3"},
        {"id": "4", **dict.fromkeys(ALL_PLAIN)},
        {"id": "5", "of_string": "alone"},
        {"id": "6", "of_string": {"nested": [1]}, "of_integer": 7, "of_boolean": True, "nobody_knows": "x"},
        {"id": "7", **ALL_PLAIN, "of_date": "not a date", "of_money": "not money"},
        {"id": 8, **ALL_PLAIN, "OF_STRING": "of the upper case"},
        {"id": "9", "links": [], **ALL_PLAIN},
        {"id": "9", **ALL_PLAIN, "of_string": "the later one"},
    ]
    (result,) = work_through(engine, [rows])
    there, refused = stored(engine), rejected(engine)

    assert result.outcome == "completed"
    assert there.keys() == {1, 2, 3, 4, 5, 6, 8, 9}
    fields = [field.name for field in THING.fields]
    texts = {refid: [row[name] for name in fields] for refid, row in there.items()}
    assert texts[2] == texts[1] == texts[8]
    assert texts[3] == texts[4] == [None] * len(fields)
    assert {name: there[5][name] for name in fields if there[5][name] is not None} == {"of_string": "alone"}
    assert (there[6]["of_string"], there[6]["of_integer"], there[6]["of_boolean"]) == ('{"nested":[1]}', 7, True)
    assert there[9]["of_string"] == "the later one"
    assert refused.keys() == {7}
    assert refused[7]["column_name"] in ("of_date", "of_money")
