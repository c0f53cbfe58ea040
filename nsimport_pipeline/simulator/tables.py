"""The simulated account's tables, derived from the record type catalogue: which columns, which rows, which ids.

Belongs here: the model of tables and slices, and the pure plan that makes one from criteria. A *slice* is the part of
a table that one record type picks out with its ``where``. Does not belong here: values (``values.py``), SQL that
creates anything (``dataset.py``).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, get_args
from zlib import crc32

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError
from sqlglot.optimizer.scope import traverse_scope

from nsimport_pipeline.record_types.criteria import Catalog, FieldSpec, RecordType
from nsimport_pipeline.simulator.columns import REFERENCE_TARGETS, Kind, extra_columns, guess_kind
from nsimport_pipeline.simulator.options import OTHERS, SimulatorOptions

LINES = "transactionline"
DELETED = "deletedrecord"
RELATIONS = {"customersubsidiaryrelationship": "customer", "vendorsubsidiaryrelationship": "vendor"}
"""Tables that relate entities to subsidiaries, and the record type that they multiply."""

LIST_SIZES = {
    "accounting_period": 96,
    "charge_type": 6,
    "classification": 30,
    "currency": 8,
    "department": 40,
    "location": 60,
    "price_level": 10,
    "subsidiary": 12,
}
SCALED_SIZES = {
    "charge": 800,
    "customer": 6000,
    "employee": 200,
    "invoice": 2500,
    "item_fulfillment": 2000,
    "opportunity": 1200,
    "project": 400,
    "sales_order": 12000,
    "vendor": 500,
}
_ITEM_SIZE, _OTHER_SIZE, _OTHER_LIST_SIZE = 150, 1500, 25
_LINES_PER_TRANSACTION = 2
_KINDS_OF_TYPES: Mapping[str, tuple[tuple[Kind, ...], Kind]] = {
    "BIGINT": (("integer", "reference"), "integer"),
    "INTEGER": (("integer", "reference"), "integer"),
    "DECIMAL": (("money", "decimal", "percent"), "money"),
    "DOUBLE": (("money", "decimal", "percent"), "decimal"),
    "DATE": (("date",), "date"),
    "TIMESTAMP": (("datetime",), "datetime"),
    "VARCHAR": (("string", "text", "boolean"), "string"),
}
"""What a column of a DuckDB type may be by its name, and what it is otherwise."""


@dataclass(frozen=True)
class Column:
    """One column of a simulated table."""

    name: str
    kind: Kind
    references: str | None = None
    """Record type a reference points to; None for one of a list that is no record type here."""
    length: int = 255
    precision: int = 24
    scale: int = 8
    words: tuple[str, ...] = ()
    """The texts a coded column shows (its codes are A, B, C …), or holds if it is not coded."""
    coded: bool = False

    @property
    def sql_type(self) -> str:
        """The DuckDB type that holds the column."""
        match self.kind:
            case "integer" | "reference":
                return "BIGINT"
            case "money":
                return "DECIMAL(20,2)"
            case "percent":
                return "DECIMAL(9,2)"
            case "decimal":
                precision = min(self.precision, 38)
                return f"DECIMAL({precision},{min(self.scale, precision)})"
            case "date":
                return "DATE"
            case "datetime":
                return "TIMESTAMP"
            case _:
                return "VARCHAR"


@dataclass
class Slice:
    """The rows of a table that belong to one record type."""

    record_type: str
    rows: int
    columns: dict[str, Column] = field(default_factory=dict)
    fixed: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """What ``where`` demands: the literals a column may have."""
    filled: set[str] = field(default_factory=set)
    """Columns that ``where`` demands to be not null."""
    parents: tuple[str, ...] = ()
    where: str | None = None
    position: int = 0
    """Which of the table's slices this is."""
    umbrella: bool = False
    """Whether the record type is the whole table while others are parts of it. Its own rows belong to no part."""


@dataclass
class Table:
    """One simulated table: columns, slices and how ids are spread over them."""

    name: str
    key: str = "id"
    columns: dict[str, Column] = field(default_factory=dict)
    slices: list[Slice] = field(default_factory=list)

    @property
    def longest(self) -> int:
        return max((s.rows for s in self.slices), default=0)

    @property
    def discriminator(self) -> str | None:
        """The column whose literal tells the table's slices apart, if it has several."""
        names = [set(s.fixed) for s in self.slices]
        common = set.intersection(*names) if names else set()
        return next((n for n in sorted(common) if len({s.fixed[n] for s in self.slices}) == len(self.slices)), None)

    @property
    def display_column(self) -> str | None:
        """The column whose text stands for a row of this table where another one refers to it."""
        for name in ("entityid", "itemid", "trandisplayname", "name", "periodname", "fullname", "title", "displayname"):
            if name in self.columns:
                return name
        return next((c.name for c in self.columns.values() if c.kind == "string"), None)

    def id_of(self, part: Slice, j: str) -> str:
        """SQL for the id of row ``j`` (from 0) of ``part``: one rising sequence for all slices, with gaps."""
        base = 1 + crc32(self.name.encode()) % 90
        longest, rows, count = max(self.longest, 1), max(part.rows, 1), len(self.slices)
        spread = f"(({j}) * {longest} // {rows})" if longest != rows else f"({j})"
        jump = f"(CASE WHEN {spread} * 2 >= {longest} THEN {997 * count} ELSE 0 END)" if longest > 50 else "0"
        return (
            f"({base} + 2 * ({count} * {spread} + {part.position}) + {jump}"
            f" + CAST(hash({j}, '{self.name}.id') % 2 AS BIGINT))"
        )


Tables = dict[str, Table]


def plan_tables(catalog: Catalog, options: SimulatorOptions) -> Tables:
    """The account's tables for these record types; every table, column and size follows from the arguments."""
    tables: Tables = {}
    for record_type in catalog.values():
        name = record_type.source.from_.lower()
        table = tables.setdefault(name, Table(name, key=record_type.source.key.lower()))
        part = _slice(record_type, _rows(record_type, options))
        part.position = len(table.slices)
        table.slices.append(part)
        for column in part.columns.values():
            table.columns[column.name] = _merged(table.columns.get(column.name), column)
    _add_builtin_tables(tables, options)
    for record_type in catalog.values():
        _add_columns_of_expressions(tables, record_type)
    for table in tables.values():
        if table.name != LINES:
            table.columns = {table.key: Column(table.key, "integer"), **table.columns}
        for name, kind in extra_columns(table.name).items():
            table.columns.setdefault(name, _guessed(name, kind, catalog, table))
        for name in [n for part in table.slices for n in (*part.fixed, *part.filled)]:
            table.columns.setdefault(name, Column(name, "string"))
    _size_umbrellas(tables, options)
    _size_lines_and_relations(tables, options)
    return tables


def _slice(record_type: RecordType, rows: int) -> Slice:
    part = Slice(record_type.name, rows, parents=record_type.derived_from, where=record_type.source.where)
    for spec in record_type.fields:
        if spec.expression is None and spec.key != record_type.source.key.lower():
            part.columns[spec.key] = _column(spec)
    if record_type.source.last_modified:
        name = record_type.source.last_modified.lower()
        part.columns[name] = Column(name, "datetime")
    if record_type.source.where:
        for condition in _conditions(record_type.source.where):
            _read_condition(condition, part)
    return part


def _column(spec: FieldSpec) -> Column:
    coded = spec.display and spec.type == "string"
    words = tuple(spec.values or ())
    guessed = guess_kind(spec.key)
    if coded and not words and guessed == "reference":
        return Column(spec.key, "reference", REFERENCE_TARGETS.get(spec.key))
    return Column(spec.key, spec.type, spec.references, spec.length, spec.precision, spec.scale, words, coded)


def _guessed(name: str, kind: Kind, catalog: Catalog, table: Table) -> Column:
    target = REFERENCE_TARGETS.get(name) if kind == "reference" else None
    if target == "" and len(table.slices) == 1:
        target = table.slices[0].record_type
    return Column(name, kind, target if target in catalog else None)


def column_of(name: str, data_type: str, comment: str | None = None) -> Column:
    """A column that a statement added: its kind as its DuckDB comment says (``reference customer``), or its name and
    type suggest."""
    kind, _, target = (comment or "").partition(" ")
    if kind in get_args(Kind):
        return Column(name, kind, target or None)  # type: ignore[arg-type]
    of_type = data_type.partition("(")[0]
    likely, otherwise = _KINDS_OF_TYPES.get(of_type, _KINDS_OF_TYPES["VARCHAR"])
    guessed = guess_kind(name)
    return Column(name, guessed if guessed in likely else otherwise, REFERENCE_TARGETS.get(name) or None)


def _merged(old: Column | None, new: Column) -> Column:
    """One column for two record types of a table that name it: the wider of both."""
    if old is None or old == new:
        return new
    if old.kind != new.kind:
        wide: dict[frozenset[str], Kind] = {
            frozenset({"integer", "reference"}): "integer",
            frozenset({"date", "datetime"}): "datetime",
            frozenset({"money", "decimal"}): "decimal",
            frozenset({"percent", "decimal"}): "decimal",
        }
        return Column(new.name, wide.get(frozenset({old.kind, new.kind}), "text"))
    return Column(
        new.name,
        new.kind,
        new.references or old.references,
        max(old.length, new.length),
        max(old.precision, new.precision),
        max(old.scale, new.scale),
        new.words or old.words,
        old.coded or new.coded,
    )


def _conditions(where: str) -> list[Any]:
    try:
        condition = sqlglot.parse_one(where, read="oracle")
    except SqlglotError:
        return []
    return list(condition.flatten()) if isinstance(condition, exp.And) else [condition]


def _read_condition(condition: Any, part: Slice) -> None:
    """Take from one condition of a ``where`` what its rows must look like; what is not understood is left alone."""
    if isinstance(condition, exp.Paren):
        return _read_condition(condition.this, part)
    if isinstance(condition, exp.Or):
        return _read_condition(next(iter(condition.flatten())), part)
    column = condition.this if isinstance(condition, exp.Predicate | exp.Not) else None
    if isinstance(condition, exp.Not) and isinstance(condition.this, exp.Is):
        if isinstance(condition.this.this, exp.Column):
            part.filled.add(condition.this.this.name.lower())
        return None
    if not isinstance(column, exp.Column):
        return None
    name = column.name.lower()
    if isinstance(condition, exp.EQ) and isinstance(condition.expression, exp.Literal):
        part.fixed[name] = (condition.expression.name,)
    elif isinstance(condition, exp.In):
        values = tuple(e.name for e in condition.expressions if isinstance(e, exp.Literal))
        if values:
            part.fixed[name] = values
    return None


def _add_columns_of_expressions(tables: Tables, record_type: RecordType) -> None:
    """Columns and tables that only a computed field or a condition mentions."""
    texts = [spec.expression for spec in record_type.fields if spec.expression]
    texts += [f"CASE WHEN {record_type.source.where} THEN 1 END"] if record_type.source.where else []
    for text in texts:
        try:
            statement = sqlglot.parse_one(f"SELECT {text} FROM {record_type.source.from_} t", read="oracle")
            scopes = traverse_scope(statement)
        except SqlglotError:
            continue
        for scope in scopes:
            for column in scope.columns:
                source = scope.sources.get(column.table or next(iter(scope.sources), ""))
                if not isinstance(source, exp.Table) or source.name.lower() == "dual":
                    continue
                name = source.name.lower()
                if name not in tables:
                    rows = max((t.longest for t in tables.values()), default=0) and _OTHER_SIZE
                    tables[name] = Table(name, slices=[Slice(name, rows)])
                key = column.name.lower()
                if key not in tables[name].columns and key != tables[name].key:
                    kind = guess_kind(key)
                    target = REFERENCE_TARGETS.get(key) if kind == "reference" else None
                    tables[name].columns[key] = Column(key, kind, target or None)


def _add_builtin_tables(tables: Tables, options: SimulatorOptions) -> None:
    """Tables that an account has whether or not a record type is made of them."""
    for name, entity in RELATIONS.items():
        if entity in tables and name not in tables:
            tables[name] = Table(name, slices=[Slice(name, 0)])
    if "transaction" in tables and LINES not in tables:
        tables[LINES] = Table(LINES, key="uniquekey", slices=[Slice(LINES, 0)])
    if LINES in tables:
        lines = tables[LINES]
        lines.key = "uniquekey"
        fixed = [
            Column("uniquekey", "integer"),
            Column("transaction", "reference"),
            Column("id", "integer"),
            Column("createdfrom", "reference"),
        ]
        lines.columns = {**{c.name: c for c in fixed}, **lines.columns}
    tables[DELETED] = Table(DELETED, slices=[Slice(DELETED, options.rows.get(DELETED, 20))])


def _rows(record_type: RecordType, options: SimulatorOptions) -> int:
    name = record_type.name
    if name in options.rows:
        return options.rows[name]
    if OTHERS in options.rows:
        return options.rows[OTHERS]
    if name in LIST_SIZES:
        return LIST_SIZES[name]
    if record_type.source.from_.lower() == "item":
        return round(_ITEM_SIZE * options.scale)
    if name not in SCALED_SIZES and record_type.family == "lists":
        return _OTHER_LIST_SIZE
    return round(SCALED_SIZES.get(name, _OTHER_SIZE) * options.scale)


def _size_umbrellas(tables: Tables, options: SimulatorOptions) -> None:
    """A record type that is a whole table has its parts' rows; what is asked for beyond those is its own."""
    for table in tables.values():
        parts = [part for part in table.slices if part.where]
        for part in table.slices:
            if parts and not part.where:
                part.umbrella = True
                asked = options.rows.get(part.record_type)
                if asked is not None:
                    part.rows = max(0, asked - sum(other.rows for other in parts))


def _size_lines_and_relations(tables: Tables, options: SimulatorOptions) -> None:
    """Rows that follow from other tables' rows, unless the options say how many."""
    if LINES in tables:
        transactions = tables.get("transaction", Table("transaction"))
        for part in tables[LINES].slices:
            parents = sum(s.rows for s in transactions.slices if not part.parents or s.record_type in part.parents)
            asked = options.rows.get(part.record_type)
            main_lines = 0 if "mainline" in part.fixed else sum(s.rows for s in transactions.slices)
            part.rows = _LINES_PER_TRANSACTION * parents if asked is None else max(0, asked - main_lines)
            if not parents:
                part.rows = 0
    for name, entity in RELATIONS.items():
        if name in tables and entity in tables:
            entities = sum(s.rows for s in tables[entity].slices)
            for part in tables[name].slices:
                part.rows = options.rows.get(part.record_type, entities + entities // 10)


def references(tables: Mapping[str, Table]) -> dict[str, tuple[Table, Slice]]:
    """Every record type's table and slice, by its name."""
    return {part.record_type: (table, part) for table in tables.values() for part in table.slices}
