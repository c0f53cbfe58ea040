"""Writing a batch of rows: all of it in as few statements as it takes, and whatever happens, all but the rows at fault.

Belongs here: the upsert statement, its chunks, and the three tiers (whole batch, constraint analysis, bisection).
Does not belong here: the transaction, the batch's state and retries (the caller's), or what an error means
(``errors.py``).

No savepoints: InnoDB and SQLite take a failed statement back by themselves and keep the transaction, and a row written
twice by an upsert is written once.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from weakref import WeakKeyDictionary

import sqlalchemy as sa
from sqlalchemy.dialects import mysql, sqlite
from sqlalchemy.engine import Connection, Dialect, Engine

from nsimport_pipeline.errors import DatabaseSchemaError
from nsimport_pipeline.record_types.transform import RejectedRow
from nsimport_pipeline.warehouse.constraints import Fault, read_constraints, repair
from nsimport_pipeline.warehouse.errors import classify, column_missing, row_at_fault
from nsimport_pipeline.warehouse.literals import RowsText, row_literals
from nsimport_pipeline.warehouse.shapes import PYTHON_TYPES

STATEMENT_BYTES = 250_000
"""Longest list of rows in a statement, even where the server takes more; a single row may be longer. Of a few sizes
measured this was the cheapest for client and server: longer texts leave the processor's caches."""

STAMP_COLUMNS = ("imported_at", "import_id", "deleted_at")
"""Columns that ``upsert`` fills itself, the same for every row."""

Row = tuple[Any, ...]

# What a value or a row may raise on its way; any other exception is a mistake of the program and passes as it is.
_REFUSALS = (sa.exc.SQLAlchemyError, DatabaseSchemaError, TypeError, ValueError, OverflowError)

_packet_limits: "WeakKeyDictionary[Engine, int]" = WeakKeyDictionary()


@dataclass(frozen=True, slots=True)
class Upserted:
    """What became of a batch: ``written`` + ``len(rejected)`` is the number of rows given."""

    written: int
    """Rows stored: new, changed or the same as before."""
    statements: int
    """Statements sent to the database for it."""
    rejected: list[RejectedRow]
    left_out: tuple[str, ...] = ()
    """Columns given that the table does not have."""


def upsert(
    connection: Connection,
    table: sa.Table,
    columns: Sequence[str],
    rows: Sequence[Row],
    *,
    raws: Sequence[Mapping[str, Any]],
    import_id: str,
    imported_at: datetime,
    keep: Collection[str] = (),
) -> Upserted:
    """Insert or update ``rows`` by ``refid``, in the caller's transaction.

    ``columns`` name the rows' values; ``refid`` is one of them, and each refid is given once. ``raws``: the row of
    NetSuite behind each of ``rows``. ``imported_at`` is a naive UTC time. A stored row is no longer marked as deleted.
    ``keep``: columns that only new rows take; rows that are there keep what they have.

    Raises TimedOut if the transaction has to be repeated as a whole (deadlock, lost connection, lock wait, disk
    full), and DatabaseSchemaError, AccessDenied or ImportFailure if the table takes no row at all.
    """
    if not rows:
        return Upserted(0, 0, [])
    columns, rows = _in_table_order(table, columns, rows)
    batch = _Batch(connection, table, columns, (imported_at, import_id, None), frozenset(keep))
    sent = False
    try:
        batch.check_types(rows)
        sent = True
        batch.write(rows)
        return Upserted(len(rows), batch.statements, [])
    except _REFUSALS as error:
        if not (row_at_fault(error) or column_missing(error)):
            raise classify(error) from None
    faults: dict[int, Fault] = {}
    kept, left_out = batch.analyse(rows, faults)
    batch.store(kept, faults, known_bad=sent and not left_out and list(kept.values()) == list(rows))
    rejected = [
        RejectedRow(_refid(columns, rows[position]), fault.column, fault.reason, raws[position], fault.constraint)
        for position, fault in sorted(faults.items())
    ]
    return Upserted(len(rows) - len(rejected), batch.statements, rejected, left_out)


def upsert_statement(table: sa.Table, columns: Sequence[str], dialect: Dialect, keep: Collection[str] = ()) -> str:
    """The upsert of one row of ``columns`` (in the table's order) as ``dialect`` spells it, with its placeholders.

    A row that is there keeps its values of the columns in ``keep``.

    Differs by server: MariaDB and MySQL before 8.0.20 have ``VALUES(column)``, later MySQL a row alias.
    """
    changing = [name for name in columns if name != "refid" and name not in keep]
    if dialect.name == "sqlite":
        into_sqlite = sqlite.insert(table)
        new = into_sqlite.excluded
        statement: sa.Insert = into_sqlite.on_conflict_do_update(
            index_elements=["refid"], set_={name: new[name] for name in changing}
        )
    else:
        into_mysql = mysql.insert(table)
        statement = into_mysql.on_duplicate_key_update({name: into_mysql.inserted[name] for name in changing})
    compiled = statement.compile(dialect=dialect, column_keys=list(columns))
    if list(compiled.positiontup or ()) != list(columns):
        raise AssertionError(f"placeholders {compiled.positiontup} are not in the order of the columns")
    return str(compiled)


@dataclass
class _Batch:
    """One batch on its way into one table."""

    connection: Connection
    table: sa.Table
    columns: tuple[str, ...]
    stamp: Row
    """Values of ``STAMP_COLUMNS``, the same for every row."""
    keep: frozenset[str] = frozenset()
    statements: int = 0
    _send: Callable[[Sequence[Row]], None] = field(init=False)

    def __post_init__(self) -> None:
        self._prepare()

    def _prepare(self) -> None:
        dialect = self.connection.dialect
        sql = upsert_statement(self.table, (*self.columns, *STAMP_COLUMNS), dialect, self.keep)
        self._send = self._sqlite_sender(sql) if dialect.name == "sqlite" else self._mysql_sender(sql)

    def check_types(self, rows: Sequence[Row]) -> None:
        """Raise TypeError if a value is not of its column's Python type: MySQL would quietly round or cut some."""
        for name, values in zip(self.columns, zip(*rows, strict=True), strict=True):
            kind = self.table.c[name].info["shape"].kind
            if not set(map(type, values)) <= PYTHON_TYPES[kind]:
                raise TypeError(f"column {name} is given values of another type")
            if kind == "datetime" and any(value is not None and value.tzinfo is not None for value in values):
                raise TypeError(f"column {name} is given times of another zone than UTC")

    def write(self, rows: Sequence[Row]) -> None:
        """Store all of ``rows`` or raise the driver's error."""
        if rows:
            self._send(rows)

    def analyse(self, rows: Sequence[Row], faults: dict[int, Fault]) -> tuple[dict[int, Row], tuple[str, ...]]:
        """Second tier: repair rows by the database's own schema, and drop columns that it lacks."""
        self.statements += 1
        constraints = read_constraints(self.connection, self.table.name)
        fields = {column.name: column.info["field"] for column in self.table.c if "field" in column.info}
        kept: dict[int, Row] = {}
        for position, row in enumerate(rows):
            repaired = repair(row, self.columns, constraints, fields)
            if isinstance(repaired, Fault):
                faults[position] = repaired
            else:
                kept[position] = repaired
        left_out = tuple(name for name in self.columns if name not in constraints)
        if left_out:
            stay = [i for i, name in enumerate(self.columns) if name in constraints]
            kept = {position: tuple(row[i] for i in stay) for position, row in kept.items()}
            self.columns = tuple(self.columns[i] for i in stay)
            self._prepare()
        return kept, left_out

    def store(self, rows: Mapping[int, Row], faults: dict[int, Fault], *, known_bad: bool = False) -> None:
        """Third tier: store ``rows``, halving what is refused until the rows at fault stand alone.

        ``known_bad``: at least one of them is at fault, so trying them all together would be a statement wasted.
        """
        if not (known_bad and len(rows) > 1):
            try:
                self.write(list(rows.values()))
                return
            except _REFUSALS as error:
                failure = classify(error)
                if not row_at_fault(error):
                    raise failure from None
                if len(rows) == 1:
                    known = failure if isinstance(failure, DatabaseSchemaError) else DatabaseSchemaError("")
                    faults[next(iter(rows))] = Fault(known.column, str(failure), known.constraint)
                    return
        items = list(rows.items())
        half = len(items) // 2
        before = len(faults)
        self.store(dict(items[:half]), faults)
        self.store(dict(items[half:]), faults, known_bad=len(faults) == before)

    def _sqlite_sender(self, sql: str) -> Callable[[Sequence[Row]], None]:
        """SQLite runs a prepared statement row by row; SQLAlchemy's types say how each value is bound."""
        dialect = self.connection.dialect
        types = [self.table.c[name].type.dialect_impl(dialect) for name in (*self.columns, *STAMP_COLUMNS)]
        processors = [(i, type_.bind_processor(dialect)) for i, type_ in enumerate(types)]
        binding = [(i, processor) for i, processor in processors if processor is not None]

        def send(rows: Sequence[Row]) -> None:
            values = [[*row, *self.stamp] for row in rows]
            for row in values:
                for position, processor in binding:
                    row[position] = processor(row[position])
            self.statements += 1
            self.connection.exec_driver_sql(sql, [tuple(row) for row in values])

        return send

    def _mysql_sender(self, sql: str) -> Callable[[Sequence[Row]], None]:
        """Rows as text in one driver parameter: hidden in errors like any parameter, escaped a row at a time."""
        placeholders = f"({', '.join(['%s'] * (len(self.columns) + len(STAMP_COLUMNS)))})"
        if sql.count(placeholders) != 1:
            raise AssertionError("the statement does not have one list of placeholders")
        statement = sql.replace(placeholders, "%s")
        end = b"," + row_literals(self.stamp) + b")"
        between = end + b",("
        packet = self._packet_limit() - len(statement) - 16
        limit = min(STATEMENT_BYTES, packet)

        def send(rows: Sequence[Row]) -> None:
            for chunk in _chunks(list(map(row_literals, rows)), limit, between=len(between)):
                text = b"(" + between.join(chunk) + end
                if len(text) > packet:
                    raise DatabaseSchemaError(
                        f"a row of {len(text)} bytes, the server takes {packet} (max_allowed_packet)"
                    )
                self.statements += 1
                self.connection.exec_driver_sql(statement, (RowsText(text),))

        return send

    def _packet_limit(self) -> int:
        """Bytes of the largest statement the server takes; it is asked once per engine."""
        engine = self.connection.engine
        if engine not in _packet_limits:
            self.statements += 1
            _packet_limits[engine] = int(self.connection.scalar(sa.text("SELECT @@max_allowed_packet")) or 2**20)
        return _packet_limits[engine]


def _chunks(texts: Sequence[bytes], limit: int, *, between: int) -> Iterator[Sequence[bytes]]:
    """``texts`` in runs of at most ``limit`` bytes, ``between`` for each included; a longer text comes alone."""
    start = size = 0
    for position, text in enumerate(texts):
        length = len(text) + between
        if size + length > limit and position > start:
            yield texts[start:position]
            start, size = position, 0
        size += length
    yield texts[start:]


def _in_table_order(
    table: sa.Table, columns: Sequence[str], rows: Sequence[Row]
) -> tuple[tuple[str, ...], Sequence[Row]]:
    """The order in which SQLAlchemy writes a statement's columns; it is the usual one, and then nothing is copied."""
    unknown = [name for name in columns if name not in table.c]
    if unknown or "refid" not in columns:
        raise DatabaseSchemaError(f"table {table.name}: no column {unknown[0] if unknown else 'refid'} in the criteria")
    ordered = tuple(column.name for column in table.columns if column.name in set(columns))
    if ordered == tuple(columns):
        return ordered, rows
    positions = [list(columns).index(name) for name in ordered]
    return ordered, [tuple(row[position] for position in positions) for row in rows]


def _refid(columns: Sequence[str], row: Row) -> int | None:
    value = row[list(columns).index("refid")]
    return value if isinstance(value, int) and not isinstance(value, bool) else None
