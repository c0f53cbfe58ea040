"""Whether a tenant's tables are as its schedules mean them to be, and if not, why and what to type.

Belongs here: the judgement, pure, over what is known. Does not belong here: finding that out (``defs/watching.py``), or
whether an import may begin now (``due.py``). Times are aware UTC datetimes.

A record type is in step if its watermark (or, for full imports, the last whole one) has reached the last moment of the
schedule that is long enough ago. When it was last *written* says nothing: an import that finds nothing changed writes
nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import lru_cache
from itertools import takewhile
from typing import Any, Literal

from nsimport_pipeline.cron import shortest_interval, ticks_after, ticks_before
from nsimport_pipeline.imports.explain import MOST_OF_A_REASON, Cause
from nsimport_pipeline.imports.records import ImportJob
from nsimport_pipeline.imports.rollout import Switch
from nsimport_pipeline.imports.states import OPEN_IMPORTS, ImportState
from nsimport_pipeline.netsuite.circuit import Circuit
from nsimport_pipeline.schedule_settings import Schedule

LONGEST_GRACE = 3600.0
CLOCKS_APART = timedelta(seconds=60)
"""Watermarks are by NetSuite's clock and a little before the import was asked for; ticks are by ours."""

FAR = timedelta(hours=1)
"""A moment that began nothing is made up for, as soon as an import may begin, if the next one is not nearer."""

State = Literal["in_step", "behind", "off", "unknown"]


@dataclass(frozen=True, slots=True)
class Tick:
    """The last moment at which Dagster looked at a schedule."""

    at: datetime
    said: str | None
    """Why nothing was begun; None if a run was asked for."""


@dataclass(frozen=True, slots=True)
class Runs:
    """A schedule as Dagster has it."""

    on: bool | None
    """None: nobody has switched it on or off there, so its settings decide."""
    since: datetime | None = None
    """When a daemon first saw it switched on; None if none has."""
    tick: Tick | None = None


@dataclass(frozen=True, slots=True)
class Tables:
    """What is known of the record types that a schedule imports."""

    reached: Mapping[str, datetime | None]
    """Up to when each has what was changed, or when it was asked for whole; None: never. Those the account has."""
    switch: Switch = field(default_factory=lambda: Switch(True, ""))
    by_flag: bool = False
    """Whether a flag in the database is the switch."""
    circuit: Circuit = field(default_factory=Circuit)


@dataclass(frozen=True, slots=True)
class Pace:
    """How a schedule stands."""

    tenant: str
    schedule: str
    mode: str
    cron: str
    timezone: str
    state: State
    next_at: datetime | None = None
    """None if it is off."""
    due_at: datetime | None = None
    """The moment whose import should be in by now; None if there is none."""
    in_step_until: datetime | None = None
    """What was changed by then is in the tables; None if a record type never was imported, or it is not known."""
    record_types: tuple[str, ...] = ()
    """Those that are behind."""
    last_tick: Tick | None = None
    owed: datetime | None = None
    """The moment that began nothing and is to be made up for: the next is far away."""
    why: str | None = None
    command: str | None = None
    """What to type next."""
    meant: bool = False
    """Nothing begins because somebody switched it off: the tenant, or the schedule in Dagster."""

    def document(self, now: datetime) -> dict[str, Any]:
        """As ``nsimport schedules --json`` has it."""
        until, tick = self.in_step_until, self.last_tick
        return {
            "tenant": self.tenant,
            "schedule": self.schedule,
            "mode": self.mode,
            "cron": self.cron,
            "timezone": self.timezone,
            "state": self.state,
            "next_at": _iso(self.next_at),
            "due_at": _iso(self.due_at),
            "in_step_until": _iso(until),
            "seconds_since": None if until is None else round((now - until).total_seconds()),
            "behind": list(self.record_types),
            "last_tick": None if tick is None else {"at": _iso(tick.at), "said": tick.said},
            "why": self.why,
            "command": self.command,
        }

    @property
    def said(self) -> str:
        """What is not as it should be, and why."""
        types = ", ".join(self.record_types[:3])
        types += f" and {len(self.record_types) - 3} more" if len(self.record_types) > 3 else ""
        until = f"{self.in_step_until:%Y-%m-%d %H:%M} UTC" if self.in_step_until else "never"
        what = f"{types}, in step until {until}" if types else self.state.replace("_", " ")
        return f"{what}: {self.why}" if self.why else what

    def __str__(self) -> str:
        then = f"; `{self.command}`" if self.command else ""
        return f"{self.tenant}/{self.schedule}: {self.said}{then}"


def due_at(tenant: str, name: str, schedule: Schedule, since: datetime | None, now: datetime) -> datetime | None:
    """The last moment of a schedule, on since ``since``, whose import should be in by ``now``; none in quiet hours."""
    if since is None:
        return None
    cron, zone = schedule.plain_cron(tenant, name), str(schedule.timezone)
    grace = schedule.grace if schedule.grace is not None else min(LONGEST_GRACE, _interval(cron, zone))
    moments = takewhile(lambda at: at >= since, ticks_before(cron, now - timedelta(seconds=grace), zone))
    return next((at for at in moments if schedule.is_quiet(at, zone) is None), None)


def lagging(due: datetime | None, reached: Mapping[str, datetime | None]) -> list[str]:
    """The record types that have not reached ``due``, the farthest behind first."""
    if due is None:
        return []
    late = [(at, name) for name, at in reached.items() if at is None or at < due - CLOCKS_APART]
    return [name for _, name in sorted(late, key=lambda one: (one[0] is not None, one[0] or due, one[1]))]


def judge(
    tenant: str, name: str, schedule: Schedule, runs: Runs, tables: Tables | None, last: ImportJob | None, now: datetime
) -> Pace:
    """How a schedule stands. ``last``: the latest import that had the record type that is the farthest behind.

    ``tables`` is None if nothing can be known of them.
    """
    zone = str(schedule.timezone)
    moments = ticks_after(schedule.plain_cron(tenant, name), now, zone)
    known: dict[str, Any] = {
        "tenant": tenant, "schedule": name, "mode": schedule.mode, "cron": schedule.cron, "timezone": zone,
        "last_tick": runs.tick,
        "next_at": next(at for at in moments if schedule.is_quiet(at, zone) is None) if runs.on else None,
    }  # fmt: skip
    if not runs.on and not schedule.enabled:
        return Pace(state="off", **known)
    due = due_at(tenant, name, schedule, runs.since, now)
    if tables is None:
        return Pace(state="unknown", due_at=due, **known)
    late = tuple(lagging(due, tables.reached))
    moments_reached = [at for at in tables.reached.values() if at is not None]
    until = min(moments_reached) if len(moments_reached) == len(tables.reached) > 0 else None
    known |= {"due_at": due, "in_step_until": until}
    begins = bool(runs.on) and tables.switch.on
    known["meant"] = not begins
    if begins:
        known["owed"] = _owed(schedule, runs.tick, known["next_at"], tables.reached, now)
    if not late and begins:
        return Pace(state="in_step", **known)
    why, command = _why(tenant, name, schedule, runs, tables, last, due, late)
    return Pace(state="behind" if late else "off", record_types=late, why=why, command=command, **known)


def _owed(
    schedule: Schedule, tick: Tick | None, next_at: datetime, reached: Mapping[str, datetime | None], now: datetime
) -> datetime | None:
    if tick is None or tick.said is None or next_at - now < FAR or not lagging(tick.at, reached):
        return None
    return None if schedule.is_quiet(tick.at, str(schedule.timezone)) else tick.at


def _why(
    tenant: str,
    name: str,
    schedule: Schedule,
    runs: Runs,
    tables: Tables,
    last: ImportJob | None,
    due: datetime | None,
    late: Sequence[str],
) -> tuple[str, str | None]:
    """The cause of being behind that is nearest to its root, and what to type."""
    if not tables.switch.on:
        flag = f"nsimport flags --tenant {tenant} --on" if tables.by_flag else None
        return f"the tenant {Cause.SWITCHED_OFF} ({tables.switch.why})", flag
    if not runs.on:
        return "the schedule was switched off in Dagster: switch it on there, under Automation", None
    if tables.circuit.confirmed:
        return str(tables.circuit), f"nsimport doctor --tenant {tenant}"
    if last is not None and last.state in OPEN_IMPORTS:
        return f"{last.import_id} is still {Cause.RUNNING}", f"nsimport status {last.import_id}"
    if last is not None and last.state is not ImportState.COMPLETED and (due is None or last.created_at >= due):
        reason = f": {last.failure_reason[:MOST_OF_A_REASON]}" if last.failure_reason else ""
        return f"{last.import_id} ended as {last.state.value}{reason}", f"nsimport status {last.import_id}"
    if runs.tick is None or (due is not None and runs.tick.at < due):
        return f"{Cause.NO_DAEMON}, or none did when it was due", "nsimport up"
    if runs.tick.said is not None:
        return f"at {runs.tick.at:%H:%M} UTC nothing was begun: {runs.tick.said}", None
    what = " ".join(schedule.record_types or late)
    command = f"nsimport import {what} --tenant {tenant} --mode {schedule.mode}"
    if schedule.mode == "sweep":
        command = f"nsimport sweep {what} --tenant {tenant}"
    return f"the run with the tag nsimport/schedule={name} has not begun it yet, or failed", command


@lru_cache(maxsize=4096)
def _interval(cron: str, zone: str) -> float:
    return shortest_interval(cron, zone)


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat(timespec="seconds").replace("+00:00", "Z")
