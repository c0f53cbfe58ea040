"""Alerts, who was told of them, and what the rules look at besides the facts of single imports."""

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime

from sqlalchemy import Connection, delete, func, insert, select, update
from sqlalchemy.engine import RowMapping

from nsimport_pipeline.imports.store.rows import aware, naive
from nsimport_pipeline.telemetry.alerts import Alert, Key, Standing, Told
from nsimport_pipeline.telemetry.watched import FinalCount, Pace
from nsimport_pipeline.warehouse.control import alert_notices, alerts, import_record_types, wave_batches


def standing_alerts(connection: Connection, tenant: str, *, resolved: bool = True) -> dict[Key, Standing]:
    """A tenant's alerts, by rule and subject, the longest standing first; without those that are over if not wanted."""
    statement = select(alerts).where(alerts.c.tenant == tenant).order_by(alerts.c.first_at, alerts.c.rule)
    if not resolved:
        statement = statement.where(alerts.c.state == "firing")
    found = (_standing(row) for row in connection.execute(statement).mappings())
    return {standing.alert.key: standing for standing in found}


def keep_alerts(connection: Connection, tenant: str, standings: Iterable[Standing]) -> None:
    """Write alerts, new or not; the caller serialises."""
    for standing in standings:
        alert = standing.alert
        key = {"tenant": tenant, "rule": alert.rule, "subject": alert.subject}
        values = {
            "state": standing.state,
            "severity": alert.severity,
            "import_id": alert.import_id,
            "record_type": alert.record_type,
            "message": alert.message,
            "command": alert.command,
            "first_at": naive(standing.first_at),
            "last_at": naive(standing.last_at),
            "resolved_at": naive(standing.resolved_at),
        }
        same = [alerts.c[name] == value for name, value in key.items()]
        if not connection.execute(select(alerts.c.rule).where(*same)).first():
            connection.execute(insert(alerts).values(**key, **values))
        else:
            connection.execute(update(alerts).where(*same).values(**values))


def forget_alerts(connection: Connection, tenant: str, before: datetime) -> None:
    """Delete alerts that have been over since ``before``, and what is known of who was told."""
    old = select(alerts.c.rule, alerts.c.subject).where(alerts.c.tenant == tenant, alerts.c.resolved_at < naive(before))
    for rule, subject in connection.execute(old).all():
        for table in (alert_notices, alerts):
            connection.execute(
                delete(table).where(table.c.tenant == tenant, table.c.rule == rule, table.c.subject == subject)
            )


def told(connection: Connection, tenant: str, destination: str) -> dict[Key, Told]:
    """What a destination was told, by the alert's rule and subject."""
    table = alert_notices
    rows = connection.execute(select(table).where(table.c.tenant == tenant, table.c.destination == destination))
    return {
        (row["rule"], row["subject"]): Told(
            row["told"], aware(row["told_at"]), aware(row["held_until"]), row["failures"]
        )
        for row in rows.mappings()
    }


def keep_told(connection: Connection, tenant: str, destination: str, alert: Alert, known: Told) -> None:
    """Write what a destination was told, known before or not; the caller serialises."""
    table = alert_notices
    key = {"tenant": tenant, "rule": alert.rule, "subject": alert.subject, "destination": destination}
    values = {
        "told": known.state,
        "told_at": naive(known.at),
        "held_until": naive(known.held_until),
        "failures": known.failures,
        "import_id": alert.import_id,
    }
    same = [table.c[name] == value for name, value in key.items()]
    if not connection.execute(select(table.c.rule).where(*same)).first():
        connection.execute(insert(table).values(**key, **values))
    else:
        connection.execute(update(table).where(*same).values(**values))


def final_counts(connection: Connection, import_ids: Sequence[str], still_open: Collection[str]) -> list[FinalCount]:
    """The final count of each record type by the first of these imports that has one, or is still to take it."""
    table = import_record_types
    columns = (table.c.record_type, table.c.import_id, table.c.source_count, table.c.table_count, table.c.in_sync)
    # Of changes only nothing is counted.
    whole = table.c.changed_since.is_(None)
    rows = connection.execute(select(*columns).where(table.c.import_id.in_(import_ids), whole)).all()
    order = {import_id: position for position, import_id in enumerate(import_ids)}
    newest: dict[str, FinalCount] = {}
    for name, import_id, source, there, in_sync in sorted(rows, key=lambda row: order[row.import_id]):
        if in_sync is not None or import_id in still_open:
            newest.setdefault(name, FinalCount(name, import_id, source or 0, there or 0, in_sync))
    return list(newest.values())


def usual_pace(connection: Connection, import_ids: Sequence[str], before: datetime) -> dict[str, Pace]:
    """How fast each record type's batches of these imports were that were completed before ``before``."""
    table = wave_batches
    spent = table.c.slot_wait_seconds + table.c.fetch_seconds + table.c.transform_seconds + table.c.write_seconds
    statement = (
        select(table.c.record_type, func.count(), func.sum(table.c.rows_read), func.sum(spent))
        .where(table.c.import_id.in_(import_ids), table.c.status == "completed", table.c.finished_at < naive(before))
        .group_by(table.c.record_type)
    )
    return {
        name: Pace(batches, int(records or 0), float(seconds or 0))
        for name, batches, records, seconds in connection.execute(statement)
    }


def fetch_seconds(connection: Connection, import_ids: Sequence[str], since: datetime) -> float:
    """Seconds in which NetSuite was answering, of batches of these imports completed after ``since``."""
    table = wave_batches
    statement = select(func.coalesce(func.sum(table.c.fetch_seconds), 0)).where(
        table.c.import_id.in_(import_ids), table.c.finished_at >= naive(since)
    )
    return float(connection.execute(statement).scalar_one())


def _standing(row: RowMapping) -> Standing:
    alert = Alert(row["rule"], row["subject"], row["message"], row["command"], row["import_id"], row["record_type"])
    first, last = aware(row["first_at"]), aware(row["last_at"])
    assert first is not None  # noqa: S101 the columns are NOT NULL
    assert last is not None  # noqa: S101
    return Standing(alert, row["state"], first, last, aware(row["resolved_at"]))
