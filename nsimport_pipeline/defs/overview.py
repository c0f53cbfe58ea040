"""The overview of a tenant in Dagster's catalogue: an asset that nobody materializes, observed while imports go on.

Belongs here: the asset, the sensor that observes it, how often. Does not belong here: what the observation says
(``imports/overview.py``).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import TypedDict

import dagster as dg

from nsimport_pipeline.defs import names, resources
from nsimport_pipeline.defs.each_tenant import EachTenant, Look, ticked
from nsimport_pipeline.defs.slots import slot_use
from nsimport_pipeline.imports import store
from nsimport_pipeline.imports.overview import fingerprint, headline, markdown, numbers
from nsimport_pipeline.imports.progress import Status, status
from nsimport_pipeline.warehouse.engine import read_only
from nsimport_pipeline.warehouse.migrate import ensure_control_tables

LOOK_SECONDS = 10
"""An observation is written this often at most."""
AT_FIRST = timedelta(days=1)
"""What ended within it is shown by the very first observation."""
MOST = 5
"""Imports that one observation shows."""
NOTHING = "no import is open, and none has ended since it was observed"


class Seen(TypedDict):
    """What was observed of a tenant: when, and the fingerprint of what was said."""

    at: str
    said: str


def overview_spec(tenant: str, freshness: dg.FreshnessPolicy | None = None) -> dg.AssetSpec:
    return dg.AssetSpec(
        key=names.overview_key(tenant),
        description=f"How far {tenant}'s imports are: its latest observation has a table of record types, and numbers "
        "that plot.",
        group_name="overview",
        kinds={"netsuite"},
        tags={names.TENANT: tenant},
        freshness_policy=freshness,
    )


def overview_sensor() -> dg.SensorDefinition:
    """The sensor that writes down how far each tenant's imports are, if that has changed."""
    each = EachTenant()

    @dg.sensor(
        name="overview",
        minimum_interval_seconds=LOOK_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Observes tenants' overviews while imports go on: progress, rate, time left, what is waited for.",
    )
    def sensor(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        now = datetime.now(UTC)
        before: dict[str, Seen] = json.loads(context.cursor or "{}")

        def after(looks: Mapping[str, Look]) -> str:
            seen = before | {tenant: found.cursor for tenant, found in looks.items() if found.cursor}
            return json.dumps({tenant: one for tenant, one in seen.items() if one["at"] > _first(now)["at"]})

        def look_at(tenant: str) -> Look:
            return look(context.instance, tenant, before.get(tenant), now)

        return ticked(context, each, look_at, nothing=NOTHING, cursor=after)

    return sensor


def look(instance: dg.DagsterInstance, tenant: str, before: Seen | None, now: datetime) -> Look:
    """An observation of what there is to say at ``now``, or why there is none. ``before``: its cursor of last time."""
    before = before or _first(now)
    since = datetime.fromisoformat(before["at"])
    documents = _documents(instance, tenant, since, now)
    if not documents:
        return Look()
    said = fingerprint(documents)
    if said == before["said"]:
        return Look((f"nothing has changed since {since:%H:%M:%S} UTC: {headline(documents[0])}",))
    return Look(
        said=(f"observed: {headline(documents[0])}",),
        events=(_observation(tenant, documents),),
        cursor=Seen(at=now.isoformat(), said=said),
    )


def _first(now: datetime) -> Seen:
    return Seen(at=(now - AT_FIRST).isoformat(), said="")


def _documents(instance: dg.DagsterInstance, tenant_name: str, since: datetime, now: datetime) -> list[Status]:
    """The status of imports that are open or ended after ``since``, the latest first."""
    tenant = resources.settings().tenant(tenant_name)
    engine = resources.warehouse(tenant)
    ensure_control_tables(engine)
    with read_only(engine).connect() as connection:
        jobs = store.jobs_since(connection, since)[-MOST:]
        slots = asdict(slot_use(instance, tenant)) if jobs else {}
        found = [status(connection, job.import_id, now, catalog=resources.catalog(), slots=slots) for job in jobs]
    return [document for document in reversed(found) if document is not None]


def _observation(tenant: str, documents: Sequence[Status]) -> dg.AssetObservation:
    return dg.AssetObservation(
        asset_key=names.overview_key(tenant),
        description=headline(documents[0]),
        metadata={
            "import": dg.MetadataValue.md(markdown(documents, lambda import_id: names.runs_of(import_id).url or "")),
            "imports": ", ".join(document["import_id"] for document in documents),
            **numbers(documents),
        },
    )
