"""The report of one import: a page of HTML that needs nothing beside it.

Belongs here: what the page says, from the facts of an import. Does not belong here: its charts (``charts.py``), its
looks (``report.html.j2``), or reading the facts.
"""

from collections import defaultdict
from datetime import UTC, datetime
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from nsimport_pipeline.telemetry.charts import charts
from nsimport_pipeline.telemetry.facts import ImportFacts
from nsimport_pipeline.telemetry.performance import WORDS, measure

SLOWEST = 10
MOST_ROWS = 50
"""Lines of a table of failures or rejected rows at most; what is left out is said."""

_pages = Environment(
    loader=PackageLoader("nsimport_pipeline.telemetry", "."),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def report(facts: ImportFacts, now: datetime, *, slots: int) -> str:
    """The page. ``now`` is when it was made, ``slots`` what the tenant has. Everything that is not ours is escaped."""
    performance = measure(facts, now, slots=slots)
    done = sorted(
        (batch for batch in facts.batches if batch.seconds is not None and batch.state == "completed"),
        key=lambda batch: -(batch.seconds or 0),
    )
    parts = {
        "NetSuite": performance.netsuite,
        "slot waits": performance.slot_wait,
        "transform": performance.transform,
        "database": performance.database,
    }
    return _pages.get_template(
        "report.html.j2"
    ).render(
        facts=facts,
        now=now,
        seconds=facts.seconds(now),
        types=_types(facts),
        total=_total(facts),
        performance=performance,
        parts={name: (value, value / (sum(parts.values()) or 1)) for name, value in parts.items()},
        bottleneck=WORDS[performance.bottleneck] if performance.bottleneck else None,
        charts=[(chart.title, Markup(chart.wide), Markup(chart.narrow)) for chart in charts(facts, now)],  # noqa: S704
        slowest=done[:SLOWEST],
        failed=[batch for batch in facts.batches if batch.state == "failed"][:MOST_ROWS],
        errors=facts.errors[:MOST_ROWS],
        rejects=facts.rejects[:MOST_ROWS],
        more_errors=max(0, len(facts.errors) - MOST_ROWS),
        more_rejects=max(0, len(facts.rejects) - MOST_ROWS),
        duration=duration,
        moment=moment,
    )


def _types(facts: ImportFacts) -> list[dict[str, Any]]:
    counted: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for batch in facts.batches:
        own = counted[batch.record_type]
        own["batches"] += 1
        own["done"] += batch.state == "completed"
        own["failed"] += batch.state == "failed"
        own["imported"] += batch.rows_upserted
        own["rejected"] += batch.rows_rejected
        own["retries"] += batch.retries + batch.attempts
    return [
        {
            "name": each.name,
            "level": each.level,
            "expected": each.expected,
            "unavailable": each.unavailable,
            "source": each.source_count,
            "in_sync": each.in_sync,
            **{
                key: counted[each.name][key] for key in ("batches", "done", "failed", "imported", "rejected", "retries")
            },
        }
        for each in facts.types
    ]


def _total(facts: ImportFacts) -> dict[str, float]:
    batches = facts.batches
    return {
        "expected": sum(each.expected for each in facts.types),
        "imported": sum(batch.rows_upserted for batch in batches),
        "rejected": sum(batch.rows_rejected for batch in batches),
        "batches": len(batches),
        "completed": sum(batch.state == "completed" for batch in batches),
        "failed": sum(batch.state == "failed" for batch in batches),
        "requests": sum(batch.requests for batch in batches),
        "retries": sum(batch.retries for batch in batches),
        "again": sum(batch.attempts > 0 for batch in batches),
        "runs": len({batch.run_id for batch in batches if batch.run_id}),
        "waited": sum(batch.slot_wait_seconds for batch in batches),
        "types": sum(each.unavailable is None for each in facts.types),
        "in_sync": sum(bool(each.in_sync) for each in facts.types),
        "unchecked": sum(each.in_sync is None and each.unavailable is None for each in facts.types),
    }


def duration(seconds: float) -> str:
    """Seconds as people say them: 4.2 s, 3 min 05 s, 2 h 04 min."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"


def moment(at: datetime | None) -> str:
    """A time in UTC, to the second; a dash for none."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC" if at else "–"
