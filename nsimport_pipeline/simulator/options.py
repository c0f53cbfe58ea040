"""What a simulated NetSuite account is like: size, speed, limits, address.

Belongs here: the options and their checks. Does not belong here: the grammar of faults (``faults.py``).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from nsimport_pipeline.errors import ConfigurationError

DEFAULT_ACCOUNT = "TSTDRV1234567"
DEFAULT_CREDENTIALS = Path(".nsimport/simulator")
OTHERS = "*"
"""Stands for every record type that ``rows`` does not name."""


@dataclass(frozen=True)
class SimulatorOptions:
    """Options of one simulated account. Times are in seconds.

    Raises ConfigurationError for a value that makes no sense.
    """

    port: int = 0
    """Port on loopback; 0 picks a free one."""
    scale: float = 1.0
    """1 is about 30,000 records; small lists keep their size whatever the scale."""
    latency: float = 0.0
    """Mean service time of a request; 0 adds none."""
    slots: int = 5
    """Requests that may be in flight at once; one more is refused with 429."""
    seed: int = 1
    faults: str = ""
    credentials: Path = DEFAULT_CREDENTIALS
    rows: Mapping[str, int] = field(default_factory=dict)
    """Exact row counts by record type, instead of what ``scale`` gives; ``*`` for all others."""
    account: str = DEFAULT_ACCOUNT
    timezone: str = "America/Los_Angeles"
    date_format: str = "M/D/YYYY"
    token_lifetime: float = 3600.0
    jitter: float = 0.1
    """Share by which a service time may differ from ``latency``, both ways."""
    criteria_path: Path | None = None
    """A directory of criteria that adds to the built-in catalogue (``NSIMPORT_CRITERIA_PATH``)."""
    memory_limit: str = "400MB"
    """What the simulator's database may keep in memory; the rest goes to a temporary file."""

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise ConfigurationError(f"port {self.port} is not between 0 and 65535")
        if self.scale < 0:
            raise ConfigurationError(f"scale {self.scale:g} is negative; 1 is about 30,000 records")
        if self.latency < 0:
            raise ConfigurationError(f"latency {self.latency:g} is negative; it is given in seconds")
        if self.slots < 1:
            raise ConfigurationError(f"slots {self.slots} is less than 1")
        if not 0 <= self.jitter < 1:
            raise ConfigurationError(f"jitter {self.jitter:g} is not between 0 and 1")


def parse_rows(texts: Iterable[str]) -> dict[str, int]:
    """``["customer=137705", "*=0"]`` as row counts by record type. Raises ConfigurationError for anything else."""
    rows: dict[str, int] = {}
    for text in texts:
        name, sign, count = text.partition("=")
        if not sign or not name.strip() or not count.strip().isdigit():
            raise ConfigurationError(f"--rows {text}: write it as RECORD_TYPE=COUNT, or *=COUNT for all others")
        rows[name.strip()] = int(count)
    return rows
