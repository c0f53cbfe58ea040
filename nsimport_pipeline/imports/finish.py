"""The checks of a record type when its last batch is settled: did everything arrive, and does it hold together?

Belongs here: which checks there are, what they look at, when they pass. Does not belong here: their SQL
(``warehouse/integrity.py``, ``store/``), or showing them (``defs/checks.py``, ``progress.py``).

References are checked only where their target is sure to be there: the record type itself, and types of lower levels in
the same import, which have settled by then. An id above the target's upper bound belongs to a record made after the
import was planned, and is no orphan.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, Table

from nsimport_pipeline.imports import store
from nsimport_pipeline.imports.records import REJECTED_SHARE, Check, TypePlan
from nsimport_pipeline.imports.states import BatchState
from nsimport_pipeline.record_types.criteria import Catalog, RecordType
from nsimport_pipeline.warehouse.deletes import live_rows
from nsimport_pipeline.warehouse.engine import read_only
from nsimport_pipeline.warehouse.integrity import duplicate_keys, orphans
from nsimport_pipeline.warehouse.schema import target_table

COMPLETE, UNIQUE_KEY, REFERENCES, NO_FAILED = "complete", "unique_key", "references", "no_failed_partitions"
CHECKS: Mapping[str, str] = {
    COMPLETE: "NetSuite's count equals the table's rows and the rejected ones, up to the upper bound.",
    UNIQUE_KEY: "No two rows have the same refid.",
    REFERENCES: "Every reference leads to a row of its record type.",
    REJECTED_SHARE: "No more records were rejected than the tenant's rejected_share allows.",
    NO_FAILED: "Every partition of the last import is there.",
}
SAMPLE = 5


def check_names(record_type: RecordType) -> list[str]:
    """The checks that a record type has."""
    return [name for name in CHECKS if name != REFERENCES or any(field.references for field in record_type.fields)]


@dataclass(frozen=True, slots=True)
class FinalCount:
    """Records up to the import's upper bound."""

    source: int
    """In NetSuite now."""
    table: int
    """Rows in the table that are not marked deleted."""
    rejected: int
    """Records this import rejected that have no row."""

    @property
    def in_sync(self) -> bool:
        return self.source == self.table + self.rejected

    def __str__(self) -> str:
        return f"NetSuite has {self.source}, the table {self.table}, rejected {self.rejected}"


def take_checks(
    engine: Engine,
    import_id: str,
    record_type: RecordType,
    catalog: Catalog,
    *,
    source: int | None,
    rejected_share: float,
) -> tuple[FinalCount | None, list[Check]]:
    """Look at a record type whose batches of this import are all settled; reads only.

    ``source``: NetSuite's count up to the plan's upper bound; None, if it is not known, leaves that check out.
    ``rejected_share``: most percent that may be rejected. Raises SQLAlchemyError.
    """
    table = target_table(record_type)
    count: FinalCount | None = None
    with read_only(engine).connect() as connection:
        plans = {plan.record_type: plan for plan in store.type_plans(connection, import_id)}
        checks = [judge_rejected(*store.rejected_of(connection, import_id, record_type.name), rejected_share)]
        checks.append(_partitions(connection, import_id, record_type.name))
        if source is not None:
            count = FinalCount(
                source=source,
                table=live_rows(connection, table, plans[record_type.name].upper_bound, record_type.range_column),
                rejected=store.rejected_without_row(connection, import_id, record_type.name, table),
            )
            checks.append(_complete(count))
        duplicates = duplicate_keys(connection, table)
        found = f"{duplicates} ids are there more than once" if duplicates else "every refid is there once"
        checks.append(Check(UNIQUE_KEY, not duplicates, found, {"duplicates": duplicates}))
        if REFERENCES in check_names(record_type):
            checks.append(_references(connection, record_type, table, plans, catalog))
    order = list(CHECKS)
    return count, sorted(checks, key=lambda check: order.index(check.name))


def take_checks_of_changes(
    engine: Engine, import_id: str, record_type: RecordType, *, rejected_share: float
) -> list[Check]:
    """Look at a record type of which only the changes were imported, and all its batches are settled; reads only.

    The table as a whole is not looked at, so that a few changes cost little, however many records there are.
    """
    with read_only(engine).connect() as connection:
        rejected, _ = store.rejected_of(connection, import_id, record_type.name)
        records = store.pinned_records(connection, record_type.name)
        return [
            judge_rejected(rejected, max(records, rejected), rejected_share),
            _partitions(connection, import_id, record_type.name),
        ]


def judge_rejected(rejected: int, records: int, most: float) -> Check:
    """Whether ``rejected`` of ``records`` is at most ``most`` percent."""
    share = 100 * rejected / records if records else 0.0
    passed = rejected * 100 <= most * records
    detail = f"{rejected} of {records} records rejected ({share:.2f} %, at most {most:g} % are allowed)"
    return Check(REJECTED_SHARE, passed, detail, {"rejected": rejected, "records": records, "percent": round(share, 4)})


def judgeable(record_type: RecordType, plans: Mapping[str, TypePlan]) -> tuple[dict[str, TypePlan], dict[str, str]]:
    """The reference fields that can be checked, with their target's plan; and why others cannot."""
    targets: dict[str, TypePlan] = {}
    skipped: dict[str, str] = {}
    level = plans[record_type.name].level
    for field in record_type.fields:
        if field.references is None:
            continue
        target = plans.get(field.references)
        if target is None:
            skipped[field.name] = f"{field.references} is not part of the import"
        elif target.unavailable:
            skipped[field.name] = f"{field.references} is not available in this account"
        elif target.record_type != record_type.name and target.level >= level:
            skipped[field.name] = f"{field.references} is not imported before: it is no dependency"
        elif target.upper_bound is None:
            skipped[field.name] = f"{field.references} had no records"
        else:
            targets[field.name] = target
    return targets, skipped


def _complete(count: FinalCount) -> Check:
    facts = {"source": count.source, "table": count.table, "rejected": count.rejected}
    return Check(COMPLETE, count.in_sync, str(count), facts)


def _partitions(connection: Connection, import_id: str, record_type: str) -> Check:
    missing = [
        batch.range.partition_key
        for batch in store.batches_of(connection, import_id, record_type)
        if batch.state is not BatchState.COMPLETED
    ]
    found = f"{len(missing)} partitions are missing: {_some(missing)}" if missing else "none is missing"
    return Check(NO_FAILED, not missing, found, {"missing": len(missing), "partitions": missing[:SAMPLE]})


def _references(
    connection: Connection,
    record_type: RecordType,
    table: Table,
    plans: Mapping[str, TypePlan],
    catalog: Catalog,
) -> Check:
    targets, skipped = judgeable(record_type, plans)
    found = orphans(
        connection,
        table,
        {
            column: (target_table(catalog[target.record_type]), target.upper_bound or 0)
            for column, target in targets.items()
        },
    )
    facts: dict[str, Any] = {
        column: {
            "references": targets[column].record_type,
            "orphans": lost.rows,
            "sample": [{"refid": refid, "refers_to": other} for refid, other in lost.sample],
        }
        for column, lost in found.items()
    }
    broken = [
        f"{lost.rows} rows whose {column} leads to no {targets[column].record_type}"
        for column, lost in found.items()
        if lost.rows
    ]
    facts |= {column: {"skipped": why} for column, why in skipped.items()}
    detail = "; ".join(broken) or "every reference leads to a row"
    if skipped:
        detail += f"; not checked: {', '.join(f'{column} ({why})' for column, why in skipped.items())}"
    return Check(REFERENCES, not broken, detail, facts)


def _some(keys: Sequence[str]) -> str:
    return ", ".join(keys[:SAMPLE]) + (", …" if len(keys) > SAMPLE else "")
