"""Events of an import as lines and as JSON.

Belongs here: how one event looks. Does not belong here: reading events (``imports/store/facts.py``).
"""

from datetime import UTC
from typing import Any

from nsimport_pipeline.telemetry.facts import Event


def document(event: Event) -> dict[str, Any]:
    """An event for JSON; ``at`` in UTC, ISO 8601."""
    return {
        "at": event.at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "event": event.name,
        "wave": event.wave,
        "record_type": event.record_type,
        "partition": event.partition,
        "run_id": event.run_id,
        "message": event.message,
    }


def line(event: Event) -> str:
    """An event as one line: time, what, where, and what there is to say."""
    where = []
    if event.wave is not None:
        where.append(f"wave {event.wave}")
    if event.record_type is not None:
        where.append(event.record_type + (f" {event.partition}" if event.partition is not None else ""))
    told = " ".join((event.message or "").split())
    place = ", ".join(where)
    return f"{event.at:%Y-%m-%d %H:%M:%S} {event.name:<18} {place}{': ' if place and told else ''}{told}".rstrip()
