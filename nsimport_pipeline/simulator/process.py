"""A simulator to talk to from tests and commands: as its own process, or in a thread of this one.

Belongs here: starting, finding and ending one, and its ``/simulator`` addresses as methods. Does not belong here:
anything the simulator does.
"""

import json
import os
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any

import uvicorn

from nsimport_pipeline.errors import ConfigurationError
from nsimport_pipeline.simulator.credentials import SimulatorCredentials, ensure_credentials
from nsimport_pipeline.simulator.options import SimulatorOptions
from nsimport_pipeline.simulator.server import HOST, configure, listen, prepare


class SimulatorControl:
    """The ``/simulator`` addresses of a running simulator. Raises ConfigurationError if it does not answer."""

    def __init__(self, base_url: str) -> None:
        self.base_url = base_url.rstrip("/")

    def healthy(self) -> bool:
        return self.pid() is not None

    def pid(self) -> int | None:
        """The process that answers, or None if no simulator does."""
        try:
            return int(self._call("health", seconds=2)["pid"])
        except (ConfigurationError, OSError, KeyError, ValueError):
            return None

    def stats(self, *, log: bool = True) -> dict[str, Any]:
        """``max_in_flight``, ``statuses``, ``kinds`` and the ``log`` of requests since the last reset."""
        return self._call("stats" if log else "stats?log=0")

    def reset_stats(self) -> None:
        self._call("reset-stats", b"")

    def set_faults(self, spec: str) -> None:
        """Replace the faults in force; an empty SPEC ends them. Raises ConfigurationError for a wrong one."""
        self._call("faults", spec.encode())

    def revoke_tokens(self) -> None:
        self._call("revoke-tokens", b"")

    def set_clock(self, moment: datetime | None) -> None:
        """What time it is at the account until this is called again, aware; None for the machine's time."""
        self._call("clock", json.dumps({"now": moment and moment.isoformat()}).encode())

    def tables(self) -> dict[str, int]:
        """Rows by NetSuite table."""
        return dict(self._call("tables")["tables"])

    def record_types(self) -> dict[str, int]:
        """Rows by record type."""
        return dict(self._call("tables")["record_types"])

    def sql(self, *statements: str) -> list[int]:
        """Run DuckDB statements that change the account; the number of rows each changed."""
        return list(self._call("sql", json.dumps({"sql": list(statements)}).encode())["changed"])

    def delete(self, table: str, where: str) -> int:
        """Delete rows as a user would, leaving traces in ``deletedrecord``; returns how many."""
        return int(self._call("delete", json.dumps({"table": table, "where": where}).encode())["deleted"])

    def _call(self, path: str, body: bytes | None = None, seconds: float = 60) -> dict[str, Any]:
        request = urllib.request.Request(f"{self.base_url}/simulator/{path}", data=body)  # noqa: S310 - loopback
        try:
            with urllib.request.urlopen(request, timeout=seconds) as response:  # noqa: S310 - loopback
                result: dict[str, Any] = json.loads(response.read())
                return result
        except urllib.error.HTTPError as error:
            text = error.read().decode("utf-8", "replace")
            raise ConfigurationError(f"the simulator refused {path}: {text[:500]}") from None
        except urllib.error.URLError as error:
            raise ConfigurationError(f"no simulator answers at {self.base_url}: {error.reason}") from None


class _Running(SimulatorControl):
    """What a started simulator offers, however it was started."""

    def __init__(self, options: SimulatorOptions, port: int) -> None:
        super().__init__(f"http://{HOST}:{port}")
        self.options = options
        self.port = port

    @property
    def credentials(self) -> SimulatorCredentials:
        return ensure_credentials(self.options.credentials)

    @property
    def tenants_file(self) -> Path:
        """A tenants file with a tenant ``demo`` of this simulator."""
        return self.credentials.directory / "tenants.yaml"


class SimulatorThread(_Running):
    """A simulator on a port of its own in a thread of this process. Start-up takes well under a second."""

    def __init__(self, options: SimulatorOptions) -> None:
        self._listener = listen(options.port)
        super().__init__(options, self._listener.getsockname()[1])
        self.simulator, self.info = prepare(options, self.port)
        self._server = uvicorn.Server(configure(self.simulator))
        self._thread = threading.Thread(target=self._server.run, args=([self._listener],), daemon=True)

    def __enter__(self) -> "SimulatorThread":
        self._thread.start()
        _wait(self, os.getpid(), self._thread.is_alive)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.should_exit = True
        self._thread.join(10)
        self._listener.close()
        self.simulator.dataset.close()


class SimulatorProcess(_Running):
    """``nsimport simulate`` as a process of its own. Ended at exit from the ``with`` block."""

    def __init__(self, options: SimulatorOptions, environment: Mapping[str, str] | None = None) -> None:
        super().__init__(options, options.port or _free_port())
        self._environment = {**os.environ, **(environment or {})}
        if options.criteria_path:
            self._environment["NSIMPORT_CRITERIA_PATH"] = str(options.criteria_path)
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "SimulatorProcess":
        self.start()
        return self

    def start(self) -> None:
        """Start it and wait until it answers. Raises ConfigurationError with what it said if it ends instead."""
        process = subprocess.Popen(  # noqa: S603 - our own command
            command_line(self.options, self.port),
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        self.process = process
        try:
            _wait(self, process.pid, lambda: process.poll() is None)
        except ConfigurationError:
            process.kill()
            said = (process.communicate()[1] or b"").decode("utf-8", "replace").strip()
            raise ConfigurationError(f"the simulator did not start: {said[-1000:]}") from None

    def stop(self) -> None:
        """End it; a second call does nothing."""
        if self.process is None:
            return
        self.process.terminate()
        try:
            self.process.communicate(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()
        self.process = None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def command_line(options: SimulatorOptions, port: int) -> Sequence[str]:
    """The command that starts a simulator with these options."""
    words = [sys.executable, "-m", "nsimport_pipeline", "simulate", "--port", str(port)]
    words += ["--scale", f"{options.scale:g}", "--latency", f"{options.latency:g}", "--slots", str(options.slots)]
    words += ["--seed", str(options.seed), "--credentials", str(options.credentials)]
    if options.faults:
        words += ["--faults", options.faults]
    for name, count in options.rows.items():
        words += ["--rows", f"{name}={count}"]
    return words


def _free_port() -> int:
    listener = listen(0)
    try:
        return int(listener.getsockname()[1])
    finally:
        listener.close()


def _wait(simulator: SimulatorControl, pid: int, alive: Callable[[], bool], seconds: float = 300) -> None:
    """Wait until the simulator in process ``pid`` answers; scale 100 takes a while."""
    until = time.monotonic() + seconds
    while alive() and time.monotonic() < until:
        if simulator.pid() == pid:
            return
        time.sleep(0.02)
    raise ConfigurationError(f"the simulator at {simulator.base_url} did not start")
