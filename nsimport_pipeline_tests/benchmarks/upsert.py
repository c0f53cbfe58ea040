"""How fast rows get into MySQL, for the narrowest, the median and the widest built-in record type.

    python -m nsimport_pipeline_tests.benchmarks upsert
    python -m nsimport_pipeline_tests.benchmarks.upsert [--batches 20] [--threads 1,2,5] [--url mysql+pymysql://…]

Each way writes the same batches of 1000 rows, one transaction each, into an empty table and then again with every row
changed. Printed are rows per second, CPU milliseconds per 1000 rows of this process and of the server, and ratios to
the project's own upsert. The client's CPU counts most: a run's worker threads share one interpreter lock.

- ``upsert``: the project's own.
- ``executemany``: the bare driver's, with the same columns; the floor that SQL through PyMySQL has.
- ``core``: SQLAlchemy Core's executemany with dictionaries.
- ``json_table``: one JSON parameter that the server takes apart; least client CPU, most server CPU, and a conversion
  that fails becomes NULL unless every column says otherwise.
- ``one by one``: a statement and a commit for each row, as the old system did (on a tenth of the rows).
"""

import argparse
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

import orjson
import psutil
import sqlalchemy as sa
from sqlalchemy.dialects import mysql
from sqlalchemy.engine import Connection, Engine

from nsimport_pipeline.imports.execute import WRITERS
from nsimport_pipeline.record_types.criteria import FieldSpec, RecordType, load_catalog
from nsimport_pipeline.record_types.transform import table_columns
from nsimport_pipeline.warehouse.engine import make_engine
from nsimport_pipeline.warehouse.schema import ensure_table, target_table
from nsimport_pipeline.warehouse.upsert import STAMP_COLUMNS, upsert, upsert_statement
from nsimport_pipeline_tests.mysql_server import fresh_database, mysql_server

ROWS = 1000
STAMP = (datetime(2026, 3, 1, 12, 0, 0, 5), "benchmark", None)
WORDS = "acme northwind Zürich 東京 O'Brien order memo approved pending customer line 😀 plain text".split()  # noqa: SIM905
Row = tuple[Any, ...]


@dataclass
class Target:
    table: sa.Table
    columns: tuple[str, ...]

    @property
    def all_columns(self) -> tuple[str, ...]:
        return (*self.columns, *STAMP_COLUMNS)


def value(rng: random.Random, field: FieldSpec, revision: int) -> Any:
    if field.nullable and rng.random() < 0.2:
        return None
    match field.type:
        case "string" | "text" | "json":
            return f"{' '.join(rng.choices(WORDS, k=rng.randint(1, 4)))} {revision}"[: field.length]
        case "boolean":
            return rng.random() < 0.5
        case "date":
            return date(2020, 1, 1) + timedelta(days=rng.randrange(2000))
        case "datetime":
            return datetime(2020, 1, 1) + timedelta(seconds=rng.randrange(10**8))
        case "integer" | "reference":
            return rng.randrange(10**6)
        case _:
            return Decimal(rng.randrange(10**6)).scaleb(-2)


def batches(record_type: RecordType, columns: Sequence[str], count: int, revision: int) -> list[list[Row]]:
    rng = random.Random(revision)
    fields = {field.name: field for field in record_type.fields}

    def row(refid: int) -> Row:
        values = {name: value(rng, field, revision) for name, field in fields.items()}
        raw = orjson.dumps({"id": str(refid), **{k: str(v) for k, v in values.items() if v is not None}}).decode()
        known = {"refid": refid, "external_id": f"EXT-{refid}", "raw": raw, **values}
        return tuple(known.get(name) for name in columns)

    return [[row(batch * ROWS + n) for n in range(ROWS)] for batch in range(count)]


def by_upsert(connection: Connection, target: Target, rows: list[Row]) -> None:
    done = upsert(
        connection,
        target.table,
        target.columns,
        rows,
        raws=[{}] * len(rows),
        import_id=STAMP[1],  # type: ignore[arg-type]
        imported_at=STAMP[0],  # type: ignore[arg-type]
    )
    assert done.written == len(rows)


def by_executemany(connection: Connection, target: Target, rows: list[Row]) -> None:
    statement = upsert_statement(target.table, target.all_columns, connection.dialect)
    connection.begin()  # SQLAlchemy does not see what goes to the driver's own cursor
    cursor = connection.connection.cursor()
    cursor.executemany(statement, [(*row, *STAMP) for row in rows])


def by_core(connection: Connection, target: Target, rows: list[Row]) -> None:
    statement = mysql.insert(target.table)
    changing = {name: statement.inserted[name] for name in target.all_columns if name != "refid"}
    connection.execute(
        statement.on_duplicate_key_update(changing),
        [dict(zip(target.all_columns, (*row, *STAMP), strict=True)) for row in rows],
    )


def by_json_table(connection: Connection, target: Target, rows: list[Row]) -> None:
    names = target.all_columns
    types = {name: str(target.table.c[name].type.compile(connection.dialect)) for name in names}
    paths = ", ".join(f"`{name}` {types[name]} PATH '$[{i}]'" for i, name in enumerate(names))
    statement = (
        f"INSERT INTO {target.table.name} ({', '.join(f'`{n}`' for n in names)}) SELECT * FROM (SELECT * FROM"
        f" JSON_TABLE(CONVERT(%s USING utf8mb4), '$[*]' COLUMNS({paths})) AS j) AS s ON DUPLICATE KEY UPDATE "
        + ", ".join(f"`{n}` = VALUES(`{n}`)" for n in names if n != "refid")
    )
    document = orjson.dumps([(*row, *STAMP) for row in rows], default=str, option=orjson.OPT_PASSTHROUGH_DATETIME)
    connection.exec_driver_sql(statement, (document,))


def one_by_one(connection: Connection, target: Target, rows: list[Row]) -> None:
    statement = upsert_statement(target.table, target.all_columns, connection.dialect)
    for row in rows:
        connection.exec_driver_sql(statement, (*row, *STAMP))
        connection.commit()


WAYS: dict[str, Callable[[Connection, Target, list[Row]], None]] = {
    "upsert": by_upsert,
    "executemany": by_executemany,
    "core": by_core,
    "json_table": by_json_table,
    "one by one": one_by_one,
}


@dataclass
class Measured:
    rows_per_second: float
    client: float
    server: float


def measure(
    engine: Engine, way: str, target: Target, work: list[list[Row]], threads: int, server: psutil.Process | None
) -> Measured:
    todo = [rows[: ROWS // 10] for rows in work] if way == "one by one" else list(work)
    count = sum(map(len, todo))
    lock = threading.Lock()

    def run() -> None:
        while True:
            with lock:
                if not todo:
                    return
                rows = todo.pop(0)
            with engine.connect() as connection:
                WAYS[way](connection, target, rows)
                connection.commit()

    with engine.connect() as connection:
        connection.execute(sa.text("SELECT 1"))
    started, client, other = time.perf_counter(), time.process_time(), cpu(server)
    workers = [threading.Thread(target=run) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    elapsed, client, other = time.perf_counter() - started, time.process_time() - client, cpu(server) - other
    with engine.connect() as connection:
        there = connection.scalar(sa.select(sa.func.count()).select_from(target.table))
    if there != count:
        raise AssertionError(f"{way}: {there} rows in the table, {count} written")
    scale = 1e6 / count
    return Measured(count / elapsed, client * scale, other * scale)


def cpu(process: psutil.Process | None) -> float:
    if process is None:
        return 0.0
    times = process.cpu_times()
    return times.user + times.system


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--batches", type=int, default=20, help="batches of 1000 rows for each measurement")
    parser.add_argument("--threads", default="1,2,5")
    parser.add_argument("--url", help="a server to use (a database is made on it and dropped); default: a private one")
    parser.add_argument("--ways", default=",".join(WAYS))
    for line in compare(parser.parse_args(arguments)):
        print(line, flush=True)


def throughput() -> Iterator[str]:
    """The comparison that matters: ours, the bare driver's, and one by one; as many threads as a run has writers."""
    ways = "upsert,executemany,one by one"
    yield from compare(argparse.Namespace(batches=10, threads=f"1,{WRITERS}", url=None, ways=ways))


def compare(options: argparse.Namespace) -> Iterator[str]:
    """A line for each measurement, as it is made."""
    catalog = sorted(load_catalog().values(), key=lambda record: len(table_columns(record, store_raw=True)))
    chosen = {"narrowest": catalog[0], "median": catalog[len(catalog) // 2], "widest": catalog[-1]}
    with ExitStack() as stack:
        process = None
        url = options.url
        if url is None:
            server = stack.enter_context(mysql_server())
            url, process = server.url(), psutil.Process(server.pid)
        engine = make_engine(stack.enter_context(fresh_database(url)), pool_size=8)
        stack.callback(engine.dispose)
        for label, record in chosen.items():
            columns = table_columns(record, store_raw=True)
            yield (f"\n{label}: {record.name}, {len(columns) + len(STAMP_COLUMNS)} columns")
            yield (
                f"  {'':12} {'threads':>7} {'':8} {'rows/s':>9} {'client ms':>10} {'server ms':>10} {'upsert is':>10}"
            )
            target = Target(target_table(record), columns)
            work = {revision: batches(record, columns, options.batches, revision) for revision in (0, 1)}
            ours: dict[tuple[int, int], Measured] = {}
            for way in options.ways.split(","):
                for threads in map(int, options.threads.split(",")):
                    with engine.begin() as connection:
                        connection.exec_driver_sql(f"DROP TABLE IF EXISTS {record.table}")
                    ensure_table(engine, record)
                    for revision in (0, 1):
                        result = measure(engine, way, target, work[revision], threads, process)
                        reference = ours.setdefault((threads, revision), result)
                        state = "changed" if revision else "new"
                        yield (
                            f"  {way:12} {threads:7} {state:8} {result.rows_per_second:9,.0f}"
                            f" {result.client:10.1f} {result.server:10.1f}"
                            f" {reference.rows_per_second / result.rows_per_second:9.1f}×"
                        )


if __name__ == "__main__":
    main()
