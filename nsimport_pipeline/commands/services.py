"""``nsimport up``: Dagster's services, and a simulator if wanted, in the foreground."""

import os
import signal
import socket
import time
from pathlib import Path
from types import FrameType

import click

from nsimport_pipeline.commands.processes import (
    LOGS,
    Service,
    Services,
    check_port,
    daemon_command,
    daemon_runs,
    forget_daemons,
    nsimport_command,
    webserver_command,
)
from nsimport_pipeline.commands.session import dagster_instance, ensure_dagster_home
from nsimport_pipeline.commands.simulating import SIMULATOR_DIRECTORY
from nsimport_pipeline.defs import resources
from nsimport_pipeline.errors import ConfigurationError, NsimportError
from nsimport_pipeline.settings import Settings

START_SECONDS = 60.0
LOOPBACK = "127.0.0.1"


@click.command()
@click.option("--simulator", is_flag=True, help="Also start a NetSuite simulator, and use its tenants file.")
@click.option("--host", default=LOOPBACK, show_default=True, help="Address the UI listens on. It has no login.")
@click.option("--port", default=3000, show_default=True, type=click.IntRange(1, 65535), help="Port of the UI.")
def up(simulator: bool, host: str, port: int) -> None:
    """Start Dagster's webserver and daemon and stay in the foreground; Ctrl-C stops them.

    Imports asked for meanwhile (`nsimport import`, or the UI) are carried out. Logs are in DAGSTER_HOME/service_logs.
    """
    home = ensure_dagster_home()
    check_port(host, port, "UI (--port)")
    if not simulator:
        _check_settings()
    signal.signal(signal.SIGTERM, _interrupt)
    services = Services()
    try:
        if simulator:
            use_simulator(services, scale=1.0, latency=0.2, slots=5)
            _check_settings()
        with dagster_instance() as instance:
            if daemon_runs(instance, time.time()):
                click.echo(f"a daemon runs for {home} already; only the UI is started")
            else:
                services.add("daemon", daemon_command(), home / LOGS)
        services.add("webserver", webserver_command(host, port), home / LOGS)
        _wait_for_port(services.running[-1], host, port)
        click.echo(f"UI: http://{host}:{port}   logs: {home / LOGS}   tenants: {Settings.load().file}")
        click.echo("Ctrl-C stops everything")
        _stay(services)
    except KeyboardInterrupt:
        click.echo("stopping")
    finally:
        own_daemon = any(service.name == "daemon" for service in services.running)
        services.stop()
        if own_daemon:
            with dagster_instance() as instance:
                forget_daemons(instance)


def _check_settings() -> None:
    resources.settings()
    resources.catalog()


def _stay(services: Services) -> None:
    while True:
        time.sleep(1.0)
        for service in services.revive():
            click.echo(f"{service.name} had ended ({service.last_words()}); started again", err=True)


def _wait_for_port(webserver: Service, host: str, port: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if not webserver.alive:
            raise NsimportError(f"the webserver did not start: {webserver.last_words()} (log: {webserver.log})")
        with socket.socket() as probe:
            probe.settimeout(1.0)
            if probe.connect_ex((host, port)) == 0:
                return
        time.sleep(0.2)
    raise NsimportError(f"the webserver does not answer on port {port}; its log: {webserver.log}")


def use_simulator(services: Services, *, scale: float, latency: float, slots: int) -> str:
    """Make this process and its children use a simulator: one that runs already, or a new one. Returns its address."""
    from nsimport_pipeline.simulator.process import SimulatorControl

    tenants = (SIMULATOR_DIRECTORY / "tenants.yaml").absolute()
    os.environ["NSIMPORT_TENANTS"] = str(tenants)
    address = _address(tenants)
    if address is not None and SimulatorControl(address).healthy():
        return address
    tenants.unlink(missing_ok=True)
    size = ["--scale", f"{scale:g}", "--latency", f"{latency:g}", "--slots", str(slots)]
    command = nsimport_command("simulate", "--port", "0", "--credentials", str(SIMULATOR_DIRECTORY), *size)
    service = services.add("simulator", command, SIMULATOR_DIRECTORY)
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if not service.alive:
            raise NsimportError(f"the simulator did not start: {service.last_words()}")
        address = _address(tenants)
        if address is not None and SimulatorControl(address).healthy():
            return address
        time.sleep(0.1)
    raise NsimportError(f"the simulator does not answer; its log: {service.log}")


def _address(tenants: Path) -> str | None:
    try:
        return Settings.load(tenants).tenant("demo").base_url
    except ConfigurationError:
        return None


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
