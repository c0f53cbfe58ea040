"""``nsimport metrics``: Prometheus text, printed once or served.

Belongs here: reading every tenant at a scrape, each in a thread of its own, so that one whose database is gone keeps
nobody waiting. Does not belong here: what is counted (``telemetry/metrics.py``).
"""

import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotInTime
from contextlib import ExitStack
from datetime import UTC, datetime

import click
import dagster as dg
from prometheus_client import CollectorRegistry, generate_latest, start_http_server
from prometheus_client.core import Metric as Family
from prometheus_client.registry import Collector
from sqlalchemy.exc import SQLAlchemyError

from nsimport_pipeline.commands.options import tenant_option
from nsimport_pipeline.commands.session import dagster_instance
from nsimport_pipeline.defs import resources
from nsimport_pipeline.defs.slots import slot_use
from nsimport_pipeline.errors import ConfigurationError, NsimportError
from nsimport_pipeline.imports import store
from nsimport_pipeline.imports.states import OPEN_IMPORTS
from nsimport_pipeline.settings import Tenant
from nsimport_pipeline.telemetry.facts import SlotUse
from nsimport_pipeline.telemetry.metrics import Counted, TenantScrape, count, families
from nsimport_pipeline.warehouse.engine import read_only
from nsimport_pipeline.warehouse.errors import classify
from nsimport_pipeline.warehouse.migrate import current_revision

SCRAPE_SECONDS = 8.0
"""A tenant that takes longer is told as down; Prometheus gives up after ten by default."""
SLA_SECONDS = 14400
_OPEN = {state.value for state in OPEN_IMPORTS}


@click.command()
@tenant_option
@click.option("--serve", "port", metavar="PORT", type=click.IntRange(0, 65535), help="Serve /metrics until Ctrl-C.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to serve on.")
@click.option(
    "--sla", metavar="SECONDS", type=click.FloatRange(1), default=SLA_SECONDS, show_default=True,
    help="Time that an import may take, for nsimport_sla_ratio.",
)  # fmt: skip
def metrics(tenant: str | None, port: int | None, host: str, sla: float) -> None:
    """Print metrics of all tenants (or one) in Prometheus' text format, or serve them. docs/metrics.md lists them."""
    if tenant is not None:
        resources.settings().tenant(tenant)
    with ExitStack() as stack:
        instance: dg.DagsterInstance | None = None
        try:
            instance = stack.enter_context(dagster_instance())
        except ConfigurationError as error:
            click.echo(f"warning: no slots: {error}", err=True)
        registry = CollectorRegistry()
        registry.register(TenantsCollector(instance, tenant, sla))
        if port is None:
            click.echo(generate_latest(registry).decode(), nl=False)
            return
        try:
            server, thread = start_http_server(port, host, registry)
        except OSError as error:
            raise ConfigurationError(f"--serve {port}: cannot listen on {host}: {error.strerror}") from None
        click.echo(f"metrics on http://{host}:{server.server_port}/metrics (Ctrl-C stops)", err=True)
        try:
            thread.join()
        finally:
            server.shutdown()


class TenantsCollector(Collector):
    """Reads the tenants' control tables at each scrape. What is over is counted once and remembered."""

    def __init__(self, instance: dg.DagsterInstance | None, tenant: str | None, sla: float) -> None:
        self._instance = instance
        self._only = tenant
        self._sla = sla
        self._lock = threading.Lock()
        self._over: dict[str, dict[str, tuple[tuple[str, datetime | None], Counted]]] = {}
        self._busy: dict[str, Future[TenantScrape]] = {}

    def describe(self) -> list[Family]:
        """Nothing is read when the collector is registered."""
        return []

    def collect(self) -> Iterator[Family]:
        with self._lock:
            scrapes = self._scrapes()
            up = self._instance is not None and self._dagster_answers()
            yield from families(scrapes, datetime.now(UTC), sla=self._sla, dagster_up=up)

    def _scrapes(self) -> Sequence[TenantScrape]:
        names = [self._only] if self._only is not None else resources.settings().tenant_names
        deadline = time.monotonic() + SCRAPE_SECONDS
        for name in names:
            # One that still hangs from an earlier scrape is not asked again beside it.
            if name not in self._busy or self._busy[name].done():
                self._busy[name] = _in_background(lambda name=name: self._scrape(name))  # type: ignore[misc]
        return [self._outcome(name, deadline) for name in names]

    def _outcome(self, name: str, deadline: float) -> TenantScrape:
        started = time.monotonic()
        try:
            return self._busy[name].result(max(0.0, deadline - started))
        except NotInTime:
            reason = f"did not answer within {SCRAPE_SECONDS:.0f} s"
        except NsimportError as error:
            reason = str(error)
        except SQLAlchemyError as error:
            reason = str(classify(error))
        except Exception as error:
            reason = f"unexpected {type(error).__name__}"
        click.echo(f"warning: tenant {name} cannot be read: {reason}", err=True)
        return TenantScrape(name, up=False, seconds=time.monotonic() - started)

    def _scrape(self, name: str) -> TenantScrape:
        started = time.monotonic()
        tenant = resources.settings().tenant(name)
        engine = read_only(resources.warehouse(tenant))
        slots = self._slots(tenant)
        over: list[Counted] = []
        still_open = []
        if current_revision(engine) is None:
            return TenantScrape(name, up=True, seconds=time.monotonic() - started, slots=slots)
        known = self._over.setdefault(name, {})
        with engine.connect() as connection:
            for import_id, state, end in store.import_marks(connection):
                mark = (state, end)
                if state not in _OPEN and import_id in known and known[import_id][0] == mark:
                    over.append(known[import_id][1])
                    continue
                facts = store.import_facts(connection, import_id)
                if facts is None:
                    continue
                if facts.is_open:
                    still_open.append(facts)
                    continue
                counted = count(facts, datetime.now(UTC))
                known[import_id] = ((facts.state, facts.finished_at), counted)
                over.append(counted)
            size, use = store.control_bytes(connection), store.connection_use(connection)
            firing = store.standing_alerts(connection, tenant.name, resolved=False)
        return TenantScrape(
            name,
            up=True,
            seconds=time.monotonic() - started,
            over=over,
            open=still_open,
            slots=slots,
            control_bytes=size,
            connections=use,
            wave_timeout=float(tenant.wave_timeout or math.inf),
            alerts=[rule for rule, _ in firing],
        )

    def _slots(self, tenant: Tenant) -> SlotUse | None:
        if self._instance is None:
            return None
        try:
            use = slot_use(self._instance, tenant)
        except Exception:
            return None
        return SlotUse(use.limit, use.in_use, use.waiting)

    def _dagster_answers(self) -> bool:
        assert self._instance is not None  # noqa: S101 the caller looked
        try:
            self._instance.get_runs_count()
        except Exception:
            return False
        return True


def _in_background(work: Callable[[], TenantScrape]) -> "Future[TenantScrape]":
    """Run in a thread that keeps no process alive: a database may take minutes to be found gone."""
    future: Future[TenantScrape] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future
