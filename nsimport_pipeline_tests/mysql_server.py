"""A private MySQL or MariaDB server for tests and benchmarks.

Belongs here: finding, initialising, starting, killing and restarting the server. Does not belong here: pytest fixtures
(``conftest.py``) or anything that knows what is stored in it.
"""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import pymysql
import sqlalchemy as sa

USER = "nsimport"
PASSWORD = "private-test-password"


class MysqlServer:
    """One server process on its own data directory, port and socket. ``start`` works again after ``kill``."""

    def __init__(self, directory: Path, *options: str) -> None:
        self._binary = _find("mariadbd", "mysqld")
        self._mariadb = "MariaDB" in subprocess.run([self._binary, "--version"], capture_output=True, text=True).stdout
        self._directory = directory
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        self.socket = str(directory / "s.sock")
        self.port = _free_port()
        self._initialise()

    def url(self, database: str = "") -> str:
        return f"mysql+pymysql://{USER}:{PASSWORD}@127.0.0.1:{self.port}/{database}"

    def socket_url(self, database: str = "") -> str:
        return f"mysql+pymysql://{USER}:{PASSWORD}@/{database}?unix_socket={self.socket}"

    def start(self, *, timeout: float = 60) -> None:
        """Start the server and return when it answers. Raises RuntimeError with the end of its log otherwise."""
        log = self._directory / "server.log"
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [self._binary, *self._common(), *self._listening()], stdout=output, stderr=output
            )
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                self._connect().close()
                return
            except pymysql.err.OperationalError:
                time.sleep(0.05)
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
        self.kill()
        raise RuntimeError(f"{self._binary} did not answer on port {self.port}:\n{tail}")

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """As if the machine had lost power."""
        self._end(signal.SIGKILL)

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def _end(self, how: signal.Signals) -> None:
        if self._process is None:
            return
        self._process.send_signal(how)
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def _connect(self) -> pymysql.Connection:
        return pymysql.connect(host="127.0.0.1", port=self.port, user=USER, password=PASSWORD, connect_timeout=2)

    def _common(self) -> list[str]:
        options = ["--no-defaults", f"--datadir={self._directory / 'data'}", f"--tmpdir={self._directory}"]
        return [*options, "--user=root"] if os.geteuid() == 0 else options

    def _listening(self) -> list[str]:
        grants = self._directory / "grants.sql"
        hosts = ("localhost", "127.0.0.1", "%")
        statements = [f"CREATE USER IF NOT EXISTS '{USER}'@'{host}' IDENTIFIED BY '{PASSWORD}';" for host in hosts]
        statements += [f"GRANT ALL ON *.* TO '{USER}'@'{host}' WITH GRANT OPTION;" for host in hosts]
        grants.write_text("\n".join(statements) + "\n")
        return [
            "--bind-address=127.0.0.1",
            f"--port={self.port}",
            f"--socket={self.socket}",
            f"--pid-file={self._directory / 'server.pid'}",
            f"--init-file={grants}",
            "--skip-name-resolve",
            "--max-connections=200",
            *([] if self._mariadb else ["--mysqlx=OFF"]),
            *self._options,
        ]

    def _initialise(self) -> None:
        if self._mariadb:
            installer = _find("mariadb-install-db", "mysql_install_db")
            command = [installer, *self._common(), "--auth-root-authentication-method=normal", "--skip-test-db"]
        else:
            command = [self._binary, *self._common(), "--initialize-insecure"]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{command[0]} failed:\n{done.stdout[-1000:]}\n{done.stderr[-1000:]}")


@contextmanager
def mysql_server(*options: str) -> Iterator[MysqlServer]:
    """A running private server; ``options`` are passed to it. Its data is deleted at the end."""
    directory = Path(tempfile.mkdtemp(prefix="nsimport-mysql-"))
    server: MysqlServer | None = None
    try:
        server = MysqlServer(directory, *options)
        server.start()
        yield server
    finally:
        if server is not None:
            server.kill()
        shutil.rmtree(directory, ignore_errors=True)


@contextmanager
def fresh_database(server_url: str) -> Iterator[str]:
    """The URL of a new, empty database on the server behind ``server_url``; dropped at the end."""
    url = sa.make_url(server_url)
    name = f"nsimport_{uuid4().hex[:16]}"
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    with engine.begin() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name} CHARACTER SET utf8mb4")
    try:
        yield url.set(database=name).render_as_string(hide_password=False)
    finally:
        with engine.begin() as connection:
            connection.exec_driver_sql(f"DROP DATABASE IF EXISTS {name}")


def server_found() -> bool:
    """Whether this machine has a server to start."""
    try:
        _find("mariadbd", "mysqld")
    except FileNotFoundError:
        return False
    return True


def _find(*names: str) -> str:
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin", "/usr/libexec"])
    for name in names:
        found = shutil.which(name, path=path)
        if found:
            return found
    raise FileNotFoundError(f"none of {', '.join(names)} is installed")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
