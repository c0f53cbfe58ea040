"""SuiteQL statements made from a record type, and the checks that an answer to one is whole.

Belongs here: every statement this project sends to NetSuite, as pure functions over a ``RecordType``.
Does not belong here: sending them (``client.py``).

Rules that NetSuite imposes: ``ASC`` always written, a unique ORDER BY, aliases unquoted, dates through ``TO_CHAR``
(a bare date comes in the account's own format, a bare datetime loses its time), at most 1000 rows an answer.
"""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from nsimport_pipeline.errors import ConfigurationError, IncompleteResponse
from nsimport_pipeline.netsuite.answers import INTEGER
from nsimport_pipeline.record_types.criteria import FieldSpec, RecordType

PAGE_LIMIT = 1000
"""The most rows NetSuite puts into one answer."""
RESULT_LIMIT = 100_000
"""The most rows NetSuite gives out for one statement over all its pages; it stops there without a word."""
COLUMN_LIMIT = 100
"""Columns above which some accounts answer with no rows at all."""

ANY_ZONE = timedelta(days=1)
"""More than any account's clock is behind UTC."""

_IDENTIFIER = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,127}")


@dataclass(frozen=True)
class Selected:
    """One column of a SELECT: what is computed, the lower-case key it gets in the rows, and what it reads."""

    alias: str
    expression: str
    column: str | None = None
    """The lower-case NetSuite column it reads; None for a computed field."""
    identifies: bool = False
    """Whether pages are checked and put together by it, so that it is never left out."""

    @property
    def sql(self) -> str:
        return f"{self.expression} AS {self.alias}"

    def reads(self, column: str) -> bool:
        """Whether it needs the NetSuite column ``column``; a computed field is searched for the word."""
        if self.column is not None:
            return self.column == column.lower()
        return re.search(rf"\b{re.escape(column)}\b", self.expression, re.IGNORECASE) is not None


def selected(record_type: RecordType, missing: Collection[str] = frozenset()) -> list[Selected]:
    """The columns to fetch for a record type, its key first (then its parent, if it is derived), each alias once.

    ``missing``: NetSuite columns that the account does not have; whatever reads one of them is left out, computed
    fields too. Key and parent are never left out. Raises ConfigurationError for two fields that need the same column
    in different forms.
    """
    columns = {column.alias: column for column in _identifying(record_type)}
    identifying = set(columns)
    external = record_type.source.external_id
    if external is not None:
        columns.setdefault(external.lower(), Selected(external.lower(), _column(external), external.lower()))
    for field in record_type.fields:
        for column in _of_field(field):
            if column.alias in identifying and column.column == column.alias:
                continue
            if columns.setdefault(column.alias, column) != column:
                raise ConfigurationError(
                    f"{record_type.name}: {field.name}: another field reads {column.alias!r} as a different type; "
                    "give one of them an expression"
                )
    return without(list(columns.values()), missing)


def without(columns: Sequence[Selected], missing: Collection[str]) -> list[Selected]:
    """``columns`` less everything that reads one of the ``missing`` NetSuite columns or has it as its alias.

    Key and parent stay.
    """
    unwanted = {name.lower() for name in missing}
    return [
        c for c in columns if c.identifies or (c.alias not in unwanted and not any(c.reads(name) for name in unwanted))
    ]


def column_groups(columns: Sequence[Selected], limit: int = COLUMN_LIMIT) -> list[list[Selected]]:
    """``columns`` cut into groups of at most ``limit`` (3 or more) that each begin with the key, and the parent."""
    identifying = [column for column in columns if column.identifies]
    others = [column for column in columns if not column.identifies]
    room = limit - len(identifying)
    groups = [[*identifying, *others[start : start + room]] for start in range(0, len(others), room)]
    return groups or [identifying]


def key_alias(record_type: RecordType) -> str:
    """The lower-case key under which a row holds the record's id."""
    return record_type.source.key.lower()


def parent_alias(record_type: RecordType) -> str | None:
    """The lower-case key under which a row of a derived type holds its parent's id; None for any other type."""
    return record_type.source.parent.lower() if record_type.source.parent else None


def among_parents(record_type: RecordType, parents: Iterable[tuple[RecordType, int | None]]) -> RecordType:
    """A derived record type narrowed to the records of these parents, each with the highest id it has (None: any).

    Without parents it has no records.
    """
    by_table: dict[tuple[str, str], list[str]] = {}
    for parent, highest in parents:
        key = f"p.{_identifier(parent.source.key)}"
        own = [f"({_realiased(parent.source.where)})"] if parent.source.where else []
        own += [f"{key} <= {int(highest)}"] if highest is not None else []
        by_table.setdefault((_identifier(parent.source.from_), key), []).append(" AND ".join(own) or "1 = 1")
    column = _column(record_type.source.parent or record_type.source.key)
    among = [
        f"{column} IN (SELECT {key} FROM {table} p WHERE {' OR '.join(f'({own})' for own in conditions)})"  # noqa: S608
        for (table, key), conditions in by_table.items()
    ]
    conditions = [f"({record_type.source.where})"] if record_type.source.where else []
    conditions.append(f"({' OR '.join(among) or '1 = 0'})")
    source = record_type.source.model_copy(update={"where": " AND ".join(conditions)})
    return record_type.model_copy(update={"source": source})


def changed_within(
    record_type: RecordType, since: datetime, until: datetime, parents: Sequence[RecordType] = ()
) -> RecordType:
    """A record type narrowed to the records that were changed in ``since`` to ``until``, aware UTC, both included.

    Times are compared in UTC, whatever the account's zone; a record without one counts as changed. Of a derived type:
    all records of ``parents`` that were changed themselves, or had a record changed.
    """
    column = record_type.source.last_modified
    if column is None:
        raise ConfigurationError(f"{record_type.name}: no column says when a record was changed")
    conditions = [f"({record_type.source.where})"] if record_type.source.where else []
    if record_type.source.parent is None:
        conditions.append(f"(({_changed('t', column, since, until)}) OR {_column(column)} IS NULL)")
    else:
        own = [(record_type.source.from_, record_type.source.parent, column)]
        own += [(p.source.from_, p.source.key, p.source.last_modified) for p in parents if p.source.last_modified]
        among = [
            f"{_column(record_type.source.parent)} IN (SELECT c.{_identifier(key)} FROM {_identifier(table)} c "  # noqa: S608
            f"WHERE {_changed('c', changed, since, until)})"
            for table, key, changed in dict.fromkeys(own)
        ]
        conditions.append(f"({' OR '.join(among)})")
    source = record_type.source.model_copy(update={"where": " AND ".join(conditions)})
    return record_type.model_copy(update={"source": source})


def _changed(alias: str, column: str, since: datetime, until: datetime) -> str:
    """The exact condition in UTC, behind one that an index can serve and that holds in any time zone on Earth."""
    name = f"{alias}.{_identifier(column)}"
    exact = f"SYS_EXTRACT_UTC({name})"
    return f"{name} >= {_moment(since - ANY_ZONE)} AND {exact} >= {_moment(since)} AND {exact} <= {_moment(until)}"


def _moment(moment: datetime) -> str:
    return f"TO_DATE('{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S}', 'YYYY-MM-DD HH24:MI:SS')"


def count_statement(record_type: RecordType, low: int | None = None, high: int | None = None) -> str:
    """One row: ``n`` records, and their ``low`` and ``high`` keys (left out when there are none).

    Ranges of a derived type, here and everywhere, are ranges of its parents' keys.
    """
    key = _ranged(record_type)
    return f"SELECT COUNT(*) AS n, MIN({key}) AS low, MAX({key}) AS high {_source(record_type, low, high)}"


def boundary_statement(
    record_type: RecordType, low: int | None, high: int | None, batch_size: int = PAGE_LIMIT, *, begun: int = 0
) -> str:
    """One row for each full batch of keys in ``low < key <= high``: the batch's last key, as ``last_key``, ascending.

    A page of 1000 rows plans 1000 batches; to go on, ask again with ``low`` = the last ``last_key``. Of a derived type
    it is the parent of every so many-th record, more than once for a parent with many; ``place`` says which one.
    ``begun``: records that the first batch has already.
    """
    order = _order(record_type)
    numbered = f"SELECT {_ranged(record_type)} AS last_key, ROW_NUMBER() OVER (ORDER BY {order}) AS place"
    place = f"b.place + {int(begun)}" if begun else "b.place"
    return (
        "SELECT b.last_key AS last_key, b.place AS place "  # noqa: S608 - names checked
        f"FROM ({numbered} {_source(record_type, low, high)}) b "
        f"WHERE MOD({place}, {_positive(batch_size)}) = 0 ORDER BY b.place ASC"
    )


def page_statement(
    record_type: RecordType,
    low: int | None,
    high: int | None,
    columns: Sequence[Selected],
    after: tuple[int, int] | None = None,
) -> str:
    """The records with ``low < key <= high`` in the order of their keys; None leaves that end open.

    ``after``: of a derived type only what follows the record with this parent and key.
    """
    chosen = ", ".join(column.sql for column in columns)
    return f"SELECT {chosen} {_source(record_type, low, high, after)} ORDER BY {_order(record_type)}"


def key_page_statement(
    record_type: RecordType, low: int | None, high: int | None = None, after: tuple[int, int] | None = None
) -> str:
    """Only the keys with ``low < key <= high``: for accounts that refuse ``ROW_NUMBER()``, and to find what is gone."""
    return page_statement(record_type, low, high, _identifying(record_type), after)


def deleted_statement(since: datetime, until: datetime, after: int | None = None) -> str:
    """The ids, as ``id``, of records of any kind deleted in that time, both ends included; those above ``after``."""
    above = "" if after is None else f" AND d.recordid > {int(after)}"
    own = _changed("d", "deleteddate", since, until)
    return (
        "SELECT d.recordid AS id FROM deletedrecord d "  # noqa: S608 - made of numbers and times
        f"WHERE d.recordid IS NOT NULL AND {own}{above} GROUP BY d.recordid ORDER BY d.recordid ASC"
    )


def tally_statement(record_type: RecordType, spans: Sequence[tuple[int | None, int]], modulus: int) -> str:
    """One row about the keys in each of ``spans``, ascending, each ``low < key <= high`` (None: from the beginning).

    Of the first: ``n0`` keys, their sum ``t0``, the sum of the squares of their remainders by ``modulus``, ``s0``. Sums
    of nothing may be left out. ``low`` is the lowest key of all.
    """
    key = _column(record_type.source.key)
    remainder = f"MOD({key}, {_positive(modulus)})"
    columns = [f"MIN({key}) AS low"]
    for place, (low, high) in enumerate(spans):
        inside = f"{key} <= {int(high)}" if low is None else f"{key} > {int(low)} AND {key} <= {int(high)}"
        columns += [
            f"SUM(CASE WHEN {inside} THEN {value} ELSE 0 END) AS {name}{place}"
            for name, value in (("n", "1"), ("t", key), ("s", f"{remainder} * {remainder}"))
        ]
    return f"SELECT {', '.join(columns)} {_source(record_type, spans[0][0], spans[-1][1])}"


def there_statement(record_type: RecordType, ids: Collection[int]) -> str:
    """Which of ``ids``, at most 1000, are keys of the record type."""
    among = f"{_column(record_type.source.key)} IN ({', '.join(str(int(one)) for one in ids)})"
    conditions = [f"({record_type.source.where})"] if record_type.source.where else []
    where = " AND ".join([*conditions, among])
    source = record_type.source.model_copy(update={"where": where})
    return key_page_statement(record_type.model_copy(update={"source": source}), None)


def check_page(
    items: Sequence[Mapping[str, str]],
    total_results: int,
    low: int | None,
    high: int | None,
    key: str,
    limit: int = PAGE_LIMIT,
    *,
    parent: str | None = None,
    after: tuple[int, int] | None = None,
) -> None:
    """Raise IncompleteResponse unless ``items`` can be all of ``low < key <= high``, or its first ``limit`` rows.

    There must be as many as ``total_results`` says (or ``limit``, if it says more), with integer keys that strictly
    ascend inside the range. With ``parent`` the range is one of parents, and parent and key together ascend, from
    ``after`` on. ``hasMore``, which may be false too soon, is looked at in ``parse_page`` alone.
    """
    expected = min(total_results, limit)
    if len(items) != expected:
        raise IncompleteResponse(
            f"NetSuite sent {len(items)} rows where its totalResults of {total_results} means {expected} "
            f"(keys {_range(low, high)})"
        )
    names = (key,) if parent is None else (parent, key)
    previous: tuple[int, ...] | None = after if after is not None or low is None or parent is not None else (low,)
    for place, item in enumerate(items):
        texts = [item.get(name, "") for name in names]
        wrong = next((name for name, text in zip(names, texts, strict=True) if not INTEGER.fullmatch(text)), None)
        if wrong is not None:
            raise IncompleteResponse(
                f"row {place + 1} of NetSuite's answer has no integer {wrong} (keys {_range(low, high)})"
            )
        position = tuple(map(int, texts))
        outside = (low is not None and position[0] <= low) or (high is not None and position[0] > high)
        if outside or (previous is not None and position <= previous):
            raise IncompleteResponse(
                f"NetSuite's answer has {names[0]} {position[0]} in the wrong place, after "
                f"{previous[0] if previous else low} (keys {_range(low, high)})"
            )
        previous = position


def _of_field(field: FieldSpec) -> list[Selected]:
    if field.expression is not None:
        return [Selected(field.key, f"({field.expression})")]
    column = _column(field.source or field.name)
    display = Selected(field.display_key, f"BUILTIN.DF({column})", field.key)
    if field.display and field.type == "string":
        return [display]
    plain = Selected(field.key, _rendered(field, column), field.key)
    return [plain, display] if field.display else [plain]


def _rendered(field: FieldSpec, column: str) -> str:
    if field.type == "date":
        return f"TO_CHAR({column}, 'YYYY-MM-DD')"
    if field.type == "datetime":
        return f"TO_CHAR(SYS_EXTRACT_UTC({column}), 'YYYY-MM-DD HH24:MI:SS')"
    return column


def _identifying(record_type: RecordType) -> list[Selected]:
    columns = [record_type.source.key, *([record_type.source.parent] if record_type.source.parent else [])]
    return [Selected(name.lower(), _column(name), name.lower(), identifies=True) for name in columns]


def _ranged(record_type: RecordType) -> str:
    """The column that ranges are ranges of."""
    return _column(record_type.source.parent or record_type.source.key)


def _order(record_type: RecordType) -> str:
    columns = dict.fromkeys([_ranged(record_type), _column(record_type.source.key)])
    return ", ".join(f"{column} ASC" for column in columns)


def _source(record_type: RecordType, low: int | None, high: int | None, after: tuple[int, int] | None = None) -> str:
    ranged = _ranged(record_type)
    conditions = [f"({record_type.source.where})"] if record_type.source.where else []
    if after is not None:
        key, (last_parent, last_key) = _column(record_type.source.key), after
        conditions.append(
            f"({ranged} > {int(last_parent)} OR ({ranged} = {int(last_parent)} AND {key} > {int(last_key)}))"
        )
    elif low is not None:
        conditions.append(f"{ranged} > {int(low)}")
    if high is not None:
        conditions.append(f"{ranged} <= {int(high)}")
    where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
    return f"FROM {_identifier(record_type.source.from_)} t{where}"


def _realiased(where: str) -> str:
    """A condition over the alias ``t`` as one over ``p``; texts in it stay as they are."""
    return re.sub(r"('(?:[^']|'')*')|\bt\.", lambda match: match[1] or "p.", where)


def _column(name: str) -> str:
    return f"t.{_identifier(name)}"


def _identifier(name: str) -> str:
    if not _IDENTIFIER.fullmatch(name):
        raise ConfigurationError(f"{name!r} cannot be a NetSuite name: letters, digits and _ only, a letter first")
    return name.lower()


def _positive(number: int) -> int:
    if int(number) < 1:
        raise ValueError(f"batch size must be at least 1, not {number}")
    return int(number)


def _range(low: int | None, high: int | None) -> str:
    return f"above {'the beginning' if low is None else low}, up to {'the end' if high is None else high}"
