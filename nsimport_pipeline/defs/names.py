"""Names that Dagster and the import share: asset keys, partition sets, run tags.

Belongs here: how tenants, record types, imports, waves and runs are called in Dagster, and reading them back.
Does not belong here: settings or states.
"""

from collections.abc import Mapping
from typing import cast, get_args
from urllib.parse import quote

import dagster as dg

from nsimport_pipeline.imports.records import Hold
from nsimport_pipeline.settings import TENANT_NAME

TENANT = "nsimport/tenant"
IMPORT = "nsimport/import"
WAVE = "nsimport/wave"
RUN = "nsimport/run"
LEVEL = "nsimport/level"
BATCHES = "nsimport/batches"
DONE = "nsimport/done"
"""Batches of the run that are settled."""
PLANS = "nsimport/plans"
"""The derived record type that the run plans, instead of working on batches."""
ATTEMPT = "nsimport/attempt"
THRESHOLD = "nsimport/threshold"
WAVE_SIZE = "nsimport/wave_size"
GATE = "nsimport/gate"
"""``shut`` from the moment a run is queued until the gate lets it in, then ``open``."""
SLOTS = "nsimport/slots"
LET_IN = "nsimport/let_in"
"""When the gate let a run in, in seconds since the epoch."""
HOLD = "nsimport/hold"
"""What an ended run still holds back, see ``imports/gate.py``."""

HUNG = "nsimport/hung"
"""On a run that is being ended because its wave stood still: when that was asked for, in seconds since the epoch."""
OVERDUE = "nsimport/overdue"
"""On a run in the queue that nothing keeps there: when that was noticed, in seconds since the epoch."""

STEERS = "nsimport/steers"
"""On a run of a job that steers: the import that it started, or is about. ``nsimport/import`` is for runs that work."""
SCHEDULE = "nsimport/schedule"
"""On a run that a schedule asked for: its name in the tenants file."""
STEERING_JOBS = ("start_import", "cancel_import", "resume_import", "reconcile_imports", "sweep_records")

OVERVIEW = "overview"

SHUT, OPEN = "shut", "open"

ASSET_JOB = "__ASSET_JOB"
"""The job Dagster keeps for all assets: ours have partitions of their own, which no other job may mix."""

PARTITION = "dagster/partition"
RANGE_START = "dagster/asset_partition_range_start"
RANGE_END = "dagster/asset_partition_range_end"
BACKFILL = "dagster/backfill"


def asset_key(tenant: str, record_type: str) -> dg.AssetKey:
    return dg.AssetKey([tenant, record_type])


def overview_key(tenant: str) -> dg.AssetKey:
    """The asset that shows how far a tenant's imports are."""
    return dg.AssetKey([tenant, OVERVIEW])


def schedule(tenant: str, name: str) -> str:
    """What one of a tenant's schedules is called in Dagster."""
    return f"{tenant}__{name}"


def partition_set(tenant: str, record_type: str) -> str:
    """Name of the dynamic partitions of a record type; its keys are offsets."""
    return f"{tenant}/{record_type}"


def tenant_and_type(key: dg.AssetKey) -> tuple[str, str] | None:
    """The tenant and record type of one of our asset keys, None for a key of another shape."""
    return (key.path[0], key.path[1]) if len(key.path) == 2 and TENANT_NAME.match(key.path[0]) else None


def runs_of(import_id: str) -> dg.UrlMetadataValue:
    """Where the UI lists the runs of an import."""
    return dg.MetadataValue.url(f"/runs?q%5B0%5D=tag:{quote(f'{IMPORT}={import_id}')}")


def hold(tags: Mapping[str, str]) -> Hold:
    """What a run holds back once it has ended; the most where the tag says nothing one knows."""
    value = tags.get(HOLD, "wave")
    return cast(Hold, value) if value in get_args(Hold) else "wave"


def number(tags: Mapping[str, str], tag: str, otherwise: int = 0) -> int:
    """A whole number from a tag; ``otherwise`` if it is missing or none."""
    try:
        return int(tags.get(tag, otherwise))
    except ValueError:
        return otherwise
