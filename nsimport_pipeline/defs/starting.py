"""Asking for an import: checking the request, planning it, writing it down. For ``nsimport import`` and the UI's job.

Belongs here: what both do, with whatever they say given to a callback. Does not belong here: the questions that a plan
asks (``imports/plan.py``), how it is written (``imports/start.py``), options and output of either.
"""

import secrets
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import MappingProxyType

import dagster as dg
from sqlalchemy import Engine, Table

from nsimport_pipeline.defs import resources, signs_of_life
from nsimport_pipeline.defs.slots import SlottedClient
from nsimport_pipeline.defs.tenants import asking, brisk, open_tenant
from nsimport_pipeline.errors import ConfigurationError, RefusedError
from nsimport_pipeline.imports import store
from nsimport_pipeline.imports.account import Probed, Question, keep, outdated, probe
from nsimport_pipeline.imports.changes import Changes, changes_since, upper_bound
from nsimport_pipeline.imports.deletions import deleted_ids, gone
from nsimport_pipeline.imports.plan import Plan, PlannedType, Querier, chosen_types, make_plan
from nsimport_pipeline.imports.records import AccountType, ImportJob, Mode, new_import_id
from nsimport_pipeline.imports.settle import settle
from nsimport_pipeline.imports.snapshot import Rules
from nsimport_pipeline.imports.start import Request, abandon, open_import, write_plan
from nsimport_pipeline.netsuite.circuit import PROBE_STATEMENT
from nsimport_pipeline.netsuite.client import NetSuiteClient
from nsimport_pipeline.record_types.criteria import Catalog
from nsimport_pipeline.settings import Tenant
from nsimport_pipeline.warehouse.deletes import live_among
from nsimport_pipeline.warehouse.engine import read_only
from nsimport_pipeline.warehouse.schema import ensure_table, target_table

MOST_BATCHES = 10_000
"""In a wave."""

Say = Callable[[str], None]
"""Where a line for the user goes."""


@dataclass(frozen=True)
class Asked:
    """A checked request."""

    tenant: Tenant
    engine: Engine
    catalog: Catalog
    request: Request


def ask(
    record_types: Sequence[str],
    tenant_name: str,
    *,
    mode: Mode = "full",
    dependencies: bool = True,
    wave_size: int | None = None,
    dry: bool = False,
) -> Asked:
    """Check a request. ``dry``: without a look at the tenant's database, as opening it may create it.

    Raises ConfigurationError for what cannot be, RefusedError for what is not allowed now.
    """
    if not record_types:
        raise ConfigurationError("no record type is named: `nsimport record-types` lists them")
    if wave_size is not None and not 1 <= wave_size <= MOST_BATCHES:
        raise ConfigurationError(f"a wave of {wave_size} batches cannot be: give 1 to {MOST_BATCHES:,}")
    catalog = resources.catalog()
    chosen = chosen_types(catalog, record_types, with_dependencies=dependencies)
    if dry:
        tenant = resources.settings().enabled_tenant(tenant_name)
        engine = resources.warehouse(tenant)
    else:
        tenant, engine = open_tenant(tenant_name)
    for name in record_types:
        if not tenant.options(name).enabled:
            raise RefusedError(
                f"{name} is not enabled for tenant {tenant.name!r}: see record_types in the tenants file"
            )
    enabled = tuple(name for name in chosen if tenant.options(name).enabled)
    return Asked(tenant, engine, catalog, Request(tuple(record_types), enabled, mode, wave_size))


def start(asked: Asked, instance: dg.DagsterInstance, *, on_opened: Say, say: Say) -> tuple[ImportJob, Plan]:
    """Open, plan and write down an import; it is carried out by whatever daemon runs.

    ``on_opened`` is given its id first, ``say`` what is found while it is planned. Whatever goes wrong, Ctrl-C too,
    the import has failed then, and nothing was imported; if this process is killed, or can not write that down, it is
    found by its sign of life.
    """
    now, suffix = _now(), secrets.token_hex(2)
    with signs_of_life.planning(instance, new_import_id(asked.tenant.name, now, suffix)):
        job = open_import(asked.engine, asked.tenant, asked.request, now=now, suffix=suffix)
        job, made = _planned_import(asked, job, instance, on_opened, say)
    settle(asked.engine, job.import_id, rules=Rules.of(asked.tenant), now=_now)
    return job, made


def _planned_import(
    asked: Asked, job: ImportJob, instance: dg.DagsterInstance, on_opened: Say, say: Say
) -> tuple[ImportJob, Plan]:
    tenant, engine = asked.tenant, asked.engine
    try:
        on_opened(job.import_id)
        tables, renewed = _ensure_tables(asked, say)
        with asking(tenant, instance, engine) as clients:
            until, changes, gone = None, {}, {}
            if asked.request.mode == "incremental":
                until = netsuites_time(job, clients)
                changes = changes_of(asked, until, renewed)
                gone = gone_of(asked, changes, tables, clients[1], say)
            made = plan(
                asked, clients[1], late=True, changes=changes, on_planned=lambda planned: say(f"  {_planned(planned)}")
            )
            until = until or upper_bound(job.created_at, clients[0].clock_apart)
            _probe_planned(asked, job, made, instance, clients, say)
    except BaseException as error:
        abandon(engine, job, str(error) or "planning was interrupted", now=_now())
        raise
    removed = [name for name in asked.request.chosen if resources.record_type(tenant, name).removes]
    written = write_plan(engine, job, made, tables=tables, until=until, gone=gone, removed=removed, now=_now())
    return written, made


def plan(
    asked: Asked,
    client: Querier,
    *,
    late: bool = False,
    changes: Mapping[str, Changes] = MappingProxyType({}),
    on_planned: Callable[[PlannedType], None],
) -> Plan:
    """Ask NetSuite for counts and key ranges. ``late``: leave derived record types for when their parents are in.

    ``changes``: the record types of which only these are asked for.
    """
    tenant, request = asked.tenant, asked.request
    return make_plan(
        asked.catalog,
        request.chosen,
        client=client,
        wave_size=request.wave_size or tenant.wave_size,
        batch_sizes={name: tenant.options(name).batch_size for name in request.chosen},
        workers=tenant.slots,
        late=late,
        changes=changes,
        on_planned=on_planned,
    )


def in_short(made: Plan) -> str:
    """What was planned, in one line."""
    if made.types and not made.batches and all(planned.since or planned.unavailable for planned in made.types):
        return "nothing was changed: there is nothing to import"
    return f"planned: {made.records:,} records in {made.batches} batches and {len(made.waves)} waves"


def netsuites_time(job: ImportJob, clients: tuple[NetSuiteClient, Querier]) -> datetime:
    """When the import was asked for, by NetSuite's clock."""
    raw, patient = clients
    patient.query(PROBE_STATEMENT, limit=1)  # whatever it answers, it says what time it is
    return upper_bound(job.created_at, raw.clock_apart)


def gone_of(
    asked: Asked, changes: Mapping[str, Changes], tables: Mapping[str, Table], client: Querier, say: Say
) -> dict[str, list[int]]:
    """The rows of these record types whose records NetSuite has deleted; lines go with their transactions."""
    own = {name: changes[name] for name in changes if not asked.catalog[name].derived_from}
    if not own:
        return {}
    since, until = min(one.since for one in own.values()), next(iter(own.values())).until
    ids = deleted_ids(client, since, until)
    if ids is None:
        say("deletions cannot be seen: the role lacks the permission Lists > Deleted Records")
    if not ids:
        return {}
    with read_only(asked.engine).connect() as connection:
        live = {name: live_among(connection, tables[name], ids) for name in own}
    found = {name: gone(client, asked.catalog[name], some) for name, some in live.items() if some}
    return {name: some for name, some in found.items() if some}


def changes_of(asked: Asked, until: datetime, renewed: Collection[str]) -> dict[str, Changes]:
    """What to ask for of the record types that need not be loaded whole.

    Those are the ones whose table is ``renewed``, or that lack records that were not changed, as a sweep found.
    """
    with read_only(asked.engine).connect() as connection:
        marks, known = store.watermarks(connection), store.account_types(connection)
        drifted = store.drifted_types(connection)
        types = {name: resources.record_type(asked.tenant, name) for name in asked.request.chosen}
        found = {
            name: changes_since(
                types[name],
                marks.get(name),
                store.pinned_ranges(connection, name),
                until=until,
                overlap=timedelta(seconds=asked.tenant.overlap),
                left_out=[one.column for one in known[name].left_out] if name in known else (),
                parents=[resources.record_type(asked.tenant, parent) for parent in types[name].derived_from],
            )
            for name in asked.request.chosen
            if name not in renewed and name not in drifted
        }
    return {name: changes for name, changes in found.items() if changes is not None}


def _ensure_tables(asked: Asked, say: Say) -> tuple[dict[str, Table], set[str]]:
    """The tables by record type, and the record types whose table is new or has new columns."""
    tables, renewed = {}, set()
    for name in asked.request.chosen:
        record_type = resources.record_type(asked.tenant, name)
        for change in ensure_table(asked.engine, record_type):
            if change.kind != "created":
                say(str(change))
            if change.kind in ("created", "added"):
                renewed.add(name)
        tables[name] = target_table(record_type)
    return tables, renewed


def _planned(planned: PlannedType) -> str:
    if planned.unavailable:
        return f"{planned.record_type}: {'denied' if planned.denied else 'left out'}: {planned.unavailable}"
    if not planned.planned:
        return f"{planned.record_type}: about {planned.records:,} records, planned when its parents are in"
    what = "records" if planned.since is None else f"records changed since {planned.since:%Y-%m-%d %H:%M:%S} UTC"
    return f"{planned.record_type}: {planned.records:,} {what}, {len(planned.ranges)} batches"


def _probe_planned(
    asked: Asked,
    job: ImportJob,
    made: Plan,
    instance: dg.DagsterInstance,
    clients: tuple[NetSuiteClient, SlottedClient],
    say: Say,
) -> None:
    """Probe the columns of an import's record types where what is known is outdated, and keep the answers.

    What could not be found out is asked again by the next import; the runs of this one find out for themselves.
    """
    with read_only(asked.engine).connect() as connection:
        known = store.account_types(connection)
    now = _now()
    found: list[AccountType] = []
    questions: list[Question] = []
    for planned in made.types:
        if planned.unavailable:
            state = "denied" if planned.denied else "unavailable"
            found.append(AccountType(planned.record_type, state, now, planned.unavailable))  # type: ignore[arg-type]
            continue
        record_type = resources.record_type(asked.tenant, planned.record_type)
        if outdated(known.get(planned.record_type), record_type, now):
            first = planned.ranges[0] if planned.ranges else None
            questions.append(Question(record_type, first.low, first.high) if first else Question(record_type))
    if questions:
        say(f"probing the columns of {len(questions)} record types")
    raw, patient = clients
    probed = probe(
        questions,
        patient=patient,
        brisk=brisk(raw, instance, asked.tenant),
        workers=asked.tenant.slots,
        now=_now,
        on_probed=lambda one: say(f"  {_probed(one)}"),
    )
    keep(asked.engine, [*found, *(one.found for one in probed if one.found)], import_id=job.import_id)


def _probed(probed: Probed) -> str:
    if probed.found is None:
        said = f"could not be probed, the next import tries again: {probed.failure}"
    elif probed.found.left_out:
        said = f"left out: {', '.join(one.column for one in probed.found.left_out)}"
    else:
        said = "every column is there"
    return f"probed {probed.record_type}: {said}"


def _now() -> datetime:
    return datetime.now(UTC)
