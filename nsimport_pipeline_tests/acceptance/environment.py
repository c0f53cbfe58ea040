"""A whole installation in a directory of its own: simulator, tenants file, DAGSTER_HOME, daemon, webserver, database.

Belongs here: starting and stopping the real processes, calling ``nsimport`` as a user does, looking into Dagster.
Does not belong here: what is expected of them (the tests), or reading NetSuite (``reference.py``).
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import dagster as dg
import requests
import sqlalchemy as sa
import yaml

from nsimport_pipeline.commands.processes import daemon_command, daemon_runs, free_port, webserver_command
from nsimport_pipeline.simulator.options import SimulatorOptions
from nsimport_pipeline.simulator.process import SimulatorProcess
from nsimport_pipeline_tests.commands import call

PROJECT = Path(__file__).parents[2]
TENANT = "acme"
PATIENCE = 3
"""How many times as long as a test says may be waited, on machines that are slow or busy. Costs nothing where all goes
well, as nothing waits longer than it has to."""
T = TypeVar("T")


@dataclass
class Environment:
    """One installation with a tenant ``acme``; a context manager that ends whatever it started."""

    directory: Path
    warehouse_url: str
    rows: Mapping[str, int]
    """Records of each type at the simulator, as its ``--rows``."""
    auth: str = "oauth2"
    """``oauth2``, ``oauth2_ec`` or ``tba``."""
    latency: float = 0.0
    slots: int = 5
    tenant: Mapping[str, Any] = field(default_factory=dict)
    """More keys of the tenant."""
    others: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """More tenants: what is different from ``acme``."""
    dagster_yaml: Path = PROJECT / "dagster.yaml"
    variables: dict[str, str] = field(default_factory=dict)
    """More environment variables for every process."""

    def __post_init__(self) -> None:
        self.home = self.directory / "dagster_home"
        self.tenants_file = self.directory / "tenants.yaml"
        self.said: list[str] = []
        """Everything that commands printed."""
        self._services: dict[str, subprocess.Popen[bytes]] = {}
        self._stack = ExitStack()
        self._webserver: str | None = None

    def __enter__(self) -> "Environment":
        self.home.mkdir(parents=True)
        shutil.copy(self.dagster_yaml, self.home / "dagster.yaml")
        options = SimulatorOptions(
            credentials=self.directory / "simulator", rows=self.rows, latency=self.latency, slots=self.slots
        )
        self.simulator = self._stack.enter_context(SimulatorProcess(options))
        self._write_tenants(options)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in reversed(self._services.values()):
            _end(process)
        self._stack.close()

    def _write_tenants(self, options: SimulatorOptions) -> None:
        secret: dict[str, str] = getattr(self.simulator.credentials, self.auth)
        auth: dict[str, Any] = {}
        for key, value in secret.items():
            if key in ("method", "algorithm"):
                auth[key] = value
            else:
                self.variables[f"ACME_{key.upper()}"] = value
                auth[key] = f"${{ACME_{key.upper()}}}"
        url = sa.make_url(self.warehouse_url)
        text = self.warehouse_url
        if url.password is not None:
            self.variables["ACME_DB_PASSWORD"] = str(url.password)
            text = text.replace(f":{url.password}@", ":${ACME_DB_PASSWORD}@")
        body = {
            "account": options.account,
            "base_url": self.simulator.base_url,
            "auth": auth,
            "warehouse_url": text,
            "slots": self.slots,
            "timezone": options.timezone,
        }
        acme = {**body, **self.tenant}
        document = {"tenants": {TENANT: acme, **{name: {**acme, **other} for name, other in self.others.items()}}}
        self.tenants_file.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")

    @property
    def environ(self) -> dict[str, str]:
        """Variables of every process of this installation."""
        own = {"DAGSTER_HOME": str(self.home), "NSIMPORT_TENANTS": str(self.tenants_file), "COLUMNS": "200"}
        return {**os.environ, **own, **self.variables}

    # Commands

    def command(self, *arguments: str) -> list[str]:
        return [str(Path(sys.executable).parent / "nsimport"), *arguments]

    def nsimport(
        self,
        *arguments: str,
        timeout: float = 120,
        variables: Mapping[str, str] | None = None,
        directory: Path | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end, in ``directory`` if it is not the installation's own."""
        done = call(
            arguments,
            environ={**self.environ, **(variables or {})},
            directory=directory or self.directory,
            timeout=timeout * PATIENCE,
        )
        self.said += [done.stdout, done.stderr]
        return done

    def json(self, *arguments: str) -> Any:
        """What a command prints with ``--json``."""
        done = self.nsimport(*arguments, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start a command; its output comes through pipes."""
        return subprocess.Popen(
            self.command(*arguments),
            env={**self.environ, "PYTHONUNBUFFERED": "1"},
            cwd=self.directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def start_import(self, *arguments: str, tenant: str = TENANT) -> str:
        """``nsimport import``, not waited for; the import's id."""
        done = self.nsimport("import", *arguments, "--tenant", tenant)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.splitlines()[0]

    def wait_for_import(self, import_id: str, *, timeout: float = 120) -> dict[str, Any]:
        """The status of an import once it is over."""
        over = {"completed", "completed_with_failures", "failed", "cancelled"}

        tenant = import_id.partition("-")[0]

        def ended() -> bool:
            statement = "SELECT state FROM import_jobs WHERE import_id = :id"
            return self.query(statement, tenant=tenant, id=import_id)[0]["state"] in over

        wait_until(ended, timeout, f"{import_id} to end", every=0.3)
        status: dict[str, Any] = self.json("status", import_id)
        return status

    # Services

    def start_daemon(self) -> None:
        """The daemon, as ``nsimport up`` starts it; returns when it has shown life."""
        with self.dagster() as instance:  # opened first: two processes must not create Dagster's files at once
            instance.wipe_daemon_heartbeats()
            self._spawn(daemon_command(), "daemon")
            wait_until(lambda: daemon_runs(instance, time.time()), 60, "the daemon to show life")

    def stop_daemon(self) -> None:
        _end(self._services.pop("daemon"))

    def start_webserver(self) -> None:
        """The webserver, as ``nsimport up`` starts it; returns when it answers."""
        port = free_port()
        process = self._spawn(webserver_command("127.0.0.1", port), "webserver")
        self._webserver = f"http://127.0.0.1:{port}"

        def answers() -> bool:
            assert process.poll() is None, self.log("webserver")
            try:
                return bool(self.graphql("{ version }")["version"])
            except OSError:
                return False

        wait_until(answers, 60, "the webserver to answer")

    @property
    def ui(self) -> str:
        """Address of the webserver."""
        assert self._webserver is not None, "no webserver was started"
        return self._webserver

    def _spawn(self, command: Sequence[str], name: str) -> subprocess.Popen[bytes]:
        with (self.directory / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                command,
                env=self.environ,
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._services[name] = process
        return process

    def log(self, name: str) -> str:
        return (self.directory / f"{name}.log").read_text(encoding="utf-8", errors="replace")

    # Dagster

    def graphql(self, query: str, variables: Mapping[str, Any] | None = None) -> Any:
        """Ask the webserver as the UI does; the answer's ``data``."""
        assert self._webserver is not None
        body = json.dumps({"query": query, "variables": variables or {}}).encode()
        kind = {"Content-Type": "application/json"}
        answer = requests.post(f"{self._webserver}/graphql", data=body, headers=kind, timeout=60).json()
        assert "errors" not in answer, answer["errors"]
        return answer["data"]

    @contextmanager
    def dagster(self) -> Iterator[dg.DagsterInstance]:
        """The instance of this DAGSTER_HOME, in this process."""
        before = {key: os.environ.get(key) for key in self.environ}
        os.environ.update(self.environ)
        try:
            with dg.DagsterInstance.from_config(str(self.home)) as instance:
                yield instance
        finally:
            for key, value in before.items():
                if value is None:
                    os.environ.pop(key, None)
                else:
                    os.environ[key] = value

    def story(self, run_id: str) -> str:
        """What Dagster recorded about a run, for a failing test to show."""
        with self.dagster() as instance:
            run = instance.get_run_by_id(run_id)
            lines = [f"run {run_id}: {run and run.status.value} {run and run.tags}"]
            for entry in instance.all_logs(run_id):
                event = entry.dagster_event
                lines.append(f"{event.event_type_value}: {event.message}" if event else entry.user_message)
                error = getattr(event and event.event_specific_data, "error", None)
                if error is not None:
                    lines.append(error.to_string())
            return "\n".join(lines)

    # The tenant's database

    def query(self, statement: str, *, tenant: str = TENANT, **parameters: Any) -> list[dict[str, Any]]:
        """Rows of a tenant's database, over a connection of our own."""
        other = self.others.get(tenant, {})
        engine = sa.create_engine(other.get("warehouse_url", self.warehouse_url), poolclass=sa.NullPool)
        with engine.connect() as connection:
            return [dict(row) for row in connection.execute(sa.text(statement), parameters).mappings()]

    def secrets(self) -> list[str]:
        """Texts that must not be seen anywhere."""
        public = {"method", "algorithm", "private_key_file"}
        auth = self.simulator.credentials
        values = [v for way in (auth.oauth2, auth.tba) for k, v in way.items() if k not in public]
        keys = [file.read_text().splitlines()[1] for file in (auth.rsa_key, auth.ec_key)]
        password = sa.make_url(self.warehouse_url).password
        return [*values, *keys, auth.signing_key.decode(), *([str(password)] if password else [])]

    def everything_said(self) -> dict[str, str]:
        """All output of commands, all logs, all tags and events of runs, by where they were found."""
        texts = {"commands": "\n".join(self.said)}
        for log in [*self.directory.glob("*.log"), *self.home.glob("service_logs/*.log")]:
            texts[log.name] = log.read_text(encoding="utf-8", errors="replace")
        with self.dagster() as instance:
            for run in instance.get_runs():
                events = instance.all_logs(run.run_id)
                texts[f"run {run.run_id}"] = f"{run.tags} {run.run_config}\n" + "\n".join(str(e) for e in events)
        return texts


def wait_until(condition: Callable[[], T | None], seconds: float, what: str, *, every: float = 0.1) -> T:
    """The first truthy result of ``condition``; fails the test after ``PATIENCE`` times ``seconds``."""
    deadline = time.monotonic() + seconds * PATIENCE
    while time.monotonic() < deadline:
        result = condition()
        if result:
            return result
        time.sleep(every)
    raise AssertionError(f"waited {seconds * PATIENCE:g} s for {what}")


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a service and what it started: politely, then for certain."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            process.wait(15)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
