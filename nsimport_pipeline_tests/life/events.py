"""What happens in a company, and when, drawn from a seed: the same seed, the same life.

Belongs here: pure draws. Does not belong here: which records it happens to and how NetSuite's tables look afterwards
(``company.py``), or the imports that follow it (``course.py``).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from random import Random
from zoneinfo import ZoneInfo

ZONE = ZoneInfo("America/Los_Angeles")
"""Where the account is."""
SPRING = datetime(2031, 3, 9, 10, tzinfo=UTC)
"""The account's clocks go forward: 2 becomes 3. Later than any record that the simulated account has at first."""
AUTUMN = datetime(2031, 11, 2, 9, tzinfo=UTC)
"""They go back: the hour from 1 to 2 comes twice."""
QUARTER = timedelta(minutes=15)
SECOND = timedelta(seconds=1)
BULK = 5000
"""Records that are changed in one second."""
SWEPT = "non_inventory_item"
"""A record type whose deletions NetSuite does not tell, and some of whose records come back as they were."""
RECORDS = ("customer", "non_inventory_item", "sales_order", "invoice")
"""Record types that say when they were changed."""
WEIGHTS = {
    "edit": 30,
    "insert": 12,
    "delete": 8,
    "undelete": 6,
    "line edit": 8,
    "line add": 4,
    "line remove": 4,
    "list edit": 3,
    "list insert": 3,
    "list delete": 2,
}
"""How often each kind of event comes; ``list`` ones happen to a record type that does not say when."""
FAULTS = {
    "429": 4, "500": 1, "502": 1, "503": 2, "timeout": 2, "reset": 2, "empty": 1, "truncated": 2, "short": 2,
    "duplicate": 1, "wrongtotal": 1,
}  # fmt: skip
OUTAGE = 0.02
"""Share of imports whose planning meets a NetSuite that does not answer at all."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happens to records of one type. Times are aware UTC, by NetSuite's clock."""

    kind: str
    record_type: str
    at: datetime
    """The moment that NetSuite writes down for it."""
    seen: datetime
    """From when on others see it: it was committed then."""
    count: int
    """Records, at most."""
    draw: int
    """Which ones, and what becomes of them."""

    @property
    def late(self) -> bool:
        return self.seen - self.at > timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Step:
    """An incremental import, and what happened since the one before."""

    at: datetime
    before: tuple[Event, ...]
    meanwhile: tuple[Event, ...]
    """What happens after it was planned, and before it is carried out."""
    faults: str
    """What goes wrong with its requests, in the simulator's words."""
    look: bool
    """Whether it is quiet: nothing is on its way, so that the tables must equal the source."""
    sweep: bool
    """Whether the record type that has to be swept is swept before: once a day, and at the end."""


@dataclass(frozen=True, slots=True)
class Life:
    seed: int
    begins: datetime
    """When the full import is made."""
    steps: tuple[Step, ...]

    @property
    def events(self) -> Iterator[Event]:
        for step in self.steps:
            yield from (*step.before, *step.meanwhile)


def draw(
    seed: int,
    days: float = 7,
    *,
    every: timedelta = QUARTER,
    overlap: timedelta = timedelta(days=1),
    looks: timedelta = timedelta(hours=2),
) -> Life:
    """``days`` around the change to summer time, months with little, then a day or less around the change back.

    ``every``: between imports. ``overlap``: how late a commit may be. ``looks``: between quiet moments.
    """
    random = Random(f"life {seed}")
    moments = [*_around(SPRING, days, every), *_around(AUTUMN, min(days, 1), every)]
    begins = moments[0]
    last = {moments[-1], max(moment for moment in moments if moment < AUTUMN - timedelta(days=30))}
    bulks = _bulks(random, moments)
    steps = []
    for number, (before, at) in enumerate(pairwise(moments), start=1):
        sweep = at in last or before.astimezone(ZONE).date() != at.astimezone(ZONE).date()
        look = sweep or number % max(1, looks // every) == 0
        events = list(_events(random, before, at, overlap))
        events += [
            _event(random, "bulk", "customer", when, before, at, overlap) for when in bulks if before < when <= at
        ]
        meanwhile = [] if look or random.random() < 0.8 else list(_meanwhile(random, at))
        steps.append(
            Step(at, tuple(sorted(events, key=lambda e: e.seen)), tuple(meanwhile), _faults(random), look, sweep)
        )
    return Life(seed, begins, tuple(steps))


def _around(middle: datetime, days: float, every: timedelta) -> list[datetime]:
    count = max(2, round(timedelta(days=days) / every))
    first = middle - count // 2 * every
    return [first + number * every for number in range(count + 1)]


def _bulks(random: Random, moments: list[datetime]) -> list[datetime]:
    """One around each change of the clocks, and another for every two days."""
    spread = [random.choice(moments) - random.randrange(900) * SECOND for _ in range(len(moments) // 200)]
    return [SPRING - SECOND, AUTUMN + timedelta(minutes=random.randrange(-60, 60)), *spread]


def _edges(before: datetime, at: datetime) -> Iterator[datetime]:
    """The seconds around midnight of the account and around the changes of its clocks, in a stretch of time."""
    midnights = {
        (moment.astimezone(ZONE).replace(hour=0, minute=0, second=0)).astimezone(UTC) for moment in (before, at)
    }
    for edge in (*midnights, SPRING, AUTUMN, AUTUMN - timedelta(hours=1), AUTUMN + timedelta(hours=1)):
        yield from (edge + n * SECOND for n in (-1, 0, 1) if before < edge + n * SECOND <= at)


def _events(random: Random, before: datetime, at: datetime, overlap: timedelta) -> Iterator[Event]:
    busy = random.choice([0, 0, 1, 1, 2, 2, 3, 5])
    moments = [before + random.random() * (at - before) for _ in range(busy)]
    if random.random() < 0.3:
        moments += [at, at - SECOND, before + SECOND][: random.randrange(1, 4)]
    for when in [*moments, *_edges(before, at)]:
        kind = random.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
        yield _event(random, kind, _type_of(random, kind), when.replace(microsecond=0), before, at, overlap)


def _event(
    random: Random, kind: str, record_type: str, when: datetime, before: datetime, at: datetime, overlap: timedelta
) -> Event:
    """One that is seen in the stretch of time; some were written down well before it."""
    count = BULK if kind == "bulk" else random.choice([1, 1, 2, 5, 40])
    if kind == "insert" and random.random() < 0.1:
        count = 700
    seen = min(max(when, before + SECOND), at)
    # What belongs to an edge of the clock stays there.
    late = random.random() < 0.1 and not kind.startswith("list") and when not in set(_edges(before, at))
    if late:
        when -= random.random() * overlap * 0.9
    return Event(kind, record_type, when.replace(microsecond=0), seen, count, random.randrange(2**32))


def _meanwhile(random: Random, at: datetime) -> Iterator[Event]:
    """In the second that the import was asked for in, too: what it looks up to."""
    for _ in range(random.choice([1, 2])):
        kind = random.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
        when = at + random.choice([0, 0, 1, 30]) * SECOND
        yield Event(kind, _type_of(random, kind), when, when, random.choice([1, 3, 20]), random.randrange(2**32))


def _type_of(random: Random, kind: str) -> str:
    match kind.partition(" ")[0]:
        case "line":
            return "transaction_line"
        case "list":
            return "customer_subsidiary"
        case _:
            return random.choice(RECORDS)


def _faults(random: Random) -> str:
    if random.random() < OUTAGE:
        return "503@2-9"
    if random.random() < 0.5:
        return ""
    kinds = random.choices(list(FAULTS), list(FAULTS.values()), k=random.randrange(1, 5))
    return ",".join(_fault(random, kind) for kind in kinds)


def _fault(random: Random, kind: str) -> str:
    first = random.randrange(1, 16)
    # Some hit a request and what is sent instead of it, too.
    last = first + random.choice([0, 0, 0, 1, 3])
    value = {"timeout": "=0.05", "429": "=0.2", "short": f"={random.randrange(1, 4)}"}.get(kind, "")
    return f"{kind}{value}@{first}-{last}"
