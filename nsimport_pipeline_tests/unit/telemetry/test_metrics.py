"""Metrics: what is counted, in a format that Prometheus' own parser reads, as documented, and as the dashboard asks."""

import json
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from nsimport_pipeline.telemetry.facts import ErrorFact, ImportFacts, RejectFact, SlotUse, TypeFact
from nsimport_pipeline.telemetry.metric_names import METRICS, markdown
from nsimport_pipeline.telemetry.metrics import TenantScrape, count, families, kind_of
from nsimport_pipeline.telemetry.waves import level_violations, turnovers
from nsimport_pipeline_tests.unit.telemetry.facts_of import at, batch, facts

ROOT = Path(__file__).parents[3]
NOW = at(1000)

DONE = facts(
    batch(0, 0, 2),
    batch(1, 1, 3, attempts=1, retries=2, rows_rejected=4, rows_upserted=996),
    batch(2, 1, 4, state="failed", attempts=3, category="timeout", rows_upserted=0),
    batch(0, 6, 9, record_type="invoice", level=1),
    state="completed_with_failures",
    types=(
        TypeFact("customer", 0, 3000, None, 3000, 1996, False),
        TypeFact("invoice", 1, 1000, None, 1000, 1000, True),
    ),
    errors=(ErrorFact("timeout", "customer", None, 5), ErrorFact("database_schema", "customer", "name", 1)),
    rejects=(RejectFact("customer", "name", "name: text too long", 4),),
)  # fmt: skip
RUNNING = facts(
    batch(0, 900, 902, record_type="item"),
    batch(1, 990, 0, record_type="item", state="processing", finished_at=None),
    state="running", import_id="acme-2", created_at=at(890), finished_at=None, last_sign_at=at(700),
)  # fmt: skip


def scraped(*scrapes: TenantScrape, dagster_up: bool = True) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Values by sample name and labels, as read back by Prometheus' parser."""

    class Once:
        def collect(self) -> Any:
            return families(scrapes, NOW, sla=100, dagster_up=dagster_up)

        def describe(self) -> Any:
            return []

    registry = CollectorRegistry()
    registry.register(Once())
    text = generate_latest(registry).decode()
    return {
        (sample.name.removeprefix("nsimport_"), tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


ACME = TenantScrape(
    "acme", up=True, seconds=0.1, over=(count(DONE, NOW),), open=(RUNNING,), slots=SlotUse(5, 3, 1),
    control_bytes=4096, connections=(20, 100), wave_timeout=200,
)  # fmt: skip


@pytest.mark.parametrize(
    ("name", "labels", "value"),
    [
        ("up", {}, 1),
        ("queue_batches", {"state": "processing"}, 1),
        ("queue_batches", {"state": "dispatched"}, 0),
        ("batches_dispatched_total", {}, 6),
        ("batches_settled_total", {"state": "completed"}, 4),
        ("batches_settled_total", {"state": "failed"}, 1),
        ("records_imported_total", {"record_type": "customer"}, 1996),
        ("records_imported_total", {"record_type": "item"}, 1000),
        ("records_failed_total", {"record_type": "customer", "why": "rejected"}, 4),
        ("records_failed_total", {"record_type": "customer", "why": "batch_failed"}, 1000),
        ("errors_total", {"record_type": "customer", "category": "timeout"}, 5),
        ("database_errors_total", {"record_type": "customer", "field": "name", "kind": "too_long"}, 4),
        ("database_errors_total", {"record_type": "customer", "field": "name", "kind": "schema"}, 1),
        ("retried_batches_total", {"kind": "within_wave", "outcome": "succeeded"}, 1),
        ("retried_batches_total", {"kind": "within_wave", "outcome": "failed"}, 4),
        ("retried_batches_total", {"kind": "cross_wave", "outcome": "succeeded"}, 1),
        ("retried_batches_total", {"kind": "cross_wave", "outcome": "failed"}, 1),
        ("retried_batches_total", {"kind": "sanitised", "outcome": "succeeded"}, 1),
        ("request_retries_total", {}, 2),
        ("imports_total", {"state": "completed_with_failures"}, 1),
        ("imports_open", {}, 1),
        ("import_duration_seconds_sum", {"state": "completed_with_failures"}, 9),
        ("wave_dispatch_lag_seconds_sum", {}, 2),
        ("level_duration_seconds_bucket", {"level": "0", "le": "10"}, 1),
        ("level_violations_total", {}, 0),
        ("dependency_levels", {}, 1),
        ("waves_stuck", {}, 1),
        ("completeness_ratio", {"record_type": "invoice"}, 1),
        ("sla_ratio", {}, 0),
        ("slots_in_use", {}, 3),
        ("database_connections_ratio", {}, 0.2),
        ("control_tables_bytes", {}, 4096),
        ("worker_busy_ratio", {}, 1),
        ("import_progress_ratio", {}, 0.5),
        ("batch_attempts_sum", {"outcome": "failed"}, 3),
    ],
)  # fmt: skip
def test_counts(name: str, labels: dict[str, str], value: float) -> None:
    assert scraped(ACME)[name, tuple(sorted({"tenant": "acme", **labels}.items()))] == pytest.approx(value)


def test_a_tenant_that_is_down_has_only_that_to_say() -> None:
    values = scraped(ACME, TenantScrape("beta", up=False, seconds=8), dagster_up=False)
    of_beta = {name: value for (name, labels), value in values.items() if ("tenant", "beta") in labels}
    assert of_beta == {"up": 0, "scrape_duration_seconds": 8}
    assert values["dagster_up", ()] == 0
    assert values["up", (("tenant", "acme"),)] == 1


def test_what_is_over_counts_the_same_kept_or_counted_anew() -> None:
    again = [count(DONE, NOW + timedelta(hours=hours)).tally for hours in (0, 5)]
    assert again[0] == again[1]


def test_every_metric_has_a_value_somewhere_and_no_other_has() -> None:
    named = {re.sub("_(bucket|count|sum)$", "", name) for name, _ in scraped(ACME)}
    completed = scraped(TenantScrape("acme", up=True, over=(count(facts(batch(0, 0, 1)), NOW),)))
    named |= {re.sub("_(bucket|count|sum)$", "", name) for name, _ in completed}
    two_waves = facts(batch(0, 0, 1), batch(1, 1, 2, wave=2))
    named |= {
        re.sub("_(bucket|count|sum)$", "", name)
        for name, _ in scraped(TenantScrape("acme", up=True, over=(count(two_waves, NOW),)))
    }
    assert named == {metric.name for metric in METRICS}


def test_names_follow_prometheus() -> None:
    assert len({metric.name for metric in METRICS}) == len(METRICS)
    for metric in METRICS:
        assert (metric.kind == "counter") == metric.name.endswith("_total"), metric.name
        assert not re.search("(minutes|hours|_ms|_mb|percent)", metric.name), metric.name
        assert metric.help.endswith("."), metric.name


def test_the_documented_table_is_the_codes() -> None:
    assert markdown() in (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")


BACKGROUND = """
queue.active_jobs.count queue.dispatch_rate.per_minute redis.memory.usage_mb redis.connection_pool.utilization
wave.creation_time.seconds wave.dispatch_lag.seconds wave.completion_threshold.percentage wave.stuck_detection.count
dependency.level_completion.seconds dependency.chain_depth.count dependency.boundary_violations.count
retry.within_wave.success_rate retry.cross_wave.success_rate retry.database_sanitization.success_rate
retry.attempt_distribution database.nullable_violations.by_field database.schema_mismatches.by_table
database.constraint_violations.by_type batch.processing_rate.per_minute record.processing_rate.per_minute
wave.average_size.batches job.overall_completion_time.hours worker.utilization.percentage
database.connection_pool.utilization memory.wave_coordination.mb netsuite.api.concurrency_utilization
records.successfully_imported.count records.permanently_failed.count data.completeness.percentage
import.sla_compliance.percentage error.category.*.rate
""".split()  # noqa: SIM905


@pytest.mark.parametrize("name", BACKGROUND)
def test_every_metric_of_the_system_before_has_its_successor(name: str) -> None:
    assert any(name in metric.was.split(", ") for metric in METRICS)


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("name: text too long", "too_long"),
        ("a value is missing, and neither the column nor the criteria have a default", "missing_value"),
        ("a value is missing and the column has no default", "missing_value"),
        ("the record referred to is missing", "reference"),
        ("a unique value is there already", "duplicate"),
        ("number out of range", "out_of_range"),
        ("not a valid date, time or number", "wrong_type"),
        ("refused by a trigger", "other"),
    ],
)
def test_reasons_are_sorted_into_kinds(reason: str, kind: str) -> None:
    assert kind_of(reason) == kind


def test_lag_and_completion_at_the_change_of_waves() -> None:
    first = [batch(n, 0, n + 1) for n in range(10)]
    second = [batch(n, 12, 13, wave=2) for n in range(10, 12)]
    found = turnovers(facts(*first, *second))
    # Nine of ten are settled at 9 s; the next wave begins at 12 s, when all are.
    assert [(turnover.lag, turnover.ratio) for turnover in found] == [(3, 1.0)]
    early = [batch(n, 9.5, 13, wave=2) for n in range(10, 12)]
    assert [(t.lag, t.ratio) for t in turnovers(facts(*first, *early))] == [(0.5, 0.9)]
    retried = [batch(n, 60, 61, wave=2, attempts=1) for n in range(10, 12)]
    assert turnovers(facts(*first, *retried)) == []


def violating(**more: Any) -> ImportFacts:
    return facts(batch(0, 0, 50), batch(0, 20, 30, record_type="invoice", level=1), **more)


def test_levels_out_of_order_are_counted_but_not_after_going_on_again() -> None:
    assert level_violations(violating()) == 1
    assert level_violations(violating(reopened_at=at(-1))) == 1
    redone = facts(
        batch(0, 0, 5), batch(1, 40, 50), batch(0, 20, 30, record_type="invoice", level=1), reopened_at=at(35)
    )
    assert level_violations(redone) == 0


# ---------------------------------------------------------------- the dashboard

DASHBOARD = json.loads((ROOT / "deploy" / "grafana" / "nsimport.json").read_text(encoding="utf-8"))
TARGETS = [
    (panel["title"], target["expr"])
    for panel in DASHBOARD["panels"]
    if panel["type"] != "row"
    for target in panel["targets"]
]
SAMPLES = {
    metric.full_name + suffix: set(metric.all_labels) | ({"le"} if suffix == "_bucket" else set())
    for metric in METRICS
    for suffix in (("_bucket", "_sum", "_count") if metric.kind == "histogram" else ("",))
}


@pytest.mark.parametrize(("title", "expression"), TARGETS)
def test_a_query_of_the_dashboard_names_what_exists(title: str, expression: str) -> None:
    named = re.findall(r"[a-zA-Z_:][\w:]*_[\w:]*(?!\w*\()", expression)
    named = [name for name in named if name.startswith("nsimport")]
    assert named, title
    for name in named:
        assert name in SAMPLES, f"{title}: {name}"
    known = set().union(*(SAMPLES[name] for name in named))
    grouped = re.findall(r"\bby \(([^)]*)\)", expression)
    matched = re.findall(r"[{,]\s*(\w+)\s*(?:=|!=|=~|!~)", expression)
    for label in [*matched, *(label.strip() for group in grouped for label in group.split(","))]:
        assert label in known, f"{title}: {label}"


def test_the_dashboard_has_what_grafana_needs() -> None:
    assert DASHBOARD["schemaVersion"] >= 36
    assert DASHBOARD["__inputs"][0]["pluginId"] == "prometheus"
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)
    asked = {name for _, expression in TARGETS for name in SAMPLES if re.search(rf"\b{name}\b", expression)}
    shown = {re.sub("_(bucket|count|sum)$", "", name) if name not in SAMPLES else name for name in asked}
    assert len(shown) >= 25
    for panel in DASHBOARD["panels"]:
        assert panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24
