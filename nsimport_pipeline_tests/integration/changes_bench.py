"""A database that is kept in step with a simulated account: imports planned, worked on and settled in one go.

Belongs here: doing so, changing the account, looking at both, dying meanwhile. Does not belong here: what must be true
(the tests say that).
"""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import sqlalchemy as sa
from sqlalchemy import Engine

from nsimport_pipeline.imports import store
from nsimport_pipeline.imports.batch import Result, RetryLog, Step, Workshop
from nsimport_pipeline.imports.changes import changes_since
from nsimport_pipeline.imports.columns import Columns
from nsimport_pipeline.imports.comparing import MOST_KEYS
from nsimport_pipeline.imports.deletions import Asker, deleted_ids, gone
from nsimport_pipeline.imports.execute import Throttle, execute
from nsimport_pipeline.imports.finish import take_checks, take_checks_of_changes
from nsimport_pipeline.imports.plan import Plan, make_plan
from nsimport_pipeline.imports.records import Batch, KeyRange, Mode, Sweep, TypePlan
from nsimport_pipeline.imports.settle import settle
from nsimport_pipeline.imports.snapshot import Rules
from nsimport_pipeline.imports.start import Request, open_import, write_plan
from nsimport_pipeline.imports.states import OPEN_IMPORTS, BatchState, ImportState
from nsimport_pipeline.imports.sweep import sweep
from nsimport_pipeline.netsuite.client import NetSuiteClient
from nsimport_pipeline.netsuite.suiteql import changed_within, selected
from nsimport_pipeline.record_types.criteria import load_catalog
from nsimport_pipeline.simulator.options import SimulatorOptions
from nsimport_pipeline.simulator.process import SimulatorThread
from nsimport_pipeline.warehouse.deletes import live_among
from nsimport_pipeline.warehouse.engine import make_engine
from nsimport_pipeline.warehouse.migrate import ensure_control_tables
from nsimport_pipeline.warehouse.schema import ensure_table, target_table
from nsimport_pipeline_tests.simulated_tenant import simulated_tenant

CATALOG = load_catalog()
CUSTOMER = CATALOG["customer"]
TABLE = target_table(CUSTOMER)
LINKS = CATALOG["customer_subsidiary"]
"""A record type that does not say when a record was changed."""
RECORDS = 3300
DAY = timedelta(days=1)
MIDNIGHT = datetime(2031, 7, 2, 7, tzinfo=UTC)
"""Where the account is. Later than any record there is at first."""


class Bench:
    """One database that is kept in step; an import is planned, worked on and settled in one go."""

    def __init__(self, engine: Engine, simulator: SimulatorThread) -> None:
        self.engine = engine
        self.simulator = simulator
        self.tenant = simulated_tenant(simulator)
        self.client = NetSuiteClient(self.tenant)
        self.number = 0
        self.types = dict(CATALOG)
        ensure_control_tables(engine)
        for name in ("customer", LINKS.name):
            ensure_table(engine, CATALOG[name])

    def run(
        self,
        at: datetime,
        *,
        mode: Mode = "incremental",
        name: str = "customer",
        overlap: timedelta = DAY,
        fail: int = 0,
    ) -> tuple[Plan, list[Result]]:
        """An import at ``at`` by NetSuite's clock, from its plan to its end; ``fail`` of its batches do not make it."""
        before = self.simulator.stats(log=False)["requests"]
        plan = self.plan(at, mode=mode, name=name, overlap=overlap)
        results = self.work(at, fail)
        self.requests = self.simulator.stats(log=False)["requests"] - before
        return plan, results

    def plan(
        self, at: datetime, *, mode: Mode = "incremental", name: str = "customer", overlap: timedelta = DAY
    ) -> Plan:
        """The first half of an import."""
        self.number += 1
        self.job = open_import(
            self.engine, self.tenant, Request((name,), (name,), mode), now=at, suffix=f"{self.number:04}"
        )
        record_type = self.types[name]
        with self.engine.connect() as connection:
            mark, pinned = store.watermarks(connection).get(name), store.pinned_ranges(connection, name)
            drifted = name in store.drifted_types(connection)
        changes = None
        if mode == "incremental" and not drifted:
            changes = changes_since(record_type, mark, pinned, until=at, overlap=overlap)
        ids = deleted_ids(self.client, changes.since, changes.until) if changes else None
        with self.engine.connect() as connection:
            live = live_among(connection, target_table(record_type), ids or [])
        missing = gone(self.client, record_type, live)
        plan = make_plan(
            CATALOG, [name], client=self.client, wave_size=300, batch_sizes={}, workers=1,
            changes={} if changes is None else {name: changes},
        )  # fmt: skip
        write_plan(
            self.engine, self.job, plan, tables={name: target_table(record_type)}, until=at, gone={name: missing},
            removed=[name] if record_type.removes else [], now=at,
        )  # fmt: skip
        return plan

    def work(self, at: datetime, fail: int = 0) -> list[Result]:
        """The other half; what was done of it is not done again."""
        settle(self.engine, self.job.import_id, rules=Rules(), now=lambda: at, runs=list)
        with self.engine.begin() as connection:
            (planned,) = store.type_plans(connection, self.job.import_id)
            pinned = store.pinned_ranges(connection, planned.record_type)
            batches = given = self._dispatched(connection)
            if store.complete_counted(connection, given, "run", at):
                batches = self._dispatched(connection)
        whole = self.types[planned.record_type]
        record_type = whole
        if planned.changed_since and planned.changed_until:
            record_type = changed_within(whole, planned.changed_since, planned.changed_until)
        throttle = Throttle(1)
        step = Step(pinned, whole=planned.changed_since is None) if self.job.mode == "incremental" else None
        shop = Workshop(
            job=self.job, record_type=record_type, client=self.client, engine=self.engine, table=target_table(whole),
            columns=Columns(selected(record_type)), retries=RetryLog(throttle), run_id="run", timezone=ZoneInfo("UTC"),
            date_format="M/D/YYYY", store_raw=True, rules=self.tenant.retries, sleep=lambda seconds: None, step=step,
            now=lambda: at,
        )  # fmt: skip
        if fail:
            batches, lost = batches[fail:], batches[:fail]
            with self.engine.begin() as connection:
                store.cancel_batches(connection, self.job.import_id, at, [b.state for b in lost])
        results = list(execute(batches, shop, slots=None, throttle=throttle, stop=threading.Event()))
        assert {result.outcome for result in results} <= {"completed"}
        with self.engine.begin() as connection:
            if given and planned.changed_since:
                checks = take_checks_of_changes(self.engine, self.job.import_id, whole, rejected_share=1)
                store.record_checks(
                    connection, self.job.import_id, whole.name, checks, source_count=None, table_count=None,
                    in_sync=True, now=at,
                )  # fmt: skip
            elif given:
                source = self.client.count(whole, None, planned.upper_bound).n
                count, checks = take_checks(
                    self.engine, self.job.import_id, whole, CATALOG, source=source, rejected_share=1
                )
                assert count is not None
                store.record_checks(
                    connection, self.job.import_id, whole.name, checks, source_count=count.source,
                    table_count=count.table, in_sync=count.in_sync, now=at,
                )  # fmt: skip
        settle(self.engine, self.job.import_id, rules=Rules(), now=lambda: at, runs=list)
        return results

    def _dispatched(self, connection: sa.Connection) -> list[Batch]:
        return [b for b in store.batches(connection, self.job.import_id) if b.state is BatchState.DISPATCHED]

    @property
    def over(self) -> bool:
        return self.state not in OPEN_IMPORTS

    def imported(self) -> int:
        """Rows that the import says it wrote."""
        with self.engine.connect() as connection:
            return sum(int(row["imported"]) for row in store.batch_counts(connection, self.job.import_id))

    @property
    def state(self) -> ImportState:
        with self.engine.connect() as connection:
            job = store.find_job(connection, self.job.import_id)
        assert job is not None
        return job.state

    def watermark(self, name: str = "customer") -> datetime | None:
        with self.engine.connect() as connection:
            mark = store.watermarks(connection).get(name)
        return mark and mark.modified_at

    def partitions(self) -> list[KeyRange]:
        with self.engine.connect() as connection:
            return store.pinned_ranges(connection, "customer")

    def pinned(self) -> list[tuple[str, int, int]]:
        return [(r.partition_key, r.low, r.high) for r in self.partitions()]

    def planned(self) -> TypePlan:
        with self.engine.connect() as connection:
            (planned,) = store.type_plans(connection, self.job.import_id)
        return planned

    def stored(self, column: str = "phone", table: sa.Table = TABLE) -> dict[int, Any]:
        with self.engine.connect() as connection:
            statement = sa.select(table.c.refid, table.c[column]).where(table.c.deleted_at.is_(None))
            return {row[0]: row[1] for row in connection.execute(statement)}

    def rows(self) -> int:
        """Rows there are, those marked deleted too."""
        with self.engine.connect() as connection:
            return connection.execute(sa.select(sa.func.count()).select_from(TABLE)).scalar_one()

    def at_netsuite(self) -> dict[int, Any]:
        statement = "SELECT t.id AS id, t.phone AS phone FROM customer t ORDER BY t.id ASC"
        return {int(i["id"]): i.get("phone") for page in self.client.pages(statement) for i in page.items}

    def change(self, where: str, at: datetime, phone: str = "1") -> int:
        """Give customers another telephone number at ``at``."""
        return self.simulator.sql(
            f"UPDATE customer SET phone = '{phone}', lastmodifieddate = {moment(at)} WHERE {where}"
        )[0]

    def add(self, ids: Sequence[int], at: datetime) -> None:
        """New customers, like one there is but for the id."""
        self.simulator.sql(
            f"INSERT INTO customer BY NAME (SELECT c.* REPLACE (n.id AS id, {moment(at)} AS lastmodifieddate) FROM"
            f" (SELECT * FROM customer ORDER BY id LIMIT 1) c, (SELECT unnest({list(ids)}) AS id) n)"
        )

    def sweep(self, at: datetime, client: Asker | None = None, most: int = MOST_KEYS) -> Sweep:
        """A sweep of the customers at ``at``; the same what it keeps of itself and what it returns."""
        swept = sweep(
            self.engine, self.types["customer"], client=client or self.client, overlap=DAY, modulus=613,
            now=lambda: at, most=most,
        )  # fmt: skip
        assert self.swept() == swept
        return swept

    def swept(self) -> Sweep:
        with self.engine.connect() as connection:
            return store.last_sweeps(connection)["customer"]

    def vanish(self, ids: Sequence[int]) -> None:
        """Delete customers without a word in deletedrecord."""
        numbers = ", ".join(map(str, ids))
        self.simulator.sql(
            f"INSERT INTO removed SELECT * FROM customer WHERE id IN ({numbers})",
            f"DELETE FROM customer WHERE id IN ({numbers})",
        )

    def remove(self, ids: Sequence[int], at: datetime, and_not: Sequence[int] = ()) -> None:
        """Delete customers; NetSuite also says it of records of another type with the ids ``and_not``."""
        self.vanish(ids)
        self.simulator.sql(
            f"INSERT INTO deletedrecord BY NAME (SELECT n.id AS recordid, n.id AS id, 'x' AS type, {moment(at)} AS"
            f" deleteddate FROM (SELECT unnest({[*ids, *and_not]}) AS id) n)",
        )

    def restore(self, ids: Sequence[int], at: datetime) -> None:
        """Deleted customers come back."""
        numbers = ", ".join(map(str, ids))
        self.simulator.sql(
            f"INSERT INTO customer SELECT * REPLACE ({moment(at)} AS lastmodifieddate) FROM removed WHERE id IN"
            f" ({numbers})",
            f"DELETE FROM removed WHERE id IN ({numbers})",
        )


class Killed(BaseException):
    """This process is no more."""


@dataclass
class Death:
    came: bool = False


@contextmanager
def killed_at(engine: Engine, step: int) -> Iterator[Death]:
    """Die before the change or commit of this number, if there is one; what is not committed by then is lost.

    To die before a question is to die before the change that comes after it.
    """
    done, death = 0, Death()

    def tick(_connection: object, _cursor: object = None, statement: str = "COMMIT", *_: object) -> None:
        nonlocal done
        done += not statement.startswith(("SELECT", "BEGIN"))
        if done >= step:
            raise Killed

    for event in ("before_cursor_execute", "commit"):
        sa.event.listen(engine, event, tick)
    try:
        yield death
    except Killed:
        death.came = True
    finally:
        for event in ("before_cursor_execute", "commit"):
            sa.event.remove(engine, event, tick)


def marked(bench: Bench) -> dict[int, datetime]:
    with bench.engine.connect() as connection:
        statement = sa.select(TABLE.c.refid, TABLE.c.deleted_at).where(TABLE.c.deleted_at.is_not(None))
        return {row[0]: row[1] for row in connection.execute(statement)}


def moment(at: datetime) -> str:
    return f"TIMESTAMP '{at.astimezone(UTC):%Y-%m-%d %H:%M:%S}'"


def changed(results: Sequence[Result]) -> dict[str, int]:
    """Rows changed by partition."""
    return {key: rows for result in results for key, rows in (result.stats.touched or {}).items()}


def start_simulator(credentials: Path, records: int = RECORDS) -> SimulatorThread:
    rows = {"*": 20, "customer": records, "customer_subsidiary": 1500}
    return SimulatorThread(SimulatorOptions(credentials=credentials, rows=rows))


def started_bench(running: SimulatorThread, warehouse_url: str) -> Iterator[Bench]:
    """A bench whose customers were imported whole, and are the account's as they were at first, afterwards too."""
    engine = make_engine(warehouse_url, pool_size=3)
    running.sql(
        "DELETE FROM customer WHERE id > 900000",
        "DELETE FROM deletedrecord WHERE type = 'x'",
        f"UPDATE customer SET lastmodifieddate = {moment(MIDNIGHT - 40 * DAY)}",
        "CREATE OR REPLACE TABLE removed AS SELECT * FROM customer WHERE false",
    )
    made = Bench(engine, running)
    made.run(MIDNIGHT - 30 * DAY, mode="full")
    yield made
    running.sql("INSERT INTO customer SELECT * FROM removed")
    made.client.close()
    engine.dispose()
