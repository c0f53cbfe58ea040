"""Alerts: what one is, how it begins and ends, and what is said of it.

Belongs here: the life of an alert, as a pure function of what fired before and fires now, and the words. Does not
belong here: what makes a rule fire (``alert_rules.py``), keeping alerts (``imports/store/alerts.py``) or sending
anything (``notify.py``).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

from nsimport_pipeline.alert_settings import RuleName

Severity = Literal["critical", "warning", "performance"]
State = Literal["firing", "resolved"]
Key = tuple[str, str]
"""An alert's rule and subject."""
SEVERITIES: dict[RuleName, Severity] = {
    "import_failed": "critical",
    "stuck_wave": "critical",
    "netsuite_down": "critical",
    "completeness": "critical",
    "queue_depth": "critical",
    "import_with_failures": "warning",
    "batch_failures": "warning",
    "schema_errors": "warning",
    "retry_success": "warning",
    "early_waves": "warning",
    "behind": "warning",
    "database_connections": "warning",
    "dispatch_lag": "performance",
    "throughput": "performance",
    "slot_utilisation": "performance",
}
LONGEST_COMMAND, LONGEST_MESSAGE = 255, 600


@dataclass(frozen=True, slots=True)
class Alert:
    """A rule that fires. ``message``: what and where, no record's values; ``command``: what to type next."""

    rule: RuleName
    subject: str
    """What it fires for: the same subject again is the same alert."""
    message: str
    command: str
    import_id: str | None = None
    record_type: str | None = None

    @property
    def key(self) -> Key:
        return self.rule, self.subject

    @property
    def severity(self) -> Severity:
        return SEVERITIES[self.rule]


@dataclass(frozen=True, slots=True)
class Standing:
    """An alert as it is kept."""

    alert: Alert
    state: State
    first_at: datetime
    """When it began to fire, this time."""
    last_at: datetime
    """When it was last seen to fire."""
    resolved_at: datetime | None = None


def advance(
    known: Mapping[Key, Standing], firing: Iterable[Alert], now: datetime, *, resolve_after: float
) -> list[Standing]:
    """What is to be kept instead of ``known``: alerts that fire, and those that have not for ``resolve_after`` seconds.

    What needs no change is not among them.
    """
    by_key = {alert.key: alert for alert in firing}
    changed = [_firing(known.get(key), alert, now) for key, alert in by_key.items()]
    for key, standing in known.items():
        over = (now - standing.last_at).total_seconds() >= resolve_after
        if key not in by_key and standing.state == "firing" and over:
            changed.append(replace(standing, state="resolved", resolved_at=now))
    return changed


def _firing(known: Standing | None, alert: Alert, now: datetime) -> Standing:
    still = known is not None and known.state == "firing"
    return Standing(alert, "firing", known.first_at if known and still else now, now)


@dataclass(frozen=True, slots=True)
class Told:
    """What a destination knows of an alert."""

    state: State | None = None
    at: datetime | None = None
    held_until: datetime | None = None
    """Until then it is not tried: it is being told, or that has failed."""
    failures: int = 0
    """Attempts in a row that failed."""


RETRY_SECONDS, LONGEST_RETRY_SECONDS = 20.0, 1800.0


def is_due(standing: Standing, told: Told, now: datetime) -> bool:
    """Whether a destination is to be told of an alert now: once that it fires, and once that it is over."""
    if told.held_until is not None and told.held_until > now:
        return False
    if standing.state == "resolved":
        return told.state == "firing"
    return told.state != "firing" or (told.at is not None and told.at < standing.first_at)


def retry_delay(failures: int) -> float:
    """Seconds until a destination that has failed so often in a row is tried again: the next tick, then ever rarer."""
    return float(min(LONGEST_RETRY_SECONDS, RETRY_SECONDS * 2.0 ** min(max(failures, 1) - 1, 20)))


def title(tenant: str, standings: Sequence[Standing]) -> str:
    """The first line of a notice: ``nsimport acme: stuck_wave (critical), 1 resolved``."""
    firing = [f"{each.alert.rule} ({each.alert.severity})" for each in standings if each.state == "firing"]
    resolved = sum(each.state == "resolved" for each in standings)
    parts = [*dict.fromkeys(firing), *([f"{resolved} resolved"] if resolved else [])]
    return f"nsimport {tenant}: {', '.join(parts)}"


def body(tenant: str, standings: Sequence[Standing]) -> str:
    """What a notice says of each alert: what, where, since when, and the next command."""
    return "\n\n".join(_paragraph(tenant, standing) for standing in standings)


def _paragraph(tenant: str, standing: Standing) -> str:
    alert = standing.alert
    if standing.state == "resolved":
        end = standing.resolved_at or standing.last_at
        first = f"RESOLVED {alert.rule}: fired from {_minute(standing.first_at)} until {_minute(end)}"
    else:
        first = f"{alert.severity.upper()} {alert.rule} since {_minute(standing.first_at)}"
    place = [f"tenant {tenant}"]
    place += [f"import {alert.import_id}"] if alert.import_id else []
    place += [f"record type {alert.record_type}"] if alert.record_type else []
    lines = [first, ", ".join(place), alert.message]
    return "\n".join([*lines, f"next: {alert.command}"] if standing.state == "firing" else lines)


def _minute(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"


def loudest(standings: Iterable[Standing]) -> Severity | None:
    """The gravest severity among those that fire; None if all are resolved."""
    order: list[Severity] = ["critical", "warning", "performance"]
    return min((each.alert.severity for each in standings if each.state == "firing"), key=order.index, default=None)
