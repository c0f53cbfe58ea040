"""What an import means to do: its record types, its waves of batches, and the key ranges pinned to partitions."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, delete, false, func, insert, select, update
from sqlalchemy import null as sql_null

from nsimport_pipeline.imports.records import Check, KeyRange, TypePlan
from nsimport_pipeline.imports.states import (
    ACTIVE_IMPORTS,
    BatchState,
    WaveState,
)
from nsimport_pipeline.imports.store.rows import aware, naive, range_of
from nsimport_pipeline.imports.store.watermarks import advance_watermark
from nsimport_pipeline.imports.waves import PlannedWave
from nsimport_pipeline.warehouse.control import (
    import_jobs,
    import_record_types,
    partition_ranges,
    rejected_records,
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
            "planned": plan.planned,
            "parents": sql_null() if plan.parents is None else dict(plan.parents),
            "changed_since": naive(plan.changed_since),
            "changed_until": naive(plan.changed_until),
            "deleted": plan.deleted,
            "planning_number": plan.attempt_number,
            "planning_attempts": plan.attempts,
            "planning_not_before": naive(plan.not_before),
            "planning_failure": plan.failure,
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
            planned=bool(row["planned"]),
            parents=row["parents"],
            changed_since=aware(row["changed_since"]),
            changed_until=aware(row["changed_until"]),
            deleted=row["deleted"],
            attempt_number=row["planning_number"],
            attempts=row["planning_attempts"],
            not_before=aware(row["planning_not_before"]),
            failure=row["planning_failure"],
        )
        for row in connection.execute(statement).mappings()
    ]


def set_derived_plan(connection: Connection, import_id: str, plan: TypePlan) -> None:
    """Keep what an import means to do for a derived record type now that it is planned."""
    _change_plan(
        connection,
        import_id,
        plan.record_type,
        expected=plan.expected,
        upper_bound=plan.upper_bound,
        unavailable=plan.unavailable,
        denied=plan.denied,
        planned=True,
        parents=dict(plan.parents or {}),
        changed_since=naive(plan.changed_since),
        deleted=plan.deleted,
        planning_not_before=None,
    )


def fail_planning(
    connection: Connection,
    import_id: str,
    record_type: str,
    number: int,
    *,
    attempts: int,
    not_before: datetime | None,
    failure: str | None,
) -> bool:
    """Give attempt ``number`` at planning a derived record type up and count ``attempts`` more failures of it.

    ``failure``: why there is no other attempt. False if that attempt is not the current one any more.
    """
    table = import_record_types
    return bool(
        connection.execute(
            update(table)
            .where(
                table.c.import_id == import_id,
                table.c.record_type == record_type,
                table.c.planned == false(),
                table.c.planning_failure.is_(None),
                table.c.planning_number == number,
            )
            .values(
                planning_number=number + 1,
                planning_attempts=table.c.planning_attempts + attempts,
                planning_not_before=naive(not_before),
                planning_failure=failure,
            )
        ).rowcount
    )


def unplan(connection: Connection, import_id: str, plan: TypePlan) -> None:
    """A derived record type is to be planned (again): what was planned and rejected of it is forgotten."""
    own = (wave_batches.c.import_id == import_id, wave_batches.c.record_type == plan.record_type)
    left = connection.execute(
        select(wave_batches.c.wave_number, func.count()).where(*own).group_by(wave_batches.c.wave_number)
    ).all()
    for number, count in left:
        connection.execute(
            update(wave_coordination)
            .where(wave_coordination.c.import_id == import_id, wave_coordination.c.wave_number == number)
            .values(retried_batches=wave_coordination.c.retried_batches + count)
        )
    connection.execute(delete(wave_batches).where(*own))
    rejected = rejected_records
    connection.execute(
        delete(rejected).where(rejected.c.import_id == import_id, rejected.c.record_type == plan.record_type)
    )
    _change_plan(
        connection,
        import_id,
        plan.record_type,
        planned=False,
        unavailable=None,
        denied=False,
        parents=sql_null(),
        planning_number=plan.attempt_number + 1,
        planning_attempts=0,
        planning_not_before=None,
        planning_failure=None,
    )


def imports_to_plan(connection: Connection) -> list[str]:
    """Active imports with a derived record type that is still to be planned."""
    table = import_record_types
    statement = (
        select(table.c.import_id)
        .join(import_jobs, import_jobs.c.import_id == table.c.import_id)
        .where(
            import_jobs.c.state.in_([state.value for state in ACTIVE_IMPORTS]),
            table.c.planned == false(),
            table.c.planning_failure.is_(None),
        )
        .distinct()
    )
    return sorted(connection.scalars(statement))


def _change_plan(connection: Connection, import_id: str, record_type: str, **values: Any) -> None:
    table = import_record_types
    connection.execute(
        update(table).where(table.c.import_id == import_id, table.c.record_type == record_type).values(**values)
    )


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
    """Keep what the checks of a record type said, and both sides of the final count; None if it was not taken.

    Its watermark moves with it, if all of its batches are in.
    """
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
    advance_watermark(connection, import_id, record_type, now)


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


def pinned_parents(connection: Connection, record_type: str) -> Mapping[str, int] | None:
    """The parents of a derived record type that its partitions were planned from; None for any other."""
    table = import_record_types
    statement = (
        select(table.c.parents)
        .join(
            partition_ranges,
            (partition_ranges.c.import_id == table.c.import_id)
            & (partition_ranges.c.record_type == table.c.record_type),
        )
        .where(table.c.record_type == record_type)
        .limit(1)
    )
    return connection.execute(statement).scalar()


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


def pinned_records(connection: Connection, record_type: str) -> int:
    """How many records the partitions of a record type had when they were planned, all together."""
    table = partition_ranges
    statement = select(func.sum(table.c.expected)).where(table.c.record_type == record_type)
    return int(connection.execute(statement).scalar() or 0)
