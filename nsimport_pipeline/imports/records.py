"""The plain values the import works with: an import, its record types, waves, batches, and what a batch did.

Belongs here: frozen dataclasses and what can be read off them alone. Does not belong here: reading or writing them
(``store/``). Times are aware UTC datetimes, durations seconds, keys NetSuite internal ids.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from nsimport_pipeline.errors import Category
from nsimport_pipeline.imports.states import TERMINAL_BATCHES, BatchState, ImportState, WaveState
from nsimport_pipeline.netsuite.sizing import Sizing

Mode = Literal["full", "incremental"]
Origin = Literal["import", "manual"]
"""``import``: asked for as an import. ``manual``: partitions materialized by hand in the Dagster UI."""


@dataclass(frozen=True, slots=True)
class ImportJob:
    import_id: str
    tenant: str
    mode: Mode
    origin: Origin
    state: ImportState
    requested: tuple[str, ...]
    wave_size: int
    completion_threshold: float
    retry_attempts: int
    continue_on_permanent: bool
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    failure_reason: str | None = None


REJECTED_SHARE = "rejected_share"
"""The check that too few records were rejected to matter; failing it, an import ends with failures."""


@dataclass(frozen=True, slots=True)
class Check:
    """What one check of a record type found at the end of its import."""

    name: str
    passed: bool
    detail: str
    """For people."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """For machines: JSON, no values of records but their ids."""


@dataclass(frozen=True, slots=True)
class TypePlan:
    """What an import means to do for one record type, and what its checks said."""

    record_type: str
    level: int
    expected: int
    upper_bound: int | None
    """Highest key at plan time; None if there were no records."""
    unavailable: str | None = None
    """Why the account does not give this record type out, if so."""
    denied: bool = False
    """Whether that is because the role may not see it: then records are missing."""
    source_count: int | None = None
    table_count: int | None = None
    in_sync: bool | None = None
    planned: bool = True
    """Whether its batches are known; a derived type's are not until its parents are in."""
    parents: Mapping[str, int] | None = None
    """Of a planned derived type: the highest id that each record type it is derived from had in the database."""
    changed_since: datetime | None = None
    """Of changes only: those from then on, by NetSuite's clock; None if all records are imported."""
    changed_until: datetime | None = None
    """When the import began, by NetSuite's clock: what was changed later is for the next one."""
    deleted: int = 0
    """Rows found to be gone from NetSuite as it was planned."""
    attempt_number: int = 1
    """Which attempt at planning it late is to be made, or under way."""
    attempts: int = 0
    """Attempts at it that failed; waiting is not counted."""
    not_before: datetime | None = None
    """The next attempt waits until then."""
    failure: str | None = None
    """Why it is not tried again."""
    checks: tuple[Check, ...] = ()
    """Empty until its last batch is settled."""

    @property
    def too_many_rejected(self) -> Check | None:
        """The check that found so."""
        return next((check for check in self.checks if check.name == REJECTED_SHARE and not check.passed), None)

    @property
    def to_plan(self) -> bool:
        """Whether it is still to be planned."""
        return not self.planned and self.failure is None

    @property
    def incomplete(self) -> bool:
        """Whether records are missing. A surplus is none: NetSuite deleted records after they were imported."""
        return self.in_sync is False and (self.table_count or 0) < (self.source_count or 0)


@dataclass(frozen=True, slots=True)
class Watermark:
    """How far a record type is in step with NetSuite."""

    record_type: str
    modified_at: datetime
    """What was changed until then, by NetSuite's clock, is in the table."""
    refid: int
    """Highest id there was then; 0 if there was none."""
    import_id: str


@dataclass(frozen=True, slots=True)
class Sweep:
    """What comparing a table's keys with NetSuite's came to."""

    record_type: str
    started_at: datetime
    finished_at: datetime | None = None
    """None: it goes on, or its process was killed; what it has marked stays marked."""
    requests: int = 0
    compared: int = 0
    """Rows there were, not marked deleted."""
    deleted: int = 0
    """Of these NetSuite has no record any more."""
    missing: int = 0
    """Records of NetSuite without a row, though there are rows with higher ids."""
    drifted: int = 0
    """Of those missing: records that no import of changes would fetch, so that the next import loads all of them."""
    failure: str | None = None


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A column that is not fetched, because the account refuses it or fails over it."""

    column: str
    """NetSuite's name for it, or the lower-case alias of what is computed."""
    category: Category
    reason: str


@dataclass(frozen=True, slots=True)
class AccountType:
    """What an account is known to have of a record type."""

    record_type: str
    state: Literal["available", "unavailable", "denied"]
    """``unavailable``: a feature that is off. ``denied``: the role may not see it."""
    checked_at: datetime
    reason: str | None = None
    probed_for: str | None = None
    """Fingerprint of the columns that were asked for; None if they were not."""
    left_out: tuple[LeftOut, ...] = ()


@dataclass(frozen=True, slots=True)
class Learnt:
    """How much of a record type an account answers at once, and from what that was learnt."""

    sizing: Sizing
    reason: str
    changed_at: datetime


@dataclass(frozen=True, slots=True)
class Wave:
    number: int
    level: int
    state: WaveState
    retried: int = 0
    dispatched_at: datetime | None = None
    completed_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class KeyRange:
    """The records with ``low < key <= high``: one batch of one record type."""

    record_type: str
    number: int
    """Position among the record type's batches, from 0."""
    partition_key: str
    """The offset the range begins at, as text: the name of the Dagster partition."""
    low: int
    high: int
    expected: int
    """Records NetSuite had in the range at plan time."""


COUNT_OWED = "its rows are there; its record type's final count was lost with a run"


@dataclass(frozen=True, slots=True)
class Batch:
    id: int
    range: KeyRange
    wave: int
    level: int
    state: BatchState
    run_number: int | None = None
    attempts: int = 0
    """Failures so far; waiting is not counted."""
    run_id: str | None = None
    not_before: datetime | None = None
    """A retry waits until then."""
    failure_category: Category | None = None
    failure_reason: str | None = None
    rejected: int = 0
    """Rows that were rejected when it was completed before."""

    @property
    def record_type(self) -> str:
        return self.range.record_type

    @property
    def terminal(self) -> bool:
        return self.state in TERMINAL_BATCHES

    @property
    def owes_count(self) -> bool:
        """Whether it was completed, and put back only so that a run takes the final count."""
        return self.failure_reason == COUNT_OWED


@dataclass(frozen=True, slots=True)
class BatchStats:
    """What one batch read, wrote and took."""

    rows_read: int = 0
    rows_upserted: int = 0
    rows_rejected: int = 0
    rows_deleted: int = 0
    """Rows marked deleted because NetSuite no longer has them."""
    touched: Mapping[str, int] | None = None
    """Of an incremental import: rows changed, by the key of the partition they belong to."""
    requests: int = 0
    retries: int = 0
    statements: int = 0
    slot_wait_seconds: float = 0.0
    fetch_seconds: float = 0.0
    transform_seconds: float = 0.0
    write_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class RunSpec:
    """One run of a wave: adjacent partitions of one record type, in order."""

    wave: int
    number: int
    record_type: str
    level: int
    partition_keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PlanSpec:
    """One attempt at planning a derived record type: a run of its own."""

    record_type: str
    level: int
    attempt: int


Hold = Literal["wave", "level", "none"]
"""What an ended run with unsettled batches holds back: later waves and higher levels, only higher levels, nothing."""


@dataclass(frozen=True, slots=True)
class RunView:
    """A Dagster run of an import, as far as the import is concerned."""

    run_id: str
    wave: int | None
    number: int | None
    outcome: Literal["alive", "succeeded", "failed", "cancelled"]
    hold: Hold = "wave"
    plans: tuple[str, int] | None = None
    """The derived record type it plans, and the number of that attempt; None for a run that works on batches."""

    @property
    def ended(self) -> bool:
        return self.outcome != "alive"


def tenant_of(import_id: str) -> str:
    """The tenant whose import this is: the id starts with its name."""
    return import_id.rsplit("-", 2)[0]


def new_import_id(tenant: str, now: datetime, suffix: str) -> str:
    """``<tenant>-<UTC time>-<suffix>``: sorts by time, and fits a Dagster tag (63 characters)."""
    return f"{tenant}-{now:%Y%m%d%H%M%S}-{suffix}"
