"""Facts of made-up imports, for the tests of what is shown of them."""

from datetime import UTC, datetime, timedelta
from typing import Any

from nsimport_pipeline.telemetry.facts import BatchFact, ImportFacts, TypeFact, WaveFact

START = datetime(2026, 3, 1, 12, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def batch(
    number: int, begin: float, end: float, *, record_type: str = "customer", level: int = 0, **more: Any
) -> BatchFact:
    """A completed batch of 1000 records that was worked on from ``begin`` to ``end``, seconds after the start."""
    values: dict[str, Any] = {
        "wave": level + 1, "state": "completed", "expected": 1000, "rows_read": 1000, "rows_upserted": 1000,
        "requests": 1, "fetch_seconds": (end - begin) * 0.8, "transform_seconds": (end - begin) * 0.1,
        "write_seconds": (end - begin) * 0.1, "run_id": f"run-{record_type}",
        "dispatched_at": at(0), "started_at": at(begin), "finished_at": at(end),
    }  # fmt: skip
    return BatchFact(record_type, str(number * 1000), level=level, **(values | more))


def facts(*batches: BatchFact, **more: Any) -> ImportFacts:
    """An import of these batches that began at the start and ended with the last of them."""
    levels = {b.record_type: b.level for b in batches}
    waves = {b.wave: b.level for b in batches}
    ends = [b.finished_at for b in batches if b.finished_at]
    end = max(ends, default=at(0))
    values: dict[str, Any] = {
        "import_id": "acme-20260301120000-0001", "tenant": "acme", "state": "completed", "requested": tuple(levels),
        "wave_size": 300, "completion_threshold": 90.0, "created_at": at(-10), "planned_at": at(-8),
        "started_at": at(0), "finished_at": end, "batches": batches,
        "types": tuple(
            TypeFact(name, level, sum(b.expected for b in batches if b.record_type == name))
            for name, level in levels.items()
        ),
        "waves": tuple(WaveFact(n, level, "completed", 0, at(0), end) for n, level in waves.items()),
    }  # fmt: skip
    return ImportFacts(**(values | more))
