"""What is known of an import, as plain values: what metrics, the report and the performance monitor are made of.

Belongs here: frozen values and what can be counted on them alone. Does not belong here: reading them from a database
(``imports/store/facts.py``) or showing them. Times are aware UTC datetimes, durations seconds, states the words of
the outside contract.
"""

from dataclasses import dataclass, field
from datetime import datetime

SETTLED = frozenset({"completed", "failed", "cancelled"})
"""States in which a batch stays."""
ON_THE_WAY = frozenset({"dispatched", "processing"})
OPEN_IMPORTS = frozenset({"planning", "pending", "running", "cancelling"})


@dataclass(frozen=True, slots=True)
class BatchFact:
    """One batch; ``attempts`` counts its failures, ``dispatched_at`` and the times after are of its last attempt."""

    record_type: str
    partition: str
    wave: int
    level: int
    state: str
    expected: int
    attempts: int = 0
    run_id: str | None = None
    category: str | None = None
    """Of its failure, if it failed last."""
    dispatched_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    rows_read: int = 0
    rows_upserted: int = 0
    rows_rejected: int = 0
    requests: int = 0
    retries: int = 0
    """Requests that failed and were sent again within the run."""
    slot_wait_seconds: float = 0.0
    fetch_seconds: float = 0.0
    transform_seconds: float = 0.0
    write_seconds: float = 0.0

    @property
    def settled(self) -> bool:
        return self.state in SETTLED

    @property
    def seconds(self) -> float | None:
        """From the moment a run took it up until it was settled; None if it is not."""
        if self.started_at is None or self.finished_at is None:
            return None
        return max(0.0, (self.finished_at - self.started_at).total_seconds())

    @property
    def retried_within_wave(self) -> tuple[int, int]:
        """How often requests sent again within the run brought it through, and how often in vain."""
        if not self.settled or self.state == "cancelled":
            return 0, 0
        completed = self.state == "completed"
        # A batch is charged with a failure only after its requests had been sent again in vain.
        return int(completed and self.retries > 0), self.attempts + int(not completed and self.retries > 0)


@dataclass(frozen=True, slots=True)
class WaveFact:
    number: int
    level: int
    state: str
    retried: int = 0
    dispatched_at: datetime | None = None
    completed_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class TypeFact:
    name: str
    level: int
    expected: int
    unavailable: str | None = None
    source_count: int | None = None
    table_count: int | None = None
    in_sync: bool | None = None


@dataclass(frozen=True, slots=True)
class ErrorFact:
    """Failures of one kind: requests sent again, and batches that failed."""

    category: str
    record_type: str | None
    column: str | None
    count: int
    final: int = 0
    """How many of them ended a batch for good."""
    sample: str = ""


@dataclass(frozen=True, slots=True)
class RejectFact:
    record_type: str
    column: str | None
    reason: str
    count: int


@dataclass(frozen=True, slots=True)
class ImportFacts:
    """One import with all that belongs to it."""

    import_id: str
    tenant: str
    state: str
    requested: tuple[str, ...]
    wave_size: int
    completion_threshold: float
    created_at: datetime
    mode: str = "full"
    planned_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    reopened_at: datetime | None = None
    """When it last went on after it had been over."""
    last_sign_at: datetime | None = None
    """When a batch of it was last dispatched, begun or settled, or is to be tried again: see ``is_stuck``."""
    reason: str | None = None
    types: tuple[TypeFact, ...] = ()
    waves: tuple[WaveFact, ...] = ()
    batches: tuple[BatchFact, ...] = field(default=(), repr=False)
    errors: tuple[ErrorFact, ...] = ()
    rejects: tuple[RejectFact, ...] = ()
    sizes: tuple[str, ...] = ()
    """How much NetSuite was asked for at once, and why: what was decided last, or known before, by record type."""

    @property
    def is_open(self) -> bool:
        return self.state in OPEN_IMPORTS

    def seconds(self, now: datetime) -> float:
        """From its start to its end, or to ``now`` while it is open; 0 before it has started."""
        if self.started_at is None:
            return 0.0
        end = now if self.is_open else self.finished_at or now
        return max(0.0, (end - self.started_at).total_seconds())


def is_stuck(last_sign_at: datetime | None, now: datetime, wave_timeout: float) -> bool:
    """Whether nothing has moved in an import's waves for longer than they may take over nothing."""
    return last_sign_at is not None and (now - last_sign_at).total_seconds() > wave_timeout


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to an import, or to a wave or batch of it."""

    at: datetime
    name: str
    wave: int | None = None
    record_type: str | None = None
    partition: str | None = None
    run_id: str | None = None
    message: str | None = None


@dataclass(frozen=True, slots=True)
class SlotUse:
    """A tenant's NetSuite slots now."""

    limit: int
    in_use: int
    waiting: int
