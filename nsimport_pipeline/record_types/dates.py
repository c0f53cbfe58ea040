"""Dates and times as NetSuite writes them: one value at a time.

Belongs here: from the text of one date or date with time to ``date``, or to a naive ``datetime`` in UTC.
Does not belong here: whole columns (``parse.py``), or asking NetSuite for ISO text (``netsuite/suiteql.py``).

The queries ask for ISO text (``TO_CHAR``, and ``SYS_EXTRACT_UTC`` for times). Where an account does not allow that,
the text comes in the account's own format and time zone:

- ``2026-03-02 13:05:09``, or anything with ``T``, ``Z`` or an offset, is ISO; without an offset it is UTC already.
- A year that stands first is followed by month and day; points mean day, month, year; a month in letters needs no rule.
- Two numbers before the year are read by the account's ``date_format``. A day that this format does not allow
  (``13/2/2026`` as month/day) is refused: guessing would be wrong for the rows where both readings are possible.
- Times in the account's zone at the end of daylight saving, which happen twice, mean the first one; those that are
  skipped at its start are moved forward by the length of the gap (02:30 becomes 03:30), as PEP 495's fold=0 says.
- Years have four digits: with two, the century would be a guess.
"""

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from typing import Any
from zoneinfo import ZoneInfo

from nsimport_pipeline.errors import ConfigurationError
from nsimport_pipeline.record_types.numbers import UnfitError
from nsimport_pipeline.settings import DATE_FORMATS

_MONTH_NAMES = (
    *("january", "february", "march", "april", "may", "june"),
    *("july", "august", "september", "october", "november", "december"),
)
_MONTHS = tuple(name[:3] for name in _MONTH_NAMES)
_YEAR_FIRST = re.compile(r"([0-9]{4})([-/.])([0-9]{1,2})\2([0-9]{1,2})")
_YEAR_LAST = re.compile(r"([0-9]{1,2})([-/.])([0-9]{1,2})\2([0-9]{4})")
_MONTH_IN_LETTERS = re.compile(r"([0-9]{1,2})[-/. ]+([A-Za-z]{3,9})[-/., ]+([0-9]{4})")
_LETTERS_FIRST = re.compile(r"([A-Za-z]{3,9})[-/. ]+([0-9]{1,2})[-/., ]+([0-9]{4})")
_TIME = re.compile(r"([0-9]{1,2})[-:.]([0-9]{2})(?:[-:.]([0-9]{2}))?(?:\s*([AaPp])\.?[Mm]\.?)?")
_ISO = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt ]([0-9]{2}:[0-9]{2}:[0-9]{2})(?:[.,]([0-9]{1,9}))?"
    r"\s*(?:([Zz])|([-+][0-9]{2}):?([0-9]{2})?)?"
)


@dataclass(frozen=True, slots=True)
class AccountFormats:
    """How an account writes dates when it does not write ISO text."""

    timezone: ZoneInfo
    date_format: str = "M/D/YYYY"

    def __post_init__(self) -> None:
        if self.date_format not in DATE_FORMATS:
            raise ConfigurationError(
                f"date format {self.date_format!r} is none of NetSuite's: {', '.join(DATE_FORMATS)}"
            )

    @property
    def month_first(self) -> bool:
        return self.date_format.startswith("M")


def parse_date(value: Any, account: AccountFormats) -> date | None:
    """The date in ``value``; None for a blank. A time of day may only be midnight. Raises UnfitError."""
    text = _text(value)
    if not text:
        return None
    if iso := _ISO.fullmatch(text):
        day, clock, fraction = iso.group(1, 2, 3)
        moment = datetime.combine(_iso_day(day), _iso_time(clock, fraction))
    else:
        moment = _local(text, account)
    if moment.time() != time():
        raise UnfitError("date with a time of day where only a date belongs")
    return moment.date()


def parse_datetime(value: Any, account: AccountFormats) -> datetime | None:
    """The moment in ``value`` as a naive datetime in UTC; None for a blank. Raises UnfitError."""
    text = _text(value)
    if not text:
        return None
    try:
        if iso := _ISO.fullmatch(text):
            day, clock, fraction, zulu, hours, minutes = iso.groups()
            moment = datetime.combine(_iso_day(day), _iso_time(clock, fraction))
            if zulu or not hours:
                return moment
            offset = datetime.strptime(f"{hours}{minutes or '00'}", "%z").tzinfo
            return moment.replace(tzinfo=offset).astimezone(UTC).replace(tzinfo=None)
        return _local(text, account).replace(tzinfo=account.timezone).astimezone(UTC).replace(tzinfo=None)
    except (OverflowError, ValueError) as error:
        raise error if isinstance(error, UnfitError) else UnfitError("date out of range") from None


def _text(value: Any) -> str:
    if isinstance(value, datetime):
        return value.isoformat(sep=" ")
    if isinstance(value, date):
        return value.isoformat()
    if not isinstance(value, str):
        raise UnfitError("not the text of a date")
    return value.strip()


def _iso_day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise UnfitError("no such day in the calendar") from None


def _iso_time(clock: str, fraction: str | None) -> time:
    try:
        moment = time.fromisoformat(clock)
    except ValueError:
        raise UnfitError("no such time of day") from None
    digits = (fraction or "").rstrip("0")
    if len(digits) > 6:
        raise UnfitError("time has more than 6 decimal places of a second")
    return moment.replace(microsecond=int(digits.ljust(6, "0")))


def _local(text: str, account: AccountFormats) -> datetime:
    """A date, perhaps with a time, in the account's format and zone."""
    for pattern in (_YEAR_FIRST, _YEAR_LAST, _MONTH_IN_LETTERS, _LETTERS_FIRST):
        if match := pattern.match(text):
            day, rest = _day(pattern, match, account), text[match.end() :]
            if not rest:
                return datetime.combine(day, time())
            if (rest[0].isspace() or rest[0] in "Tt,") and (clock := _TIME.fullmatch(rest[1:].strip())):
                return datetime.combine(day, _clock(clock))
            break
    raise UnfitError("not a date in ISO or in one of NetSuite's formats")


def _day(pattern: re.Pattern[str], match: re.Match[str], account: AccountFormats) -> date:
    groups = match.groups()
    if pattern is _YEAR_FIRST:
        year, month, day = groups[0], groups[2], groups[3]
    elif pattern is _YEAR_LAST:
        month_first = account.month_first and groups[1] != "."
        first, second, year = groups[0], groups[2], groups[3]
        month, day = (first, second) if month_first else (second, first)
    elif pattern is _MONTH_IN_LETTERS:
        day, month, year = groups[0], _month(groups[1]), groups[2]
    else:
        month, day, year = _month(groups[0]), groups[1], groups[2]
    try:
        return date(int(year), int(month), int(day))
    except ValueError:
        raise UnfitError(f"no such day in the calendar, read as {account.date_format}") from None


def _month(letters: str) -> str:
    word = letters.lower()
    if word in _MONTH_NAMES:
        return str(_MONTH_NAMES.index(word) + 1)
    if word[:3] in _MONTHS and word in (word[:3], "sept"):
        return str(_MONTHS.index(word[:3]) + 1)
    raise UnfitError("month name is not English")


def _clock(match: re.Match[str]) -> time:
    hours, minutes, seconds, half = match.groups()
    hour = int(hours)
    if half is not None:
        if not 1 <= hour <= 12:
            raise UnfitError("no such time of day")
        hour = hour % 12 + (12 if half in "Pp" else 0)
    try:
        return time(hour, int(minutes), int(seconds or 0))
    except ValueError:
        raise UnfitError("no such time of day") from None
