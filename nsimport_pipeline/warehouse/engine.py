"""Connections to a tenant's database.

Belongs here: turning a warehouse URL into an engine whose every session behaves the same (strict, UTC, utf8mb4, bounded
waits), and saying clearly when it cannot be reached. Does not belong here: tables (``schema.py``) and what a driver's
error means (``errors.py``).
"""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import URL, Connection, Engine
from sqlalchemy.pool import ConnectionPoolEntry

from nsimport_pipeline.errors import ConfigurationError, TimedOut
from nsimport_pipeline.warehouse.errors import classify, unreachable
from nsimport_pipeline.warehouse.literals import send_rows

CONNECT_SECONDS = 10
ANSWER_SECONDS = 120
"""Longest wait for one statement's answer. A batch takes under a second; a statement past this limit is stuck."""
PATIENT_SECONDS = 3600
"""For a statement over all of a large table."""
LOCK_WAIT_SECONDS = 30
RECYCLE_SECONDS = 1800

READ_ONLY = "nsimport_read_only"
"""Execution option of connections that will not write: on SQLite they then never wait for a writer."""

# Strict, so that a value which does not fit is an error and never silently cut. Backslash escapes stay on.
_SQL_MODE = "STRICT_ALL_TABLES,NO_ZERO_DATE,NO_ZERO_IN_DATE,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION"
_SESSION = f"SET sql_mode='{_SQL_MODE}', time_zone='+00:00', innodb_lock_wait_timeout={LOCK_WAIT_SECONDS}"


def make_engine(url: str, *, pool_size: int, answer_seconds: int = ANSWER_SECONDS) -> Engine:
    """An engine for the warehouse at ``url`` (``mysql+pymysql://…`` or ``sqlite:///file``); connects to nothing yet.

    ``pool_size``: connections kept, one for each thread that uses the engine at the same time.
    Raises ConfigurationError, without the URL's secrets, for one that is malformed or not supported.
    """
    try:
        parsed = sa.make_url(url)
    except (sa.exc.ArgumentError, ValueError):
        raise ConfigurationError(
            "warehouse_url is not a database URL: write mysql+pymysql://user:password@host/database or sqlite:///file"
            " (special characters in the password must be percent-encoded)"
        ) from None
    backend, _, driver = parsed.drivername.partition("+")
    if backend in ("mysql", "mariadb") and driver in ("", "pymysql"):
        return _mysql_engine(parsed, pool_size, answer_seconds)
    if backend == "sqlite" and driver in ("", "pysqlite"):
        return _sqlite_engine(parsed, pool_size)
    raise ConfigurationError(
        f"warehouse_url begins with {parsed.drivername}://, which is not supported: use mysql+pymysql:// or sqlite:///"
    )


@contextmanager
def patient(engine: Engine) -> Iterator[Engine]:
    """An engine of one connection to the same database that waits an hour for an answer: for work on whole tables."""
    waiting = make_engine(engine.url.render_as_string(hide_password=False), pool_size=1, answer_seconds=PATIENT_SECONDS)
    try:
        yield waiting
    finally:
        waiting.dispose()


def read_only(engine: Engine) -> Engine:
    """``engine`` for reading: same pool, but its transactions never wait for, or hold up, a writer on SQLite."""
    return engine.execution_options(**{READ_ONLY: True})


def check_reachable(engine: Engine) -> None:
    """Connect once. Raises ConfigurationError if the database refuses or does not exist, TimedOut if it is busy."""
    try:
        with read_only(engine).connect() as connection:
            connection.execute(sa.text("SELECT 1"))
            if engine.dialect.name == "sqlite":
                connection.exec_driver_sql("SELECT count(*) FROM sqlite_master")
    except sa.exc.SQLAlchemyError as error:
        failure = classify(error)
        where = location(engine.url)
        if isinstance(failure, TimedOut) and not unreachable(error):
            raise TimedOut(f"database {where}: {failure}") from None
        raise ConfigurationError(f"warehouse_url: database {where}: {failure}") from None


def location(url: URL) -> str:
    """Where a database is, for people: host, port and name, or the file; no user, no password."""
    if url.get_backend_name() == "sqlite":
        return str(url.database)
    socket = url.query.get("unix_socket")
    host = f"{url.host or 'localhost'}:{url.port or 3306}" if socket is None else str(socket)
    return f"{url.database or '(none)'} at {host}"


def _mysql_engine(url: URL, pool_size: int, answer_seconds: int) -> Engine:
    if not url.database:
        raise ConfigurationError("warehouse_url names no database: write mysql+pymysql://user:password@host/database")
    # The character set is not the user's to choose: texts arrive untouched only in utf8mb4.
    url = url.set(drivername="mysql+pymysql").difference_update_query(["charset"])
    defaults = {"connect_timeout": CONNECT_SECONDS, "read_timeout": answer_seconds, "write_timeout": answer_seconds}
    connect_args: dict[str, Any] = {
        "charset": "utf8mb4",
        "init_command": _SESSION,
        **{key: value for key, value in defaults.items() if key not in url.query},
    }
    try:
        engine = sa.create_engine(
            url,
            connect_args=connect_args,
            hide_parameters=True,
            paramstyle="format",  # positions, not names: a batch's values come as tuples
            # Neighbouring key ranges are written side by side: without gap locks they keep out of each other's way.
            isolation_level="READ COMMITTED",
            pool_size=pool_size,
            max_overflow=2,
            pool_timeout=LOCK_WAIT_SECONDS,
            pool_pre_ping=True,
            pool_recycle=RECYCLE_SECONDS,
            pool_use_lifo=True,
        )
    except (TypeError, ValueError, sa.exc.ArgumentError):
        raise ConfigurationError("warehouse_url has an option that the MySQL driver does not know") from None
    sa.event.listen(engine, "do_execute", send_rows)
    return engine


def _sqlite_engine(url: URL, pool_size: int) -> Engine:
    if not url.database or url.database == ":memory:" or "mode=memory" in url.database:
        raise ConfigurationError("warehouse_url: a SQLite warehouse must be a file, which several processes can share")
    engine = sa.create_engine(
        url,
        connect_args={"timeout": LOCK_WAIT_SECONDS, "check_same_thread": False},
        hide_parameters=True,
        poolclass=sa.QueuePool,
        pool_size=pool_size,
        max_overflow=2,
        pool_timeout=LOCK_WAIT_SECONDS,
    )
    sa.event.listen(engine, "connect", _set_up_sqlite)
    sa.event.listen(engine, "begin", _begin_sqlite)
    return engine


def _set_up_sqlite(connection: Any, _entry: ConnectionPoolEntry) -> None:
    connection.isolation_level = None  # the driver begins no transactions of its own; _begin_sqlite does
    cursor = connection.cursor()
    _write_ahead(cursor)
    # A power cut can take back the last commits, rows and batch state together; it cannot damage the file.
    cursor.execute("PRAGMA synchronous = NORMAL")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()


def _write_ahead(cursor: sqlite3.Cursor) -> None:
    """Make a new file one that is read while it is written; every file is new once, to several processes maybe."""
    deadline = time.monotonic() + LOCK_WAIT_SECONDS
    while cursor.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        try:
            cursor.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            # Whoever comes second is told so at once, however long the busy timeout is.
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def _begin_sqlite(connection: Connection) -> None:
    # A transaction that reads first and writes later fails at once when another has written in between, however long
    # the busy timeout is; one that takes the write lock at its start waits its turn.
    reads = connection.get_execution_options().get(READ_ONLY, False)
    connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")
