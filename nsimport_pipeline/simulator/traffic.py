"""Requests in flight: who is let in, and the record of what happened.

Belongs here: the account's pool of slots and its statistics. Does not belong here: HTTP. Used from one event loop only.
"""

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

_LOGGED = 200_000
"""Requests remembered one by one."""


@dataclass
class Ticket:
    """One request that was let in."""

    kind: str
    started: float


class Traffic:
    """Counts requests against ``slots``. A request is in flight from ``enter`` to ``leave``; times are ``clock``'s."""

    def __init__(self, slots: int, clock: Callable[[], float]) -> None:
        self.slots = slots
        self._clock = clock
        self.in_flight = 0
        self.noise = 0
        self.reset()

    def reset(self) -> None:
        """Forget the record; what is in flight stays in flight."""
        self.began = self._clock()
        self.max_in_flight = self.in_flight
        self.statuses: Counter[int] = Counter()
        self.kinds: Counter[str] = Counter()
        self.log: deque[dict[str, Any]] = deque(maxlen=_LOGGED)

    def enter(self, kind: str) -> Ticket | None:
        """A ticket, or None if all slots are taken."""
        if self.in_flight + self.noise >= self.slots:
            now = self._clock()
            self._record(Ticket(kind, now), 429, now)
            return None
        self.in_flight += 1
        self.max_in_flight = max(self.max_in_flight, self.in_flight)
        return Ticket(kind, self._clock())

    def leave(self, ticket: Ticket, status: int, *, abandoned: bool = False) -> None:
        """The request ended with ``status`` (0: the connection broke without an answer).

        ``abandoned``: whoever asked was gone by then; the account worked on all the same.
        """
        self.in_flight -= 1
        self._record(ticket, status, self._clock(), abandoned=abandoned)

    def note(self, kind: str, status: int) -> None:
        """Record a request that never took a slot."""
        now = self._clock()
        self._record(Ticket(kind, now), status, now)

    def take_noise(self) -> bool:
        """Another user of the account takes a slot, if one is free."""
        if self.in_flight + self.noise >= self.slots:
            return False
        self.noise += 1
        return True

    def give_noise(self) -> None:
        self.noise -= 1

    def statistics(self) -> dict[str, Any]:
        """The record as JSON: counts, and every request with kind, start, end (seconds since reset) and status.

        A request that was abandoned says so.
        """
        return {
            "slots": self.slots,
            "in_flight": self.in_flight,
            "max_in_flight": self.max_in_flight,
            "noise_in_flight": self.noise,
            "requests": sum(self.statuses.values()),
            "statuses": {str(status): count for status, count in sorted(self.statuses.items())},
            "kinds": dict(sorted(self.kinds.items())),
            "seconds": self._clock() - self.began,
            "log": list(self.log),
        }

    def _record(self, ticket: Ticket, status: int, ended: float, *, abandoned: bool = False) -> None:
        self.statuses[status] += 1
        self.kinds[ticket.kind] += 1
        self.log.append(
            {
                "kind": ticket.kind,
                "start": round(ticket.started - self.began, 6),
                "end": round(ended - self.began, 6),
                "status": status,
                **({"abandoned": True} if abandoned else {}),
            }
        )
