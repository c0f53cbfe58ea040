"""One SuiteQL statement into one DuckDB statement, checked against the account's tables.

Belongs here: parsing (sqlglot, Oracle dialect), names resolved as NetSuite does it, with its own error texts, Oracle's
date and text semantics. Dates inside a statement are local to the account's time zone; only the stored
instants are UTC. Does not belong here: running it (``suiteql_engine.py``).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError
from sqlglot.optimizer.scope import Scope, traverse_scope

from nsimport_pipeline.simulator.suiteql_text import SuiteQLError, date_format
from nsimport_pipeline.simulator.tables import RELATIONS, Column, Table, Tables
from nsimport_pipeline.simulator.values import codes_of, literal

MAX_IN = 1000


Node: TypeAlias = Any
"""A part of a parsed statement; sqlglot's own types for them change from release to release."""


class Account(Protocol):
    """What the account's tables are for a statement: whole, or with parts switched off."""

    @property
    def tables(self) -> Tables: ...

    def check_table(self, name: str) -> None:
        """Raise SuiteQLError if the account or the role has no such table."""

    def check_column(self, table: str, column: str, available: str) -> None:
        """Raise SuiteQLError or ColumnFailureError if the column cannot be selected."""


@dataclass(frozen=True)
class Translated:
    """A statement for DuckDB, with sentinels where numbers go. Columns of the result are called ``keys`` in order."""

    rows: str
    """Ordered as asked, ties broken at random, with the statement's own FETCH."""
    count: str
    """``SELECT count(*)`` of all rows."""
    keys: tuple[str, ...]


class _Translation:
    def __init__(self, account: Account, date_preference: str) -> None:
        self._account = account
        self._preference = date_preference

    def run(self, shape: str) -> Translated:
        root = _parse(shape)
        _refuse(root)
        for table in root.find_all(exp.Table):
            if table.name.lower() != "dual":
                self._account.check_table(table.name.lower())
        try:
            scopes = traverse_scope(root)
        except SqlglotError:
            raise SuiteQLError.unsupported() from None
        for scope in scopes:
            self._expand_stars(scope)
        for scope in traverse_scope(root):
            self._resolve(scope)
        for node in reversed(list(root.walk())):
            self._rewrite(node)
        for select in list(root.find_all(exp.Select)):
            _share_lookups(select)
        return _finished(root)

    def _expand_stars(self, scope: Scope) -> None:
        select = scope.expression
        if not isinstance(select, exp.Select) or not any(_is_star(e) for e in select.expressions):
            return
        expressions: list[Node] = []
        for expression in select.expressions:
            if not _is_star(expression):
                expressions.append(expression)
                continue
            wanted = expression.table if isinstance(expression, exp.Column) else ""
            for alias, source in scope.sources.items():
                if wanted and alias.lower() != wanted.lower():
                    continue
                for name in self._names(source):
                    expressions.append(exp.column(name, table=alias))
        select.set("expressions", expressions)

    def _names(self, source: exp.Table | Scope) -> list[str]:
        if isinstance(source, Scope):
            return [e.alias_or_name for e in _selects(source)]
        if source.name.lower() == "dual":
            return ["dummy"]
        name = source.name.lower()
        visible = []
        for column in self._account.tables[name].columns:
            try:
                self._account.check_column(name, column, "")
            except Exception:  # noqa: S112 - a column that cannot be selected is not part of *
                continue
            visible.append(column)
        return visible

    def _resolve(self, scope: Scope) -> None:
        """Give every column its qualifier and, if it is a table's, its model."""
        if not isinstance(scope.expression, exp.Select):
            return
        aliases = {e.alias.lower() for e in scope.expression.selects if isinstance(e, exp.Alias)}
        for column in scope.columns:
            if column.name.lower() == "rownum" and not column.table:
                raise SuiteQLError.unsupported()
            if self._bind(column, scope):
                continue
            ordering = column.find_ancestor(exp.Order, exp.Having, exp.Select)
            if not column.table and column.name.lower() in aliases and not isinstance(ordering, exp.Select):
                continue
            raise SuiteQLError.search(_unknown(column.name, scope))

    def _bind(self, column: exp.Column, scope: Scope | None) -> bool:
        while scope is not None:
            for alias, source in scope.sources.items():
                if column.table and column.table.lower() != alias.lower():
                    continue
                found = self._found(column.name.lower(), source, scope)
                if found:
                    column.set("table", exp.to_identifier(alias))
                    if isinstance(found, tuple):
                        column.meta["column"], column.meta["of"] = found
                        column.meta["kind"] = found[0].kind
                    return True
            scope = scope.parent
        return False

    def _found(self, name: str, source: exp.Table | Scope, scope: Scope) -> tuple[Column, Table] | bool:
        if isinstance(source, Scope):
            for projection in _selects(source):
                if projection.alias_or_name.lower() == name:
                    kind = _kind(projection)
                    if kind in ("local", "datetime", "date"):
                        return Column(name, "date" if kind == "date" else "datetime"), Table("")
                    return True
            return False
        if source.name.lower() == "dual":
            return name == "dummy"
        table = self._account.tables[source.name.lower()]
        column = table.columns.get(name)
        available = _available(scope)
        if column is not None:
            self._account.check_column(table.name, name, available)
        return (column, table) if column is not None else False

    def _rewrite(self, node: Node) -> None:
        if isinstance(node, exp.Column):
            self._rewrite_column(node)
        elif isinstance(node, exp.Dot) and isinstance(node.expression, exp.Anonymous):
            function = str(node.expression.this).upper()
            if function not in ("NS_DF", "NS_CF") or node.this.name.upper() != "BUILTIN":
                raise SuiteQLError.unsupported()
        elif isinstance(node, exp.Anonymous):
            self._rewrite_function(node)
        elif isinstance(node, exp.DPipe):
            node.replace(exp.Anonymous(this="concat", expressions=list(node.flatten())))
        elif isinstance(node, exp.Add | exp.Sub):
            self._rewrite_arithmetic(node)

    def _rewrite_column(self, node: exp.Column) -> None:
        if node.meta.get("kind") != "datetime" or node.meta["of"].name == "" or "done" in node.meta:
            return
        node.meta["done"] = True
        parent = node.parent
        if isinstance(parent, exp.Anonymous) and str(parent.this).upper() == "NS_SYS_EXTRACT_UTC":
            return
        if isinstance(parent, exp.Count):
            return
        name = node.name
        wrapped = exp.Anonymous(this="ns_local", expressions=[node.copy()])
        wrapped.expressions[0].meta["done"] = True
        wrapped.meta["kind"] = "local"
        if isinstance(parent, exp.Select) and node.arg_key == "expressions":
            aliased = exp.alias_(wrapped, name)
            node.replace(aliased)
        else:
            node.replace(wrapped)

    def _rewrite_function(self, node: exp.Anonymous) -> None:
        name, arguments = str(node.this).upper(), node.expressions
        if not name.startswith("NS_") or node.meta.get("done"):
            return
        handlers: dict[str, Callable[[exp.Anonymous, list[Node]], Node]] = {
            "NS_NOW": lambda _node, _args: _call("ns_now", [], kind="local"),
            "NS_SYS_EXTRACT_UTC": self._extract_utc,
            "NS_FROM_TZ": lambda _node, args: args[0],
            "NS_TO_CHAR": self._to_char,
            "NS_TO_NCHAR": self._to_char,
            "NS_TO_DATE": self._to_date,
            "NS_TO_TIMESTAMP": self._to_date,
            "NS_TO_TIMESTAMP_TZ": self._to_date,
            "NS_TRUNC": self._trunc,
            "NS_DF": self._display,
            "NS_CF": self._code,
        }
        handler = handlers.get(name)
        if name in ("NS_LOCAL", "NS_UTC"):
            return
        if handler is None or (not arguments and name != "NS_NOW"):
            raise SuiteQLError.unsupported()
        target = node.parent if name in ("NS_DF", "NS_CF") and isinstance(node.parent, exp.Dot) else node
        if target is node and name in ("NS_DF", "NS_CF"):
            raise SuiteQLError.unsupported()
        new = handler(node, arguments)
        new.meta["done"] = True
        target.replace(new)

    def _extract_utc(self, node: exp.Anonymous, arguments: list[Node]) -> Node:
        value = arguments[0]
        if isinstance(value, exp.Column) and value.meta.get("kind") == "datetime" and value.meta["of"].name:
            bare = exp.Cast(this=value, to=exp.DataType.build("TIMESTAMP", dialect="duckdb"))
            bare.meta["kind"] = "local"
            return bare
        return _call("ns_utc", [value], kind="local")

    def _to_char(self, node: exp.Anonymous, arguments: list[Node]) -> Node:
        value = arguments[0]
        if len(arguments) == 1:
            if _kind(value) in ("local", "date", "datetime"):
                return _call("strftime", [value, _text(date_format(self._preference, account=True) or "")])
            return exp.Cast(this=value, to=exp.DataType.build("VARCHAR"))
        if not isinstance(arguments[1], exp.Literal):
            raise SuiteQLError.unsupported()
        pattern = date_format(arguments[1].name)
        if pattern is None:
            return exp.Cast(this=value, to=exp.DataType.build("VARCHAR"))
        return _call("strftime", [value, _text(pattern)])

    def _to_date(self, node: exp.Anonymous, arguments: list[Node]) -> Node:
        if len(arguments) > 1 and not isinstance(arguments[1], exp.Literal):
            raise SuiteQLError.unsupported()
        pattern = date_format(arguments[1].name) if len(arguments) > 1 else date_format(self._preference, account=True)
        if pattern is None:
            raise SuiteQLError.unsupported()
        parsed = _call("strptime", [arguments[0], _text(pattern)], kind="local")
        return _call("ns_from_zoned", [parsed], kind="local") if "%z" in pattern.lower() else parsed

    def _trunc(self, node: exp.Anonymous, arguments: list[Node]) -> Node:
        if _kind(arguments[0]) not in ("local", "date", "datetime"):
            return exp.Anonymous(this="trunc", expressions=arguments)
        unit = arguments[1].name.upper() if len(arguments) > 1 else "DD"
        parts = {"DD": "day", "DAY": "week", "IW": "week", "MM": "month", "MONTH": "month", "Q": "quarter"}
        parts |= {"YYYY": "year", "YEAR": "year", "Y": "year", "HH24": "hour", "HH": "hour", "MI": "minute"}
        if unit not in parts:
            raise SuiteQLError.unsupported()
        return _call("date_trunc", [_text(parts[unit]), arguments[0]], kind="local")

    def _display(self, node: exp.Anonymous, arguments: list[Node]) -> Node:
        """``BUILTIN.DF``: the text that a person sees for a value."""
        value = arguments[0]
        if not isinstance(value, exp.Column) or "column" not in value.meta:
            return exp.Cast(this=value, to=exp.DataType.build("VARCHAR")) if _kind(value) is None else value
        column, table = value.meta["column"], value.meta["of"]
        sql = value.sql(dialect="duckdb", identify=True)
        return _raw(display_sql(column, table, sql, value.table, self._account.tables))

    def _code(self, node: exp.Anonymous, arguments: list[Node]) -> Node:
        """``BUILTIN.CF``: the code with the transaction type in front."""
        value = arguments[0]
        if isinstance(value, exp.Column) and "column" in value.meta:
            table = value.meta["of"]
            if table.name == "transaction" and value.meta["column"].name == "status":
                return _raw(f'"{value.table}"."type" || \':\' || {value.sql(dialect="duckdb", identify=True)}')
        return value

    def _rewrite_arithmetic(self, node: exp.Add | exp.Sub) -> None:
        left, right = _kind(node.left), _kind(node.right)
        dates = ("local", "date", "datetime")
        if left in dates and right in dates and isinstance(node, exp.Sub):
            node.replace(_call("ns_days_between", [node.left, node.right]))
        elif left in dates and not isinstance(node.right, exp.Interval):
            days = node.right if isinstance(node, exp.Add) else exp.Neg(this=exp.paren(node.right))
            node.replace(_call("ns_add_days", [node.left, days], kind="local"))
        elif isinstance(node, exp.Add) and (_is_text(node.left) or _is_text(node.right)):
            raise SuiteQLError.unsupported()


def display_sql(column: Column, table: Table, sql: str, alias: str, tables: Tables) -> str:
    """DuckDB SQL for the display text of ``sql``, a column of ``table`` under ``alias``."""
    if column.kind == "reference":
        target, part = _target_of(column, table, tables)
        if target is not None and target.display_column:
            return f'(SELECT _d."{target.display_column}" FROM "{target.name}" _d WHERE _d."{target.key}" = {sql})'
        if column.name.endswith("address"):
            return f"ns_address({sql})"
        label = column.name.capitalize()
        return f"CASE WHEN {sql} IS NULL THEN NULL ELSE {literal(label + ' ')} || {sql} END"
    if column.kind == "boolean":
        return f"CASE {sql} WHEN 'T' THEN 'Yes' WHEN 'F' THEN 'No' END"
    if column.kind not in ("string", "text"):
        return f"ns_local({sql})" if column.kind == "datetime" and table.name else sql
    discriminator = table.discriminator
    cases: dict[tuple[str, str], str] = {}
    for part in table.slices:
        own = part.columns.get(column.name, column)
        for code, text in codes_of(table, part, own):
            if discriminator and len(table.slices) > 1:
                kinds = ", ".join(map(literal, part.fixed[discriminator]))
                test = f'{sql} = {literal(code)} AND "{alias}"."{discriminator}" IN ({kinds})'
            else:
                test = f"{sql} = {literal(code)}"
            cases[(test, code)] = text
    whens = " ".join(f"WHEN {test} THEN {literal(text)}" for (test, code), text in cases.items() if text != code)
    return f"CASE {whens} ELSE {sql} END" if whens else sql


def _target_of(column: Column, table: Table, tables: Tables) -> tuple[Table | None, None]:
    if table.name in RELATIONS and column.name == "entity":
        return tables.get(RELATIONS[table.name]), None
    if table.name == "transactionline" and column.name in ("transaction", "createdfrom"):
        return tables.get("transaction"), None
    for candidate in tables.values():
        if any(part.record_type == column.references for part in candidate.slices):
            return candidate, None
    return None, None


def _parse(shape: str) -> exp.Query:
    try:
        statements = sqlglot.parse(shape, read="oracle")
    except SqlglotError as error:
        details = getattr(error, "errors", None) or [{}]
        raise SuiteQLError.syntax(str(details[0].get("highlight") or "")) from None
    if len(statements) != 1 or not isinstance(statements[0], exp.Select | exp.SetOperation | exp.Subquery):
        raise SuiteQLError.syntax("")
    root = statements[0]
    return root.unnest() if isinstance(root, exp.Subquery) else root  # type: ignore[return-value]


def _refuse(root: exp.Query) -> None:
    """What SuiteQL does not run although it is good Oracle."""
    for node in root.walk():
        if isinstance(node, exp.In) and len(node.expressions) > MAX_IN:
            raise SuiteQLError.search("The maximum number of expressions in a list is 1000.")
        if isinstance(node, exp.With | exp.Placeholder | exp.Star) and not isinstance(node, exp.Star):
            raise SuiteQLError.unsupported()
        if isinstance(node, exp.Column) and node.args.get("join_mark"):
            raise SuiteQLError.unsupported()
        if isinstance(node, exp.Table) and (node.db or not node.name):
            raise SuiteQLError.unsupported()
        if isinstance(node, exp.Offset):
            node.pop()
        if isinstance(node, exp.Ordered) and isinstance(node.this, exp.Column) and not node.this.table:
            select = node.find_ancestor(exp.Select)
            for projection in select.expressions if select is not None else ():
                aggregate = projection.find(exp.AggFunc) if isinstance(projection, exp.Alias) else None
                if aggregate and not projection.find(exp.Window) and projection.alias.lower() == node.this.name.lower():
                    raise SuiteQLError.unsupported()


def _finished(root: exp.Query) -> Translated:
    keys, unnamed = [], 0
    for projection in root.selects:
        name = projection.alias_or_name
        if not name or not isinstance(projection, exp.Alias | exp.Column):
            unnamed += 1
            name = f"expr{unnamed}"
        keys.append(name.lower())
    counted = root.copy()
    counted.set("order", None)
    limited = counted.args.get("limit") is not None
    count = f"SELECT count(*) FROM ({(root if limited else counted).sql(dialect='duckdb', identify=True)})"
    if isinstance(root, exp.Select) and not root.args.get("distinct"):
        order = root.args.get("order")
        ties = exp.Ordered(this=exp.Anonymous(this="random"))
        if order is not None:
            order.append("expressions", ties)
        elif not _is_single_row(root):
            root.set("order", exp.Order(expressions=[ties]))
    rows = root.sql(dialect="duckdb", identify=True)
    return Translated(f"SELECT * FROM ({rows})" if limited else rows, count, tuple(keys))


def _share_lookups(select: Node) -> None:
    """Scalar sub-selects that aggregate the same rows become one lateral join: DuckDB plans each one dearly."""
    if (
        select.args.get("group")
        or select.args.get("distinct")
        or not (select.args.get("from_") or select.args.get("from"))
    ):
        return
    groups: dict[str, list[Node]] = {}
    for projection in select.expressions:
        for lookup in projection.find_all(exp.Subquery):
            inner = lookup.this
            if lookup.parent_select is not select or not isinstance(inner, exp.Select):
                continue
            if not _is_single_row(inner) or len(inner.selects) != 1 or inner.args.get("having"):
                continue
            rest = inner.copy()
            rest.set("expressions", [])
            groups.setdefault(rest.sql(dialect="duckdb", identify=True), []).append(lookup)
    for number, lookups in enumerate(group for group in groups.values() if len(group) > 1):
        shared, alias = lookups[0].this.copy(), f"_shared{number}"
        names = [f"v{n}" for n in range(len(lookups))]
        values = [lookup.this.selects[0].unalias() for lookup in lookups]
        shared.set("expressions", [exp.alias_(v.copy(), n) for v, n in zip(values, names, strict=True)])
        lateral = exp.Lateral(this=exp.Subquery(this=shared), alias=exp.TableAlias(this=exp.to_identifier(alias)))
        select.append("joins", exp.Join(this=lateral, side="LEFT", on=exp.true()))
        for lookup, name in zip(lookups, names, strict=True):
            lookup.replace(exp.column(name, table=alias))


def _is_single_row(select: exp.Select) -> bool:
    aggregates = any(e.find(exp.AggFunc) and not e.find(exp.Window) for e in select.expressions)
    return aggregates and not select.args.get("group")


def _kind(node: Node | None) -> str | None:
    """``local``, ``date`` or ``datetime`` for an expression that is a date, else None or a column's kind."""
    if node is None:
        return None
    if "kind" in node.meta:
        return str(node.meta["kind"])
    if isinstance(node, exp.Alias | exp.Paren | exp.Max | exp.Min | exp.Coalesce):
        return _kind(node.this)
    if isinstance(node, exp.Anonymous) and str(node.this).upper() in (
        "NS_NOW",
        "NS_TO_DATE",
        "NS_TO_TIMESTAMP",
        "NS_SYS_EXTRACT_UTC",
    ):
        return "local"
    if isinstance(node, exp.Subquery) and isinstance(node.this, exp.Select):
        return _kind(node.this.selects[0]) if node.this.selects else None
    return None


def _selects(scope: Scope) -> list[Node]:
    expression: Any = scope.expression
    return list(expression.selects)


def _is_star(node: Node) -> bool:
    return isinstance(node, exp.Star) or (isinstance(node, exp.Column) and isinstance(node.this, exp.Star))


def _is_text(node: Node) -> bool:
    return (isinstance(node, exp.Literal) and node.is_string) or node.meta.get("kind") in ("string", "text")


def _available(scope: Scope) -> str:
    names = [
        f"{alias}={source.name if isinstance(source, exp.Table) else alias}" for alias, source in scope.sources.items()
    ]
    return "{" + ", ".join(names) + "}"


def _unknown(name: str, scope: Scope) -> str:
    return f"Unknown identifier '{name}'. Available identifiers are: {_available(scope)}."


def _call(name: str, arguments: list[Node], kind: str | None = None) -> Node:
    call = exp.Anonymous(this=name, expressions=arguments)
    call.meta["done"] = True
    if kind:
        call.meta["kind"] = kind
    return call


def _text(value: str) -> Node:
    return exp.Literal.string(value)


def _raw(sql: str) -> Node:
    parsed = sqlglot.parse_one(sql, read="duckdb")
    for node in parsed.walk():
        node.meta["done"] = True
    return exp.paren(parsed)


def translate(shape: str, account: Account, date_preference: str) -> Translated:
    """Translate one statement's shape. Raises SuiteQLError with NetSuite's text, or ColumnFailureError."""
    return _Translation(account, date_preference).run(shape)
