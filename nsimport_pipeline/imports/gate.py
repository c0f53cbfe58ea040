"""The gate: which queued runs may start now. Every run passes it, whoever asked for it.

Belongs here: one pure function over run records and their tags. Does not belong here: reading runs from Dagster and
opening the gate for those let in (``defs/run_coordinator.py``), or NetSuite's slots (a Dagster pool).

Three rules hold within a tenant, in the order in which its runs were queued:

1. *Level.* A run waits until every run of the same import at a lower level has settled all its batches.
2. *Wave.* Within a level a run waits until every earlier wave of its import has settled the threshold's share of its
   batches; and so has what was let in of a later wave, if that came to the queue first.
3. *Size.* The batches admitted and not settled never exceed one wave plus the tail that the threshold leaves of the
   one before. A run larger than that starts alone. A run that waits only for size lets no later one of its tenant
   overtake it, so none starves.

A run without batches, which plans a derived record type, waits for none of these.

Tenants take turns. No more runs are let in than there are *places* for, and a place goes to the tenant with the fewest
runs in; of several, to the one that was not let in for the longest time: so none that waits is passed over by another
more than once. As a run without a slot can only wait, a tenant has not many more of them in than slots; and the last
places are *kept* for tenants that have no run in. So when NetSuite is down for some, the others' places stay free.

A batch is *settled* when it is completed or finally failed. A run that ended with unsettled batches holds others back
until the wave sensor has folded them (its *hold* goes from ``wave`` to ``level``) and given them to another run
(``none``).
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from math import floor
from typing import Literal

from nsimport_pipeline.imports.records import Hold

SPARE_RUNS = 2
"""Runs of a tenant beyond its slots: one that only writes any more holds no slot, and the next is to be ready."""


@dataclass(frozen=True, slots=True)
class GateRun:
    """A Dagster run as the gate sees it."""

    run_id: str
    tenant: str
    group: str
    """The import the run belongs to, or a name for what was started by hand together."""
    level: int
    wave: int
    batches: int
    done: int
    """Settled batches."""
    phase: Literal["shut", "open", "ended"]
    """Queued and held; let in (queued, starting or running); over, in whatever way."""
    hold: Hold = "wave"
    """What it still holds back once it has ended with unsettled batches."""
    threshold: float = 90.0
    wave_size: int = 300
    slots: int = 500
    """NetSuite slots of the tenant."""
    let_in_at: float = 0.0
    """When it was let in, in seconds since the epoch."""

    def unsettled(self, *holding: Hold) -> int:
        """Batches that keep others waiting, as long as the run's hold is one of ``holding``."""
        return max(0, self.batches - self.done) if self.phase != "ended" or self.hold in holding else 0

    @property
    def admitted(self) -> int:
        """Batches that take room behind the gate."""
        return max(0, self.batches - self.done) if self.phase == "open" else 0

    @property
    def room(self) -> int:
        """Batches a tenant may have admitted and unsettled: one wave and the tail of the one before."""
        return self.wave_size + floor(self.wave_size * (100 - self.threshold) / 100)


@dataclass(frozen=True, slots=True)
class Held:
    """Why a queued run may not start yet."""

    run_id: str
    reason: str


def admit(runs: Iterable[GateRun], places: int | None = None, kept: int = 0) -> tuple[list[str], list[Held]]:
    """Decide about all runs with phase ``shut``: the ids let in, in order, and the others with the reason.

    ``runs``: every run of each open import and every live run besides, in the order in which they were queued.
    ``places``: for so many more runs; None if there is no limit. ``kept``: so many of them for tenants' first runs.
    """
    by_tenant: dict[str, list[GateRun]] = defaultdict(list)
    for run in runs:
        by_tenant[run.tenant].append(run)
    held: list[Held] = []
    turns: list[tuple[int, float, str]] = []
    for tenant_runs in by_tenant.values():
        inside = sum(run.phase == "open" for run in tenant_runs)
        last = max(run.let_in_at for run in tenant_runs)
        ready = _ready(tenant_runs, held)
        most = max(0, tenant_runs[-1].slots + SPARE_RUNS - inside)
        held += [Held(run_id, f"{inside} runs are let in, and the slots are theirs") for run_id in ready[most:]]
        turns += [(inside + place, last, run_id) for place, run_id in enumerate(ready[:most])]
    in_turn = [run_id for _, _, run_id in sorted(turns, key=lambda turn: turn[:2])]
    firsts = sum(inside == 0 for inside, _, _ in turns)
    let_in = in_turn if places is None else in_turn[: min(places, max(firsts, places - kept))]
    full = "as many runs as may are let in (max_concurrent_runs), and tenants take turns"
    return let_in, [*held, *(Held(run_id, full) for run_id in in_turn[len(let_in) :])]


def _ready(runs: list[GateRun], held: list[Held]) -> list[str]:
    """The runs of a tenant that may start as far as itself is concerned; the reasons of the others go to ``held``."""
    groups: dict[str, list[GateRun]] = defaultdict(list)
    for run in runs:
        groups[run.group].append(run)
    in_order = {name: place for place, name in enumerate(groups)}
    taken = sum(run.admitted for run in runs)
    # First of all what plans: it is soon done, and others come of it.
    let_in = [run.run_id for run in runs if run.phase == "shut" and not run.batches]
    full: str | None = None
    # Imports in the order in which their first run was queued; within one, levels and waves in their own order.
    waiting = [(i, run) for i, run in enumerate(runs) if run.phase == "shut" and run.batches]
    for _, run in sorted(waiting, key=lambda item: (in_order[item[1].group], item[1].level, item[1].wave, item[0])):
        reason = _blocked(run, groups[run.group]) or full
        if reason is None and taken > 0 and taken + run.batches > run.room:
            reason = full = f"{taken} batches are admitted, {run.batches} more would exceed {run.room}"
        if reason is None:
            taken += run.batches
            let_in.append(run.run_id)
        else:
            held.append(Held(run.run_id, reason))
    return let_in


def _blocked(run: GateRun, group: list[GateRun]) -> str | None:
    below = [other for other in group if other.level < run.level and other.unsettled("wave", "level")]
    if below:
        level = min(other.level for other in below)
        left = sum(other.unsettled("wave", "level") for other in below if other.level == level)
        return f"level {level} has {left} batches to finish"
    others: dict[int, list[GateRun]] = defaultdict(list)
    for other in group:
        # Of a later wave only what was let in counts: it came to the queue before this one did. What of it is still
        # shut waits for this wave in turn.
        if other.level == run.level and (other.wave < run.wave or (other.wave > run.wave and other.phase != "shut")):
            others[other.wave].append(other)
    for wave, members in sorted(others.items()):
        total = sum(other.batches for other in members)
        settled = total - sum(other.unsettled("wave") for other in members)
        if settled * 100 < run.threshold * total:
            return f"wave {wave} has {settled} of {total} batches done, {run.threshold:g}% are needed"
    return None
