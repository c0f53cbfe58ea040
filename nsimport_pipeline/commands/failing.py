"""``nsimport errors`` and ``rejects``: what went wrong in imports, and what to do about it.

Belongs here: showing the groups. Does not belong here: which failures are the same (``imports/fingerprint.py``).
"""

from datetime import UTC
from typing import Any

import click
from rich.table import Table
from sqlalchemy import Engine
from sqlalchemy.engine import RowMapping

from nsimport_pipeline.commands.options import console, json_option, print_json, tenant_option
from nsimport_pipeline.defs.resources import catalog
from nsimport_pipeline.defs.tenants import find_import, only_tenant, read_tenant
from nsimport_pipeline.errors import Category
from nsimport_pipeline.imports import store
from nsimport_pipeline.imports.failures import what_to_do
from nsimport_pipeline.warehouse.engine import read_only

MOST = 100
"""Groups shown."""


@click.command()
@click.argument("import_id", metavar="[IMPORT]", required=False)
@tenant_option
@json_option
def errors(import_id: str | None, tenant: str | None, as_json: bool) -> None:
    """Group failures that are the same: how often, in how many batches, when first and last, and what to do.

    Those of the database, rows it refused included, are told apart by table, column and constraint. Names only, never a
    record's values.
    """
    with read_only(_engine(import_id, tenant)).connect() as connection:
        groups = [_document(group, import_id) for group in store.error_groups(connection, import_id, MOST)]
        groups += [_of_rows(group, import_id) for group in store.rejected_groups(connection, import_id, MOST)]
    if as_json:
        print_json(groups)
        return
    for group in groups:
        for line in _lines(group):
            console.print(line, markup=False, soft_wrap=True)
    if not groups:
        click.echo("no failures")


@click.command()
@click.argument("import_id", metavar="[IMPORT]", required=False)
@tenant_option
@json_option
def rejects(import_id: str | None, tenant: str | None, as_json: bool) -> None:
    """Group rejected rows by record type, column and reason, with a sample id. The rows are in rejected_records."""
    with read_only(_engine(import_id, tenant)).connect() as connection:
        groups = store.rejected_groups(connection, import_id, MOST)
    if as_json:
        print_json([{**group, **_times(group)} for group in groups])
        return
    if not groups:
        click.echo("no rejected rows")
        return
    columns = ("record_type", "column_name", "count", "sample_refid", "reason")
    table = Table(*(column.replace("_", " ") for column in columns), box=None)
    for group in groups:
        table.add_row(*(str(group[column] if group[column] is not None else "-") for column in columns))
    console.print(table)


def _engine(import_id: str | None, tenant: str | None) -> Engine:
    return find_import(import_id)[1] if import_id is not None else read_tenant(only_tenant(tenant))[1]


def _document(group: RowMapping, import_id: str | None) -> dict[str, Any]:
    category = Category(group["category"])
    # Of NetSuite's columns one alone is at fault where no batch was.
    left_out = category is not Category.DATABASE_SCHEMA and group["column_name"] and not group["batches"]
    of = group["record_type"] if left_out else None
    do = what_to_do(category, import_id or group["import_id"], column=group["column_name"], left_out_of=of)
    return {**group, "count": int(group["count"]), "final": int(group["final"]), **_times(group), "what_to_do": do}


def _of_rows(group: RowMapping, import_id: str | None) -> dict[str, Any]:
    """Rejected rows as a failure of the database, which they were, though their batch was completed."""
    record_type = catalog().get(group["record_type"])
    own = {
        key: group[key]
        for key in ("fingerprint", "import_id", "record_type", "column_name", "constraint_name", "count")
    }
    return {
        **own,
        "category": Category.DATABASE_SCHEMA.value,
        "table_name": record_type.table if record_type else None,
        "final": group["count"],
        "batches": group["batches"],
        "attempt": None,
        "sample": group["reason"],
        **_times(group),
        "what_to_do": what_to_do(
            Category.DATABASE_SCHEMA, import_id or group["import_id"], column=group["column_name"]
        ),
    }


def _times(group: RowMapping) -> dict[str, str]:
    return {key: f"{group[key].replace(tzinfo=UTC):%Y-%m-%dT%H:%M:%SZ}" for key in ("first_at", "last_at")}


def _lines(group: dict[str, Any]) -> list[str]:
    place = ".".join(filter(None, (group["table_name"], group["column_name"])))
    where = " ".join(filter(None, (group["record_type"], place, group["constraint_name"])))
    given_up = f", {group['final']} given up" if group["final"] else ""
    times = f"first {group['first_at']}, last {group['last_at']}"
    return [
        f"{group['count']} x {group['category']} {where} ({group['batches']} batches{given_up}; {times})",
        f"    {group['sample']}",
        f"    do: {group['what_to_do']}",
    ]
