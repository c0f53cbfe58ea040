"""What a tenant's account is known to have: record types, the columns left out of them, what it answers at once."""

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime

from sqlalchemy import Connection, delete, insert, select

from nsimport_pipeline.errors import Category
from nsimport_pipeline.imports.records import AccountType, Learnt, LeftOut
from nsimport_pipeline.imports.store.rows import aware, naive
from nsimport_pipeline.netsuite.sizing import Sizing
from nsimport_pipeline.warehouse.control import account_columns, account_record_types, account_sizes


def account_types(connection: Connection) -> dict[str, AccountType]:
    """Every record type that was looked at, by name."""
    out: dict[str, list[LeftOut]] = defaultdict(list)
    for row in connection.execute(select(account_columns).order_by(account_columns.c.column_name)).mappings():
        out[row["record_type"]].append(LeftOut(row["column_name"], Category(row["category"]), row["reason"]))
    return {
        row["record_type"]: AccountType(
            record_type=row["record_type"],
            state=row["state"],
            checked_at=aware(row["checked_at"]) or row["checked_at"],
            reason=row["reason"],
            probed_for=row["probed_for"],
            left_out=tuple(out[row["record_type"]]),
        )
        for row in connection.execute(select(account_record_types)).mappings()
    }


def left_out(connection: Connection, record_type: str) -> list[LeftOut]:
    """The columns that are not to be asked for."""
    table = account_columns
    rows = connection.execute(select(table).where(table.c.record_type == record_type).order_by(table.c.column_name))
    return [LeftOut(row["column_name"], Category(row["category"]), row["reason"]) for row in rows.mappings()]


def keep_account_types(connection: Connection, found: Iterable[AccountType]) -> None:
    """Make this what is known of these record types. One transaction at a time: see ``serialise``."""
    for one in found:
        for table in (account_record_types, account_columns):
            connection.execute(delete(table).where(table.c.record_type == one.record_type))
        connection.execute(
            insert(account_record_types).values(
                record_type=one.record_type,
                state=one.state,
                reason=one.reason,
                probed_for=one.probed_for,
                checked_at=naive(one.checked_at),
            )
        )
        leave_out(connection, one.record_type, one.left_out, one.checked_at)


def leave_out(connection: Connection, record_type: str, columns: Iterable[LeftOut], now: datetime) -> list[LeftOut]:
    """Keep columns as left out; returns those that were not yet. One transaction at a time: see ``serialise``."""
    known = {one.column for one in left_out(connection, record_type)}
    new = [one for one in columns if one.column not in known]
    if new:
        connection.execute(
            insert(account_columns),
            [
                {
                    "record_type": record_type,
                    "column_name": one.column,
                    "category": one.category.value,
                    "reason": one.reason[:2000],
                    "checked_at": naive(now),
                }
                for one in new
            ],
        )
    return new


def sizes(connection: Connection) -> dict[str, Learnt]:
    """How much is asked for at once, by record type; of those that are not here, as much as there may be."""
    return {
        row["record_type"]: Learnt(
            Sizing(row["rows_at_once"], row["columns_at_once"], row["patience"], row["grown"]),
            row["reason"],
            aware(row["changed_at"]) or row["changed_at"],
        )
        for row in connection.execute(select(account_sizes)).mappings()
    }


def keep_size(connection: Connection, record_type: str, sizing: Sizing, reason: str, now: datetime) -> None:
    """Make this what is asked for at once. One transaction at a time: see ``serialise``."""
    table = account_sizes
    connection.execute(delete(table).where(table.c.record_type == record_type))
    connection.execute(
        insert(table).values(
            record_type=record_type,
            rows_at_once=sizing.rows,
            columns_at_once=sizing.columns,
            patience=sizing.patience,
            grown=sizing.grown,
            reason=reason[:2000],
            changed_at=naive(now),
        )
    )
