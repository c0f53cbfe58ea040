"""What an import means to do: its record types, its waves of batches, and the key ranges pinned to partitions."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update

from nsimport_pipeline.imports.records import Check, KeyRange, TypePlan
from nsimport_pipeline.imports.states import (
    BatchState,
    WaveState,
)
from nsimport_pipeline.imports.store.rows import naive, range_of
from nsimport_pipeline.imports.waves import PlannedWave
from nsimport_pipeline.warehouse.control import (
    import_record_types,
    partition_ranges,
    wave_batches,
    wave_coordination,
)


def insert_type_plans(connection: Connection, import_id: str, plans: Iterable[TypePlan]) -> None:
    rows = [
        {
            "import_id": import_id,
            "record_type": plan.record_type,
            "dependency_level": plan.level,
            "expected": plan.expected,
            "upper_bound": plan.upper_bound,
            "unavailable": plan.unavailable,
            "denied": plan.denied,
        }
        for plan in plans
    ]
    if rows:
        connection.execute(insert(import_record_types), rows)


def update_type_plans(connection: Connection, import_id: str, plans: Iterable[TypePlan]) -> None:
    """Replace what an import means to do for its record types."""
    connection.execute(delete(import_record_types).where(import_record_types.c.import_id == import_id))
    insert_type_plans(connection, import_id, plans)


def type_plans(connection: Connection, import_id: str) -> list[TypePlan]:
    """The record types of an import, lowest level first."""
    table = import_record_types
    statement = (
        select(table).where(table.c.import_id == import_id).order_by(table.c.dependency_level, table.c.record_type)
    )
    return [
        TypePlan(
            record_type=row["record_type"],
            level=row["dependency_level"],
            expected=row["expected"],
            upper_bound=row["upper_bound"],
            unavailable=row["unavailable"],
            denied=bool(row["denied"]),
            source_count=row["source_count"],
            table_count=row["table_count"],
            in_sync=row["in_sync"],
            checks=tuple(Check(**check) for check in row["checks"] or ()),
        )
        for row in connection.execute(statement).mappings()
    ]


def forget_checks(connection: Connection, import_id: str, record_types: Iterable[str]) -> None:
    """These record types go on: what their final count said does not hold any more."""
    table = import_record_types
    connection.execute(
        update(table)
        .where(table.c.import_id == import_id, table.c.record_type.in_(list(record_types)))
        .values(source_count=None, table_count=None, in_sync=None, checks=None, checked_at=None)
    )


def record_checks(
    connection: Connection,
    import_id: str,
    record_type: str,
    checks: Sequence[Check],
    *,
    source_count: int | None,
    table_count: int | None,
    in_sync: bool | None,
    now: datetime,
) -> None:
    """Keep what the checks of a record type said, and both sides of the final count; None if it was not taken."""
    table = import_record_types
    connection.execute(
        update(table)
        .where(table.c.import_id == import_id, table.c.record_type == record_type)
        .values(
            source_count=source_count,
            table_count=table_count,
            in_sync=in_sync,
            checks=[asdict(check) for check in checks],
            checked_at=naive(now),
        )
    )


def insert_waves(connection: Connection, import_id: str, waves: Iterable[PlannedWave]) -> None:
    """Write new waves and their batches."""
    wave_rows: list[dict[str, Any]] = []
    batch_rows: list[dict[str, Any]] = []
    for wave in waves:
        wave_rows.append(
            {
                "import_id": import_id,
                "wave_number": wave.number,
                "dependency_level": wave.level,
                "status": WaveState.PENDING.value,
            }
        )
        batch_rows.extend(
            {
                "import_id": import_id,
                "batch_id": f"{key_range.record_type}:{key_range.partition_key}",
                "wave_number": wave.number,
                "dependency_level": wave.level,
                "record_type": key_range.record_type,
                "batch_number": key_range.number,
                "partition_key": key_range.partition_key,
                "low_key": key_range.low,
                "high_key": key_range.high,
                "expected": key_range.expected,
                "status": BatchState.PENDING.value,
            }
            for key_range in wave.ranges
        )
    if wave_rows:
        connection.execute(insert(wave_coordination), wave_rows)
    if batch_rows:
        connection.execute(insert(wave_batches), batch_rows)


def pin_ranges(connection: Connection, import_id: str, ranges: Mapping[str, Sequence[KeyRange]]) -> None:
    """Make these key ranges the partitions of their record types, in place of earlier ones."""
    for record_type, key_ranges in ranges.items():
        connection.execute(delete(partition_ranges).where(partition_ranges.c.record_type == record_type))
        rows = [
            {
                "record_type": record_type,
                "batch_number": key_range.number,
                "partition_key": key_range.partition_key,
                "low_key": key_range.low,
                "high_key": key_range.high,
                "expected": key_range.expected,
                "import_id": import_id,
            }
            for key_range in key_ranges
        ]
        if rows:
            connection.execute(insert(partition_ranges), rows)


def pinned_ranges(
    connection: Connection, record_type: str, partition_keys: Sequence[str] | None = None
) -> list[KeyRange]:
    """The key ranges of a record type's partitions, in order; of ``partition_keys`` only if given."""
    table = partition_ranges
    statement = select(table).where(table.c.record_type == record_type).order_by(table.c.batch_number)
    wanted = None if partition_keys is None else set(partition_keys)
    return [
        range_of(row)
        for row in connection.execute(statement).mappings()
        if wanted is None or row["partition_key"] in wanted
    ]
