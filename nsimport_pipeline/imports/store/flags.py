"""The rollout flag of a tenant's database."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, insert, select, update

from nsimport_pipeline.imports.store.rows import naive
from nsimport_pipeline.warehouse.control import feature_flags


@dataclass(frozen=True, slots=True)
class FlagRow:
    """A flag as it is stored, by whomever: nothing about it is certain."""

    enabled: int | None
    tenant_ids: str | None
    """A JSON list of tenants' names, if it is one."""


def find_flag(connection: Connection, name: str) -> FlagRow | None:
    table = feature_flags
    row = connection.execute(select(table.c.enabled, table.c.tenant_ids).where(table.c.name == name)).first()
    return FlagRow(row.enabled, row.tenant_ids) if row else None


def put_flag(connection: Connection, name: str, flag: FlagRow, now: datetime) -> None:
    """Write a flag, new or not; the caller serialises."""
    table = feature_flags
    values = {"enabled": flag.enabled, "tenant_ids": flag.tenant_ids, "updated_at": naive(now)}
    if not connection.execute(update(table).where(table.c.name == name).values(values)).rowcount:
        connection.execute(insert(table).values(name=name, created_at=naive(now), **values))
