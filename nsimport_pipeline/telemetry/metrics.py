"""Metric values from the facts of imports, and their Prometheus families.

Belongs here: pure counting. Does not belong here: the metrics' names (``metric_names.py``), reading databases or
serving HTTP (``commands/metering.py``).

What an import adds to counters and histograms never changes once it is over, so it is counted once (``tally``) and
kept; only open imports are counted anew at each scrape.
"""

import math
import re
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.core import Metric as Family

from nsimport_pipeline.telemetry.alerts import SEVERITIES
from nsimport_pipeline.telemetry.facts import ON_THE_WAY, BatchFact, ImportFacts, SlotUse, is_stuck
from nsimport_pipeline.telemetry.metric_names import BY_NAME, METRICS, Metric
from nsimport_pipeline.telemetry.waves import level_seconds, level_violations, turnovers, wave_phases

RECENT = timedelta(minutes=5)
SLA_WINDOW = timedelta(days=30)
Key = tuple[str, tuple[str, ...]]
"""A metric's name and the values of its own labels."""

_KINDS = (
    ("missing_value", re.compile("missing, and|value is missing|no default", re.I)),
    ("reference", re.compile("refer", re.I)),
    ("duplicate", re.compile("unique|twice", re.I)),
    ("too_long", re.compile("too long|longer", re.I)),
    ("out_of_range", re.compile("out of range|too large|does not fit|digits", re.I)),
    ("wrong_type", re.compile("not a|wrong kind|no number|no date|valid", re.I)),
)


def kind_of(reason: str) -> str:
    """What kind of constraint a row broke, from the reason it was rejected for."""
    return next((kind for kind, pattern in _KINDS if pattern.search(reason)), "other")


@dataclass
class Tally:
    """What imports add to counters and histograms."""

    counts: dict[Key, float] = field(default_factory=lambda: defaultdict(float))
    observed: dict[Key, list[float]] = field(default_factory=dict)
    """For each histogram: how many fell into each bucket, the last one beyond all bounds; then their sum."""

    def add(self, name: str, amount: float, *labels: str) -> None:
        self.counts[name, labels] += amount

    def observe(self, name: str, value: float, *labels: str) -> None:
        bounds = BY_NAME[name].buckets
        bins = self.observed.setdefault((name, labels), [0.0] * (len(bounds) + 2))
        bins[bisect_left(bounds, value)] += 1
        bins[-1] += value

    def merge(self, other: "Tally") -> None:
        for key, amount in other.counts.items():
            self.counts[key] += amount
        for key, bins in other.observed.items():
            own = self.observed.setdefault(key, [0.0] * len(bins))
            self.observed[key] = [mine + theirs for mine, theirs in zip(own, bins, strict=True)]


@dataclass(frozen=True)
class Counted:
    """An import as far as metrics are concerned."""

    state: str
    created_at: datetime
    finished_at: datetime | None
    seconds: float
    levels: int
    completeness: dict[str, float]
    tally: Tally


@dataclass(frozen=True)
class TenantScrape:
    """What was read of one tenant; ``up`` false if its database could not be read."""

    tenant: str
    up: bool
    seconds: float = 0.0
    over: Sequence[Counted] = ()
    open: Sequence[ImportFacts] = ()
    slots: SlotUse | None = None
    control_bytes: int | None = None
    connections: tuple[int, int] | None = None
    wave_timeout: float = math.inf
    alerts: Sequence[str] = ()
    """The rule of each alert that is firing."""


def count(facts: ImportFacts, now: datetime) -> Counted:
    """All that metrics need of one import."""
    return Counted(
        state=facts.state,
        created_at=facts.created_at,
        finished_at=facts.finished_at,
        seconds=facts.seconds(now),
        levels=len({batch.level for batch in facts.batches}),
        completeness={
            each.name: (each.table_count or 0) / each.source_count if each.source_count else 1.0
            for each in facts.types
            if each.in_sync is not None
        },
        tally=tally(facts, now),
    )


def tally(facts: ImportFacts, now: datetime) -> Tally:
    """What one import adds to counters and histograms."""
    found = Tally()
    for batch in facts.batches:
        _tally_batch(found, batch)
    for error in facts.errors:
        found.add("errors_total", error.count, error.record_type or "", error.category)
        if error.category == "database_schema":
            found.add("database_errors_total", error.count, error.record_type or "", error.column or "", "schema")
    for reject in facts.rejects:
        kind = kind_of(reject.reason)
        found.add("database_errors_total", reject.count, reject.record_type, reject.column or "", kind)
    sizes = Counter(batch.wave for batch in facts.batches)
    for wave in facts.waves:
        found.observe("wave_size_batches", sizes[wave.number] + wave.retried)
    for turnover in turnovers(facts):
        found.observe("wave_dispatch_lag_seconds", turnover.lag)
        if turnover.ratio is not None:
            found.observe("wave_threshold_ratio", turnover.ratio)
    for level, seconds in level_seconds(facts).items():
        found.observe("level_duration_seconds", seconds, str(level))
    for phase, seconds in wave_phases(facts):
        found.observe("wave_duration_seconds", seconds, phase)
    found.add("level_violations_total", level_violations(facts))
    if facts.planned_at is not None:
        found.observe("import_planning_seconds", max(0.0, (facts.planned_at - facts.created_at).total_seconds()))
    if not facts.is_open:
        found.add("imports_total", 1, facts.state)
        found.observe("import_duration_seconds", facts.seconds(now), facts.state)
    return found


def _tally_batch(found: Tally, batch: BatchFact) -> None:
    if batch.dispatched_at is not None:
        found.add("batches_dispatched_total", 1)
    found.add("request_retries_total", batch.retries)
    if batch.state == "completed":
        found.add("records_imported_total", batch.rows_upserted, batch.record_type)
        found.add("records_failed_total", batch.rows_rejected, batch.record_type, "rejected")
        for phase in ("slot_wait", "fetch", "transform", "write"):
            found.add("batch_phase_seconds_total", getattr(batch, f"{phase}_seconds"), phase)
    if batch.state == "failed":
        found.add("records_failed_total", batch.expected, batch.record_type, "batch_failed")
    if not batch.settled:
        return
    found.add("batches_settled_total", 1, batch.state)
    if batch.seconds is not None:
        found.observe("batch_duration_seconds", batch.seconds)
    if batch.state == "cancelled":
        return
    outcome = "succeeded" if batch.state == "completed" else "failed"
    found.observe("batch_attempts", batch.attempts + (batch.state == "completed"), outcome)
    for result, times in zip(("succeeded", "failed"), batch.retried_within_wave, strict=True):
        found.add("retried_batches_total", times, "within_wave", result)
    if batch.attempts > (batch.state == "failed"):
        found.add("retried_batches_total", 1, "cross_wave", outcome)
    if batch.rows_rejected or batch.category == "database_schema":
        found.add("retried_batches_total", 1, "sanitised", outcome)


def families(scrapes: Iterable[TenantScrape], now: datetime, *, sla: float, dagster_up: bool) -> Iterator[Family]:
    """Every metric with its values, in the order of their table. ``sla``: seconds an import may take."""
    values: dict[str, list[tuple[tuple[str, ...], float | list[float]]]] = defaultdict(list)
    values["dagster_up"].append(((), float(dagster_up)))
    for scrape in scrapes:
        for (name, labels), value in _values(scrape, now, sla):
            values[name].append(((scrape.tenant, *labels), value))
    for metric in METRICS:
        yield _family(metric, values[metric.name])


def _values(scrape: TenantScrape, now: datetime, sla: float) -> Iterator[tuple[Key, float | list[float]]]:
    yield ("up", ()), float(scrape.up)
    yield ("scrape_duration_seconds", ()), scrape.seconds
    if not scrape.up:
        return
    total = Tally()
    for metric in METRICS:
        if metric.kind == "counter" and not metric.labels:
            total.add(metric.name, 0)
    for done in scrape.over:
        total.merge(done.tally)
    for facts in scrape.open:
        total.merge(tally(facts, now))
    yield from total.counts.items()
    yield from total.observed.items()
    yield from _gauges(scrape, now, sla).items()


def _gauges(scrape: TenantScrape, now: datetime, sla: float) -> dict[Key, float]:
    waiting = dict.fromkeys(sorted(ON_THE_WAY), 0)
    for batch in (batch for facts in scrape.open for batch in facts.batches if batch.state in waiting):
        waiting[batch.state] += 1
    found: dict[Key, float] = {("queue_batches", (state,)): float(number) for state, number in waiting.items()}
    found["imports_open", ()] = len(scrape.open)
    found["waves_stuck", ()] = sum(is_stuck(each.last_sign_at, now, scrape.wave_timeout) for each in scrape.open)
    firing = Counter(scrape.alerts)
    found |= {("alerts_firing", (rule,)): float(firing[rule]) for rule in SEVERITIES}
    if scrape.open:
        found["import_progress_ratio", ()] = min(_progress(facts) for facts in scrape.open)
    known = [(each.created_at, each.levels) for each in scrape.over]
    known += [(each.created_at, len({batch.level for batch in each.batches})) for each in scrape.open]
    if known:
        found["dependency_levels", ()] = max(known)[1]
    busy = _busy(scrape.open, now)
    if busy is not None:
        found["worker_busy_ratio", ()] = busy
    if scrape.slots is not None:
        for name in ("limit", "in_use", "waiting"):
            found[f"slots_{name}", ()] = getattr(scrape.slots, name)
    if scrape.control_bytes is not None:
        found["control_tables_bytes", ()] = scrape.control_bytes
    if scrape.connections is not None:
        found["database_connections_ratio", ()] = scrape.connections[0] / max(1, scrape.connections[1])
    for done in sorted(scrape.over, key=lambda each: each.created_at):
        found |= {("completeness_ratio", (name,)): ratio for name, ratio in done.completeness.items()}
        if done.state == "completed" and done.finished_at is not None:
            found["last_completed_timestamp_seconds", ()] = max(
                done.finished_at.timestamp(), found.get(("last_completed_timestamp_seconds", ()), 0.0)
            )
    lately = [each for each in scrape.over if each.finished_at is not None and now - each.finished_at < SLA_WINDOW]
    if lately:
        kept = sum(each.state == "completed" and each.seconds <= sla for each in lately)
        found["sla_ratio", ()] = kept / len(lately)
    return found


def _progress(facts: ImportFacts) -> float:
    expected = sum(batch.expected for batch in facts.batches)
    return sum(batch.expected for batch in facts.batches if batch.settled) / expected if expected else 0.0


def _busy(imports: Iterable[ImportFacts], now: datetime) -> float | None:
    """Share of their time in which recently completed batches were not waiting."""
    spent = present = 0.0
    for batch in (batch for facts in imports for batch in facts.batches):
        if batch.state == "completed" and batch.finished_at is not None and now - batch.finished_at < RECENT:
            spent += batch.fetch_seconds + batch.transform_seconds + batch.write_seconds
            present += batch.seconds or 0.0
    return min(1.0, spent / present) if present > 0 else None


def _family(metric: Metric, values: Iterable[tuple[tuple[str, ...], float | list[float]]]) -> Family:
    if metric.kind == "histogram":
        histogram = HistogramMetricFamily(metric.full_name, metric.help, labels=metric.all_labels)
        for labels, bins in values:
            assert isinstance(bins, list)  # noqa: S101 only histograms have bins
            bounds = [*(f"{bound:g}" for bound in metric.buckets), "+Inf"]
            sums = [sum(bins[: position + 1]) for position in range(len(bounds))]
            histogram.add_metric(labels, list(zip(bounds, sums, strict=True)), bins[-1])
        return histogram
    kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
    family = kind(metric.full_name, metric.help, labels=metric.all_labels)
    for labels, value in values:
        assert not isinstance(value, list)  # noqa: S101 only histograms have bins
        family.add_metric(labels, value)
    return family
