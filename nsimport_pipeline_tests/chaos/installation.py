"""One real installation that many imports share: a daemon, a database server, some tenants, each with its simulator.

Belongs here: starting, killing and restarting the processes, the tenants file, calling ``nsimport``. Does not belong
here: when something is killed (``drive.py``), or what must hold (``verify.py``).
"""

import os
import random
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any

import dagster as dg
import psutil
import sqlalchemy as sa
import yaml

from nsimport_pipeline.commands.processes import daemon_command, daemon_runs
from nsimport_pipeline_tests import mysql_server as private_mysql
from nsimport_pipeline_tests.commands import call

PROJECT = Path(__file__).parents[2]
ALIVE = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


class Installation:
    """A context manager that ends whatever it started; what is left in ``directory`` is for reading.

    ``storage``: where Dagster keeps its own records, ``sqlite`` or ``mysql``.
    """

    def __init__(self, directory: Path, lanes: int, storage: str) -> None:
        self.directory, self.storage = directory, storage
        self.home = directory / "dagster_home"
        self.tenants_file = directory / "tenants.yaml"
        self.lanes = [f"lane{number}" for number in range(lanes)]
        self._tenants: dict[str, dict[str, Any]] = {}
        self._stack = ExitStack()
        self._daemon: subprocess.Popen[bytes] | None = None
        self.process_lock = threading.Lock()
        """Held while daemon or database server are down on purpose."""
        self._file_lock = threading.Lock()

    def __enter__(self) -> "Installation":
        self.home.mkdir(parents=True)
        try:
            self._start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._daemon is not None:
            self._end_daemon()
        # Of imports that were broken off.
        for process in psutil.Process().children(recursive=True):
            if "simulate" in _command_line(process):
                _kill(process.pid)
        self._stack.close()

    def _start(self) -> None:
        # A killed server (not: machine) loses nothing that was handed to the system.
        self.mysql = self._stack.enter_context(
            private_mysql.mysql_server("--innodb-flush-log-at-trx-commit=2", "--max-connections=600")
        )
        variables = {
            "DAGSTER_HOME": str(self.home),
            "NSIMPORT_TENANTS": str(self.tenants_file),
            "COLUMNS": "200",
            "DAGSTER_MYSQL_HOST": "127.0.0.1",
            "DAGSTER_MYSQL_PORT": str(self.mysql.port),
            "DAGSTER_MYSQL_DATABASE": "dagster",
            "DAGSTER_MYSQL_USER": private_mysql.USER,
            "DAGSTER_MYSQL_PASSWORD": private_mysql.PASSWORD,
        }
        self.environ = {**os.environ, **variables}
        os.environ.update(variables)
        self.execute("CREATE DATABASE dagster CHARACTER SET utf8mb4")
        self._write_dagster_yaml()
        for lane in self.lanes:
            self._tenants[lane] = self._nobody()
        self._write_tenants()
        self.instance = self._stack.enter_context(dg.DagsterInstance.from_config(str(self.home)))
        self.start_daemon()

    def _write_dagster_yaml(self) -> None:
        source = PROJECT / ("dagster.yaml" if self.storage == "sqlite" else "deploy/mysql/dagster.yaml")
        settings = yaml.safe_load(source.read_text(encoding="utf-8"))
        # Nobody waits three minutes here for a run that never began or never ended.
        settings["run_monitoring"] |= {"start_timeout_seconds": 75, "cancel_timeout_seconds": 20}
        (self.home / "dagster.yaml").write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")

    # Tenants

    def _nobody(self) -> dict[str, Any]:
        """A tenant that nothing is imported for yet."""
        keys = dict.fromkeys(("consumer_key", "consumer_secret", "token_id", "token_secret"), "none")
        url = f"sqlite:///{self.directory / 'nobody.db'}"
        return {"account": "TSTDRV1", "auth": {"method": "tba", **keys}, "warehouse_url": url}

    def occupy(self, lane: str, settings: Mapping[str, Any]) -> None:
        """Make a lane the tenant that ``settings`` describes."""
        with self._file_lock:
            self._tenants[lane] = dict(settings)
            self._write_tenants()

    def leave(self, lane: str, record_types: Iterable[str]) -> None:
        """Make a lane a tenant again that nothing was imported for: its partitions and colours are the next one's."""
        self.occupy(lane, self._nobody())
        with self.process_lock:
            for run in self.instance.get_runs(dg.RunsFilter(tags={"nsimport/tenant": lane}, statuses=ALIVE)):
                # Only of an import that came to no end.
                pid = self._pid_of(run.run_id)
                if pid is not None:
                    _kill(pid)
                self.instance.report_run_failed(run, "given up")
            for name in record_types:
                self.instance.wipe_assets([dg.AssetKey([lane, name])])
                for key in self.instance.get_dynamic_partitions(f"{lane}/{name}"):
                    self.instance.delete_dynamic_partition(f"{lane}/{name}", key)

    def _write_tenants(self) -> None:
        part = self.tenants_file.with_suffix(".part")
        part.write_text(yaml.safe_dump({"tenants": self._tenants}, sort_keys=False), encoding="utf-8")
        part.replace(self.tenants_file)

    @contextmanager
    def fresh_database(self, kind: str, name: str) -> Iterator[str]:
        """The URL of a new, empty database; it stays if the block is left with an exception."""
        if kind == "sqlite":
            # A file taken away under a process that has it open leaves its log behind, for the next of its name.
            files = (self.directory / f"{name}_{n}.db" for n in count(1))
            yield f"sqlite:///{next(file for file in files if not file.exists())}"
            return
        self.execute(f"DROP DATABASE IF EXISTS {name}", f"CREATE DATABASE {name} CHARACTER SET utf8mb4")
        yield self.mysql.url(name)
        self.execute(f"DROP DATABASE {name}")

    def execute(self, *statements: str) -> list[Any]:
        """Run statements on the database server; rows of the last one. Waits for a server that is being restarted."""
        engine = sa.create_engine(self.mysql.url(), poolclass=sa.NullPool)
        with self.process_lock, engine.begin() as connection:
            result = [connection.exec_driver_sql(statement) for statement in statements][-1]
            return list(result) if result.returns_rows else []

    # Commands

    def nsimport(self, *arguments: str, timeout: float = 120) -> tuple[int, str, str]:
        """Run a command as a user would: exit code, stdout and stderr."""
        done = call(arguments, environ=self.environ, directory=self.directory, timeout=timeout)
        return done.returncode, done.stdout, done.stderr

    # Processes

    def start_daemon(self) -> None:
        """Start the daemon, as ``nsimport up`` does, and wait until it shows life."""
        with suppress(Exception):
            self.instance.wipe_daemon_heartbeats()
        with (self.directory / "daemon.log").open("ab") as log:
            self._daemon = subprocess.Popen(
                daemon_command(),
                env=self.environ,
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline:
            with suppress(Exception):
                if daemon_runs(self.instance, time.time()):
                    return
            time.sleep(0.2)
        raise AssertionError("the daemon shows no life")

    def kill_daemon(self) -> None:
        """SIGKILL for the daemon alone; a new one is started."""
        with self.process_lock:
            assert self._daemon is not None
            self._daemon.kill()
            self._daemon.wait()
            self.start_daemon()

    def kill_everything(self) -> None:
        """SIGKILL for the daemon and all it started, as if the machine had been switched off; a new one is started."""
        with self.process_lock:
            self._end_daemon()
            self.start_daemon()

    def _end_daemon(self) -> None:
        assert self._daemon is not None
        for process in self._family():
            _kill(process.pid)
        self._daemon.wait()

    def _family(self) -> list[psutil.Process]:
        """The daemon, its code servers and the runs they started, with those that lost their parent."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.environ().get("DAGSTER_HOME") == str(self.home) and process.pid != os.getpid():
                    found.append(process)
        ours = {os.getpid(), *(child.pid for child in psutil.Process().children(recursive=True))}
        daemon = self._daemon.pid if self._daemon else 0
        return [p for p in found if p.pid == daemon or p.pid not in ours or _descends(p, daemon)]

    def kill_code_server(self) -> bool:
        """SIGKILL for a code server of the daemon. False if none was found."""
        servers = [p for p in self._family() if "grpc" in _command_line(p)]
        for server in servers:
            _kill(server.pid)
        return bool(servers)

    def kill_run(self, lane: str, chance: random.Random) -> str | None:
        """SIGKILL for the process of one of a tenant's runs; what was killed, or None if none has one."""
        runs = self.instance.get_runs(
            dg.RunsFilter(tags={"nsimport/tenant": lane}, statuses=[dg.DagsterRunStatus.STARTED])
        )
        chance.shuffle(runs)
        for run in runs:
            pid = self._pid_of(run.run_id)
            if pid is not None and _kill(pid):
                return run.run_id
        return None

    def _pid_of(self, run_id: str) -> int | None:
        for entry in self.instance.all_logs(run_id, of_type=dg.DagsterEventType.ENGINE_EVENT):
            data = getattr(entry.dagster_event, "event_specific_data", None)
            pid = (getattr(data, "metadata", None) or {}).get("pid")
            if pid is not None:
                return int(str(pid.value))
        return None

    def seen(self, lane: str) -> str:
        """What Dagster knows of a tenant, for somebody who wonders why nothing goes on."""
        lines = [f"daemon {self._daemon.pid if self._daemon else None}, ended: {self._daemon and self._daemon.poll()}"]
        lines += [
            f"{kind} seen {time.time() - beat.timestamp:.0f} s ago, {len(beat.errors or [])} errors"
            for kind, daemon in self.instance.get_daemon_statuses().items()
            if (beat := daemon.last_heartbeat) is not None
        ]
        lines += [
            f"run {run.run_id} {run.status.value} {run.tags}"
            for run in self.instance.get_runs(dg.RunsFilter(tags={"nsimport/tenant": lane}, statuses=ALIVE))
        ]
        for sensor in self.instance.all_instigator_state():
            for tick in self.instance.get_ticks(sensor.instigator_origin_id, sensor.selector_id, limit=2):
                what = tick.skip_reason or tick.error or tick.run_ids
                ago = time.time() - tick.timestamp
                lines.append(f"{sensor.instigator_name} {tick.status.value} {ago:.0f} s ago: {str(what)[:500]}")
        log = (self.directory / "daemon.log").read_text(errors="replace").splitlines()[-60:]
        return "\n".join([*lines, *(line[:300] for line in log)])

    def restart_database(self, down: float) -> None:
        """Kill the database server as a power cut would, and start it again after ``down`` seconds."""
        with self.process_lock:
            self.mysql.kill()
            time.sleep(down)
            self.mysql.start()

    def cut_connections(self, database: str) -> int:
        """Kill every connection to a database; how many there were."""
        ids = self.execute(f"SELECT id FROM information_schema.processlist WHERE db = '{database}'")
        for (connection,) in ids:
            with suppress(sa.exc.SQLAlchemyError):
                self.execute(f"KILL {connection}")
        return len(ids)


def _kill(pid: int) -> bool:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def _descends(process: psutil.Process, ancestor: int) -> bool:
    with suppress(psutil.Error):
        return any(parent.pid == ancestor for parent in process.parents())
    return False


def _command_line(process: psutil.Process) -> str:
    with suppress(psutil.Error):
        return " ".join(process.cmdline())
    return ""


def empty(directory: Path) -> Path:
    """``directory``, with nothing in it."""
    shutil.rmtree(directory, ignore_errors=True)
    return directory
