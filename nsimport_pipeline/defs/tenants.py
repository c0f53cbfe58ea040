"""Opening a tenant, one of its imports, or NetSuite for somebody who waits, by name: for commands and jobs alike.

Belongs here: doing so with errors that a user understands. Does not belong here: what a process opens once and keeps
(``resources.py``), or what is done with it.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg
from sqlalchemy import Engine

from nsimport_pipeline.defs import resources
from nsimport_pipeline.defs.slots import PoolSlots, SlottedClient, command_holder, set_limit
from nsimport_pipeline.errors import ConfigurationError, TimedOut
from nsimport_pipeline.imports import store
from nsimport_pipeline.imports.breaker import TenantCircuit
from nsimport_pipeline.imports.columns import ONCE
from nsimport_pipeline.imports.explain import Cause
from nsimport_pipeline.imports.records import ImportJob, tenant_of
from nsimport_pipeline.imports.rollout import require_on
from nsimport_pipeline.netsuite.circuit import Circuit
from nsimport_pipeline.netsuite.client import NetSuiteClient
from nsimport_pipeline.netsuite.retrying import RetryPolicy
from nsimport_pipeline.settings import Tenant
from nsimport_pipeline.warehouse.engine import check_reachable, read_only
from nsimport_pipeline.warehouse.migrate import current_revision, ensure_control_tables

ASKING = RetryPolicy(attempts=3, max_delay=2.0)
CONNECT_SECONDS = 5.0
"""An account that cannot be reached is soon said to be so."""


def open_tenant(name: str) -> tuple[Tenant, Engine]:
    """An enabled tenant and its database, ready for use. Raises ConfigurationError, RefusedError."""
    tenant = resources.settings().enabled_tenant(name)
    engine = resources.warehouse(tenant)
    check_reachable(engine)
    ensure_control_tables(engine)
    require_on(engine, tenant)
    return tenant, engine


def read_tenant(name: str) -> tuple[Tenant, Engine]:
    """A tenant and its database for reading; it may be switched off. Creates nothing but what reading needs.

    Raises ConfigurationError or TimedOut, with what to do, if the database is not there.
    """
    tenant = resources.settings().tenant(name)
    engine = resources.warehouse(tenant)
    try:
        check_reachable(engine)
    except (ConfigurationError, TimedOut) as error:
        raise type(error)(
            f"tenant {name!r}: {Cause.DATABASE_DOWN}: {error}. Its imports go on by themselves when it is back; at "
            f"once with `nsimport reconcile --tenant {name}`"
        ) from None
    if current_revision(engine) is None:
        ensure_control_tables(engine)
    return tenant, engine


@contextmanager
def asking(
    tenant: Tenant, instance: dg.DagsterInstance, engine: Engine | None
) -> Iterator[tuple[NetSuiteClient, SlottedClient]]:
    """A NetSuite client for a command that somebody waits for: soon tired, and a slot taken for each request.

    ``engine``: the tenant's database, which knows whether NetSuite is down; None to leave it alone, and ask anyway.
    """
    set_limit(instance, tenant.name, tenant.slots)
    circuit = None if engine is None else TenantCircuit(engine, tenant)
    timeouts = (CONNECT_SECONDS, tenant.answer_seconds)
    with NetSuiteClient(tenant, policy=ASKING, timeouts=timeouts, breaker=circuit) as client:
        yield client, _slotted(client, instance, tenant)


def brisk(raw: NetSuiteClient, instance: dg.DagsterInstance, tenant: Tenant) -> SlottedClient:
    """The same client for questions that may well be refused: each is asked once."""
    return _slotted(raw.following(ONCE), instance, tenant)


def _slotted(client: NetSuiteClient, instance: dg.DagsterInstance, tenant: Tenant) -> SlottedClient:
    return SlottedClient(client, PoolSlots(instance, tenant.name, command_holder(time.time())))


def ask_whether_it_answers(instance: dg.DagsterInstance, tenant: Tenant, engine: Engine) -> Circuit | None:
    """Ask NetSuite at once whether it answers again, if it is taken to be down; returns how the circuit is then.

    None if it is not: then nothing is asked.
    """
    with read_only(engine).connect() as connection:
        if store.circuit_of(connection, tenant.name).closed:
            return None
    with asking(tenant, instance, None) as (client, _):
        return TenantCircuit(engine, tenant).ask_now(client.probe)


def find_import(import_id: str) -> tuple[Tenant, Engine, ImportJob]:
    """An import by its id, which begins with its tenant. Raises ConfigurationError if there is none."""
    name = tenant_of(import_id)
    settings = resources.settings()
    if name not in settings.tenant_names:
        raise ConfigurationError(f"no import {import_id!r}: its tenant {name!r} is not in {settings.file}")
    tenant, engine = read_tenant(name)
    with read_only(engine).connect() as connection:
        job = store.find_job(connection, import_id)
    if job is None:
        raise ConfigurationError(f"no import {import_id!r}: `nsimport status --tenant {name}` lists the latest")
    return tenant, engine, job


def only_tenant(name: str | None) -> str:
    """The tenant named, or the only one there is. Raises ConfigurationError if it is not clear."""
    if name is not None:
        return name
    known = resources.settings().tenant_names
    if len(known) == 1:
        return known[0]
    raise ConfigurationError(f"--tenant is needed: one of {', '.join(known) or '(none in the tenants file)'}")
