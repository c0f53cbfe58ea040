"""The circuit of a tenant: open while NetSuite is not answering, so that nobody asks in vain.

Belongs here: its states and steps as pure functions, and the protocol by which a client obeys it. Does not belong
here: where it is kept so that all processes share it (``imports/breaker.py``). Times are aware UTC datetimes.

Closed: requests are sent, failures in a row are counted. Open: none is sent until the next probe is due. Half-open: one
process sends one probe; whoever else asks waits. A prober that died has a lease, after which another one may try.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Literal, Protocol

from nsimport_pipeline.errors import ImportFailure
from nsimport_pipeline.retry_settings import CircuitSettings

PROBE_STATEMENT = "SELECT 1 AS n FROM dual"
"""A question that no missing column or right can spoil: what is asked is only whether somebody answers."""
PROBE_SECONDS = 30.0
"""Longest wait for the answer to a probe."""
PROBE_LEASE = timedelta(seconds=4 * PROBE_SECONDS)
"""A prober that has not reported by then is dead; a probe may renew its access token on the way."""


class CircuitState(StrEnum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@dataclass(frozen=True, slots=True)
class Circuit:
    state: CircuitState = CircuitState.CLOSED
    failures: int = 0
    """Requests that failed in a row, while closed; those that opened it, afterwards."""
    probes: int = 0
    """Probes that failed since it opened."""
    opened_at: datetime | None = None
    next_probe_at: datetime | None = None
    """When it is open: the next probe. When it is half-open: when the prober counts as dead."""
    changed_at: datetime | None = None
    """When it last opened or closed."""

    @property
    def closed(self) -> bool:
        return self.state is CircuitState.CLOSED

    @property
    def confirmed(self) -> bool:
        """Open, and a question that cannot be at fault itself went unanswered too."""
        return not self.closed and self.probes > 0

    def __str__(self) -> str:
        if not self.confirmed or self.opened_at is None or self.next_probe_at is None:
            return "NetSuite is answering"
        probe = (
            "is being probed"
            if self.state is CircuitState.HALF_OPEN
            else f"next probe at {self.next_probe_at:%H:%M:%S}"
        )
        return f"NetSuite is not answering since {self.opened_at:%H:%M} UTC; {probe}"


def verdict(circuit: Circuit, now: datetime) -> Literal["go", "wait", "probe"]:
    """What somebody who wants to send a request does now."""
    if circuit.closed:
        return "go"
    return "probe" if circuit.next_probe_at is None or circuit.next_probe_at <= now else "wait"


def after_failed_request(circuit: Circuit, now: datetime, rules: CircuitSettings) -> Circuit:
    """One more request failed. When they were too many in a row, a probe is due at once."""
    if not circuit.closed:
        return circuit  # it was on its way already
    failures = circuit.failures + 1
    if failures < rules.failures:
        return replace(circuit, failures=failures)
    return Circuit(CircuitState.OPEN, failures, 0, now, now, now)


def after_answer(circuit: Circuit, now: datetime) -> Circuit:
    """NetSuite answered, be it with a refusal."""
    if circuit.closed:
        return replace(circuit, failures=0)
    return Circuit(changed_at=now)


def probing(circuit: Circuit, now: datetime) -> Circuit:
    """Somebody sends the probe that is due."""
    return replace(circuit, state=CircuitState.HALF_OPEN, next_probe_at=now + PROBE_LEASE)


def after_failed_probe(circuit: Circuit, now: datetime, rules: CircuitSettings, chance: float) -> Circuit:
    """The probe was not answered; the next one comes later. ``chance`` is uniform in [0, 1)."""
    if circuit.closed:
        return circuit  # an answer to an earlier request arrived meanwhile
    probes = circuit.probes + 1
    due = now + probe_delay(probes, rules, chance)
    return replace(circuit, state=CircuitState.OPEN, probes=probes, next_probe_at=due)


def probe_delay(probes: int, rules: CircuitSettings, chance: float) -> timedelta:
    """How long after ``probes`` (1, 2, …) failed ones the next is sent.

    Doubles up to the longest, and is spread over the upper half.
    """
    full = min(rules.longest_probe_delay, rules.probe_delay * 2.0 ** min(probes - 1, 60))
    return timedelta(seconds=full * (0.5 + chance / 2))


class Breaker(Protocol):
    """A circuit as a client uses it. Safe for many threads."""

    def before(self, probe: Callable[[], object]) -> float:
        """Called before each request; returns the seconds waited. ``probe`` asks NetSuite the neutral question.

        Raises NotAnswering if waiting here would be too long.
        """

    def after(self, failure: ImportFailure | None) -> bool:
        """Called with what became of a request. True if NetSuite is down, and not this request to blame."""
