"""Alerts of a tenant, from the control tables to those who are told.

Belongs here: reading what the rules look at, keeping what they say, telling each destination once. Does not belong
here: the rules (``telemetry/alert_rules.py``), how a notice is sent (``telemetry/notify.py``), or when (``defs/``).
Imports do not know of it: nothing here changes their state.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from hashlib import sha256

from sqlalchemy import Engine

from nsimport_pipeline.imports import store
from nsimport_pipeline.imports.states import OPEN_IMPORTS
from nsimport_pipeline.imports.stuck import stuck_since
from nsimport_pipeline.settings import Tenant
from nsimport_pipeline.telemetry.alert_rules import judge
from nsimport_pipeline.telemetry.alerts import (
    Severity,
    Standing,
    Told,
    advance,
    body,
    is_due,
    loudest,
    retry_delay,
    title,
)
from nsimport_pipeline.telemetry.notify import place
from nsimport_pipeline.telemetry.watched import RECENT, Behind, Ended, Watched
from nsimport_pipeline.warehouse.engine import read_only
from nsimport_pipeline.warehouse.migrate import serialise

LATEST, USUAL = 50, 5
"""Imports whose ends are looked back at, and those whose pace is the usual one."""
AT_ONCE = 20
"""Alerts in one notice."""
LEASE_SECONDS = 120.0
"""A process that tells a destination and dies keeps others from it for so long."""
TELLING_SECONDS = 30.0
"""Whoever has not been told by then is told at the next tick: Dagster gives a tick a minute."""
KEPT = timedelta(days=30)
"""An alert that is over is listed for so long."""
Send = Callable[[str, str, str, Severity | None], str | None]
"""Sends title and body to an address; returns what went wrong, or None."""


def watch(engine: Engine, tenant: Tenant, now: datetime, behind: Sequence[Behind] = ()) -> Watched:
    """All that the rules look at. Reads only. ``behind``: what is known of the tenant's schedules."""
    with read_only(engine).connect() as connection:
        jobs = store.latest_jobs(connection, LATEST)
        ids = [job.import_id for job in jobs]
        lately = store.jobs_since(connection, now - RECENT)
        circuit = store.circuit_of(connection, tenant.name)
        stuck: dict[str, tuple[int, datetime]] = {}
        for job in (job for job in lately if job.state in OPEN_IMPORTS and not circuit.confirmed):
            found = stuck_since(connection, job, store.waves(connection, job.import_id), circuit)
            stuck |= {job.import_id: found} if found is not None else {}
        facts = (store.import_facts(connection, job.import_id) for job in lately)
        since = now - timedelta(seconds=tenant.alert_rules.slot_utilisation_for)
        at_work = [job.import_id for job in store.jobs_since(connection, since)]
        return Watched(
            tenant=tenant.name,
            slots=tenant.slots,
            imports=tuple(each for each in facts if each is not None),
            latest=tuple(
                Ended(job.import_id, job.state.value, job.requested, job.finished_at, job.failure_reason)
                for job in jobs
            ),
            counts=tuple(store.final_counts(connection, ids, {j.import_id for j in jobs if j.state in OPEN_IMPORTS})),
            stuck=stuck,
            netsuite_down_since=circuit.opened_at if circuit.confirmed else None,
            behind=tuple(behind),
            usual=store.usual_pace(connection, ids[:USUAL], now - RECENT) if lately else {},
            slot_seconds=store.fetch_seconds(connection, at_work, since),
            connections=store.connection_use(connection),
        )


def evaluate(engine: Engine, tenant: Tenant, now: datetime, behind: Sequence[Behind] = ()) -> list[Standing]:
    """Judge a tenant's rules and keep what they say. Returns the alerts that are firing, the longest standing first."""
    watched = watch(engine, tenant, now, behind)
    with read_only(engine).connect() as connection:
        known = store.standing_alerts(connection, tenant.name)
    before = frozenset(key for key, standing in known.items() if standing.state == "firing")
    firing = judge(watched, tenant.alert_rules, now, before)
    old = any(standing.resolved_at is not None and standing.resolved_at < now - KEPT for standing in known.values())
    if firing or before or old:
        with engine.begin() as connection:
            serialise(connection)
            # Another daemon may have judged meanwhile.
            known = store.standing_alerts(connection, tenant.name)
            changed = advance(known, firing, now, resolve_after=tenant.alert_rules.resolve_after)
            store.keep_alerts(connection, tenant.name, changed)
            store.forget_alerts(connection, tenant.name, now - KEPT)
    with read_only(engine).connect() as connection:
        return list(store.standing_alerts(connection, tenant.name, resolved=False).values())


@dataclass
class Delivery:
    """What became of the notices of one tick."""

    sent: list[str] = field(default_factory=list)
    """Where to, and how many alerts."""
    failed: list[str] = field(default_factory=list)
    """Where to, and what went wrong; they are tried again."""


def deliver(engine: Engine, tenant: Tenant, send: Send, clock: Callable[[], datetime]) -> Delivery:
    """Tell every destination of a tenant what it does not know yet, in one notice each. A failure harms nobody else."""
    outcome = Delivery()
    until = clock() + timedelta(seconds=TELLING_SECONDS)
    for secret in tenant.alerts:
        if clock() > until:
            break
        address = secret.get_secret_value()
        destination = sha256(address.encode()).hexdigest()[:32]
        due = _claim(engine, tenant.name, destination, clock())
        if not due:
            continue
        standings = [standing for standing, _ in due]
        wrong = send(address, title(tenant.name, standings), body(tenant.name, standings), loudest(standings))
        _keep(engine, tenant.name, destination, due, wrong, clock())
        where = place(address)
        if wrong is None:
            outcome.sent.append(f"{where} was told of {len(due)}")
        else:
            outcome.failed.append(f"{where}: {wrong}")
    return outcome


def _claim(engine: Engine, tenant: str, destination: str, now: datetime) -> list[tuple[Standing, Told]]:
    """What a destination is to be told now, kept from every other process for a while."""
    with read_only(engine).connect() as connection:
        if not _due(store.standing_alerts(connection, tenant), store.told(connection, tenant, destination), now):
            return []
    with engine.begin() as connection:
        serialise(connection)
        due = _due(store.standing_alerts(connection, tenant), store.told(connection, tenant, destination), now)
        for standing, known in due:
            held = replace(known, held_until=now + timedelta(seconds=LEASE_SECONDS))
            store.keep_told(connection, tenant, destination, standing.alert, held)
        return due


def _due(
    standings: dict[tuple[str, str], Standing], told: dict[tuple[str, str], Told], now: datetime
) -> list[tuple[Standing, Told]]:
    pairs = [(standing, told.get(key, Told())) for key, standing in standings.items()]
    return [(standing, known) for standing, known in pairs if is_due(standing, known, now)][:AT_ONCE]


def _keep(
    engine: Engine, tenant: str, destination: str, due: list[tuple[Standing, Told]], wrong: str | None, now: datetime
) -> None:
    with engine.begin() as connection:
        serialise(connection)
        for standing, known in due:
            if wrong is None:
                after = Told(standing.state, now)
            else:
                failures = known.failures + 1
                until = now + timedelta(seconds=retry_delay(failures))
                after = replace(known, held_until=until, failures=failures)
            store.keep_told(connection, tenant, destination, standing.alert, after)
