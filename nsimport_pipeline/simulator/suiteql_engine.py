"""Runs SuiteQL: text in, a page of rows as NetSuite's JSON items out.

Belongs here: the cache of translated statements, turning values into NetSuite's texts, counting. Does not belong here:
paging rules and the envelope (``paging.py``), HTTP (``server.py``).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import duckdb

from nsimport_pipeline.simulator.accounts import AccountView
from nsimport_pipeline.simulator.dataset import Dataset
from nsimport_pipeline.simulator.suiteql_text import SuiteQLError, bind, date_format, fill, shape_of, tokens
from nsimport_pipeline.simulator.suiteql_translate import Translated, translate
from nsimport_pipeline.simulator.values import literal

_CACHED = 512
"""Statement shapes kept."""


@dataclass(frozen=True)
class Result:
    """A page: items (null columns left out, values are texts), and how many rows the statement has in all."""

    items: list[dict[str, Any]]
    total: int
    columns: int


@dataclass(frozen=True)
class _Prepared:
    translated: Translated
    projection: str
    """The outer select list that turns every value into its text, with the columns called c0, c1, …"""
    names: str


class Engine:
    """Answers statements against one dataset, seen through ``view``, which may be replaced at any time."""

    def __init__(self, dataset: Dataset, view: AccountView) -> None:
        self._dataset = dataset
        self._view = view
        self._version = dataset.version
        self._cache: dict[str, _Prepared] = {}

    @property
    def view(self) -> AccountView:
        return self._view

    @view.setter
    def view(self, view: AccountView) -> None:
        self._view = view
        self._cache = {}

    def page(self, statement: str, limit: int, offset: int, parameters: Sequence[object] = ()) -> Result:
        """Rows ``offset`` to ``offset + limit`` of the statement's result.

        Raises SuiteQLError for a statement NetSuite refuses, ColumnFailureError for one that makes it fail.
        """
        prepared, numbers = self._lookup(statement, parameters)
        keys = prepared.translated.keys
        rows_sql = fill(prepared.translated.rows, numbers)
        cursor = self._dataset.cursor()
        rows: list[tuple[Any, ...]] = []
        if limit > 0:
            page_sql = (
                f"SELECT {prepared.projection} FROM ({rows_sql} LIMIT {limit} OFFSET {offset}) q({prepared.names})"
            )
            rows = _run(lambda: cursor.execute(page_sql).fetchall())
        if 0 < len(rows) < limit or (not rows and offset == 0 and limit > 0):
            total = offset + len(rows)
        else:
            total = self._count(cursor, prepared, numbers)
        items = []
        for row in rows:
            item: dict[str, Any] = {"links": []}
            for key, value in zip(keys, row, strict=True):
                if value is not None:
                    item[key] = value
            items.append(item)
        return Result(items, total, len(keys))

    def count(self, statement: str, parameters: Sequence[object] = ()) -> tuple[int, int]:
        """Number of rows and of columns that the statement has."""
        prepared, numbers = self._lookup(statement, parameters)
        return self._count(self._dataset.cursor(), prepared, numbers), len(prepared.translated.keys)

    def columns(self, statement: str, parameters: Sequence[object] = ()) -> int:
        """Number of columns that the statement selects."""
        return len(self._lookup(statement, parameters)[0].translated.keys)

    def lacks_direction(self, statement: str, parameters: Sequence[object] = ()) -> bool:
        """Whether the statement sorts without saying ASC or DESC."""
        words = [word.upper() for word in tokens(bind(statement, parameters))]
        return "ORDER" in words and not {"ASC", "DESC"} & set(words)

    def _count(self, cursor: duckdb.DuckDBPyConnection, prepared: _Prepared, numbers: Sequence[str]) -> int:
        row = _run(lambda: cursor.execute(fill(prepared.translated.count, numbers)).fetchone())
        return int(row[0]) if row else 0

    def _lookup(self, statement: str, parameters: Sequence[object]) -> tuple[_Prepared, tuple[str, ...]]:
        if self._version != self._dataset.version:
            self._version = self._dataset.version
            self._cache = {}
        shape, numbers = shape_of(bind(statement, parameters))
        prepared = self._cache.get(shape)
        if prepared is None:
            prepared = self._prepare(shape, numbers)
            if len(self._cache) >= _CACHED:
                self._cache.pop(next(iter(self._cache)), None)
            self._cache[shape] = prepared
        return prepared, numbers

    def _prepare(self, shape: str, numbers: Sequence[str]) -> _Prepared:
        """Translate a shape and find out its columns' types; ``numbers`` are those of its first use."""
        translated = translate(shape, self._view, self._dataset.options.date_format)
        names = [f"c{i}" for i in range(len(translated.keys))]
        sql = f"DESCRIBE SELECT * FROM ({fill(translated.rows, numbers)}) q({', '.join(names)})"
        described = _run(lambda: self._dataset.cursor().execute(sql).fetchall())
        pattern = date_format(self._dataset.options.date_format, account=True) or "%x"
        projection = ", ".join(_text_of(str(row[0]), str(row[1]), pattern) for row in described)
        return _Prepared(translated, projection, ", ".join(names))


def _text_of(column: str, sql_type: str, date_pattern: str) -> str:
    """SQL for the text NetSuite would send for a value of this DuckDB type."""
    if sql_type in ("DATE", "TIMESTAMP", "TIMESTAMP WITH TIME ZONE"):
        return f"strftime({column}, {literal(date_pattern)})"
    if sql_type == "BOOLEAN":
        return f"CASE WHEN {column} THEN 'T' WHEN NOT {column} THEN 'F' END"
    if sql_type.startswith("DECIMAL") and not sql_type.endswith(",0)"):
        return f"rtrim(rtrim(CAST({column} AS VARCHAR), '0'), '.')"
    if sql_type in ("DOUBLE", "FLOAT"):
        return (
            f"CASE WHEN {column} = floor({column}) AND abs({column}) < 1e15 "
            f"THEN CAST(CAST({column} AS HUGEINT) AS VARCHAR) ELSE CAST({column} AS VARCHAR) END"
        )
    return column if sql_type == "VARCHAR" else f"CAST({column} AS VARCHAR)"


T = TypeVar("T")


def _run(work: Callable[[], T]) -> T:
    try:
        return work()
    except (duckdb.ConversionException, duckdb.BinderException, duckdb.InvalidInputException, duckdb.ParserException):
        raise SuiteQLError.unsupported() from None
