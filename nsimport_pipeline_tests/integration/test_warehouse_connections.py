"""Connections to real databases: how sessions behave, and what a caller sees when one breaks."""

import multiprocessing
import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any

import pymysql
import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from nsimport_pipeline.errors import AccessDenied, ConfigurationError, DatabaseSchemaError, TimedOut
from nsimport_pipeline.warehouse.engine import check_reachable, make_engine, read_only
from nsimport_pipeline.warehouse.errors import classify
from nsimport_pipeline.warehouse.schema import ensure_table, target_table
from nsimport_pipeline_tests.integration.warehouse_records import record_type, store, stored
from nsimport_pipeline_tests.mysql_server import MysqlServer, fresh_database

THING = record_type([{"name": "name", "type": "string", "length": 20}])
TABLE = target_table(THING)
Opener = Callable[..., Engine]


@pytest.fixture
def opened() -> Iterator[Opener]:
    """``make_engine`` whose engines are closed at the end."""
    engines: list[Engine] = []

    def open_engine(url: str, pool_size: int = 2) -> Engine:
        engines.append(make_engine(url, pool_size=pool_size))
        return engines[-1]

    yield open_engine
    for engine in engines:
        engine.dispose()


def write(engine: Engine, *rows: tuple[int, str]) -> None:
    with engine.begin() as connection:
        store(connection, TABLE, ("refid", "name"), rows)


# MySQL


def test_every_session_is_strict_in_utc_and_utf8mb4(mysql_url: str, opened: Opener) -> None:
    with opened(mysql_url + "?charset=latin1").connect() as connection:
        mode, zone, client, isolation = connection.exec_driver_sql(
            "SELECT @@sql_mode, @@time_zone, @@character_set_client, @@tx_isolation"
            if connection.dialect.is_mariadb
            else "SELECT @@sql_mode, @@time_zone, @@character_set_client, @@transaction_isolation"
        ).one()
    assert "STRICT_ALL_TABLES" in mode
    assert "NO_BACKSLASH_ESCAPES" not in mode
    assert (zone, client, isolation) == ("+00:00", "utf8mb4", "READ-COMMITTED")


def test_a_unix_socket_works_as_well_as_a_port(mysql_server: MysqlServer, opened: Opener) -> None:
    with fresh_database(mysql_server.socket_url()) as url:
        assert "unix_socket" in url
        engine = opened(url)
        check_reachable(engine)
        ensure_table(engine, THING)
        write(engine, (1, "over a socket"))
        assert stored(engine, TABLE, "name") == [("over a socket",)]


def test_a_connection_that_the_server_closed_is_opened_again(mysql_url: str, opened: Opener) -> None:
    engine = opened(mysql_url)
    ensure_table(engine, THING)
    with engine.connect() as connection:
        mine = connection.scalar(sa.text("SELECT CONNECTION_ID()"))
    with opened(mysql_url).connect() as other:
        other.exec_driver_sql(f"KILL {mine}")
    write(engine, (1, "after"))
    assert stored(engine, TABLE, "name") == [("after",)]


def test_a_connection_killed_inside_a_transaction_is_timed_out_and_leaves_nothing_half_written(
    mysql_url: str, opened: Opener
) -> None:
    engine = opened(mysql_url)
    ensure_table(engine, THING)

    def batch() -> None:
        with engine.begin() as connection:
            store(connection, TABLE, ("refid", "name"), [(1, "first half")])
            mine = connection.scalar(sa.text("SELECT CONNECTION_ID()"))
            with opened(mysql_url).connect() as other:
                other.exec_driver_sql(f"KILL {mine}")
            store(connection, TABLE, ("refid", "name"), [(2, "second half")])

    with pytest.raises(TimedOut, match="connection"):
        batch()
    assert stored(engine, TABLE) == []
    write(engine, (1, "again"))
    assert stored(engine, TABLE, "name") == [("again",)]


def test_a_server_killed_inside_a_transaction_leaves_nothing_half_written(
    mysql_server: MysqlServer, opened: Opener
) -> None:
    with fresh_database(mysql_server.url()) as url:
        engine = opened(url)
        ensure_table(engine, THING)
        write(engine, (1, "committed"))

        def batch() -> None:
            with engine.begin() as connection:
                store(connection, TABLE, ("refid", "name"), [(1, "changed"), (2, "new")])
                mysql_server.kill()
                store(connection, TABLE, ("refid", "name"), [(3, "newer")])

        try:
            with pytest.raises(TimedOut):
                batch()
            with pytest.raises(ConfigurationError, match=str(mysql_server.port)):
                check_reachable(engine)
        finally:
            mysql_server.start()
        assert stored(engine, TABLE, "refid", "name") == [(1, "committed")]


def test_waiting_too_long_for_a_lock_is_timed_out(mysql_url: str, opened: Opener) -> None:
    engine = opened(mysql_url)
    ensure_table(engine, THING)
    write(engine, (1, "locked"))
    with engine.begin() as holder:
        holder.execute(sa.select(TABLE).with_for_update())
        with engine.connect() as waiter:
            waiter.exec_driver_sql("SET innodb_lock_wait_timeout = 1")
            with pytest.raises(TimedOut, match="lock"):
                store(waiter, TABLE, ("refid", "name"), [(1, "waiting")])
            waiter.invalidate()


def test_a_deadlock_is_timed_out_for_one_and_success_for_the_other(mysql_url: str, opened: Opener) -> None:
    engine = opened(mysql_url)
    ensure_table(engine, THING)
    write(engine, (1, "a"), (2, "b"))
    both_hold_one = threading.Barrier(2, timeout=20)
    outcomes: list[str] = []

    def work(first: int, second: int) -> None:
        try:
            with engine.begin() as connection:
                store(connection, TABLE, ("refid", "name"), [(first, "x")])
                both_hold_one.wait()
                store(connection, TABLE, ("refid", "name"), [(second, "x")])
            outcomes.append("stored")
        except TimedOut as error:
            outcomes.append("deadlock" if "deadlock" in str(error) else str(error))

    threads = [threading.Thread(target=work, args=pair) for pair in ((1, 2), (2, 1))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["deadlock", "stored"]


def test_batches_of_neighbouring_keys_do_not_lock_each_other_out(mysql_url: str, opened: Opener) -> None:
    engine = opened(mysql_url, 5)
    ensure_table(engine, THING)
    errors: list[str] = []

    def work(worker: int) -> None:
        for batch in range(worker, 40, 5):
            try:
                write(engine, *((batch * 50 + i, f"{batch}") for i in range(50)))
            except Exception as error:
                errors.append(str(error))

    for _ in range(2):
        threads = [threading.Thread(target=work, args=(n,)) for n in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert errors == []
    assert len(stored(engine, TABLE, "refid")) == 2000


def test_what_the_server_refuses_at_the_door_is_said_without_the_password(mysql_url: str, opened: Opener) -> None:
    url = sa.make_url(mysql_url)
    password = str(url.password)
    wrong = {
        "user or password": url.set(password="secret-and-wrong"),
        "does not exist": url.set(database="no_such_database"),
        "cannot be reached": url.set(port=1),
        "127.0.0.1:1": url.set(port=1),
    }
    for expected, broken in wrong.items():
        with pytest.raises(ConfigurationError, match=expected) as caught:
            check_reachable(opened(broken.render_as_string(hide_password=False)))
        assert "secret" not in str(caught.value)
        assert password not in str(caught.value)


def test_a_full_server_is_busy_and_not_misconfigured(mysql_server: MysqlServer, opened: Opener) -> None:
    held: list[pymysql.Connection] = []
    url = sa.make_url(mysql_server.url("mysql"))
    arguments: dict[str, Any] = {"host": url.host, "port": url.port, "user": "limited", "password": "x"}
    with opened(mysql_server.url("mysql")).begin() as connection:
        connection.exec_driver_sql("CREATE USER limited@'%%' IDENTIFIED BY 'x' WITH MAX_USER_CONNECTIONS 1")
        connection.exec_driver_sql("GRANT SELECT ON mysql.* TO limited@'%%'")
    try:
        held.append(pymysql.connect(**arguments))
        limited = url.set(username="limited", password="x").render_as_string(hide_password=False)
        with pytest.raises(TimedOut):
            check_reachable(opened(limited))
    finally:
        for one in held:
            one.close()
        with opened(mysql_server.url("mysql")).begin() as connection:
            connection.exec_driver_sql("DROP USER limited@'%%'")


def test_a_user_without_rights_is_denied_access(mysql_server: MysqlServer, opened: Opener) -> None:
    with fresh_database(mysql_server.url()) as url:
        owner = opened(url)
        ensure_table(owner, THING)
        with owner.begin() as connection:
            connection.exec_driver_sql("CREATE USER reader@'%%' IDENTIFIED BY 'r'")
            connection.exec_driver_sql("GRANT SELECT ON *.* TO reader@'%%'")
        try:
            reader = opened(sa.make_url(url).set(username="reader", password="r").render_as_string(hide_password=False))
            with pytest.raises(AccessDenied, match="lacks a right"):
                write(reader, (1, "no"))
            with pytest.raises(AccessDenied, match="table others"):
                ensure_table(reader, record_type([], table="others"))
        finally:
            with owner.begin() as connection:
                connection.exec_driver_sql("DROP USER reader@'%%'")


def test_errors_from_a_real_server_never_repeat_values(mysql_url: str, opened: Opener) -> None:
    engine = opened(mysql_url)
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "CREATE TABLE t (id INT PRIMARY KEY, n INT, s VARCHAR(3), d DATE, m DECIMAL(4,2), r INT NOT NULL DEFAULT 0,"
            " u VARCHAR(99) UNIQUE, CONSTRAINT positive CHECK (n > 0))"
        )
        connection.exec_driver_sql("INSERT INTO t (id, u) VALUES (1, 'secret for column `r` at row 1')")
    statements = {
        "INSERT INTO t (id, n) VALUES (2, 'secret')": "n",
        "INSERT INTO t (id, n) VALUES (2, 99999999999)": "n",
        "INSERT INTO t (id, s) VALUES (2, 'secret')": "s",
        "INSERT INTO t (id, d) VALUES (2, 'secret')": "d",
        "INSERT INTO t (id, d) VALUES (2, 'secret'' for column `r` at row 1')": "d",
        "INSERT INTO t (id, m) VALUES (2, 'secret')": "m",
        "INSERT INTO t (id, r) VALUES (2, NULL)": "r",
        "INSERT INTO t (r) VALUES (2)": "id",
        "INSERT INTO t (id, u) VALUES (2, 'secret for column `r` at row 1')": None,
        "INSERT INTO t (id, n) VALUES (2, -1)": None,
        "INSERT INTO t (id, secret) VALUES (2, 'x')": "secret",
        "INSERT INTO missing VALUES ('secret')": None,
        "INSERT INTO t VALUES ('secret' 'secret' syntax": "-",
    }
    for statement, column in statements.items():
        with engine.connect() as connection, pytest.raises(sa.exc.DBAPIError) as caught:
            connection.exec_driver_sql(statement)
        failure = classify(caught.value)
        if column != "secret":
            assert "secret" not in str(failure), statement
        if column != "-":
            assert isinstance(failure, DatabaseSchemaError), statement
            assert failure.column == column, statement


# SQLite


def test_sqlite_is_used_by_readers_while_someone_writes(sqlite_url: str, opened: Opener) -> None:
    engine = opened(sqlite_url)
    ensure_table(engine, THING)
    write(engine, (1, "before"))
    with engine.begin() as connection:
        store(connection, TABLE, ("refid", "name"), [(1, "not yet committed")])
        assert stored(read_only(engine), TABLE, "name") == [("before",)]
    assert stored(read_only(engine), TABLE, "name") == [("not yet committed",)]


def test_a_locked_sqlite_file_is_timed_out(sqlite_url: str, opened: Opener) -> None:
    engine = opened(sqlite_url)
    ensure_table(engine, THING)
    holder = sqlite3.connect(str(engine.url.database), isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    try:
        with engine.connect() as impatient:
            impatient.execution_options(nsimport_read_only=True).exec_driver_sql("PRAGMA busy_timeout = 50")
            with pytest.raises(TimedOut, match="busy"):
                store(impatient, TABLE, ("refid", "name"), [(1, "no")])
            impatient.rollback()
            impatient.invalidate()
    finally:
        holder.close()
    write(engine, (1, "yes"))
    assert stored(engine, TABLE, "name") == [("yes",)]


def _write_many(url: str, worker: int, results: Any) -> None:
    try:
        engine = make_engine(url, pool_size=2)
        ensure_table(engine, THING)
        for batch in range(10):
            write(engine, *((worker * 1000 + batch * 10 + i, "x") for i in range(10)))
        results.put("done")
    except Exception as error:
        results.put(f"{type(error).__name__}: {error}")


def test_several_processes_write_one_sqlite_file_from_its_first_moment(sqlite_url: str, opened: Opener) -> None:
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    processes = [context.Process(target=_write_many, args=(sqlite_url, n, results)) for n in range(4)]
    for process in processes:
        process.start()
    assert [results.get(timeout=60) for _ in processes] == ["done"] * 4
    for process in processes:
        process.join()
    assert len(stored(opened(sqlite_url), TABLE, "refid")) == 400


def test_several_open_a_sqlite_file_that_is_new_at_the_same_moment(tmp_path: Path, opened: Opener) -> None:
    together = threading.Barrier(8)

    def first_look(file: Path) -> str:
        engine = opened(f"sqlite:///{file}")
        together.wait()
        with read_only(engine).connect() as connection:
            return str(connection.exec_driver_sql("PRAGMA journal_mode").scalar())

    with ThreadPoolExecutor(together.parties) as pool:
        for number in range(40):
            file = tmp_path / f"{number}.db"
            assert list(pool.map(first_look, [file] * together.parties)) == ["wal"] * together.parties


def test_a_sqlite_file_that_cannot_be_used_is_a_configuration_error(tmp_path: Path, opened: Opener) -> None:
    with pytest.raises(ConfigurationError, match=r"no/such/warehouse\.db: .*cannot be opened"):
        check_reachable(opened(f"sqlite:///{tmp_path}/no/such/warehouse.db"))
    other = tmp_path / "letter.txt"
    other.write_text("this is not a database, but it is long enough to look into" * 100)
    with pytest.raises(ConfigurationError, match="not a SQLite database"):
        check_reachable(opened(f"sqlite:///{other}"))


def test_sqlite_keeps_short_decimals_as_numbers_that_can_be_summed(sqlite_url: str, opened: Opener) -> None:
    engine = opened(sqlite_url)
    money = record_type([{"name": "amount", "type": "money"}])
    ensure_table(engine, money)
    with engine.begin() as connection:
        amounts = ("0.10", "0.20", "12.00", "-7.5")
        store(connection, target_table(money), ("refid", "amount"), [(i, Decimal(a)) for i, a in enumerate(amounts, 1)])
    plain = sqlite3.connect(str(engine.url.database))
    assert plain.execute("SELECT amount FROM things ORDER BY amount").fetchall() == [(-7.5,), (0.1,), (0.2,), (12,)]
    plain.close()
