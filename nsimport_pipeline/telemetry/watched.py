"""What is known of a tenant at one moment, beside the facts of each import: what the alert rules look at.

Belongs here: frozen values. Does not belong here: reading them (``imports/alerting.py``) or judging them
(``alert_rules.py``). Times are aware UTC datetimes, durations seconds.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from nsimport_pipeline.telemetry.facts import ImportFacts

RECENT = timedelta(minutes=10)
"""What happened within it is what happens now."""


@dataclass(frozen=True, slots=True)
class Ended:
    """An import, over or not, as far as its end matters."""

    import_id: str
    state: str
    requested: tuple[str, ...]
    finished_at: datetime | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class FinalCount:
    """The latest count of a record type, in NetSuite and in the table."""

    record_type: str
    import_id: str
    source: int
    table: int
    in_sync: bool | None
    """None while an open import has not counted yet."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast a record type's batches were: records, and seconds spent on them, waits included."""

    batches: int
    records: int
    seconds: float

    @property
    def rate(self) -> float:
        return self.records / self.seconds if self.seconds > 0 else 0.0


@dataclass(frozen=True, slots=True)
class Behind:
    """A schedule that the tables have not kept up with."""

    schedule: str
    said: str
    """Which record types, since when, and why."""
    command: str | None
    """What to type next; None if that is nothing in particular."""


@dataclass(frozen=True, slots=True)
class Watched:
    """What is known of a tenant at one moment."""

    tenant: str
    slots: int
    wave_size: int = 300
    imports: tuple[ImportFacts, ...] = ()
    """Those that are open, or ended within ``RECENT``."""
    latest: tuple[Ended, ...] = ()
    """The latest imports, newest first."""
    counts: tuple[FinalCount, ...] = ()
    """The newest of each record type."""
    stuck: Mapping[str, tuple[int, datetime]] = field(default_factory=dict)
    """By import: the wave that was said to be stuck, and when something last moved in it."""
    netsuite_down_since: datetime | None = None
    behind: tuple[Behind, ...] = ()
    usual: Mapping[str, Pace] = field(default_factory=dict)
    """By record type, of batches before ``RECENT``."""
    slot_seconds: float = 0.0
    """Seconds in which NetSuite was answering, of batches completed within ``slot_utilisation_for``."""
    connections: tuple[int, int] | None = None
    """Open at the database's server, and the most it takes."""
