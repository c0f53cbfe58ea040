"""The control tables on real databases: migrations, legal steps only, and races that one side wins."""

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import product
from threading import Barrier
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Engine

from nsimport_pipeline.errors import Category, RefusedError
from nsimport_pipeline.imports import store
from nsimport_pipeline.imports.plan import Plan, PlannedType
from nsimport_pipeline.imports.records import Batch, BatchStats, ImportJob, RunSpec
from nsimport_pipeline.imports.settle import settle
from nsimport_pipeline.imports.snapshot import Rules
from nsimport_pipeline.imports.start import MANY_ROWS, Request, open_import, write_plan
from nsimport_pipeline.imports.states import (
    BATCH_STEPS,
    IMPORT_STEPS,
    WAVE_STEPS,
    BatchState,
    ImportState,
    WaveState,
)
from nsimport_pipeline.record_types.criteria import load_catalog
from nsimport_pipeline.record_types.transform import RejectedRow
from nsimport_pipeline.warehouse.control import control, import_jobs, wave_batches, wave_coordination
from nsimport_pipeline.warehouse.deletes import live_rows
from nsimport_pipeline.warehouse.engine import make_engine
from nsimport_pipeline.warehouse.migrate import (
    HEAD_REVISION,
    VERSION_TABLE,
    current_revision,
    ensure_control_tables,
    remove_control_tables,
)
from nsimport_pipeline.warehouse.schema import ensure_table, target_table
from nsimport_pipeline_tests.integration.imports_world import START, plan_of, tenant
from nsimport_pipeline_tests.mysql_server import fresh_database

THREADS = 8


@pytest.fixture
def bare(warehouse_url: str) -> Iterator[Engine]:
    """A warehouse without control tables."""
    engine = make_engine(warehouse_url, pool_size=THREADS)
    yield engine
    engine.dispose()


@pytest.fixture
def engine(bare: Engine) -> Engine:
    ensure_control_tables(bare)
    return bare


def opened(engine: Engine, name: str = "a", suffix: str = "0001") -> ImportJob:
    return open_import(engine, tenant(), Request((name,), (name,)), now=START, suffix=suffix)


def planned(engine: Engine, batches: int = 1) -> tuple[ImportJob, list[Batch]]:
    job = opened(engine)
    write_plan(engine, job, plan_of([("a", 0, batches)], 100), now=START)
    with engine.connect() as connection:
        return job, store.batches(connection, job.import_id)


def force(engine: Engine, table: sa.Table, column: str, value: str) -> None:
    with engine.begin() as connection:
        connection.execute(sa.update(table).values({column: value}))


def value(engine: Engine, column: sa.Column[Any]) -> Any:
    with engine.connect() as connection:
        return connection.execute(sa.select(column)).scalar_one()


# ---------------------------------------------------------------- migrations


def tables(engine: Engine) -> set[str]:
    return set(sa.inspect(engine).get_table_names())


def indexes(engine: Engine) -> set[tuple[str, str]]:
    inspector = sa.inspect(engine)
    return {(t, str(i["name"])) for t in inspector.get_table_names() for i in inspector.get_indexes(t)}


def test_migrations_end_at_exactly_the_control_tables(engine: Engine) -> None:
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "version_table": VERSION_TABLE, "compare_server_default": True}
        )
        assert compare_metadata(context, control) == []
    assert current_revision(engine) == HEAD_REVISION


def test_migrations_are_taken_back_and_done_again(engine: Engine) -> None:
    planned(engine)
    before = tables(engine), indexes(engine)
    remove_control_tables(engine)
    assert tables(engine) <= {VERSION_TABLE}
    assert current_revision(engine) is None
    ensure_control_tables(engine)
    assert (tables(engine), indexes(engine)) == before


def test_a_migration_killed_anywhere_is_simply_run_again(mysql_url: str) -> None:
    """MySQL commits each statement of a migration by itself: whatever is there already must not be in the way."""
    bare = make_engine(mysql_url, pool_size=2)
    left = [0]

    def kill(*_: object) -> None:
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt

    attempts = 0
    while current_revision(bare) is None:
        attempts += 1
        left[0] = attempts
        sa.event.listen(bare, "after_cursor_execute", kill)
        with suppress(KeyboardInterrupt):
            ensure_control_tables(bare)
        sa.event.remove(bare, "after_cursor_execute", kill)
    assert attempts > 10
    with bare.connect() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
        assert compare_metadata(context, control) == []
    bare.dispose()


def test_many_processes_migrate_at_once(bare: Engine, warehouse_url: str) -> None:
    context = multiprocessing.get_context("spawn")
    with context.Pool(3) as pool:
        assert pool.map(migrate, [warehouse_url] * 6) == [HEAD_REVISION] * 6
    planned(bare)


def migrate(url: str) -> str | None:
    engine = make_engine(url, pool_size=1)
    ensure_control_tables(engine)
    return current_revision(engine)


# ---------------------------------------------------------------- steps


def test_an_import_takes_legal_steps_only(engine: Engine) -> None:
    job = opened(engine)
    for source, target in product(ImportState, ImportState):
        force(engine, import_jobs, "state", source.value)
        with engine.begin() as connection:
            moved = store.move_import(connection, job.import_id, target, START)
        assert moved == (target in IMPORT_STEPS[source]), (source, target)
        assert value(engine, import_jobs.c.state) == (target if moved else source).value


def test_a_wave_takes_legal_steps_only(engine: Engine) -> None:
    job, _ = planned(engine)
    for source, target in product(WaveState, WaveState):
        force(engine, wave_coordination, "status", source.value)
        with engine.begin() as connection:
            moved = store.move_wave(connection, job.import_id, 1, target, START)
        assert moved == (target in WAVE_STEPS[source]), (source, target)
        assert value(engine, wave_coordination.c.status) == (target if moved else source).value


def take(engine: Engine, job: ImportJob, batch: Batch, target: BatchState) -> None:
    """Every function of the store that takes a batch to ``target``."""
    with engine.begin() as connection:
        if target is BatchState.DISPATCHED:
            store.dispatch_batches(connection, job.import_id, [RunSpec(1, 1, "a", 0, ("0",))], START)
            store.release_batch(connection, batch, "run")
        elif target is BatchState.PROCESSING:
            store.claim_batch(connection, batch, "run", START)
        elif target is BatchState.COMPLETED:
            store.complete_batch(connection, batch, "run", BatchStats(), START)
        elif target is BatchState.CANCELLED:
            store.cancel_batches(connection, job.import_id, START, list(BatchState))
        elif target is BatchState.PENDING:
            store.reopen_batches(connection, [batch])
            store.take_back_batches(connection, [batch])
        else:
            store.fail_batch(connection, batch, to=target, category=Category.TIMEOUT, reason="r", now=START)


def test_a_batch_takes_legal_steps_only(engine: Engine) -> None:
    job, (batch,) = planned(engine)
    for source, target in product(BatchState, BatchState):
        force(engine, wave_batches, "status", source.value)
        force(engine, wave_batches, "run_id", "run")
        take(engine, job, replace(batch, state=source, run_id="run"), target)
        after = BatchState(value(engine, wave_batches.c.status))
        if source is not target:
            assert (after is target) == (target in BATCH_STEPS[source]), (source, target)
        assert after in (source, target)


def test_only_the_run_that_has_a_batch_can_settle_it(engine: Engine) -> None:
    _, (batch,) = planned(engine)
    force(engine, wave_batches, "status", "processing")
    force(engine, wave_batches, "run_id", "mine")
    mine = replace(batch, state=BatchState.PROCESSING, run_id="mine")
    theirs = replace(mine, run_id="theirs")
    failure: dict[str, Any] = {"to": BatchState.FAILED, "category": Category.TIMEOUT, "reason": "r", "now": START}
    with engine.begin() as connection:
        assert not store.complete_batch(connection, batch, "theirs", BatchStats(), START)
        assert not store.release_batch(connection, batch, "theirs")
        assert not store.fail_batch(connection, theirs, **failure)
        assert not store.fail_batch(connection, replace(mine, wave=2), **failure)
        assert store.fail_batch(connection, mine, **failure)


@pytest.mark.parametrize("state", [s for s in ImportState if s not in (ImportState.PENDING, ImportState.RUNNING)])
def test_no_batch_of_an_import_that_is_not_active_is_to_be_had(engine: Engine, state: ImportState) -> None:
    _, (batch,) = planned(engine)
    force(engine, wave_batches, "status", "dispatched")
    force(engine, import_jobs, "state", state.value)
    with engine.begin() as connection:
        assert not store.claim_batch(connection, batch, "run", START)


# ---------------------------------------------------------------- races


def test_of_eight_that_claim_a_batch_exactly_one_gets_it(engine: Engine) -> None:
    _, batches = planned(engine, batches=10)
    force(engine, wave_batches, "status", "dispatched")
    together = Barrier(THREADS)

    def claim(number: int) -> list[bool]:
        together.wait()
        won = []
        for batch in batches:
            with engine.begin() as connection:
                won.append(store.claim_batch(connection, batch, f"run-{number}", START))
        return won

    with ThreadPoolExecutor(THREADS) as pool:
        results = list(pool.map(claim, range(THREADS)))
    assert [sum(column) for column in zip(*results, strict=True)] == [1] * 10
    with engine.connect() as connection:
        owners = [batch.run_id for batch in store.batches(connection, batches_import(engine))]
    assert owners == [f"run-{[r[n] for r in results].index(True)}" for n in range(10)]


def batches_import(engine: Engine) -> str:
    return str(value(engine, import_jobs.c.import_id))


def test_of_eight_that_settle_at_once_each_ends_well_and_a_wave_is_dispatched_once(engine: Engine) -> None:
    job, _ = planned(engine, batches=30)
    together = Barrier(THREADS)

    def settled(_: int) -> list[RunSpec]:
        together.wait()
        return list(settle(engine, job.import_id, rules=Rules(5), now=lambda: START, runs=list).submit)

    with ThreadPoolExecutor(THREADS) as pool:
        asked = list(pool.map(settled, range(THREADS)))
    assert all(specs == asked[0] for specs in asked)
    with engine.connect() as connection:
        events = connection.execute(sa.text("SELECT COUNT(*) FROM job_events WHERE event = 'wave_dispatched'"))
        assert events.scalar_one() == 1


def test_of_eight_that_open_an_import_of_the_same_type_exactly_one_does(engine: Engine) -> None:
    together = Barrier(THREADS)

    def open_one(number: int) -> str:
        together.wait()
        try:
            return opened(engine, suffix=f"{number:04}").import_id
        except RefusedError as error:
            return str(error)

    with ThreadPoolExecutor(THREADS) as pool:
        said = list(pool.map(open_one, range(THREADS)))
    winner = batches_import(engine)
    assert said.count(winner) == 1
    assert all(f"a is already being imported for tenant 'acme' by {winner}" in s for s in said if s != winner)


def open_in_process(url_and_number: tuple[str, int]) -> str:
    url, number = url_and_number
    engine = make_engine(url, pool_size=1)
    try:
        return opened(engine, suffix=f"{number:04}").import_id
    except RefusedError as error:
        return str(error)


def test_of_several_processes_exactly_one_opens_an_import(engine: Engine, warehouse_url: str) -> None:
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        said = pool.map(open_in_process, [(warehouse_url, n) for n in range(8)], chunksize=1)
    winner = batches_import(engine)
    assert said.count(winner) == 1
    assert all(winner in s for s in said)


def test_imports_of_other_types_or_in_other_databases_never_touch(engine: Engine, mysql_server_url: str) -> None:
    opened(engine, "a", "0001")
    opened(engine, "b", "0002")
    with fresh_database(mysql_server_url) as url:
        other = make_engine(url, pool_size=1)
        ensure_control_tables(other)
        assert opened(other, "a", "0003").import_id.endswith("0003")
        other.dispose()
    with engine.begin() as connection:
        for job in store.open_jobs(connection):
            store.move_import(connection, job.import_id, ImportState.FAILED, START)
    opened(engine, "a", "0004")


# ---------------------------------------------------------------- the rest of the statements, on both databases


def test_rejected_rows_are_counted_once_and_only_without_a_live_row(engine: Engine) -> None:
    job, (batch,) = planned(engine)
    table = sa.Table(
        "things",
        sa.MetaData(),
        sa.Column("refid", sa.BigInteger, primary_key=True),
        sa.Column("deleted_at", sa.DateTime),
    )
    table.create(engine)
    rejected = [RejectedRow(n, "name", "too long", {"id": str(n)}) for n in (1, 1, 2, 3)]
    rejected += [RejectedRow(None, None, "no id", {"x": "1"}), RejectedRow(None, None, "no id", {"x": "2"})]
    with engine.begin() as connection:
        connection.execute(sa.insert(table), [{"refid": 2, "deleted_at": None}, {"refid": 3, "deleted_at": START}])
        for _ in range(2):  # a second attempt takes the place of the first
            store.replace_rejected(connection, job.import_id, batch.range, rejected, START)
        assert store.rejected_without_row(connection, job.import_id, "a", table) == 4
        groups = store.rejected_groups(connection, job.import_id, 10)
        assert [(g["reason"], g["count"]) for g in groups] == [("too long", 4), ("no id", 2)]


def test_errors_are_counted_and_grouped(engine: Engine) -> None:
    job, _ = planned(engine)
    with engine.begin() as connection:
        store.record_error(connection, job.import_id, Category.TIMEOUT, "slow", START, record_type="a", occurrences=3)
        store.record_error(connection, job.import_id, Category.TIMEOUT, "slow", START, record_type="a", final=True)
        store.record_error(connection, job.import_id, Category.DATABASE_SCHEMA, "m" * 9000, START, column="c" * 99)
        counts = store.error_counts(connection, job.import_id)
        groups = store.error_groups(connection, job.import_id, 10)
    assert set(counts) == set(Category)
    assert (counts[Category.TIMEOUT], counts[Category.DATABASE_SCHEMA]) == (4, 1)
    assert [(g["category"], g["count"], g["final"]) for g in groups] == [("timeout", 4, 1), ("database_schema", 1, 0)]


def test_errors_are_grouped_by_what_is_the_same_in_them(engine: Engine) -> None:
    job, _ = planned(engine)
    later = START + timedelta(minutes=5)

    def record(message: str, now: datetime, partition: str, column: str, constraint: str | None = None) -> None:
        store.record_error(
            connection, job.import_id, Category.DATABASE_SCHEMA, message, now, record_type="a",
            partition_key=partition, table="things", column=column, constraint=constraint, final=True,
        )  # fmt: skip

    with engine.begin() as connection:
        record("text of 6 characters, the column takes 5", later, "1000", "name")
        record("text of 77 characters, the column takes 5", START, "0", "name")
        record("text of 6 characters, the column takes 5", START, "0", "title")
        record("a unique value is there already (1062)", START, "0", "name", "uq_name")
        groups = store.error_groups(connection, job.import_id, 10)
    first = groups[0]
    assert (first["count"], first["batches"], first["final"]) == (2, 2, 2)
    assert (first["first_at"], first["last_at"]) == (START.replace(tzinfo=None), later.replace(tzinfo=None))
    assert {(g["table_name"], g["column_name"], g["constraint_name"], g["count"]) for g in groups} == {
        ("things", "name", None, 2),
        ("things", "title", None, 1),
        ("things", "name", "uq_name", 1),
    }


def test_times_come_back_as_they_went_in(engine: Engine) -> None:
    job = opened(engine)
    moment = START.replace(microsecond=123456)
    with engine.begin() as connection:
        store.move_import(connection, job.import_id, ImportState.FAILED, moment, "why")
        found = store.find_job(connection, job.import_id)
    assert found is not None
    assert (found.created_at, found.finished_at, found.failure_reason) == (START, moment, "why")


def test_rows_beyond_the_plans_bound_are_marked_deleted_and_an_empty_type_is_in_sync(engine: Engine) -> None:
    record_type = load_catalog()["currency"]
    ensure_table(engine, record_type)
    table = target_table(record_type)
    with engine.begin() as connection:
        for refid in (1, 2, 9):
            connection.execute(table.insert().values(refid=refid, import_id="before", imported_at=datetime(2026, 1, 1)))
    left: set[int]
    for suffix, bound, left in (("0001", 2, {1, 2}), ("0002", None, set())):
        job = opened(engine, "currency", suffix)
        empty = Plan((PlannedType("currency", 0, 0, bound, (), 1),), ())
        write_plan(engine, job, empty, tables={"currency": table}, now=START)
        settle(engine, job.import_id, rules=Rules(1), now=lambda: START)
        with engine.connect() as connection:
            live = connection.execute(sa.select(table.c.refid).where(table.c.deleted_at.is_(None))).scalars()
            assert set(live) == left
            found = store.find_job(connection, job.import_id)
            assert found is not None
            assert found.state is ImportState.COMPLETED
            assert store.type_plans(connection, job.import_id)[0].in_sync is True


def test_many_records_that_are_all_gone_at_once_are_not_believed_to_be_deleted(engine: Engine) -> None:
    record_type = load_catalog()["currency"]
    ensure_table(engine, record_type)
    table = target_table(record_type)
    with engine.begin() as connection:
        for refid in range(1, MANY_ROWS + 1):
            connection.execute(table.insert().values(refid=refid, import_id="before", imported_at=datetime(2026, 1, 1)))
    job = opened(engine, "currency")
    nothing = Plan((PlannedType("currency", 0, 0, None, (), 1),), ())
    write_plan(engine, job, nothing, tables={"currency": table}, now=START)
    settle(engine, job.import_id, rules=Rules(1), now=lambda: START)
    with engine.connect() as connection:
        assert live_rows(connection, table, None) == MANY_ROWS
        found = store.find_job(connection, job.import_id)
        (plan,) = store.type_plans(connection, job.import_id)
    assert plan.denied
    assert f"none of the {MANY_ROWS} records" in (plan.unavailable or "")
    assert found is not None
    assert found.state is ImportState.COMPLETED_WITH_FAILURES
