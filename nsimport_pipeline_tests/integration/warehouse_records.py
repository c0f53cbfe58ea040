"""Record types and values that the warehouse's tests store."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from nsimport_pipeline.record_types.criteria import RecordType, parse_criteria
from nsimport_pipeline.warehouse.upsert import Upserted, upsert

NOW = datetime(2026, 3, 1, 12, 30, 15, 123456)


def record_type(fields: Sequence[Mapping[str, Any]], *, table: str = "things", **more: Any) -> RecordType:
    document = {
        "record_type": "thing",
        "family": "lists",
        "table": table,
        "description": "A thing, 100% made up.",
        "source": {"from": "thing"},
        "fields": list(fields),
        **more,
    }
    return parse_criteria(document, "test")


def store(
    connection: Connection, table: sa.Table, columns: Sequence[str], rows: Sequence[tuple[Any, ...]], **more: Any
) -> Upserted:
    raws = [{"id": str(row[0]), "of": "the row"} for row in rows]
    values: dict[str, Any] = {"raws": raws, "import_id": "i1", "imported_at": NOW, **more}
    return upsert(connection, table, columns, rows, **values)


def stored(engine: Engine, table: sa.Table, *columns: str) -> list[tuple[Any, ...]]:
    """The rows of ``table`` by refid, read through its own types."""
    chosen = [table.c[name] for name in columns] or list(table.columns)
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(sa.select(*chosen).order_by(table.c.refid))]


@contextmanager
def statements(engine: Engine) -> Iterator[list[str]]:
    """Every statement that goes to the database meanwhile."""
    seen: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        seen.append(statement)

    sa.event.listen(engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        sa.event.remove(engine, "before_cursor_execute", note)
