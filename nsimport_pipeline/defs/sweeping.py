"""Sweeping a tenant's tables for what NetSuite has deleted: for ``nsimport sweep`` and the UI's job alike.

Belongs here: which record types, one after the other, each under its lock and with a slot for each request. Does not
belong here: the sweep of one (``imports/sweep.py``), options and output.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
from sqlalchemy import Engine

from nsimport_pipeline.defs import resources, signs_of_life
from nsimport_pipeline.defs.tenants import asking, open_tenant
from nsimport_pipeline.errors import AccessDenied, ConfigurationError, ImportFailure, NotAnswering, RefusedError
from nsimport_pipeline.imports import store
from nsimport_pipeline.imports.comparing import MODULI
from nsimport_pipeline.imports.progress import iso
from nsimport_pipeline.imports.records import Sweep
from nsimport_pipeline.imports.sweep import Family, sweep
from nsimport_pipeline.settings import Tenant
from nsimport_pipeline.warehouse.engine import read_only

Say = Callable[[str], None]
"""Where a line for the user goes."""


@dataclass(frozen=True)
class Asked:
    """A checked request."""

    tenant: Tenant
    engine: Engine
    record_types: tuple[str, ...]
    families: dict[str, tuple[Family, ...]]
    """The derived record types that have rows, by each of their parents."""


def ask(record_types: Sequence[str], tenant_name: str) -> Asked:
    """Check a request; without record types all are meant that can be swept.

    Raises ConfigurationError for what cannot be, RefusedError for what is not allowed now.
    """
    catalog = resources.catalog()
    derived = {name: catalog[name].derived_from for name in catalog if catalog[name].derived_from}
    for name in record_types:
        catalog.require(name)
        if name in derived:
            raise ConfigurationError(
                f"{name} is not swept: its rows go with the {' or '.join(derived[name])} they belong to; sweep these"
            )
    tenant, engine = open_tenant(tenant_name)
    with read_only(engine).connect() as connection:
        whole = store.watermarks(connection)
        with_rows = [name for name in derived if store.pinned_ranges(connection, name)]
    for name in record_types:
        if not tenant.options(name).enabled:
            raise RefusedError(
                f"{name} is not enabled for tenant {tenant.name!r}: see record_types in the tenants file"
            )
        if name not in whole:
            raise RefusedError(
                f"{name} was never imported whole for tenant {tenant.name!r}, so there is nothing to compare: "
                f"`nsimport import {name} --tenant {tenant.name}` first"
            )
    chosen = record_types or [name for name in catalog if name in whole and name not in derived]
    chosen = tuple(dict.fromkeys(name for name in chosen if tenant.options(name).enabled))
    families: dict[str, tuple[Family, ...]] = {}
    for name in with_rows:
        for parent in derived[name]:
            others = tuple(catalog[other] for other in derived[name] if other != parent and other in whole)
            families[parent] = (*families.get(parent, ()), Family(resources.record_type(tenant, name), others))
    return Asked(tenant, engine, chosen, families)


def sweep_all(asked: Asked, instance: dg.DagsterInstance, *, say: Say) -> list[Sweep]:
    """Sweep what was asked for, one record type after the other; ``say`` is told what came of each.

    One that failed has its ``failure``, and the others are swept. Raises RefusedError if one is being swept already,
    and NotAnswering or AccessDenied if NetSuite answers nobody, or lets nobody in.
    """
    done: list[Sweep] = []
    tenant = asked.tenant
    for name in asked.record_types:
        with (
            signs_of_life.sweeping(instance, tenant.name, name),
            asking(tenant, instance, asked.engine) as (_, client),
        ):
            try:
                one = sweep(
                    asked.engine,
                    resources.record_type(tenant, name),
                    client=client,
                    families=asked.families.get(name, ()),
                    overlap=timedelta(seconds=tenant.overlap),
                    modulus=random.randint(*MODULI),  # noqa: S311 - nobody gains by guessing it
                    now=_now,
                )
            except (AccessDenied, NotAnswering):
                raise
            except ImportFailure:
                one = last(asked.engine)[name]
        done.append(one)
        say(in_words(one))
    return done


def last(engine: Engine) -> dict[str, Sweep]:
    """The last sweep of each record type."""
    with read_only(engine).connect() as connection:
        return store.last_sweeps(connection)


def in_words(one: Sweep) -> str:
    """What a sweep came to, and what happens next."""
    if one.failure:
        return f"{one.record_type}: not swept: {one.failure}"
    if one.finished_at is None:
        return f"{one.record_type}: not at its end; {one.deleted:,} rows deleted so far"
    said = f"{one.record_type}: {one.compared:,} rows compared in {one.requests} requests, {one.deleted:,} deleted"
    if not one.missing:
        return said
    lacking = f"{one.missing:,} records of NetSuite are missing"
    if not one.drifted:
        return f"{said}; {lacking}: the next import brings them"
    return f"{said}; {lacking}, {one.drifted:,} of them unchanged for long: the next import loads all records"


def document(one: Sweep) -> dict[str, Any]:
    """A sweep as ``--json`` shows it."""
    return {
        "record_type": one.record_type,
        "started_at": iso(one.started_at),
        "finished_at": iso(one.finished_at),
        "requests": one.requests,
        "compared": one.compared,
        "deleted": one.deleted,
        "missing": one.missing,
        "drifted": one.drifted,
        "failure": one.failure,
    }


def _now() -> datetime:
    return datetime.now(UTC)
