"""The overview of a tenant in Dagster's catalogue: an asset that nobody materializes, observed while imports go on.

Belongs here: the asset, the sensor that observes it, how often. Does not belong here: what the observation says
(``imports/overview.py``).
"""

import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from functools import partial

import dagster as dg

from nsimport_pipeline.defs import names, resources
from nsimport_pipeline.defs.saying import Ticked, or_skipped
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


def overview_spec(tenant: str) -> dg.AssetSpec:
    return dg.AssetSpec(
        key=names.overview_key(tenant),
        description=f"How far {tenant}'s imports are: its latest observation has a table of record types, and numbers "
        "that plot.",
        group_name="overview",
        kinds={"netsuite"},
        tags={names.TENANT: tenant},
    )


def overview_sensor(tenant: str) -> dg.SensorDefinition:
    """The sensor that writes down how far a tenant's imports are, if that has changed."""

    @dg.sensor(
        name=f"overview_{tenant}",
        minimum_interval_seconds=LOOK_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"Observes {tenant}'s overview while imports go on: progress, rate, time left, what is waited for.",
    )
    def sensor(context: dg.SensorEvaluationContext) -> Ticked:
        return or_skipped(tenant, partial(observe, context.instance, tenant, context.cursor, datetime.now(UTC)))

    return sensor


def observe(instance: dg.DagsterInstance, tenant: str, cursor: str | None, now: datetime) -> Ticked:
    """An observation of what there is to say at ``now``, or why there is none. ``cursor``: as it left it last time."""
    before = json.loads(cursor) if cursor else {"at": (now - AT_FIRST).isoformat(), "said": ""}
    since = datetime.fromisoformat(before["at"])
    documents = _documents(instance, tenant, since, now)
    if not documents:
        return dg.SkipReason(f"no import is open, and none has ended since {since:%Y-%m-%d %H:%M:%S} UTC")
    said = fingerprint(documents)
    if said == before["said"]:
        return dg.SkipReason(f"nothing has changed since {since:%H:%M:%S} UTC: {headline(documents[0])}")
    return dg.SensorResult(
        skip_reason=f"observed: {headline(documents[0])}",
        asset_events=[_observation(tenant, documents)],
        cursor=json.dumps({"at": now.isoformat(), "said": said}),
    )


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
