"""What time it is at the simulated account: the machine's time, or a moment it was told.

Belongs here: the account's clock. Does not belong here: how long requests take: that is real time.
"""

import time
from datetime import UTC, datetime

from nsimport_pipeline.errors import ConfigurationError


class AccountClock:
    """Seconds since the epoch. Once it is set it stands still until it is set again."""

    def __init__(self) -> None:
        self._moment: float | None = None

    def __call__(self) -> float:
        return time.time() if self._moment is None else self._moment

    def set(self, moment: datetime | None) -> None:
        """Set it to an aware moment, cut to whole seconds; None lets it go with the machine's again."""
        self._moment = None if moment is None else float(int(moment.timestamp()))


def parse_moment(text: str | None) -> datetime | None:
    """``2026-03-08T10:00:00Z``, UTC unless it says otherwise; None and an empty text mean the machine's time.

    Raises ConfigurationError for anything else.
    """
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigurationError(f"{text!r} is no moment: write it as 2026-03-08T10:00:00Z") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
