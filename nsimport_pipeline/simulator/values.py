"""The value of every column of every simulated row, as a DuckDB expression over the row's index ``j``.

Belongs here: pure functions from a column to SQL text. All randomness is ``hash(j, '<seed>.<table>.<column>')``, so a
row's value depends on nothing but seed, table, column and index. Does not belong here: running SQL (``dataset.py``).
"""

from collections.abc import Mapping, Sequence
from zlib import crc32

from nsimport_pipeline.simulator import pools
from nsimport_pipeline.simulator.columns import extra_columns
from nsimport_pipeline.simulator.tables import DELETED, RELATIONS, Column, Slice, Table

NEVER_NULL = frozenset(
    "entityid itemid name fullname periodname tranid transactionnumber trandisplayname trandate type recordtype "
    "itemtype createddate datecreated lastmodifieddate linelastmodifieddate linecreateddate status entity transaction "
    "amount symbol currencyprecision startdate enddate deleteddate recordid subsidiary number".split()
)
SPARSE = frozenset(
    "middlename fax altphone externalid dateclosed partner comments otherrefnum actualshipdate closedate".split()
)
_LIST_LENGTH = 8
"""Entries of a list that is no record type here (terms, lead sources, …)."""


def literal(text: str) -> str:
    """``text`` as a SQL literal."""
    return "'" + text.replace("'", "''") + "'"


def pick(words: Sequence[str], number: str) -> str:
    """SQL that takes the word at ``number`` modulo their count."""
    return f"list_extract([{', '.join(map(literal, words))}], 1 + CAST({number} % {len(words)} AS BIGINT))"


class RowValues:
    """Expressions for the rows of one slice."""

    def __init__(self, table: Table, part: Slice, targets: Mapping[str, tuple[Table, Slice]], seed: int) -> None:
        self._table = table
        self._part = part
        self._targets = targets
        self._seed = seed

    def expressions(self) -> dict[str, str]:
        """SQL by column, each of the column's own type, for every column of the table."""
        return {
            name: f"CAST({self._value(self._part.columns.get(name, column))} AS {column.sql_type})"
            for name, column in self._table.columns.items()
        }

    def hash(self, salt: str, row: str = "j") -> str:
        return f"hash({row}, '{self._seed}.{self._table.name}.{salt}')"

    def _value(self, column: Column) -> str:
        name = column.name
        if name == self._table.key:
            return self._table.id_of(self._part, "j")
        if name in self._part.fixed:
            return pick(self._part.fixed[name], self.hash(name))
        if self._belongs_elsewhere(name):
            return "NULL"
        special = self._special(column)
        if special is not None:
            return special
        value = self._coded(column) or self._of_kind(column)
        if column.kind in ("string", "text") and column.length < 64 and not column.words:
            value = f"left({value}, {column.length})"
        share = self._null_share(column)
        return f"CASE WHEN {self.hash(name + '.null')} % 100 < {share} THEN NULL ELSE {value} END" if share else value

    def _belongs_elsewhere(self, name: str) -> bool:
        """Whether only other record types of the table have the column, as orders have no probability."""
        others = any(name in s.columns for s in self._table.slices if s is not self._part)
        return others and name not in self._part.columns and name not in extra_columns(self._table.name)

    def _null_share(self, column: Column) -> int:
        """Rows without a value, in percent."""
        if column.name in NEVER_NULL or column.name in self._part.filled or column.kind == "boolean":
            return 0
        if column.name in SPARSE:
            return 70
        return 5 + crc32(column.name.encode()) % 30

    def _special(self, column: Column) -> str | None:
        """Columns whose value hangs together with others of the row or of another table."""
        table, name = self._table.name, column.name
        if table == "accountingperiod":
            month = "(DATE '2019-01-01' + to_months(CAST(j AS INTEGER)))"
            return {
                "periodname": f"strftime({month}, '%b %Y')",
                "startdate": month,
                "enddate": f"last_day({month})",
                "isquarter": "'F'",
                "isyear": "'F'",
                "isadjust": "'F'",
                "parent": "NULL",
            }.get(name)
        if table == "currency":
            known = pools.CURRENCIES
            serial = f"CASE WHEN j < {len(known)} THEN '' ELSE ' ' || j END"
            return {
                "name": f"{pick([r[0] for r in known], 'j')} || {serial}",
                "symbol": f"{pick([r[1] for r in known], 'j')} || {serial}",
                "displaysymbol": pick([r[2] for r in known], "j"),
                "isbasecurrency": "CASE WHEN j = 0 THEN 'T' ELSE 'F' END",
                "exchangerate": f"CASE WHEN j = 0 THEN 1 ELSE {self._decimal(column)} END",
                "currencyprecision": f"{pick(['2', '2', '2', '0', '2', '2', '2', '2', '2', '3'], 'j')}",
            }.get(name)
        if table in RELATIONS and RELATIONS[table] in self._targets:
            entities, part = self._targets[RELATIONS[table]]
            rows = max(part.rows, 1)
            index = f"(CASE WHEN j < {rows} THEN j ELSE CAST({self.hash('again')} % {rows} AS BIGINT) END)"
            return {
                "entity": entities.id_of(part, index) if part.rows else "NULL",
                "isprimarysub": f"CASE WHEN j < {rows} THEN 'T' ELSE 'F' END",
            }.get(name)
        if table == DELETED:
            return self._of_deleted(name)
        return None

    def _of_deleted(self, name: str) -> str | None:
        transactions = ("customer", "salesorder", "invoice")
        return {
            "recordid": "700000000 + j * 3",
            "type": pick(("Customer", "Sales Order", "Invoice"), "j"),
            "scriptid": pick(transactions, "j"),
            "name": f"'Deleted ' || {pick(pools.COMPANIES, self.hash('name'))}",
            "context": pick(("User Interface", "Web Services", "CSV Import"), self.hash("context")),
            "recordtypeid": pick(("2", "-31", "-30"), "j"),
            "iscustomlist": "'F'",
            "iscustomrecord": "'F'",
            "iscustomtransaction": "'F'",
        }.get(name)

    def _coded(self, column: Column) -> str | None:
        """One of the codes that the column knows, if it is of that sort."""
        if column.kind not in ("string", "text"):
            return None
        pairs = codes_of(self._table, self._part, column)
        return pick([code for code, _ in pairs], self.hash(column.name)) if pairs else None

    def _of_kind(self, column: Column) -> str:
        match column.kind:
            case "boolean":
                share = 3 if column.name == "isinactive" else 5 + crc32(column.name.encode()) % 60
                return f"CASE WHEN {self.hash(column.name)} % 100 < {share} THEN 'T' ELSE 'F' END"
            case "integer":
                return f"CAST({self.hash(column.name)} % 100000 AS BIGINT)"
            case "money":
                return self._money(column)
            case "percent":
                return f"CAST({self.hash(column.name)} % 1001 AS BIGINT) / 10"
            case "decimal":
                return self._decimal(column)
            case "date":
                return self._date(column)
            case "datetime":
                return self._datetime(column)
            case "reference":
                return self._reference(column)
            case "json":
                return (
                    f'\'{{"n": \' || CAST({self.hash(column.name)} % 1000 AS VARCHAR) || \', "s": "\' || '
                    f"{pick(pools.WORDS, self.hash(column.name + '.word'))} || '\"}}'"
                )
            case _:
                return self._text(column)

    def _money(self, column: Column) -> str:
        """Mostly hundreds to thousands; some negative, some zero, some very large."""
        h = self.hash(column.name)
        cents = f"CAST({self.hash(column.name + '.cents')} % 100000000 AS BIGINT)"
        return (
            f"CASE CAST({h} % 40 AS INTEGER) WHEN 0 THEN 0 WHEN 1 THEN -{cents} WHEN 2 THEN {cents} * 1234567 "
            f"WHEN 3 THEN 1 ELSE {cents} % 10000000 END::DECIMAL(20,0) * 0.01"
        )

    def _decimal(self, column: Column) -> str:
        digits = min(column.scale, 5)
        bound = 300 if column.name in ("exchangerate", "fxrate") else 5000
        number = f"1 + CAST({self.hash(column.name)} % {bound * 10**digits} AS BIGINT)"
        if column.name.startswith("quantity"):
            number = f"CASE WHEN {self.hash('whole')} % 4 = 0 THEN {number} ELSE ({number}) % 50 * {10**digits} END"
        return f"({number})::DECIMAL(18,0) * {10**-digits:.{digits}f}::DECIMAL(18,{digits})"

    def _date(self, column: Column) -> str:
        """Dates of one row lie near each other, those named after an end a bit later."""
        later = 0 if column.name in ("trandate", "startdate", "hiredate", "chargedate") else 1
        offset = f"{later} * CAST({self.hash(column.name)} % 90 AS INTEGER)"
        return f"DATE '2018-01-02' + CAST({self.hash('date')} % 2900 AS INTEGER) + {offset}"

    def _datetime(self, column: Column) -> str:
        """True UTC instants to the second. Several rows share one, and one instant of a bulk edit has very many."""
        changed = (
            f"CASE WHEN {self.hash('bulk')} % 25 = 0 THEN TIMESTAMP '2026-03-08 10:00:00' ELSE TIMESTAMP "
            f"'2023-01-01 00:00:00' + to_seconds(CAST({self.hash('changed', 'j // 3')} % 110000000 AS BIGINT)) END"
        )
        if column.name in ("createddate", "datecreated", "linecreateddate"):
            return f"{changed} - to_seconds(CAST({self.hash(column.name)} % 150000000 AS BIGINT))"
        return changed

    def _reference(self, column: Column) -> str:
        """An id that exists, or one of a short list; a row's parent always has a smaller index, so no cycles."""
        h = self.hash(column.name)
        if column.references == self._part.record_type:
            parent = self._table.id_of(self._part, f"CAST({h} % j AS BIGINT)")
            return f"CASE WHEN j > 0 AND {self.hash(column.name + '.top')} % 100 < 40 THEN {parent} END"
        if column.references and column.references in self._targets:
            table, part = self._targets[column.references]
            parts = [p for p in (table.slices if part.umbrella else [part]) if p.rows]
            ids = [table.id_of(p, f"CAST({h} % {p.rows} AS BIGINT)") for p in parts]
            which = f"CAST({self.hash(column.name + '.part')} % {len(ids)} AS INTEGER)" if ids else ""
            cases = " ".join(f"WHEN {n} THEN {sql}" for n, sql in enumerate(ids))
            return (f"CASE {which} {cases} END" if len(ids) > 1 else ids[0]) if ids else "NULL"
        if column.name.endswith("address"):
            return f"1000 + CAST({h} % 900000 AS BIGINT)"
        return f"1 + CAST({h} % {_LIST_LENGTH} AS BIGINT)" if column.name != "parent" else "NULL"

    def _text(self, column: Column) -> str:
        """A text that the column's name suggests."""
        name, h = column.name, self.hash(column.name)
        company = (
            f"{pick(pools.COMPANIES, self.hash('company'))} || ' ' || {pick(pools.COMPANY_FORMS, self.hash('form'))}"
        )
        first, last = pick(pools.FIRST_NAMES, self.hash("first")), pick(pools.LAST_NAMES, self.hash("last"))
        person = f"{first} || ' ' || {last}"
        label = " ".join(word.capitalize() for word in self._part.record_type.split("_"))
        number = "CAST(1001 + j AS VARCHAR)"
        match name:
            case "firstname":
                return first
            case "lastname":
                return last
            case "companyname" | "altname" | "legalname" | "title" | "projectname":
                return person if self._table.name == "employee" else company
            case "entityid":
                return f"{person if self._table.name == 'employee' else company} || ' ' || {number}"
            case "entitynumber" | "number" | "transactionnumber" | "accountnumber":
                return number if column.sql_type != "VARCHAR" or name == "number" else f"'N' || {number}"
            case "tranid":
                prefix = "".join(word[0] for word in self._part.record_type.upper().split("_"))
                return f"'{prefix}' || {number}"
            case "trandisplayname":
                return f"'{label} #' || {number}"
            case "recordtype":
                return literal(self._part.record_type.replace("_", ""))
            case "abbrevtype":
                return literal("".join(word[0] for word in label.split()))
            case "itemid":
                return f"{pick(pools.WORDS, h)} || '-' || '{label[:3].upper()}' || {number}"
            case "name" | "fullname" | "displayname":
                words = pools.LISTS.get(self._table.name) or pools.WORDS
                return f"{pick(words, 'j')} || CASE WHEN j < {len(words)} THEN '' ELSE ' ' || {number} END"
            case "email":
                return f"'user' || {number} || '@example-' || CAST({h} % 30 AS VARCHAR) || '.com'"
            case "phone" | "altphone" | "fax" | "mobilephone":
                return f"'+' || CAST(1 + {h} % 90 AS VARCHAR) || ' (0) ' || CAST(1000000 + {h} % 8999999 AS VARCHAR)"
            case "url":
                return f"'https://www.example-' || CAST({h} % 500 AS VARCHAR) || '.com/?q=a&b=ü'"
            case "externalid":
                return f"'EXT-' || {number}"
            case "country" | "countryofmanufacture":
                return pick(pools.COUNTRIES, h)
            case "state" | "dropdownstate":
                return pick(pools.STATES, h)
            case "city":
                return pick(pools.CITIES, h)
            case "addr1" | "addr2":
                return f"CAST(1 + {h} % 300 AS VARCHAR) || ' ' || {pick(pools.STREETS, h)}"
            case "customtype":
                return "'-1'"
        if column.kind == "text" or name in ("memo", "description", "comments", "shipcomments"):
            return pick(pools.TEXTS, h)
        return f"{pick(pools.WORDS, h)} || ' ' || CAST({h} % 997 AS VARCHAR)"


def codes_of(table: Table, part: Slice, column: Column) -> tuple[tuple[str, str], ...]:
    """Stored code and display text of a coded column in the rows of ``part``; empty for a column that is free text."""
    if table.name in ("transaction",) and column.name == "status":
        known = pools.STATUS_WORDS.get(part.fixed.get("type", ("",))[0])
        if known:
            return known
    taken = {value for other in table.slices if other is not part for value in other.fixed.get(column.name, ())}
    known = pools.CODED_WORDS.get(column.name, ())
    if part.umbrella and taken:
        return tuple(pair for pair in known if pair[0] not in taken) or (("Other", "Other"),)
    if known and (column.coded or not column.words):
        return known
    if column.coded:
        texts = column.words or ("Open", "Closed")
        return tuple((chr(65 + i), word) for i, word in enumerate(texts))
    return tuple((word, word) for word in column.words)


def line_expressions(
    table: Table, parent: str, part: Slice, targets: Mapping[str, tuple[Table, Slice]], seed: int
) -> dict[str, str]:
    """SQL by column for transaction lines, over ``j`` (line index), ``line`` (its number, 0 the main line)
    and ``parent_id``; ``parent`` is the parents' record type."""
    values = RowValues(table, part, targets, seed)
    expressions = values.expressions()
    origin = {"sales_order": "opportunity", "invoice": "sales_order", "item_fulfillment": "sales_order"}.get(parent)
    created_from = "NULL"
    if origin and origin in targets and targets[origin][1].rows:
        source, rows = targets[origin][0], targets[origin][1]
        pointed = source.id_of(rows, f"CAST({values.hash('from', 'parent_id')} % {rows.rows} AS BIGINT)")
        created_from = f"CASE WHEN {values.hash('made', 'parent_id')} % 100 < 60 THEN {pointed} END"
    fixed = {
        "transaction": "parent_id",
        "id": "CASE WHEN line = 0 THEN 0 ELSE line * 2 - CAST(parent_id % 2 AS BIGINT) END",
        "createdfrom": created_from,
        "linesequencenumber": "line",
        "mainline": "CASE WHEN line = 0 THEN 'T' ELSE 'F' END",
        "taxline": "'F'",
        "item": f"CASE WHEN line > 0 THEN {expressions['item']} END" if "item" in expressions else "NULL",
    }
    return expressions | {
        name: f"CAST({sql} AS {table.columns[name].sql_type})" for name, sql in fixed.items() if name in table.columns
    }
