"""What went wrong and what happened: errors, rejected rows, events."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, case, delete, exists, func, insert, select
from sqlalchemy.engine import RowMapping

from nsimport_pipeline.errors import Category
from nsimport_pipeline.imports.fingerprint import fingerprint
from nsimport_pipeline.imports.records import KeyRange
from nsimport_pipeline.imports.store.rows import naive
from nsimport_pipeline.record_types.parse import json_text
from nsimport_pipeline.record_types.transform import RejectedRow
from nsimport_pipeline.warehouse.control import (
    import_errors,
    job_events,
    rejected_records,
    wave_batches,
)


def replace_rejected(
    connection: Connection,
    import_id: str,
    key_range: KeyRange,
    rejected: Sequence[RejectedRow],
    now: datetime,
) -> None:
    """Make these the rejected rows of a batch, in place of those of an earlier attempt."""
    table = rejected_records
    connection.execute(
        delete(table).where(
            table.c.import_id == import_id,
            table.c.record_type == key_range.record_type,
            table.c.partition_key == key_range.partition_key,
        )
    )
    if rejected:
        connection.execute(
            insert(table),
            [
                {
                    "import_id": import_id,
                    "record_type": key_range.record_type,
                    "partition_key": key_range.partition_key,
                    "refid": row.refid,
                    "column_name": row.column,
                    "constraint_name": row.constraint[:64] if row.constraint else None,
                    "fingerprint": fingerprint(
                        Category.DATABASE_SCHEMA,
                        row.reason,
                        record_type=key_range.record_type,
                        column=row.column,
                        constraint=row.constraint,
                    ),
                    "reason": row.reason[:2000],
                    "raw": json_text(dict(row.raw)),
                    "rejected_at": naive(now),
                }
                for row in rejected
            ],
        )


def rejected_of(connection: Connection, import_id: str, record_type: str) -> tuple[int, int]:
    """Records of a type that an import rejected, and all that it wrote or rejected."""
    table, batches = rejected_records, wave_batches
    rejected = connection.execute(
        select(func.count()).where(table.c.import_id == import_id, table.c.record_type == record_type)
    ).scalar_one()
    written = connection.execute(
        select(func.coalesce(func.sum(batches.c.rows_upserted), 0)).where(
            batches.c.import_id == import_id, batches.c.record_type == record_type
        )
    ).scalar_one()
    return rejected, rejected + int(written)


def rejected_without_row(connection: Connection, import_id: str, record_type: str, table: sa.Table) -> int:
    """Rejected records of an import that have no live row in the imported table, each once."""
    rejected = rejected_records
    has_row = exists().where(table.c.refid == rejected.c.refid, table.c.deleted_at.is_(None))
    nameless = func.count(case((rejected.c.refid.is_(None), 1)))  # MySQL has no FILTER
    statement = select(func.count(rejected.c.refid.distinct()) + nameless)
    return connection.execute(
        statement.where(rejected.c.import_id == import_id, rejected.c.record_type == record_type, ~has_row)
    ).scalar_one()


def rejected_ids(connection: Connection, record_type: str, table: sa.Table) -> list[int]:
    """The records of a type that any import known rejected, and that have no live row; ascending."""
    rejected = rejected_records
    has_row = exists().where(table.c.refid == rejected.c.refid, table.c.deleted_at.is_(None))
    own = (rejected.c.record_type == record_type, rejected.c.refid.is_not(None), ~has_row)
    return list(connection.scalars(select(rejected.c.refid).where(*own).distinct().order_by(rejected.c.refid)))


def record_error(
    connection: Connection,
    import_id: str,
    category: Category,
    message: str,
    now: datetime,
    *,
    record_type: str | None = None,
    partition_key: str | None = None,
    table: str | None = None,
    column: str | None = None,
    constraint: str | None = None,
    attempt: int = 0,
    occurrences: int = 1,
    final: bool = False,
) -> None:
    """Note a failure. ``table``, ``column`` and ``constraint`` are names, where a database is what failed."""
    same = fingerprint(category, message, record_type=record_type, table=table, column=column, constraint=constraint)
    connection.execute(
        insert(import_errors).values(
            import_id=import_id,
            at=naive(now),
            category=category.value,
            record_type=record_type,
            partition_key=partition_key,
            table_name=table[:64] if table else None,
            column_name=column[:64] if column else None,
            constraint_name=constraint[:64] if constraint else None,
            attempt=attempt,
            occurrences=occurrences,
            final=final,
            fingerprint=same,
            message=message[:2000],
        )
    )


def record_event(
    connection: Connection,
    import_id: str,
    event: str,
    now: datetime,
    *,
    wave: int | None = None,
    record_type: str | None = None,
    partition_key: str | None = None,
    run_id: str | None = None,
    message: str | None = None,
) -> None:
    connection.execute(
        insert(job_events).values(
            import_id=import_id,
            at=naive(now),
            event=event,
            wave_number=wave,
            record_type=record_type,
            partition_key=partition_key,
            run_id=run_id,
            message=message[:2000] if message else None,
        )
    )


def error_counts(connection: Connection, import_id: str) -> dict[Category, int]:
    """Failures recorded for an import, by category; every category is there."""
    table = import_errors
    rows = connection.execute(
        select(table.c.category, func.sum(table.c.occurrences))
        .where(table.c.import_id == import_id)
        .group_by(table.c.category)
    ).all()
    counts = dict.fromkeys(Category, 0)
    counts.update({Category(category): int(count) for category, count in rows})
    return counts


def error_groups(connection: Connection, import_id: str | None, limit: int) -> list[RowMapping]:
    """Failures that are the same by their fingerprint, most frequent first, with first and last time.

    ``batches``: how many different ones met it; ``final``: how often it was given up; ``import_id``: the latest import
    that met it.
    """
    table = import_errors
    keys = (
        table.c.fingerprint,
        table.c.category,
        table.c.record_type,
        table.c.table_name,
        table.c.column_name,
        table.c.constraint_name,
    )
    statement = (
        select(
            *keys,
            func.sum(table.c.occurrences).label("count"),
            func.sum(case((table.c.final, 1), else_=0)).label("final"),
            func.count(table.c.partition_key.distinct()).label("batches"),
            func.max(table.c.attempt).label("attempt"),
            func.min(table.c.at).label("first_at"),
            func.max(table.c.at).label("last_at"),
            func.max(table.c.import_id).label("import_id"),
            func.max(table.c.message).label("sample"),
        )
        .group_by(*keys)
        .order_by(func.sum(table.c.occurrences).desc())
    )
    return _most(connection, statement, table, import_id, limit)


def rejected_groups(connection: Connection, import_id: str | None, limit: int) -> list[RowMapping]:
    """Rows rejected for the same reason by their fingerprint, most frequent first, with a sample key."""
    table = rejected_records
    keys = (table.c.fingerprint, table.c.record_type, table.c.column_name, table.c.constraint_name)
    statement = (
        select(
            *keys,
            func.count().label("count"),
            func.count(table.c.partition_key.distinct()).label("batches"),
            func.min(table.c.rejected_at).label("first_at"),
            func.max(table.c.rejected_at).label("last_at"),
            func.max(table.c.import_id).label("import_id"),
            func.min(table.c.refid).label("sample_refid"),
            func.min(table.c.reason).label("reason"),
        )
        .group_by(*keys)
        .order_by(func.count().desc())
    )
    return _most(connection, statement, table, import_id, limit)


def _most(
    connection: Connection, groups: sa.Select[Any], table: sa.Table, import_id: str | None, limit: int
) -> list[RowMapping]:
    """The first ``limit`` of these groups, of one import if given."""
    if import_id is not None:
        groups = groups.where(table.c.import_id == import_id)
    return list(connection.execute(groups.limit(limit)).mappings())
