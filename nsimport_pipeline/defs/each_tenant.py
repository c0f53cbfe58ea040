"""A sensor's look at all tenants side by side, so that one that is slow, broken or out of reach delays no other.

Belongs here: asking each tenant in a thread of its own, going on without those that do not answer, and what a tick
comes to. Does not belong here: what is looked at (the sensors), or errors' words (``saying.py``).
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, wait
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


class EachTenant:
    """The tenants as one sensor asks them, kept by its process from tick to tick.

    A tick waits at most ``patience`` seconds; an answer that comes later belongs to the next one. Until it has come,
    its tenant is not asked again, and whoever was late is not waited for until it has answered in time.
    """

    def __init__(self, *, patience: float = PATIENCE_SECONDS, at_once: int = AT_ONCE) -> None:
        self._patience = patience
        self._room = threading.Semaphore(at_once)
        self._asked: dict[str, _Asked] = {}
        self._late: set[str] = set()

    def ask(self, tenants: Iterable[str], look: Callable[[str], Look]) -> dict[str, Look]:
        """What looks at these tenants came to: answers, errors in words, and who did not answer yet."""
        for tenant in tenants:
            if tenant not in self._asked:
                room = None if tenant in self._late else self._room
                self._asked[tenant] = _Asked(tenant, look, room)
        wait([asked.answer for tenant, asked in self._asked.items() if tenant not in self._late], self._patience)
        looks = {}
        for tenant, asked in list(self._asked.items()):
            if asked.answer.done():
                looks[tenant], took = self._asked.pop(tenant).answer.result()
                (self._late.add if took > self._patience else self._late.discard)(tenant)
            elif asked.begun is not None:
                self._late.add(tenant)
                asked.make_room()
                seconds = time.monotonic() - asked.begun
                looks[tenant] = Look((f"{tenant}: no answer for {seconds:.0f} s; the others do not wait for it",))
        return looks


class _Asked:
    """One look at one tenant, and its thread, which dies with the process however long it waits."""

    def __init__(self, tenant: str, look: Callable[[str], Look], room: threading.Semaphore | None) -> None:
        self.answer: Future[tuple[Look, float]] = Future()
        self.begun: float | None = None
        """``time.monotonic`` when there was room for it."""
        self._room = room
        self._taken = threading.Lock()
        threading.Thread(target=self._look, args=(tenant, look), name=f"look-{tenant}", daemon=True).start()

    def _look(self, tenant: str, look: Callable[[str], Look]) -> None:
        if self._room is not None:
            self._room.acquire()
        self.begun = time.monotonic()
        try:
            found = look(tenant)
        except (NsimportError, SQLAlchemyError) as error:
            found = Look((f"{tenant}: {in_words(error)}",))
        except BaseException as error:
            # A mistake of ours; it must not cost the other tenants their turn.
            logger.exception("%s could not be looked at", tenant)
            found = Look((f"{tenant}: {type(error).__name__}, see the log of the code server",))
        self.make_room()
        self.answer.set_result((found, time.monotonic() - self.begun))

    def make_room(self) -> None:
        """Let another tenant be looked at, once."""
        if self._room is not None and self._taken.acquire(blocking=False):
            self._room.release()


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
