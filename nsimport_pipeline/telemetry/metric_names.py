"""The metrics: their names, labels, help texts, and what they stand for in the system this one replaces.

Belongs here: the one table of metrics; docs/metrics.md is made from it. Does not belong here: their values
(``metrics.py``).
"""

from dataclasses import dataclass
from typing import Literal

PREFIX = "nsimport_"
SECONDS = (0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 900)
HOURS = (10, 60, 300, 900, 1800, 3600, 7200, 14400, 28800, 86400)


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric. Every one but ``dagster_up`` has the label ``tenant`` before its own."""

    name: str
    """Without prefix, as it appears in queries (a histogram's has ``_bucket``, ``_sum`` and ``_count`` after it)."""
    kind: Literal["gauge", "counter", "histogram"]
    help: str
    labels: tuple[str, ...] = ()
    area: str = "service"
    was: str = "—"
    """The metric's name there."""
    buckets: tuple[float, ...] = SECONDS

    @property
    def full_name(self) -> str:
        return PREFIX + self.name

    @property
    def all_labels(self) -> tuple[str, ...]:
        return self.labels if self.name == "dagster_up" else ("tenant", *self.labels)


def _gauge(name: str, area: str, was: str, help: str, *labels: str) -> Metric:
    return Metric(name, "gauge", help, labels, area, was)


def _counter(name: str, area: str, was: str, help: str, *labels: str) -> Metric:
    return Metric(name, "counter", help, labels, area, was)


def _histogram(name: str, area: str, was: str, help: str, *labels: str, buckets: tuple[float, ...] = SECONDS) -> Metric:
    return Metric(name, "histogram", help, labels, area, was, buckets)


METRICS: tuple[Metric, ...] = (
    _gauge("up", "service", "—", "1 if the tenant's control tables could be read, else 0."),
    _gauge("dagster_up", "service", "—", "1 if Dagster's storage could be read, else 0."),
    _gauge("scrape_duration_seconds", "service", "—", "Seconds it took to read this tenant."),
    # Critical
    _gauge("queue_batches", "critical", "queue.active_jobs.count",
           "Batches of open imports that are given to runs: dispatched or processing.", "state"),
    _counter("batches_dispatched_total", "critical", "queue.dispatch_rate.per_minute",
             "Batches that were dispatched; its rate is the dispatch rate."),
    _gauge("control_tables_bytes", "critical", "redis.memory.usage_mb, memory.wave_coordination.mb",
           "Size of the control tables, which hold all state of waves and queues. Not known on SQLite."),
    _gauge("database_connections_ratio", "critical",
           "redis.connection_pool.utilization, database.connection_pool.utilization",
           "Share of the database server's connections that are in use. Not known on SQLite."),
    _histogram("import_planning_seconds", "critical", "wave.creation_time.seconds",
               "Seconds from asking for an import until its waves were planned."),
    _histogram("wave_dispatch_lag_seconds", "critical", "wave.dispatch_lag.seconds",
               "Seconds from the moment a wave let the next one in until that one's first batch began."),
    _histogram("wave_threshold_ratio", "critical", "wave.completion_threshold.percentage",
               "Share of a wave that was settled when the next wave of its level began, 0 to 1.",
               buckets=(0.5, 0.7, 0.8, 0.85, 0.9, 0.95, 0.99, 1.0)),
    _gauge("waves_stuck", "critical", "wave.stuck_detection.count",
           "Open imports in whose waves nothing has moved for wave_timeout seconds."),
    _gauge("alerts_firing", "critical", "—",
           "Alerts that fire, by rule; docs/runbook.md says what each one means.", "rule"),
    _histogram("level_duration_seconds", "critical", "dependency.level_completion.seconds",
               "Seconds from a dependency level's first start to its last end.", "level", buckets=HOURS),
    _gauge("dependency_levels", "critical", "dependency.chain_depth.count", "Dependency levels of the latest import."),
    _counter("level_violations_total", "critical", "dependency.boundary_violations.count",
             "Batches that began while one of a lower level was unfinished. Anything but 0 is a fault of the gate."),
    # Error analysis
    _counter("errors_total", "errors", "error.category.*.rate",
             "Failures by category: requests that were sent again and batches that failed.", "record_type", "category"),
    _counter("request_retries_total", "errors", "—", "Requests that were sent again within a run."),
    _counter("retried_batches_total", "errors",
             "retry.within_wave.success_rate, retry.cross_wave.success_rate, retry.database_sanitization.success_rate",
             "Settled batches that had a second chance: requests sent again within the run (within_wave), the batch "
             "in a later wave (cross_wave), rows put right or set aside by constraint analysis (sanitised).",
             "kind", "outcome"),
    _histogram("batch_attempts", "errors", "retry.attempt_distribution",
               "Attempts a batch took until it was completed or given up.", "outcome", buckets=(1, 2, 3, 4, 6, 10)),
    _counter("database_errors_total", "errors",
             "database.nullable_violations.by_field, database.schema_mismatches.by_table, "
             "database.constraint_violations.by_type",
             "Rows the database could not take, and schema errors, by field and kind.",
             "record_type", "field", "kind"),
    # Performance
    _counter("batches_settled_total", "performance", "batch.processing_rate.per_minute",
             "Batches completed, failed for good or cancelled; its rate is the processing rate.", "state"),
    _counter("records_imported_total", "performance",
             "record.processing_rate.per_minute, records.successfully_imported.count",
             "Records written to their table.", "record_type"),
    _histogram("wave_size_batches", "performance", "wave.average_size.batches", "Batches of a wave.",
               buckets=(1, 5, 10, 25, 50, 100, 200, 300, 500)),
    _histogram("import_duration_seconds", "performance", "job.overall_completion_time.hours",
               "Seconds from an import's start to its end.", "state", buckets=HOURS),
    _histogram("batch_duration_seconds", "performance", "wave.batch.completion_distribution",
               "Seconds from a batch's start to its end."),
    _histogram("wave_duration_seconds", "performance", "wave.state.*.duration",
               "Seconds of a finished wave: queued until its first batch began, processing from then on.",
               "phase", buckets=HOURS),
    _counter("batch_phase_seconds_total", "performance", "netsuite.concurrency.slot_wait_time",
             "Seconds of completed batches: slot_wait, fetch, transform and write.", "phase"),
    # Resources
    _gauge("worker_busy_ratio", "resources", "worker.utilization.percentage",
           "Share of their time in which batches of the last five minutes were fetched, transformed or written, "
           "rather than waiting."),
    _gauge("slots_limit", "resources", "netsuite.api.concurrency_utilization", "NetSuite slots of the tenant."),
    _gauge("slots_in_use", "resources", "netsuite.api.concurrency_utilization", "NetSuite slots in use."),
    _gauge("slots_waiting", "resources", "wave.concurrency_stalls.count", "Runs and steps that wait for a slot."),
    # Business
    _counter("records_failed_total", "business", "records.permanently_failed.count",
             "Records that were rejected, or belong to batches that failed for good.", "record_type", "why"),
    _gauge("completeness_ratio", "business", "data.completeness.percentage",
           "Rows in the table for each record in NetSuite, at the latest final count.", "record_type"),
    _gauge("sla_ratio", "business", "import.sla_compliance.percentage",
           "Share of the imports that ended in the last 30 days which were complete within the time agreed (--sla)."),
    _counter("imports_total", "business", "—", "Imports that are over.", "state"),
    _gauge("imports_open", "business", "—", "Imports that are not over."),
    _gauge("import_progress_ratio", "business", "—", "Progress of the open import that is least far, 0 to 1."),
    _gauge("last_completed_timestamp_seconds", "business", "—", "When an import was last completed, Unix time."),
)  # fmt: skip

BY_NAME = {metric.name: metric for metric in METRICS}
AREAS = {
    "critical": "Critical",
    "errors": "Error analysis",
    "performance": "Performance",
    "resources": "Resources",
    "business": "Business",
    "service": "The exporter itself",
}


def markdown() -> str:
    """The tables of docs/metrics.md."""
    lines: list[str] = []
    for area, title in AREAS.items():
        lines += [f"## {title}", "", "| metric | kind | labels | meaning | in the system before |", "| --- " * 5 + "|"]
        for metric in (metric for metric in METRICS if metric.area == area):
            labels = ", ".join(f"`{label}`" for label in metric.all_labels) or "—"
            was = ", ".join(f"`{name}`" if name != "—" else name for name in metric.was.split(", "))
            lines.append(f"| `{metric.full_name}` | {metric.kind} | {labels} | {metric.help} | {was} |")
        lines.append("")
    return "\n".join(lines)
