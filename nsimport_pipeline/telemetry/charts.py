"""The report's charts: Vega-Lite specifications over the facts of an import, drawn as SVG by vl-convert.

Belongs here: what each chart shows, and how charts look. Does not belong here: the page around them (``report.py``).

Every chart is drawn twice, for a wide and for a narrow page: one that is only scaled down cannot be read on a phone.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from nsimport_pipeline.telemetry.facts import ImportFacts

WIDE, NARROW = 1000, 340
MOST_POINTS = 120
"""Steps in which courses over time are drawn."""
COLOURS = ("#3866d6", "#e2803a", "#2f9e77", "#b0489c", "#c9a227", "#5aa7d6", "#8a6d5c", "#6d6ad0", "#d9556b", "#7aa646")
_GREY, _INK = "#d5dae3", "#4a5568"


@dataclass(frozen=True, slots=True)
class Chart:
    """One chart as two SVG pictures of the same."""

    title: str
    wide: str
    narrow: str


def charts(facts: ImportFacts, now: datetime) -> list[Chart]:
    """The charts there is something to draw for: waves and runs, slots in use, throughput, where batches' time went."""
    if facts.started_at is None or not any(batch.started_at for batch in facts.batches):
        return []
    seconds = max(0.001, facts.seconds(now))
    made = (
        ("Waves", _waves(facts, now)),
        ("Runs", _runs(facts, now)),
        ("Batches in work at a time", _in_work(facts, now)),
        ("Records per second", _throughput(facts, seconds)),
        ("Seconds of batches, by record type", _phases(facts)),
    )
    return [Chart(title, *(_draw(spec, title, width, seconds) for width in (WIDE, NARROW))) for title, spec in made]


def _waves(facts: ImportFacts, now: datetime) -> dict[str, Any]:
    rows = []
    for wave in facts.waves:
        own = [batch for batch in facts.batches if batch.wave == wave.number and batch.started_at is not None]
        if not own:
            continue
        first = min(batch.started_at for batch in own if batch.started_at is not None)
        last = wave.completed_at or max((b.finished_at for b in own if b.finished_at), default=now)
        name, level = f"wave {wave.number}", f"level {wave.level}"
        if wave.dispatched_at is not None:
            queued = {"from": _since(facts, wave.dispatched_at), "to": _since(facts, first)}
            rows.append({"name": name, "kind": "queued", "order": wave.number, **queued})
        worked = {"from": _since(facts, first), "to": _since(facts, last)}
        rows.append({"name": name, "kind": level, "order": wave.number, **worked})
    return _bars(rows, queued_first=True)


def _runs(facts: ImportFacts, now: datetime) -> dict[str, Any]:
    """One row for each record type; a bar for each of its runs."""
    spans: dict[tuple[str, int, str], list[tuple[datetime, datetime]]] = {}
    for batch in facts.batches:
        if batch.started_at is not None and batch.run_id is not None:
            key = (batch.record_type, batch.level, batch.run_id)
            spans.setdefault(key, []).append((batch.started_at, batch.finished_at or now))
    rows = [
        {
            "name": name,
            "kind": f"level {level}",
            "order": level,
            "from": _since(facts, min(begin for begin, _ in times)),
            "to": _since(facts, max(end for _, end in times)),
        }
        for (name, level, _), times in spans.items()
    ]
    return _bars(rows)


def _bars(rows: list[dict[str, Any]], *, queued_first: bool = False) -> dict[str, Any]:
    kinds = sorted({row["kind"] for row in rows if row["kind"] != "queued"}, key=lambda kind: int(kind.split()[1]))
    colours = [COLOURS[position % len(COLOURS)] for position in range(len(kinds))]
    domain, shades = (["queued", *kinds], [_GREY, *colours]) if queued_first else (kinds, colours)
    return {
        "data": {"values": rows},
        "height": {"step": 22},
        "mark": {"type": "bar", "cornerRadius": 2, "height": {"band": 0.72}, "opacity": 0.9},
        "encoding": {
            "x": {**_TIME, "field": "from"},
            "x2": {"field": "to"},
            "y": {"field": "name", "type": "nominal", "sort": {"field": "order"}, "axis": {"title": None}},
            "color": {"field": "kind", "scale": {"domain": domain, "range": shades}, "legend": {"title": None}},
        },
    }


def _in_work(facts: ImportFacts, now: datetime) -> dict[str, Any]:
    """How many batches were being fetched (each under a slot), and how many transformed and written."""
    changes: dict[str, list[tuple[float, int]]] = {"fetching (slots in use)": [], "transforming and writing": []}
    fetching, writing = changes.values()
    for batch in facts.batches:
        if batch.started_at is None or not (batch.settled or batch.state == "processing"):
            continue
        begin, end = _since(facts, batch.started_at), _since(facts, batch.finished_at or now)
        fetched = min(end, begin + batch.slot_wait_seconds + batch.fetch_seconds) if batch.finished_at else end
        fetching += [(begin, 1), (fetched, -1)]
        written = max(fetched, end - batch.transform_seconds - batch.write_seconds)
        writing += [(written, 1), (end, -1)]
    rows = [
        {"at": moment, "number": number, "what": what}
        for what, steps in changes.items()
        for moment, number in _mean_course(steps, facts.seconds(now))
    ]
    return {
        "data": {"values": rows},
        "height": 170,
        "mark": {"type": "area", "interpolate": "step-after", "opacity": 0.55, "line": {"strokeWidth": 1.2}},
        "encoding": {
            "x": {**_TIME, "field": "at"},
            "y": {"field": "number", "type": "quantitative", "stack": None, "axis": {"title": None, "tickMinStep": 1}},
            "color": {
                "field": "what", "scale": {"domain": list(changes), "range": COLOURS[:2]}, "legend": {"title": None}
            },
        },
    }  # fmt: skip


def _mean_course(steps: Sequence[tuple[float, int]], seconds: float) -> list[tuple[float, float]]:
    """How many there were on average in each of ``MOST_POINTS`` spans of time."""
    width = max(seconds, 0.001) / MOST_POINTS
    area = [0.0] * MOST_POINTS
    now, number = 0.0, 0
    for moment, change in [*sorted(steps), (seconds, 0)]:
        moment = min(max(moment, 0.0), seconds)
        while now < moment:
            place = min(MOST_POINTS - 1, int(now / width))
            until = min(moment, (place + 1) * width)
            if until <= now:
                break
            area[place] += number * (until - now)
            now = until
        now, number = max(now, moment), number + change
    return [(round(place * width, 3), round(amount / width, 3)) for place, amount in enumerate(area)]


def _throughput(facts: ImportFacts, seconds: float) -> dict[str, Any]:
    spans = max(1, min(MOST_POINTS, round(seconds / 2)))
    width = seconds / spans
    counted = [0] * spans
    for batch in facts.batches:
        if batch.state == "completed" and batch.finished_at is not None:
            place = min(spans - 1, max(0, int(_since(facts, batch.finished_at) / width)))
            counted[place] += batch.rows_upserted
    rows = [{"at": place * width, "to": (place + 1) * width, "rate": n / width} for place, n in enumerate(counted)]
    mean = sum(counted) / seconds
    x = {**_TIME, "field": "at"}
    y = {"field": "rate", "type": "quantitative", "axis": {"title": None, "format": "~s"}}
    return {
        "height": 170,
        "layer": [
            {
                "data": {"values": rows},
                "mark": {"type": "bar", "color": COLOURS[0], "opacity": 0.75},
                "encoding": {"x": x, "x2": {"field": "to"}, "y": y, "y2": {"datum": 0}},
            },
            {
                "data": {"values": [{"rate": mean}]},
                "mark": {"type": "rule", "color": COLOURS[1], "strokeDash": [5, 4]},
                "encoding": {"y": y},
            },
        ],
    }


def _phases(facts: ImportFacts) -> dict[str, Any]:
    parts = {"slot_wait": "slot wait", "fetch": "NetSuite", "transform": "transform", "write": "database"}
    totals: dict[tuple[str, str], float] = {}
    for batch in facts.batches:
        for part in parts:
            key = (batch.record_type, part)
            totals[key] = totals.get(key, 0.0) + getattr(batch, f"{part}_seconds")
    rows = [
        {"name": name, "part": parts[part], "seconds": seconds, "order": list(parts).index(part)}
        for (name, part), seconds in totals.items()
    ]
    shades = ["#d9556b", COLOURS[0], COLOURS[4], COLOURS[2]]
    return {
        "data": {"values": rows},
        "height": {"step": 22},
        "mark": {"type": "bar", "height": {"band": 0.72}},
        "encoding": {
            "x": {"field": "seconds", "type": "quantitative", "axis": {"title": "seconds"}},
            "y": {"field": "name", "type": "nominal", "sort": "-x", "axis": {"title": None}},
            "order": {"field": "order"},
            "color": {
                "field": "part", "scale": {"domain": list(parts.values()), "range": shades}, "legend": {"title": None}
            },
        },
    }  # fmt: skip


_TIME: dict[str, Any] = {"type": "quantitative", "axis": {"title": None}, "scale": {"nice": False}}


def _since(facts: ImportFacts, moment: datetime) -> float:
    assert facts.started_at is not None  # noqa: S101 there are no charts of an import that has not started
    return max(0.0, (moment - facts.started_at) / timedelta(seconds=1))


def _draw(spec: dict[str, Any], title: str, width: int, seconds: float) -> str:
    """A chart as SVG of ``width`` that scales with the page, told to those who do not see it by its title."""
    import vl_convert

    minutes = seconds > 300
    labels = "format(datum.value / 60, '~g') + ' min'" if minutes else "datum.label + ' s'"
    ticks = 5 if width == NARROW else 10
    config = {
        "view": {"stroke": None},
        "font": "Helvetica, Arial, sans-serif",
        "background": "transparent",
        "axis": {"labelColor": _INK, "titleColor": _INK, "gridColor": "#e8ebf1", "domain": False, "ticks": False,
                 "labelFontSize": 11, "labelLimit": 105 if width == NARROW else 220},
        "axisX": {"tickCount": ticks},
        "axisY": {"grid": False} if "mark" in spec and spec["mark"]["type"] == "bar" else {"tickCount": 5},
        "legend": {"orient": "top", "labelColor": _INK, "labelFontSize": 11, "symbolType": "square",
                   "columnPadding": 26, "labelLimit": 300,
                   "columns": 2 if width == NARROW else 8},
    }  # fmt: skip
    full = {
        "$schema": "https://vega.github.io/schema/vega-lite/v5.json",
        "width": width,
        "autosize": {"type": "fit-x", "contains": "padding"},
        "config": config,
        **_with_time_labels(spec, labels),
    }
    svg = str(vl_convert.vegalite_to_svg(full, vl_version="5.20"))
    view = re.search(r'viewBox="([^"]+)"', svg)
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="{title}" viewBox="{view[1] if view else ""}">'
    )
    return re.sub(r"^<svg[^>]*>", head, svg, count=1)


def _with_time_labels(value: Any, labels: str) -> Any:
    """``value`` with every axis of time labelled in seconds or minutes."""
    if isinstance(value, list):
        return [_with_time_labels(each, labels) for each in value]
    if not isinstance(value, dict):
        return value
    if (
        value.get("axis") == _TIME["axis"]
        and value.get("type") == "quantitative"
        and value.get("field") in ("from", "at")
    ):
        return {**value, "axis": {"title": None, "labelExpr": labels}}
    return {key: each if key == "data" else _with_time_labels(each, labels) for key, each in value.items()}
