"""A sensor's look at all tenants, in which one that is slow, broken or out of reach delays no other.

Belongs here: how many are asked side by side, going on without those that do not answer, and what a tick comes to.
Does not belong here: what is looked at (the sensors), or errors' words (``saying.py``).
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import dagster as dg
from sqlalchemy.exc import SQLAlchemyError

from nsimport_pipeline.defs import resources
from nsimport_pipeline.defs.saying import in_words
from nsimport_pipeline.errors import NsimportError

PATIENCE_SECONDS = 2.0
AT_ONCE = 32
"""Tenants looked at side by side; those that keep a tick waiting do not count."""
QUICK_SECONDS = 0.02
"""A look that takes longer waits for its database; one that does not takes 0.6 to 10 ms."""
NOT_YET = float("inf")
MOST_SAID = 20_000
"""Characters: Dagster keeps the reason of every tick."""

logger = logging.getLogger("nsimport.tenants")


@dataclass(frozen=True, slots=True)
class Look:
    """What a look at one tenant came to; nothing said: there is nothing to do."""

    said: Sequence[str] = ()
    requests: Sequence[dg.RunRequest] = ()
    events: Sequence[dg.AssetObservation | dg.AssetMaterialization] = ()
    cursor: Any = None
    """What the sensor wants to know of this tenant next time, if it wants to."""


def has_room(begun: Collection[float], now: float, at_once: int) -> bool:
    """Whether one more tenant may be looked at beside those whose looks began then (seconds, as ``now``).

    Quick looks take turns: Python runs one thread at a time, and threads that hand over at every statement need twice
    the processor time. One that is not quick waits for a database: others begin beside it, twice as many each time.
    """
    slow = sum(now - since >= QUICK_SECONDS for since in begun)
    return len(begun) < at_once and len(begun) - slow <= slow


class EachTenant:
    """The tenants as one sensor asks them, kept by its process from tick to tick.

    A tick waits at most ``patience`` seconds; an answer that comes later belongs to the next one. Until it has come,
    its tenant is not asked again, and whoever was late is not waited for until it has answered in time.
    """

    def __init__(self, *, patience: float = PATIENCE_SECONDS, at_once: int = AT_ONCE) -> None:
        self._patience = patience
        self._at_once = at_once
        self._asked: dict[str, _Asked] = {}
        self._late: set[str] = set()
        self._changes = threading.Condition()
        """Held to read or change what follows, which threads share."""
        self._queue: deque[_Asked] = deque()
        self._taking_room: set[_Asked] = set()
        self._awaited: set[_Asked] = set()

    def ask(self, tenants: Iterable[str], look: Callable[[str], Look]) -> dict[str, Look]:
        """What looks at these tenants came to: answers, errors in words, and who did not answer yet."""
        with self._changes:
            for tenant in tenants:
                if tenant not in self._asked:
                    asked = self._asked[tenant] = _Asked(tenant, look)
                    if tenant in self._late:
                        asked.begun = time.monotonic()
                        self._start(asked)
                    else:
                        self._queue.append(asked)
            unanswered = (asked for asked in self._asked.values() if asked.answer is None)
            self._awaited = {asked for asked in unanswered if asked.tenant not in self._late}
            self._wait()
            return self._looks()

    def _wait(self) -> None:
        until = time.monotonic() + self._patience
        while self._awaited and (now := time.monotonic()) < until:
            while (asked := self._next()) is not None:
                self._start(asked)
            self._changes.wait(min(until - now, QUICK_SECONDS) if self._queue else until - now)

    def _looks(self) -> dict[str, Look]:
        looks = {}
        for tenant, asked in list(self._asked.items()):
            if asked.answer is not None:
                looks[tenant], took = asked.answer
                del self._asked[tenant]
                (self._late.add if took > self._patience else self._late.discard)(tenant)
            elif asked.begun != NOT_YET:
                self._late.add(tenant)
                self._taking_room.discard(asked)
                seconds = time.monotonic() - asked.begun
                looks[tenant] = Look((f"{tenant}: no answer for {seconds:.0f} s; the others do not wait for it",))
        return looks

    def _start(self, asked: "_Asked") -> None:
        # The thread dies with the process, however long it waits.
        threading.Thread(target=self._work, args=(asked,), name=f"look-{asked.tenant}", daemon=True).start()

    def _work(self, asked: "_Asked | None") -> None:
        """In a thread of its own: look at this tenant, and at others for as long as there is room."""
        while asked is not None:
            asked.look_at_it()
            with self._changes:
                self._taking_room.discard(asked)
                self._awaited.discard(asked)
                if not self._awaited:
                    self._changes.notify()
                asked = self._next()

    def _next(self) -> "_Asked | None":
        begun = [asked.begun for asked in self._taking_room]
        if not self._queue or not has_room(begun, now := time.monotonic(), self._at_once):
            return None
        asked = self._queue.popleft()
        asked.begun = now
        self._taking_room.add(asked)
        return asked


class _Asked:
    """One look at one tenant."""

    def __init__(self, tenant: str, look: Callable[[str], Look]) -> None:
        self.tenant = tenant
        self.begun = NOT_YET
        """``time.monotonic`` when its turn came."""
        self.answer: tuple[Look, float] | None = None
        """What it came to, and the seconds it took."""
        self._look = look

    def look_at_it(self) -> None:
        try:
            found = self._look(self.tenant)
        except (NsimportError, SQLAlchemyError) as error:
            found = Look((f"{self.tenant}: {in_words(error)}",))
        except BaseException as error:
            # A mistake of ours; it must not cost the other tenants their turn.
            logger.exception("%s could not be looked at", self.tenant)
            found = Look((f"{self.tenant}: {type(error).__name__}, see the log of the code server",))
        self.answer = found, time.monotonic() - self.begun


def ticked(
    context: dg.SensorEvaluationContext,
    each: EachTenant,
    look: Callable[[str], Look],
    *,
    nothing: str,
    first: Callable[[], Sequence[str]] = tuple,
    cursor: Callable[[Mapping[str, Look]], str] | None = None,
) -> dg.SensorResult:
    """A tick over all tenants of the tenants file as it is now. ``nothing``: what is said if there is nothing to say.

    ``first``: what is done for all of them together, and said. ``cursor``: what was found, as the next tick wants it.
    """
    try:
        tenants, lines = resources.settings().tenant_names, list(first())
    except NsimportError as error:
        return dg.SensorResult(skip_reason=in_words(error))
    looks = each.ask(tenants, look)
    lines += [line for _, found in sorted(looks.items()) for line in found.said]
    reason = in_short(lines) or nothing
    if lines and (quiet := sum(not found.said for found in looks.values())):
        reason += f"; {nothing}: {quiet} tenants"
    requests = [request for found in looks.values() for request in found.requests]
    if requests:
        context.log.info(reason)
    return dg.SensorResult(
        run_requests=requests,
        skip_reason=None if requests else reason,
        asset_events=[event for found in looks.values() for event in found.events],
        cursor=None if cursor is None else cursor(looks),
    )


def in_short(lines: Sequence[str]) -> str:
    """All that is to be said, as far as there is room for it."""
    told: list[str] = []
    length = 0
    for line in lines:
        length += len(line)
        if told and length > MOST_SAID:
            told.append(f"and {len(lines) - len(told)} more")
            break
        told.append(line)
    return "; ".join(told)
