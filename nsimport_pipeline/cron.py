"""Cron expressions of schedules: Jenkins' ``H``, which spreads names over time, and the moments that one means.

Belongs here: pure functions over expressions of five fields (minute, hour, day of month, month, day of week). Does not
belong here: settings (``schedule_settings.py``), or what is done at these moments. Moments are aware datetimes.
"""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from hashlib import sha256
from itertools import islice, pairwise
from zoneinfo import ZoneInfo

from croniter import croniter

FIELDS = ("minute", "hour", "day of the month", "month", "day of the week")
_RANGES = ((0, 59), (0, 23), (1, 28), (1, 12), (0, 6))
"""What ``H`` alone is chosen from: no month is without its day, and Sunday is 0 only."""
_BOUNDS = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))
_HASHED = re.compile(r"^H(?:\((\d+)-(\d+)\))?(?:/(\d+))?$")


def spread(expression: str, name: str) -> str:
    """A cron expression without ``H``: each is a number that ``name`` decides, the same ever after.

    ``H`` is any value, ``H(1-5)`` one of these, ``H/15`` every 15th from one of the first 15 on.
    Raises ValueError, which says what is wrong and in which field.
    """
    fields = expression.split()
    if len(fields) != len(FIELDS):
        raise ValueError(f"{expression!r} has {len(fields)} fields; a cron expression has five: {', '.join(FIELDS)}")
    plain = " ".join(_plain(field, place, name) for place, field in enumerate(fields))
    try:
        next(ticks_after(plain, datetime(2024, 1, 1, tzinfo=UTC), "UTC"))
    except (ValueError, KeyError, StopIteration) as error:
        raise ValueError(f"{expression!r} is no cron expression, or never comes: {error}") from None
    return plain


def ticks_after(expression: str, moment: datetime, timezone: str) -> Iterator[datetime]:
    """The moments after ``moment``, in UTC, that an expression without ``H`` means in a time zone. Never ends."""
    found = croniter(expression, moment.astimezone(ZoneInfo(timezone)), ret_type=datetime)
    while True:
        yield found.get_next().astimezone(UTC)


def ticks_before(expression: str, moment: datetime, timezone: str) -> Iterator[datetime]:
    """The same backwards, from ``moment`` itself on if it is one."""
    found = croniter(expression, moment.astimezone(ZoneInfo(timezone)), ret_type=datetime)
    if croniter.match(expression, moment.astimezone(ZoneInfo(timezone))) and not (moment.second or moment.microsecond):
        yield moment.astimezone(UTC)
    while True:
        yield found.get_prev().astimezone(UTC)


def shortest_interval(expression: str, timezone: str, among: int = 50) -> float:
    """Seconds between the two moments that are nearest to each other, of the first ``among`` of a year."""
    moments = list(islice(ticks_after(expression, datetime(2024, 1, 1, tzinfo=UTC), timezone), among))
    return min((later - earlier).total_seconds() for earlier, later in pairwise(moments))


def _plain(field: str, place: int, name: str) -> str:
    parts = field.split(",")
    hashed = [_HASHED.match(part) for part in parts]
    for part, found in zip(parts, hashed, strict=True):
        if found is None and re.search(r"H(?![a-z])|^[rR]\b", part):
            raise ValueError(f"{part!r} in the {FIELDS[place]}: H is written H, H(1-5), H/15 or H(1-5)/2")
    return ",".join(
        part if found is None else _chosen(found, place, name) for part, found in zip(parts, hashed, strict=True)
    )


def _chosen(found: re.Match[str], place: int, name: str) -> str:
    low, high = (int(found[1]), int(found[2])) if found[1] else _RANGES[place]
    least, most = _BOUNDS[place]
    if not least <= low <= high <= most:
        raise ValueError(f"{found[0]!r}: the {FIELDS[place]} is {least} to {most}, the lower one first")
    number = int.from_bytes(sha256(f"{name} {FIELDS[place]}".encode()).digest()[:8])
    if not found[3]:
        return str(low + number % (high - low + 1))
    step = int(found[3])
    if not 1 <= step <= high - low + 1:
        raise ValueError(f"{found[0]!r}: a step of {step} cannot be in the {FIELDS[place]}")
    return f"{low + number % step}-{high}/{step}"
