"""Watermarks: up to when a record type's table has what was changed in NetSuite."""

from datetime import datetime

from sqlalchemy import Connection, delete, exists, func, insert, select

from nsimport_pipeline.imports.records import Watermark
from nsimport_pipeline.imports.states import BatchState, ImportState
from nsimport_pipeline.imports.store.rows import aware, naive
from nsimport_pipeline.imports.store.sweeps import forget_missing
from nsimport_pipeline.warehouse.control import import_jobs, import_record_types, sync_watermarks, wave_batches


def watermarks(connection: Connection) -> dict[str, Watermark]:
    """The watermarks there are, by record type."""
    found = {}
    for row in connection.execute(select(sync_watermarks)).mappings():
        moment = aware(row["modified_at"])
        assert moment is not None  # noqa: S101 the column is NOT NULL
        found[row["record_type"]] = Watermark(row["record_type"], moment, row["refid"], row["import_id"])
    return found


def last_whole(connection: Connection) -> dict[str, datetime]:
    """When each record type was last asked for whole by a full import that came to its end, by NetSuite's clock."""
    plans = import_record_types
    ended = (ImportState.COMPLETED.value, ImportState.COMPLETED_WITH_FAILURES.value)
    statement = (
        select(plans.c.record_type, func.max(plans.c.changed_until).label("at"))
        .join(import_jobs, import_jobs.c.import_id == plans.c.import_id)
        .where(
            import_jobs.c.mode == "full",
            import_jobs.c.origin == "import",
            import_jobs.c.state.in_(ended),
            plans.c.unavailable.is_(None),
            plans.c.changed_until.is_not(None),
        )
        .group_by(plans.c.record_type)
    )
    return {row.record_type: at for row in connection.execute(statement) if (at := aware(row.at)) is not None}


def advance_watermark(connection: Connection, import_id: str, record_type: str, now: datetime) -> bool:
    """Move a record type's watermark to the bound of an import all of whose batches of it are completed; never back.

    A derived one's not beyond those of its parents. If all of its records came, none that a sweep missed is missing.

    False if it stays where it is. Meant for the transaction that settles the record type: if that is lost, the import
    is not over yet, or its changes are read once more by the next one.
    """
    plans, batches, marks = import_record_types, wave_batches, sync_watermarks
    own = (batches.c.import_id == import_id, batches.c.record_type == record_type)
    missing = exists().where(*own, batches.c.status != BatchState.COMPLETED.value)
    reached = connection.execute(
        select(
            plans.c.changed_since, plans.c.changed_until, plans.c.upper_bound, plans.c.parents, import_jobs.c.created_at
        )
        .join(import_jobs, import_jobs.c.import_id == plans.c.import_id)
        .where(
            plans.c.import_id == import_id,
            plans.c.record_type == record_type,
            plans.c.changed_until.is_not(None),
            plans.c.unavailable.is_(None),
            import_jobs.c.origin == "import",
            ~missing,
        )
    ).first()
    if reached is None:
        return False
    if reached.changed_since is None:
        forget_missing(connection, record_type, reached.created_at)
    there = {mark.record_type: mark.modified_at for mark in connection.execute(select(marks))}
    # Records of parents that are behind themselves are still to come.
    behind = [there.get(parent) for parent in reached.parents or ()]
    if None in behind:
        return False
    moment = min([reached.changed_until, *behind])
    before = there.get(record_type)
    if before is not None and before >= moment:
        return False
    connection.execute(delete(marks).where(marks.c.record_type == record_type))
    connection.execute(
        insert(marks).values(
            record_type=record_type,
            modified_at=moment,
            refid=reached.upper_bound or 0,
            import_id=import_id,
            updated_at=naive(now),
        )
    )
    return True
