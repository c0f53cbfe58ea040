"""Dagster's services as child processes.

Belongs here: starting, watching and stopping webserver, daemon and simulator; telling whether a daemon runs.
Does not belong here: commands.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import dagster as dg

from nsimport_pipeline.commands.session import project_file
from nsimport_pipeline.errors import ConfigurationError

LOGS = "service_logs"
"""Directory below DAGSTER_HOME. Not ``logs``: Dagster empties that one for its telemetry."""
HEARTBEAT_SECONDS = 40.0
"""A daemon writes a heartbeat every 30 seconds at the latest."""
STOP_SECONDS = 15.0
REQUIRED_DAEMONS = ("SENSOR", "QUEUED_RUN_COORDINATOR")


@dataclass
class Service:
    """One child process, started again if it dies."""

    name: str
    command: Sequence[str]
    log: Path
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    restarts: int = 0

    def start(self) -> None:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as output:
            # In a session of its own: Ctrl-C in the terminal reaches us, and we stop it in order.
            self.process = subprocess.Popen(  # noqa: S603 - our own commands
                list(self.command), stdout=output, stderr=subprocess.STDOUT, start_new_session=True
            )
        self.started_at = time.monotonic()

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def last_words(self) -> str:
        """The end of its log, for an error message."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines() if self.log.exists() else []
        return lines[-1][:300] if lines else "it said nothing"


@dataclass
class Services:
    """Child processes that live as long as this one."""

    running: list[Service] = field(default_factory=list)

    def add(self, name: str, command: Sequence[str], log_directory: Path) -> Service:
        service = Service(name, command, log_directory / f"{name}.log")
        service.start()
        self.running.append(service)
        return service

    def revive(self) -> list[Service]:
        """Start again what has died, waiting longer each time. Returns what was started."""
        revived = []
        for service in self.running:
            if not service.alive and time.monotonic() - service.started_at > min(60, 2**service.restarts):
                service.restarts += 1
                service.start()
                revived.append(service)
        return revived

    def stop(self) -> None:
        """Stop everything, politely first. Children of the services go with them."""
        for service in reversed(self.running):
            if service.alive and service.process is not None:
                service.process.send_signal(signal.SIGINT if "dagster" in service.command[0] else signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS
        for service in self.running:
            if service.process is None:
                continue
            try:
                service.process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                os.killpg(service.process.pid, signal.SIGKILL)
                service.process.wait()
        self.running.clear()


def daemon_command() -> list[str]:
    return [_script("dagster-daemon"), "run", "-w", str(project_file("workspace.yaml")), "--log-level", "warning"]


def webserver_command(host: str, port: int) -> list[str]:
    workspace = str(project_file("workspace.yaml"))
    return [_script("dagster-webserver"), "-w", workspace, "-h", host, "-p", str(port), "--log-level", "warning"]


def nsimport_command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "nsimport_pipeline", *arguments]


def daemon_runs(instance: dg.DagsterInstance, now: float) -> bool:
    """Whether a daemon of this DAGSTER_HOME has shown life lately."""
    beats = instance.get_daemon_heartbeats()
    return all(name in beats and now - beats[name].timestamp < HEARTBEAT_SECONDS for name in REQUIRED_DAEMONS)


def forget_daemons(instance: dg.DagsterInstance) -> None:
    """Take back the signs of life of a daemon that was stopped: nobody is to rely on them."""
    instance.wipe_daemon_heartbeats()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def check_port(host: str, port: int, what: str) -> None:
    """Raise ConfigurationError if something listens there already."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            raise ConfigurationError(f"port {port} on {host} is in use: choose another one for the {what}") from None


def _script(name: str) -> str:
    script = Path(sys.executable).parent / name
    if not script.exists():
        raise ConfigurationError(f"{script} is missing: install the project into this environment (`make setup`)")
    return str(script)
