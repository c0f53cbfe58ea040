"""Where an import's time went, which part of it is the bottleneck, and what would help.

Belongs here: pure arithmetic over the facts of an import, and the words for it. Does not belong here: reading the
facts (``imports/store/facts.py``) or printing the result.

Time is counted as slot time: an import that ran for T seconds with S slots had T × S seconds in which a request could
have been under way. A slot is *busy* while NetSuite answers; what is left of the time, it stood idle, and for that
there are reasons: NetSuite refused and the run waited, rows were being transformed or written, or Dagster had not
started a run yet.
"""

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Literal

from nsimport_pipeline.telemetry.facts import BatchFact, ImportFacts

Part = Literal["netsuite", "slot_wait", "transform", "database", "dagster"]
WORDS: dict[Part, str] = {
    "netsuite": "NetSuite's answers",
    "slot_wait": "waiting for NetSuite slots",
    "transform": "transforming rows",
    "database": "the database",
    "dagster": "Dagster's starting of runs",
}
WRITERS = 2
"""Threads of a run that transform and write."""
BUSY = 0.8
"""A share of slot time above which the slots are the limit."""
SMALL_WAVE, SMALL_WAVES = 100, 5
"""A wave size below which, and waves of a level above which, larger waves are advised if there are pauses."""
FEWEST = 3
"""Batches below which nothing can be told."""


@dataclass(frozen=True, slots=True)
class Performance:
    """Seconds summed over batches (``netsuite`` … ``database``) and of the clock (``wall``, ``dagster``)."""

    wall: float
    netsuite: float
    slot_wait: float
    transform: float
    database: float
    dagster: float
    """The clock's seconds in which batches were dispatched or due and none was being worked on."""
    queued: float
    """Summed over batches: from their dispatch until a run took them up."""
    batches: int
    records_per_second: float
    slot_use: float | None
    """Share of the slots' time in which NetSuite was answering, 0 to 1; None if the number of slots is not known."""
    bottleneck: Part | None
    advice: tuple[str, ...]
    sizing: tuple[str, ...] = ()
    """How much NetSuite was asked for at once, and why, where that was not as much as there may be."""

    @property
    def lines(self) -> list[str]:
        """All there is to say, for a terminal."""
        return [self.line, *self.sizing, *self.advice]

    @property
    def line(self) -> str:
        """One line for a terminal."""
        if self.bottleneck is None:
            return "too little has been imported to tell where time goes"
        parts = (self.netsuite, self.slot_wait, self.transform, self.database)
        spent = sum(parts) or 1.0
        netsuite, waits, transform, database = (f"{part / spent:.0%}" for part in parts)
        return (
            f"time went to NetSuite {netsuite}, slot waits {waits}, transform {transform}, database {database}; "
            f"idle between runs {self.dagster:.0f} s of {self.wall:.0f} s. Bottleneck: {WORDS[self.bottleneck]}"
        )

    def document(self) -> dict[str, Any]:
        """For JSON: seconds rounded, ``bottleneck`` a key of this or null, ``advice`` and ``sizing`` sentences."""
        values = asdict(self)
        rounded = {name: round(value, 3) if isinstance(value, float) else value for name, value in values.items()}
        return {**rounded, "advice": list(self.advice), "sizing": list(self.sizing), "summary": self.line}


def measure(facts: ImportFacts, now: datetime, *, slots: int | None = None) -> Performance:
    """Where the time of an import went until ``now`` or its end. ``slots``: what its tenant has."""
    done = [batch for batch in facts.batches if batch.state == "completed"]
    wall = facts.seconds(now)
    netsuite = sum(batch.fetch_seconds for batch in done)
    slot_wait = sum(batch.slot_wait_seconds for batch in done)
    transform = sum(batch.transform_seconds for batch in done)
    database = sum(batch.write_seconds for batch in done)
    idle = min(wall, _idle(facts, now))
    records = sum(batch.rows_upserted for batch in done)
    use = min(1.0, netsuite / (wall * slots)) if slots and wall > 0 else None
    parts: dict[Part, float] = {
        "netsuite": netsuite,
        "slot_wait": slot_wait,
        "transform": transform,
        "database": database,
        "dagster": idle,
    }
    bottleneck = _bottleneck(parts, wall, slots or 1, use) if len(done) >= FEWEST and wall > 0 else None
    return Performance(
        wall=wall,
        netsuite=netsuite,
        slot_wait=slot_wait,
        transform=transform,
        database=database,
        dagster=idle,
        queued=sum(_queued(batch) for batch in done),
        batches=len(done),
        records_per_second=records / wall if wall > 0 else 0.0,
        slot_use=None if use is None else round(use, 4),
        bottleneck=bottleneck,
        advice=_advice(facts, bottleneck, parts, use, wall) if bottleneck else (),
        sizing=facts.sizes,
    )


def _bottleneck(parts: dict[Part, float], wall: float, slots: int, use: float | None) -> Part:
    """What held the import up: the part nearest to using up all the time it could have had."""
    if parts["slot_wait"] > max(parts["netsuite"], parts["transform"] + parts["database"]):
        return "slot_wait"
    if use is not None and use >= BUSY:
        return "netsuite"
    ceilings: dict[Part, float] = {
        "netsuite": parts["netsuite"] / (wall * slots),
        "transform": parts["transform"] / (wall * WRITERS),
        "database": parts["database"] / (wall * WRITERS),
        "dagster": parts["dagster"] / wall,
    }
    return max(ceilings, key=lambda part: ceilings[part])


def _advice(
    facts: ImportFacts, bottleneck: Part, parts: dict[Part, float], use: float | None, wall: float
) -> tuple[str, ...]:
    said = []
    match bottleneck:
        case "netsuite":
            said.append(
                "More slots would help, if the NetSuite account has them to give: almost all of the time somebody "
                "waited for NetSuite."
                if use is not None and use >= BUSY
                else "More slots would help little: those there are were not busy all the time. NetSuite's answers "
                "take long; excluding wide fields that nobody needs (exclude_fields) shortens them."
            )
        case "slot_wait":
            said.append(
                "More slots would not help: NetSuite refused requests because others used the account at the same "
                "time. Import at a quieter hour, or set the tenant's slots lower than what is left to you."
            )
        case "database":
            said.append(
                "More slots would not help: the database takes rows more slowly than they arrive. Look at its disk and "
                "its indexes, move it nearer, or switch store_raw off."
            )
        case "transform":
            said.append(
                "More slots would not help: the processor is the limit. Give the machine more cores, or spread runs "
                "over several machines."
            )
        case "dagster":
            said.append(
                "More slots would not help: they stood idle while runs were being started. Import more record types "
                "at once, and allow more runs at a time (max_concurrent_runs)."
            )
    if parts["dagster"] > wall * 0.2 and facts.wave_size < SMALL_WAVE and _per_level(facts) > SMALL_WAVES:
        said.append(f"A wave size of {facts.wave_size} makes many waves; 300 would leave fewer pauses between them.")
    retries = sum(batch.retries for batch in facts.batches)
    if retries > max(10, len(facts.batches) // 5):
        said.append(f"{retries} requests had to be sent again: `nsimport errors {facts.import_id}` says why.")
    return tuple(said)


def _per_level(facts: ImportFacts) -> float:
    """Waves of a level, on average: an import of many levels has many waves whatever their size."""
    return len(facts.waves) / max(1, len({wave.level for wave in facts.waves}))


def _queued(batch: BatchFact) -> float:
    if batch.dispatched_at is None or batch.started_at is None:
        return 0.0
    return max(0.0, (batch.started_at - batch.dispatched_at).total_seconds())


def _idle(facts: ImportFacts, now: datetime) -> float:
    """The clock's seconds between start and end in which no batch was being worked on."""
    if facts.started_at is None:
        return 0.0
    end = now if facts.is_open else facts.finished_at or now
    spans = sorted(
        (batch.started_at, batch.finished_at or end)
        for batch in facts.batches
        if batch.started_at is not None and (batch.settled or batch.state == "processing")
    )
    covered, idle = facts.started_at, 0.0
    for begin, finish in spans:
        if begin > covered:
            idle += (min(begin, end) - covered).total_seconds()
        covered = max(covered, finish)
    return max(0.0, idle + max(0.0, (end - covered).total_seconds()))
