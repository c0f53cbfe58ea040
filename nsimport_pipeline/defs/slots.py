"""NetSuite slots kept in Dagster's pools: every process sees them, and so does the UI.

Belongs here: claiming and freeing slots of a tenant's pool, its limit, slots that outlived their holder.
Does not belong here: how many slots a run wants (``imports/execute.py``).
"""

import itertools
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import dagster as dg

from nsimport_pipeline.defs.names import GATE, OPEN, TENANT
from nsimport_pipeline.errors import RateLimited
from nsimport_pipeline.netsuite.client import KeyCount, NetSuiteClient, Page
from nsimport_pipeline.record_types.criteria import RecordType
from nsimport_pipeline.settings import Tenant, pool_name

_T = TypeVar("_T")

COMMAND_PREFIX = "nsimport-command-"
"""Holder names of processes that are not runs; the time their lease ends follows, in seconds since the epoch."""
COMMAND_LEASE_SECONDS = 900.0
"""NetSuite cuts a request after 15 minutes, so a slot is not in use for longer."""
LOOKS_TO_WAKE = 20
"""Looks in vain, in line for a slot, after which it is seen to that the line moves."""


def set_limit(instance: dg.DagsterInstance, tenant: str, slots: int) -> None:
    """Make the pool of a tenant as large as its settings say. Cheap if it is so already."""
    storage = instance.event_log_storage
    info = storage.get_concurrency_info(pool_name(tenant))
    if info.slot_count != slots or info.using_default_limit:
        storage.set_concurrency_slots(pool_name(tenant), slots)


@dataclass(frozen=True, slots=True)
class SlotUse:
    """A tenant's slots now."""

    limit: int
    in_use: int
    waiting: int
    """Steps that wait for a slot, and runs let in that have not begun."""


def slot_use(instance: dg.DagsterInstance, tenant: Tenant) -> SlotUse:
    """A tenant's slots now; the limit is that of its settings as long as the pool has none."""
    info = instance.event_log_storage.get_concurrency_info(tenant.pool)
    waiting = info.pending_step_count + runs_waiting(instance, tenant.name)
    return SlotUse(info.slot_count or tenant.slots, info.active_slot_count, waiting)


def runs_waiting(instance: dg.DagsterInstance, tenant: str) -> int:
    """Runs of a tenant that the gate let in and that have not started: each will want a slot."""
    return instance.get_runs_count(
        dg.RunsFilter(tags={TENANT: tenant, GATE: OPEN}, statuses=[dg.DagsterRunStatus.QUEUED])
    )


def free_slots_of_the_dead(instance: dg.DagsterInstance, tenant: str, now: float) -> int:
    """Free the slots of a tenant whose run is over or unknown, or whose command's lease has ended. Returns how many."""
    dead = _dead_holders(instance, tenant, now)
    for holder in dead:
        instance.event_log_storage.free_concurrency_slots_for_run(holder)
    return sum(dead.values())


def wake_waiting(instance: dg.DagsterInstance, tenant: str, now: float) -> int:
    """Have steps that stand in line beside free slots given one. Returns how many.

    Dagster hands a slot on when one is given back. Who gets in line in the very moment in which the last one is given
    back is not seen, and nobody comes back for it. A slot claimed and given back hands the next one on.
    """
    info = instance.event_log_storage.get_concurrency_info(pool_name(tenant))
    # Whoever holds a slot stays among those it was assigned to.
    free = info.slot_count - info.assigned_step_count
    claimer = PoolSlots(instance, tenant, command_holder(now))
    woken = 0
    while woken < min(info.pending_step_count, free) and (slot := claimer.try_claim()) is not None:
        claimer.release(slot)
        woken += 1
    return woken


def command_holder(now: float) -> str:
    """A new name under which something that is no run holds slots, for as long as its lease."""
    return f"{COMMAND_PREFIX}{int(now + COMMAND_LEASE_SECONDS)}-{secrets.token_hex(4)}"


def slots_of_the_dead(instance: dg.DagsterInstance, tenant: str, now: float) -> int:
    """How many slots there are for ``free_slots_of_the_dead`` to free."""
    return sum(_dead_holders(instance, tenant, now).values())


def _dead_holders(instance: dg.DagsterInstance, tenant: str, now: float) -> dict[str, int]:
    """Those in a tenant's pool, or in line for it, that are no more, and how many slots each holds."""
    info = instance.event_log_storage.get_concurrency_info(pool_name(tenant))
    dead = {}
    for run_id in info.active_run_ids | info.pending_run_ids | info.assigned_run_ids:
        if run_id.startswith(COMMAND_PREFIX):
            gone = float(run_id.removeprefix(COMMAND_PREFIX).split("-")[0]) < now
        else:
            run = instance.get_run_by_id(run_id)
            gone = run is None or run.is_finished
        if gone:
            dead[run_id] = sum(slot.run_id == run_id for slot in info.claimed_slots)
    return dead


class PoolSlots:
    """A tenant's pool as one holder sees it (``netsuite.slots.SlotPool``). Thread-safe."""

    def __init__(self, instance: dg.DagsterInstance, tenant: str, holder: str) -> None:
        self._instance = instance
        self._tenant = tenant
        self._pool = pool_name(tenant)
        self._holder = holder
        self._numbers = itertools.count(1)

    def try_claim(self) -> str | None:
        slot = self.line_up()
        claimed = False
        try:
            claimed = self.claim(slot)
        finally:
            # Dagster has put us in line; a helper that comes to nothing must not stand in anybody's way.
            if not claimed:
                self.release(slot)
        return slot if claimed else None

    def line_up(self) -> str:
        """A slot to ``claim`` until it is one's turn, or to ``release``."""
        return f"slot_{next(self._numbers)}"

    def claim(self, slot: str) -> bool:
        """Take a slot if it is one's turn; otherwise stand in line for it."""
        claim = self._instance.event_log_storage.claim_concurrency_slot(self._pool, self._holder, slot)
        return bool(claim.is_claimed)

    def wake(self, now: float) -> None:
        """See to it that nobody stands in line beside a free slot."""
        wake_waiting(self._instance, self._tenant, now)

    def release(self, slot: str) -> None:
        self._instance.event_log_storage.free_concurrency_slot_for_step(self._holder, slot)

    def contended(self) -> bool:
        info = self._instance.event_log_storage.get_concurrency_info(self._pool)
        others = [s for s in info.pending_steps if s.run_id != self._holder and s.assigned_timestamp is None]
        return bool(others) or runs_waiting(self._instance, self._tenant) > 0


class SlottedClient:
    """A NetSuite client that takes a slot for each request, in its turn: for whoever has no slot of a step."""

    def __init__(
        self,
        client: NetSuiteClient,
        slots: PoolSlots,
        *,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._client = client
        self._slots = slots
        self._sleep = sleep
        self._clock = clock

    def query(self, statement: str, *, limit: int = 1000, offset: int = 0) -> Page:
        return self.with_slot(lambda: self._client.query(statement, limit=limit, offset=offset))

    def count(self, record_type: RecordType, low: int | None = None, high: int | None = None) -> KeyCount:
        return self.with_slot(lambda: self._client.count(record_type, low, high))

    def with_slot(self, ask: Callable[[], _T]) -> _T:
        """Ask under a slot. Raises RateLimited if none becomes free."""
        deadline, slot = self._clock() + COMMAND_LEASE_SECONDS / 2, self._slots.line_up()
        try:
            for looked in itertools.count(1):
                if self._slots.claim(slot):
                    break
                if self._clock() > deadline:
                    raise RateLimited("no NetSuite slot became free: `nsimport slots` shows who holds them")
                if not looked % LOOKS_TO_WAKE:
                    self._slots.wake(self._clock())
                self._sleep(0.25)
            return ask()
        finally:
            self._slots.release(slot)
