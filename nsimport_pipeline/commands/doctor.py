"""``nsimport doctor``: is everything an import needs in order, and if not, what to do.

Belongs here: looking at settings, databases, NetSuite accounts, pools, daemon and clocks, one line for each.
Does not belong here: mending anything. It writes nothing, except that asking NetSuite takes slots like any request.
"""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import click
import dagster as dg
import sqlalchemy as sa
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from nsimport_pipeline.commands.options import console, json_option, print_json, tenant_option
from nsimport_pipeline.commands.processes import daemon_runs
from nsimport_pipeline.commands.session import dagster_instance, ensure_dagster_home
from nsimport_pipeline.defs import resources
from nsimport_pipeline.defs.tenants import asking
from nsimport_pipeline.errors import NsimportError, RecordNotAvailable
from nsimport_pipeline.imports.rollout import switch
from nsimport_pipeline.settings import Settings, Tenant
from nsimport_pipeline.warehouse.engine import check_reachable, location, read_only
from nsimport_pipeline.warehouse.errors import classify
from nsimport_pipeline.warehouse.migrate import HEAD_REVISION, current_revision

CLOCK_SECONDS = 60.0
"""NetSuite refuses signatures made minutes away from its own time; a minute is worth mending before."""

State = Literal["ok", "warning", "failed"]
_STYLES: dict[State, str] = {"ok": "green", "warning": "yellow", "failed": "bold red"}


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the examination."""

    subject: str
    state: State
    text: str
    """What was found; where it is not ok, followed by what to do."""


@click.command()
@tenant_option
@json_option
def doctor(tenant: str | None, as_json: bool) -> int:
    """Examine settings, databases, NetSuite accounts, slots, daemon and clocks; each line is ok or says what to do.

    Writes nothing. The exit code is 1 if something has to be mended before an import can work.
    """
    findings: list[Finding] = []
    for finding in examine(tenant):
        findings.append(finding)
        if not as_json:
            console.print(
                f"[{_STYLES[finding.state]}]{finding.state:<8}[/] {finding.subject}: ", end="", soft_wrap=True
            )
            console.print(finding.text, markup=False, soft_wrap=True)
    if as_json:
        print_json([asdict(finding) for finding in findings])
    return int(any(finding.state == "failed" for finding in findings))


def examine(only: str | None) -> Iterator[Finding]:
    """Look at everything, or at one tenant and what all share. What cannot be looked at is a finding too."""
    try:
        settings, catalog = resources.settings(), resources.catalog()
    except NsimportError as error:
        yield Finding("settings", "failed", str(error))
        return
    names = [only] if only is not None else settings.tenant_names
    yield Finding(
        "settings", "ok", f"{settings.file}: {len(settings.tenant_names)} tenants; {len(catalog)} record types"
    )
    try:
        with dagster_instance() as instance:
            yield _daemon(instance)
            for name in names:
                yield from _tenant(settings, instance, name)
    except NsimportError as error:
        yield Finding("dagster", "failed", str(error))


def _daemon(instance: dg.DagsterInstance) -> Finding:
    home = ensure_dagster_home()
    if daemon_runs(instance, time.time()):
        return Finding("daemon", "ok", f"alive, DAGSTER_HOME {home}")
    return Finding("daemon", "warning", f"none runs for DAGSTER_HOME {home}: imports wait; `nsimport up` starts one")


def _tenant(settings: Settings, instance: dg.DagsterInstance, name: str) -> Iterator[Finding]:
    try:
        tenant = settings.tenant(name)
    except NsimportError as error:
        yield Finding(name, "failed", str(error))
        return
    if not tenant.enabled:
        yield Finding(name, "warning", f"not enabled: imports are refused until `enabled: true` in {settings.file}")
    if tenant.enabled == "database":
        yield from _guarded(f"{name} flag", lambda: _flag(tenant))
    yield from _guarded(f"{name} database", lambda: _database(tenant))
    yield from _guarded(f"{name} slots", lambda: _slots(instance, tenant))
    yield from _guarded(f"{name} NetSuite", lambda: _netsuite(instance, tenant))


def _guarded(subject: str, look: Callable[[], Iterator[tuple[State, str]]]) -> Iterator[Finding]:
    """The findings of ``look``; an error ends them as a finding of its own."""
    try:
        for state, text in look():
            yield Finding(subject, state, text)
    except NsimportError as error:
        yield Finding(subject, "failed", str(error))
    except SQLAlchemyError as error:
        yield Finding(subject, "failed", str(classify(error)))


def _flag(tenant: Tenant) -> Iterator[tuple[State, str]]:
    found = switch(resources.warehouse(tenant), tenant)
    mend = "" if found.on else f": imports are refused until `nsimport flags --tenant {tenant.name} --on`"
    yield "ok" if found.on else "warning", f"{found.why}{mend}"


def _database(tenant: Tenant) -> Iterator[tuple[State, str]]:
    engine = resources.warehouse(tenant)
    if engine.dialect.name == "sqlite" and not Path(str(engine.url.database)).exists():
        # Connecting would create the file.
        yield "ok", f"{location(engine.url)} does not exist yet: the first import creates it"
        return
    check_reachable(engine)
    revision = current_revision(engine)
    where = location(engine.url)
    if revision is None:
        yield "ok", f"{where} answers; the first import creates the control tables"
    elif revision > HEAD_REVISION:
        yield "failed", f"{where} was written by a newer version (schema {revision}): install that version here"
    else:
        later = "" if revision == HEAD_REVISION else ", upgraded by the next import"
        yield "ok", f"{where} answers, control tables at {revision}{later}"
    apart = _clock_apart(engine)
    if apart > CLOCK_SECONDS:
        yield "warning", f"its clock is {apart:.0f} s away from this machine's: set both by NTP"


def _clock_apart(engine: Engine) -> float:
    """Seconds between the database's clock and this machine's."""
    if engine.dialect.name == "sqlite":
        return 0.0
    with read_only(engine).connect() as connection:
        there: datetime = connection.execute(sa.select(sa.func.utc_timestamp())).scalar_one()
    return abs((datetime.now(UTC) - there.replace(tzinfo=UTC)).total_seconds())


def _slots(instance: dg.DagsterInstance, tenant: Tenant) -> Iterator[tuple[State, str]]:
    info = instance.event_log_storage.get_concurrency_info(tenant.pool)
    if info.slot_count in (0, tenant.slots) or info.using_default_limit:
        yield "ok", f"pool {tenant.pool}: {tenant.slots} slots, {info.active_slot_count} in use"
    else:
        yield (
            "warning",
            f"pool {tenant.pool} has {info.slot_count} slots, the tenants file says {tenant.slots}: the daemon sets it "
            "within seconds; somebody may have changed it in the UI",
        )


def _netsuite(instance: dg.DagsterInstance, tenant: Tenant) -> Iterator[tuple[State, str]]:
    wanted = [name for name in resources.catalog() if tenant.options(name).enabled]
    with asking(tenant, instance, None) as (client, slotted):

        def readable(name: str) -> str | None:
            try:
                slotted.count(resources.record_type(tenant, name))
            except RecordNotAvailable as error:
                return f"{name}: {error}"
            return None

        # The first question alone: if credentials are refused, once is enough.
        first, *others = wanted
        closed = [readable(first)]
        with ThreadPoolExecutor(tenant.slots) as threads:
            closed += threads.map(readable, others)
        can = f"{closed.count(None)} of {len(wanted)} record types can be read"
        yield "ok", f"{tenant.account} at {tenant.url} lets us in; {can}"
        for why in filter(None, closed):
            yield "warning", f"not to be read: {why}"
        apart = client.clock_apart
        if apart is not None and abs(apart) > CLOCK_SECONDS:
            yield "warning", f"this machine's clock is {abs(apart):.0f} s away from NetSuite's: set it by NTP"
