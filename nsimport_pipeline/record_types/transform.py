"""From the rows of one NetSuite page to rows a database driver can take.

Belongs here: the whole batch: which cell goes to which column, defaults, rules, rejected rows, raw text.
Does not belong here: how a value of one type is read (``parse.py``), named rules (``normalizers.py``), SQL.

Works column by column, never row by row. A value that its column cannot hold exactly rejects its row, with a reason
that names the column; the other rows go on.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

from nsimport_pipeline.record_types.criteria import FieldSpec, RecordType
from nsimport_pipeline.record_types.dates import AccountFormats
from nsimport_pipeline.record_types.normalizers import NORMALIZERS, RULES, Column
from nsimport_pipeline.record_types.parse import (
    ColumnParser,
    column_parser,
    json_text,
    json_texts,
    key_parser,
    text_parser,
)

EXTERNAL_ID_LENGTH = 255


@dataclass(frozen=True, slots=True)
class RejectedRow:
    """A row that the table cannot take as it is."""

    refid: int | None
    """NetSuite's internal id; None if that is what is wrong."""
    column: str | None
    """The column at fault."""
    reason: str
    """For people: names the column, never holds the value."""
    raw: Mapping[str, Any]
    """The row as NetSuite sent it."""
    constraint: str | None = None
    """The constraint of the table that refused it, where it was one."""


@dataclass(frozen=True, slots=True)
class Transformed:
    """Rows ready for the database, and those that are not."""

    columns: tuple[str, ...]
    """``refid``, ``external_id``, the fields with their display columns, then ``raw`` if stored."""
    rows: list[tuple[Any, ...]]
    """Each as long as ``columns``: int, str, bool, Decimal, date, naive UTC datetime or None. Each refid once."""
    raws: list[Mapping[str, Any]]
    """The row of NetSuite that each of ``rows`` came from."""
    rejected: list[RejectedRow]


@dataclass(frozen=True, slots=True)
class _Target:
    """One column to be filled, from which keys of a row, and how."""

    column: str
    keys: tuple[str, ...]
    """The first of these that a row has a value for."""
    parser: ColumnParser
    default: Any = None
    word: Callable[[str], str | None] | None = None
    """What becomes of each text before it is parsed."""


def transform(
    record_type: RecordType,
    items: Sequence[Mapping[str, Any]],
    *,
    timezone: ZoneInfo,
    store_raw: bool,
    date_format: str = "M/D/YYYY",
) -> Transformed:
    """Turn rows of NetSuite into rows of ``record_type``'s table.

    ``timezone`` and ``date_format`` are the account's, for dates that did not come as ISO text.
    Keys may be in any case and missing. Where two rows have one id, the later one counts.
    """
    account = AccountFormats(timezone, date_format)
    targets = _targets(record_type, account)
    refids, rows, table, rejected = _table(record_type, items, {key for target in targets for key in target.keys})
    columns: dict[str, Sequence[Any]] = {"refid": refids}
    faults: dict[int, tuple[str, str]] = {}
    for target in targets:
        columns[target.column], problems = _fill(target, table, len(rows))
        for position, reason in problems.items():
            faults.setdefault(position, (target.column, reason))
    _apply_rules(record_type, columns)
    if store_raw:
        columns["raw"] = json_texts(rows)

    complete = list(zip(*columns.values(), strict=True))
    for position, (column, reason) in sorted(faults.items()):
        rejected.append(RejectedRow(refids[position], column, f"{column}: {reason}", rows[position]))
    if faults:
        good = [position for position in range(len(rows)) if position not in faults]
        complete, rows = [complete[position] for position in good], [rows[position] for position in good]
    return Transformed(tuple(columns), complete, rows, rejected)


def table_columns(record_type: RecordType, *, store_raw: bool) -> tuple[str, ...]:
    """The columns that ``transform`` fills, in their order."""
    names = [column for field in record_type.fields for column in (field.name, field.display_column) if column]
    return ("refid", "external_id", *names, *(("raw",) if store_raw else ()))


def unfilled_columns(record_type: RecordType, keys: Collection[str]) -> frozenset[str]:
    """The columns for which rows with only these (lower-case) keys have no value: they were not asked for."""
    asked = set(keys)
    targets = _targets(record_type, AccountFormats(ZoneInfo("UTC")))
    return frozenset(target.column for target in targets if asked.isdisjoint(target.keys))


def _targets(record_type: RecordType, account: AccountFormats) -> list[_Target]:
    external = record_type.source.external_id
    key = external.lower() if external else "externalid"
    targets = [_Target("external_id", (key,), text_parser(EXTERNAL_ID_LENGTH))]
    for field in record_type.fields:
        parser = column_parser(field, account)
        default = None if field.default is None else parser([field.default])[0][0]
        shown = field.display and field.type == "string"
        keys = (field.display_key, field.key) if shown else (field.key,)
        targets.append(_Target(field.name, keys, parser, default, _word(field)))
        if field.display_column is not None:
            targets.append(_Target(field.display_column, (field.display_key,), text_parser(None)))
    return targets


@dataclass(frozen=True, slots=True)
class _Table:
    """The wanted cells of a batch, a key at a time."""

    cells: Mapping[str, Column]
    present: Mapping[str, npt.NDArray[np.bool_]]
    """Which cells have a value, as None and a key that is not there mean none."""


def _table(
    record_type: RecordType, items: Sequence[Mapping[str, Any]], keys: set[str]
) -> tuple[list[int], list[Mapping[str, Any]], _Table, list[RejectedRow]]:
    """The ids, rows and cells of the records that count, and the rows that have no id."""
    import pandas as pd  # takes half a second of processor time, and of all processes only runs come here

    key = record_type.source.key.lower()
    lowered = _lowered(items)
    refids, problems = key_parser()([row.get(key) for row in lowered])
    rejected = [
        RejectedRow(None, "refid", f"refid: {problems.get(position, 'no internal id')} in {key!r}", items[position])
        for position, refid in enumerate(refids)
        if refid is None
    ]
    last = {refid: position for position, refid in enumerate(refids) if refid is not None}
    chosen = sorted(last.values())
    if len(chosen) < len(items):
        refids, items, lowered = ([rows[position] for position in chosen] for rows in (refids, items, lowered))
    wanted = sorted(keys)
    frame = pd.DataFrame(lowered, columns=wanted, dtype=object) if lowered else pd.DataFrame(columns=wanted)
    cells = np.ascontiguousarray(frame.to_numpy(dtype=object).T)
    present = pd.notna(cells)
    return (
        refids,
        list(items),
        _Table(dict(zip(wanted, cells, strict=True)), dict(zip(wanted, present, strict=True))),
        rejected,
    )


def _lowered(rows: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    """The rows with lower-case keys; where two keys of a row differ only in case, the lower-case one counts."""
    if all(key == key.lower() for key in set().union(*rows)):
        return rows
    return [{**{key.lower(): row[key] for key in row}, **{k: row[k] for k in row if k == k.lower()}} for row in rows]


def _fill(target: _Target, table: _Table, rows: int) -> tuple[list[Any], dict[int, str]]:
    """The target's column over all rows, and by row why its value does not fit."""
    key = target.keys[0]
    cells, present = table.cells[key], table.present[key]
    for key in target.keys[1:]:
        cells, present = np.where(present, cells, table.cells[key]), present | table.present[key]
    whole = bool(present.all())
    values = cells.tolist() if whole else cells[present].tolist()
    if target.word is not None:
        values = _words(values, target.word)
    parsed, problems = target.parser(values) if values else ([], {})
    if target.default is not None and None in parsed:
        parsed = [target.default if value is None else value for value in parsed]
    if whole:
        return parsed, problems
    column = np.full(rows, target.default, dtype=object)
    column[present] = np.fromiter(parsed, dtype=object, count=len(parsed))
    where = np.flatnonzero(present)
    return column.tolist(), {int(where[position]): reason for position, reason in problems.items()}


def _word(field: FieldSpec) -> Callable[[str], str | None] | None:
    """What the criteria say about each text of a field: its ``values``, then its normalizer."""
    if field.values is None and field.normalize is None:
        return None
    values = {word.strip().lower(): meaning for word, meaning in (field.values or {}).items()}
    name = field.normalize
    if name is None:
        return lambda text: values.get(text.strip().lower(), text)
    normalizer = NORMALIZERS[name]
    return lambda text: normalizer(values.get(text.strip().lower(), text), field)


def _words(values: Sequence[Any], word: Callable[[str], str | None]) -> list[Any]:
    """Each distinct text of ``values`` once through ``word``; numbers as their text; nested values as they are."""
    if set(map(type, values)) - {str}:
        values = [value if isinstance(value, str | dict | list) else json_text(value) for value in values]
    meanings = {text: word(text) for text in {text for text in values if isinstance(text, str)}}
    return [meanings[value] if isinstance(value, str) else value for value in values]


def _apply_rules(record_type: RecordType, columns: dict[str, Sequence[Any]]) -> None:
    """Apply the record type's rules; one whose columns this account does not have is left out."""
    fields = {field.name: field for field in record_type.fields}
    for name in record_type.rules:
        rule = RULES[name]
        if all(column in columns for column in rule.columns):
            used = [column for column in (*rule.columns, *rule.optional) if column in columns]
            arrays = {column: np.fromiter(columns[column], dtype=object) for column in used}
            rule.apply(arrays, fields)
            columns.update({column: array.tolist() for column, array in arrays.items()})
