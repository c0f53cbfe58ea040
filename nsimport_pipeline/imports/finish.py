"""The final count of a record type: is everything NetSuite has in the table, or recorded as rejected?

Belongs here: counting both sides and comparing. Does not belong here: showing it (the asset check in ``defs/``).
"""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Engine, Table

from nsimport_pipeline.imports import store
from nsimport_pipeline.imports.records import TypePlan
from nsimport_pipeline.record_types.criteria import RecordType
from nsimport_pipeline.warehouse.deletes import live_rows


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


def final_count(
    engine: Engine,
    import_id: str,
    record_type: RecordType,
    table: Table,
    plan: TypePlan,
    *,
    source: int,
    now: datetime,
) -> FinalCount:
    """Compare ``source``, NetSuite's count up to the plan's upper bound, with the table, and keep the result."""
    with engine.begin() as connection:
        count = FinalCount(
            source=source,
            table=live_rows(connection, table, plan.upper_bound),
            rejected=store.rejected_without_row(connection, import_id, record_type.name, table),
        )
        store.record_check(
            connection,
            import_id,
            record_type.name,
            source_count=count.source,
            table_count=count.table,
            in_sync=count.in_sync,
            now=now,
        )
    return count
