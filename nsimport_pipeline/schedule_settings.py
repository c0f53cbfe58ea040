"""When imports begin by themselves: the typed settings of a tenant's schedules.

Belongs here: each key, its default and its check. Does not belong here: reading the file (``settings.py``), cron
expressions (``cron.py``), or whether a schedule that is due may begin (``imports/due.py``).
"""

import re
from datetime import UTC, datetime, time, timedelta
from itertools import chain, takewhile
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from pydantic import Field, StringConstraints, field_validator, model_validator

from nsimport_pipeline.cron import spread, ticks_after
from nsimport_pipeline.retry_settings import StrictModel

ScheduleName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9_]{1,32}$")]
_QUIET = re.compile(r"^([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)$")


class Schedule(StrictModel):
    """Imports, or sweeps, of a tenant that begin by themselves."""

    cron: str
    """Five fields; ``H`` stands for a value that the names of tenant and schedule decide."""
    mode: Literal["full", "incremental", "sweep"] = "incremental"
    record_types: tuple[str, ...] = ()
    """None: all that are enabled; of sweeps: all that were imported."""
    dependencies: bool = True
    timezone: str | None = None
    """Of cron and quiet hours; None: the tenant's."""
    quiet_hours: tuple[str, ...] = ()
    """Such as ``22:00-06:00``: nothing begins then, up to but not at the end of each."""
    grace: Annotated[int, Field(ge=0, le=604_800)] | None = None
    """Seconds after a tick until it counts as behind; None: the time to the next tick, an hour at most."""
    enabled: bool = False
    """Whether it runs where nobody switched it on or off in the UI."""

    @field_validator("cron")
    @classmethod
    def _cron(cls, value: str) -> str:
        spread(value, "")
        return " ".join(value.split())

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, value: str | None) -> str | None:
        return None if value is None else known_zone(value)

    @field_validator("quiet_hours", mode="before")
    @classmethod
    def _one_or_more(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @field_validator("quiet_hours")
    @classmethod
    def _hours(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for hours in value:
            if not _QUIET.match(hours) or hours[:5] == hours[6:]:
                raise ValueError(f"{hours!r} is not written as 22:00-06:00")
        return value

    @model_validator(mode="after")
    def _comes_at_all(self) -> "Schedule":
        found = ticks_after(spread(self.cron, ""), datetime(2024, 1, 1, tzinfo=UTC), "UTC")
        first = next(found)
        moments = chain([first], takewhile(lambda at: at < first + timedelta(days=8), found))
        if self.quiet_hours and all(self.is_quiet(moment, "UTC") for moment in moments):
            raise ValueError(f"{self.cron!r} comes in quiet hours only: nothing would ever begin")
        return self

    def plain_cron(self, tenant: str, name: str) -> str:
        """Its cron expression without ``H``, which the names of tenant and schedule decide."""
        return spread(self.cron, f"{tenant} {name}")

    def is_quiet(self, moment: datetime, timezone: str) -> str | None:
        """The quiet hours that an aware ``moment`` is in, if it is, in a time zone."""
        local = moment.astimezone(ZoneInfo(timezone)).time().replace(tzinfo=None)
        for hours in self.quiet_hours:
            begin, end = time.fromisoformat(hours[:5]), time.fromisoformat(hours[6:])
            if (begin <= local < end) if begin < end else (local >= begin or local < end):
                return hours
        return None


def known_zone(value: str) -> str:
    """``value``, if it names a time zone; raises ValueError."""
    try:
        ZoneInfo(value)
    except Exception:
        raise ValueError(f"unknown time zone {value!r}; use a name like America/Los_Angeles") from None
    return value
