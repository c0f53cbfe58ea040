"""The imported tables: what the criteria ask for, and bringing the database there without losing anything.

Belongs here: the shape of an imported table, creating it, adding columns, widening them, refusing to narrow them.
Does not belong here: control tables (``control.py`` and ``migrations/``), what a single column can hold
(``shapes.py``), rows (``upsert.py``).

Choices:
- ``refid`` is the primary key: InnoDB keeps rows in its order, so a batch, which is a range of keys, is written to
  neighbouring pages.
- No index on references: orphan checks look up the parent by its primary key, and each index slows every import. Only
  a derived type's reference to its parent has one, since its rows are replaced by parent.
- Collation utf8mb4_unicode_ci: searches behave as MySQL users expect, it exists on every MySQL and MariaDB, and no key
  is made of text, so records never fall together because of it. What is stored is byte for byte what came.
- ``raw`` is LONGTEXT, not MySQL's JSON, which would reorder keys and turn long numbers into floats.
- DATETIME(6), because DATETIME rounds fractions of a second.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal, InvalidOperation
from hashlib import sha256
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.schema import CreateColumn

from nsimport_pipeline.errors import ConfigurationError, DatabaseSchemaError, TimedOut
from nsimport_pipeline.record_types.criteria import FieldSpec, RecordType
from nsimport_pipeline.warehouse.engine import patient, read_only
from nsimport_pipeline.warehouse.errors import classify
from nsimport_pipeline.warehouse.shapes import (
    BIG_INTEGER,
    LONG_STRING,
    LONG_TEXT,
    TIMESTAMP,
    Shape,
    column_type,
    field_shape,
    fit_row,
    reflected_shape,
    string,
    widened,
)

LOCK_SECONDS = 120
"""How long to wait for another process that changes the same table."""

_ROW_TOO_LARGE = "(1118)"


@dataclass(frozen=True, slots=True)
class SchemaChange:
    """One thing that ``ensure_table`` did, or (``kept``) found and left as it was."""

    kind: Literal["created", "added", "widened", "indexed", "kept"]
    table: str
    column: str | None
    detail: str
    """For people."""

    def __str__(self) -> str:
        column = f", column {self.column}" if self.column else ""
        return f"table {self.table}{column} {self.kind}: {self.detail}"


@dataclass(frozen=True, slots=True)
class _Found:
    """A column of the table in the database."""

    shape: Shape
    nullable: bool


@dataclass(frozen=True, slots=True)
class _Plan:
    statements: tuple[str, ...]
    changes: tuple[SchemaChange, ...]


def target_table(
    record_type: RecordType, *, extra_fields: Sequence[FieldSpec] = (), beside: Sequence[Shape] = ()
) -> sa.Table:
    """The table that ``record_type`` is imported into, right for MySQL, MariaDB and SQLite.

    ``extra_fields``: a tenant's own, beside the criteria's. ``beside``: shapes of other columns that take room in
    the table's rows. Each column's ``info`` has its ``shape`` and, for a criteria field, its ``field``.
    """
    fields = (*record_type.fields, *extra_fields)
    shapes: dict[str, Shape] = {"refid": BIG_INTEGER, "external_id": string(255)}
    by_column: dict[str, FieldSpec] = {}
    for field in fields:
        shapes[field.name] = field_shape(field)
        by_column[field.name] = field
        if field.display_column is not None:
            shapes[field.display_column] = LONG_STRING
    shapes |= {"raw": LONG_TEXT, "imported_at": TIMESTAMP, "import_id": string(64), "deleted_at": TIMESTAMP}
    shapes = fit_row(shapes, beside=beside)
    key = sa.Column(
        "refid",
        sa.BigInteger().with_variant(sa.Integer(), "sqlite"),  # SQLite's row id, if it is INTEGER to the letter
        primary_key=True,
        autoincrement=False,
        comment="NetSuite's internal id",
        info={"shape": BIG_INTEGER},
    )
    others = [_column(name, shape, by_column.get(name)) for name, shape in shapes.items() if name != "refid"]
    table = sa.Table(
        record_type.table,
        sa.MetaData(),
        key,
        *others,
        comment=_comment(record_type.description, 2000),
        mysql_engine="InnoDB",
        mysql_charset="utf8mb4",
        mysql_collate="utf8mb4_unicode_ci",
        mysql_row_format="DYNAMIC",
    )
    if record_type.derived_from and record_type.parent_field is not None:
        name = record_type.parent_field.name
        sa.Index(_index_name(record_type.table, name), table.c[name])
    return table


def ensure_table(
    engine: Engine, record_type: RecordType, *, extra_fields: Sequence[FieldSpec] = ()
) -> list[SchemaChange]:
    """Create or extend the table of ``record_type``; returns what was done and what is worth knowing.

    Costs one look at the table if there is nothing to do. Safe from several processes at once. Raises
    ConfigurationError where the criteria ask for a narrower or another type than the table has, or where the table
    is none of ours, and what ``classify`` makes of a database error.
    """
    try:
        with read_only(engine).connect() as connection:
            plan = _plan(connection, record_type, extra_fields)
        if not plan.statements:
            return list(plan.changes)
        with _alone(engine, record_type.table) as connection:
            plan = _plan(connection, record_type, extra_fields)
            for statement in plan.statements:
                _execute(connection, statement)
            return list(plan.changes)
    except sa.exc.SQLAlchemyError as error:
        failure = classify(error)
        if isinstance(failure, DatabaseSchemaError) and _ROW_TOO_LARGE in str(failure):
            raise ConfigurationError(
                f"table {record_type.table}: its columns do not fit into one row of the database:"
                " leave some out with exclude_fields (the raw column still has them)"
            ) from None
        raise type(failure)(f"table {record_type.table}: {failure}") from None


def leftover_columns(engine: Engine, record_type: RecordType) -> list[str]:
    """The columns that the table has and the criteria do not ask for (any more); none if there is no table."""
    try:
        with read_only(engine).connect() as connection:
            found = [column["name"] for column in sa.inspect(connection).get_columns(record_type.table)]
    except sa.exc.NoSuchTableError:
        return []
    return [name for name in found if name not in target_table(record_type).columns]


def _column(name: str, shape: Shape, field: FieldSpec | None) -> sa.Column[Any]:
    default = None if field is None or shape.bytes is not None else _server_default(shape, field.default)
    return sa.Column(
        name,
        column_type(shape),
        nullable=field is None or field.nullable,
        server_default=default,
        comment=_comment(field.description, 1000) if field is not None else None,
        info={"shape": shape, **({"field": field} if field is not None else {})},
    )


def _server_default(shape: Shape, value: str | int | bool | None) -> str | sa.TextClause | None:
    """A field's default as the database's, where it can be one."""
    if value is None:
        return None
    try:
        match shape.kind:
            case "text":
                return str(value)
            case "boolean":
                return sa.text("1" if str(value).strip().lower() in ("t", "true", "1", "yes") else "0")
            case "integer" | "decimal":
                return f"{Decimal(str(value)):f}"
            case "date":
                return date.fromisoformat(str(value)).isoformat()
            case "datetime":
                return datetime.fromisoformat(str(value)).replace(tzinfo=None).isoformat(" ", "microseconds")
    except (InvalidOperation, ValueError):
        pass
    return None


def _comment(text: str, limit: int) -> str | None:
    return text[:limit] or None


def _index_name(table: str, column: str) -> str:
    name = f"ix_{table}_{column}"
    return name if len(name) <= 64 else f"{name[:55]}_{sha256(name.encode()).hexdigest()[:8]}"


def _plan(connection: Connection, record_type: RecordType, extra_fields: Sequence[FieldSpec]) -> _Plan:
    """What has to be done to the table as it is now."""
    inspector = sa.inspect(connection)
    name = record_type.table
    try:
        found = {
            column["name"]: _Found(reflected_shape(column["type"]), bool(column["nullable"]))
            for column in inspector.get_columns(name)
        }
    except sa.exc.NoSuchTableError:
        table = target_table(record_type, extra_fields=extra_fields)
        return _creation(connection, table)
    _check_key(inspector, name)
    wanted = {column.name for column in target_table(record_type, extra_fields=extra_fields).columns}
    others = [column.shape for label, column in found.items() if label not in wanted]
    table = target_table(record_type, extra_fields=extra_fields, beside=others)
    plan = _alteration(connection, table, found)
    indexed = {index["column_names"][0] for index in inspector.get_indexes(name)}
    missing = [index for index in table.indexes if index.columns.keys()[0] not in indexed]
    creations = tuple(_ddl(connection, sa.schema.CreateIndex(index)) for index in missing)
    notes = tuple(SchemaChange("indexed", name, index.columns.keys()[0], "index added") for index in missing)
    return _Plan((*plan.statements, *creations), (*plan.changes, *notes, *_character_set(connection, inspector, name)))


def _creation(connection: Connection, table: sa.Table) -> _Plan:
    statements = [_ddl(connection, sa.schema.CreateTable(table))]
    statements += [_ddl(connection, sa.schema.CreateIndex(index)) for index in table.indexes]
    moved = [column.name for column in table.columns if _moved(column)]
    detail = f"{len(table.columns)} columns"
    if moved:
        detail += f"; as TEXT, because a row holds 65,535 bytes: {', '.join(moved)}"
    return _Plan(tuple(statements), (SchemaChange("created", table.name, None, detail),))


def _moved(column: sa.Column[Any]) -> bool:
    """Whether a string became TEXT to let the row fit."""
    field = column.info.get("field")
    return field is not None and field.type == "string" and column.info["shape"].characters is None


def _alteration(connection: Connection, table: sa.Table, found: dict[str, _Found]) -> _Plan:
    """Pure but for the dialect: columns to add and to widen, as few statements as the database allows."""
    clauses: list[str] = []
    changes: list[SchemaChange] = []
    sqlite = connection.dialect.name == "sqlite"
    for column in table.columns:
        shape: Shape = column.info["shape"]
        if column.name not in found:
            clauses.append(f"ADD COLUMN {_added(connection, column)}")
            changes.append(SchemaChange("added", table.name, column.name, str(shape)))
            continue
        now = found[column.name]
        if column.name == "refid":
            continue
        target = widened(now.shape, shape)
        if target is None:
            raise ConfigurationError(
                f"table {table.name}: column {column.name} is {now.shape} and the criteria ask for {shape}, which"
                " cannot hold all that the column can: keep the wider type in the criteria, or rename the field"
            )
        loosened = bool(column.nullable) and not now.nullable
        if sqlite or (target == now.shape and not loosened):
            continue  # SQLite does not enforce lengths and sizes, and cannot change a column
        clauses.append(f"MODIFY COLUMN {_modified(connection, column, target, nullable=now.nullable or loosened)}")
        detail = f"{now.shape} to {target}" if target != now.shape else "may be empty now"
        changes.append(SchemaChange("widened", table.name, column.name, detail))
    for name in found.keys() - {column.name for column in table.columns}:
        changes.append(SchemaChange("kept", table.name, name, "not in the criteria; left as it is"))
    alter = f"ALTER TABLE {connection.dialect.identifier_preparer.format_table(table)} "
    statements = [alter + clause for clause in clauses] if sqlite else [alter + ", ".join(clauses)] if clauses else []
    return _Plan(tuple(statements), tuple(changes))


def _added(connection: Connection, column: sa.Column[Any]) -> str:
    """DDL of a column added to a table with rows: without a default it has to be nullable."""
    return _specification(connection, column, nullable=column.nullable or column.server_default is None)


def _modified(connection: Connection, column: sa.Column[Any], shape: Shape, *, nullable: bool) -> str:
    default = column.server_default if shape.bytes is None else None
    return _specification(connection, column, nullable=nullable, type_=column_type(shape), server_default=default)


def _specification(connection: Connection, column: sa.Column[Any], *, nullable: bool, **changes: Any) -> str:
    copied = sa.Column(
        column.name,
        changes.get("type_", column.type),
        nullable=nullable,
        server_default=changes.get("server_default", column.server_default),
        comment=column.comment,
    )
    sa.Table("unused", sa.MetaData(), copied)
    return _ddl(connection, CreateColumn(copied))


def _ddl(connection: Connection, element: Any) -> str:
    return str(element.compile(dialect=connection.dialect)).strip()


def _check_key(inspector: sa.Inspector, name: str) -> None:
    keys: list[Sequence[str | None]] = [inspector.get_pk_constraint(name)["constrained_columns"]]
    keys += [constraint["column_names"] for constraint in inspector.get_unique_constraints(name)]
    keys += [index["column_names"] for index in inspector.get_indexes(name) if index["unique"]]
    if ["refid"] not in keys:
        raise ConfigurationError(
            f"table {name} is there already and has no unique refid column: give the record type another table,"
            " or make refid unique"
        )


def _character_set(connection: Connection, inspector: sa.Inspector, name: str) -> tuple[SchemaChange, ...]:
    if connection.dialect.name == "sqlite":
        return ()
    options = inspector.get_table_options(name)
    charset = str(options.get("mysql_default charset") or options.get("mysql_charset") or "utf8mb4")
    if charset == "utf8mb4":
        return ()
    detail = (
        f"character set {charset}: texts outside it are rejected; ALTER TABLE {name} CONVERT TO CHARACTER SET utf8mb4"
    )
    return (SchemaChange("kept", name, None, detail),)


@contextmanager
def _alone(engine: Engine, table: str) -> Iterator[Connection]:
    """A connection that no other process changes ``table`` beside; its changes are committed at the end."""
    if engine.dialect.name == "sqlite":
        with engine.begin() as connection:
            yield connection
        return
    with patient(engine) as waiting, waiting.begin() as connection:
        lock = f"nsimport_{sha256(f'{engine.url.database}.{table}'.encode()).hexdigest()[:32]}"
        if not connection.scalar(sa.select(sa.func.get_lock(lock, LOCK_SECONDS))):
            raise TimedOut(f"table {table} is being changed by another process for more than {LOCK_SECONDS} s")
        connection.execute(sa.text(f"SET SESSION lock_wait_timeout = {LOCK_SECONDS}"))
        yield connection  # closing the connection gives the lock back, whatever happened


def _execute(connection: Connection, statement: str) -> None:
    """Run one change; where InnoDB finds that a row *could* be too large, let it judge real rows instead."""
    try:
        connection.exec_driver_sql(statement)
    except sa.exc.OperationalError as error:
        if _ROW_TOO_LARGE not in str(classify(error)):
            raise
        try:
            connection.exec_driver_sql("SET SESSION innodb_strict_mode = OFF")
        except sa.exc.DBAPIError:
            raise error from None
        connection.exec_driver_sql(statement)
