"""The simulated company: which records an event happens to, and what NetSuite's tables say afterwards.

Belongs here: events as changes to the simulated account's tables. Does not belong here: what happens and when
(``events.py``).

Only what NetSuite would allow, or an import by times of change can see: nothing that others refer to is deleted or gets
another name, and a line that is removed changes its transaction's main line, whose amount has become another.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from random import Random

from nsimport_pipeline.record_types.criteria import load_catalog
from nsimport_pipeline.simulator.process import SimulatorProcess
from nsimport_pipeline_tests.acceptance.reference import read_suiteql
from nsimport_pipeline_tests.life.events import SWEPT, Event

CATALOG = load_catalog()
TABLES = {"customer": "customer", "non_inventory_item": "item", "sales_order": "transaction", "invoice": "transaction"}
"""The NetSuite table of each record type."""
COLUMNS = {
    "customer": ("phone", "email", "comments", "fax"),
    "item": ("description", "mpn"),
    "transaction": ("memo", "otherrefnum"),
}
"""Columns of each that are edited: texts that no other record shows."""
LIST = "customersubsidiaryrelationship"
WORDS = (
    "Meyer",
    "MEYER",
    "meyer",
    "Zürich",
    "Zu\u0308rich",
    "東京 😀",
    "O''Brien",
    "strasse",
    "straße",
    "a\nb",
    "0",
    "1e3",
)
"""Texts that a database may take for one another."""
ORDINARY = 0.9
"""Share of values that are numbered, and so differ from what was there."""


class Company:
    """What there is in the account, kept beside it so that nothing has to be asked while time passes."""

    def __init__(self, simulator: SimulatorProcess) -> None:
        self.simulator = simulator
        self.records = {name: self._ids(name) for name in TABLES}
        self.gone: dict[str, list[int]] = {name: [] for name in TABLES}
        """Deleted records that may come back."""
        self.untold: set[int] = set()
        """Records of the type that is swept that went or came back without a word, since it was last swept."""
        self.ever: dict[str, set[int]] = {name: set(ids) for name, ids in self.records.items()}
        self.lines = self._lines()
        self.links = [
            int(row["id"]) for row in self._read(f"SELECT t.id AS id FROM {LIST} t WHERE t.isprimarysub = 'F'")
        ]
        self._referred = self._referred_to()
        self._top = {table: self._highest("id", table) for table in {*TABLES.values(), LIST}}
        self._top_line = self._highest("uniquekey", "transactionline")
        self._spare: dict[str, list[int]] = {table: [] for table in TABLES.values()}
        """Ids below the highest one that no record has had: for what was begun before others and is committed later."""
        simulator.sql(
            *(f"CREATE TABLE gone_{t} AS SELECT * FROM {t} WHERE false" for t in {*TABLES.values(), "transactionline"})
        )

    def live(self, events: Sequence[Event]) -> None:
        """Let the events happen, in the order in which they are seen."""
        statements = [statement for event in events for statement in self._statements(event)]
        if statements:
            self.simulator.sql(*statements)

    def _statements(self, event: Event) -> Iterable[str]:
        random = Random(event.draw)
        stamp, name = _stamp(event.at), event.record_type
        match event.kind:
            case "edit" | "bulk":
                yield from self._edit(random, name, self._some(random, self.records[name], event.count), stamp)
            case "insert":
                yield from self._insert(random, name, event, stamp)
            case "delete":
                yield from self._delete(random, name, event, stamp)
            case "undelete":
                yield from self._undelete(random, name, event, stamp)
            case "line edit":
                keys = [key for order in self._orders(random, event.count) for key in self.lines[order][:2]]
                yield self._change_lines(random, keys, stamp)
            case "line add":
                orders = self._orders(random, min(event.count, 5))
                yield from (self._new_lines(random, [order], self.lines[order][-1:], stamp) for order in orders)
            case "line remove":
                for order in self._orders(random, min(event.count, 5), least=3):
                    key = self.lines[order].pop()
                    yield f"DELETE FROM transactionline WHERE uniquekey = {key}"
                    yield self._change_lines(random, self.lines[order][:1], stamp)
            case "list edit":
                keys = self._some(random, self.links, event.count)
                yield f"UPDATE {LIST} SET subsidiary = subsidiary % 5 + 1 WHERE id IN ({_numbers(keys)})"
            case "list insert":
                yield self._new_links(random, event.count)
            case "list delete":
                keys = self._some(random, self.links, event.count)
                self.links = sorted(set(self.links) - set(keys))
                yield f"DELETE FROM {LIST} WHERE id IN ({_numbers(keys)})"
            case kind:
                raise ValueError(f"nothing is known of {kind}")

    def _edit(self, random: Random, name: str, ids: Sequence[int], stamp: str) -> Iterable[str]:
        table = TABLES[name]
        column = random.choice(COLUMNS[table])
        yield f"UPDATE {table} SET {column} = {_text(random)}, lastmodifieddate = {stamp} WHERE id IN ({_numbers(ids)})"
        if table == "transaction" and random.random() < 0.4:
            yield self._change_lines(random, [key for order in ids for key in self.lines[order][:1]], stamp)

    def _insert(self, random: Random, name: str, event: Event, stamp: str) -> Iterable[str]:
        table = TABLES[name]
        pattern, column = random.choice(self.records[name]), COLUMNS[table][0]
        new = self._new_ids(random, table, min(event.count, 40) if table == "transaction" else event.count, event.late)
        if not new:
            return
        yield (
            f"INSERT INTO {table} BY NAME SELECT t.* REPLACE (n.id AS id, {_text(random)} AS {column}, {stamp} AS"
            f" lastmodifieddate) FROM {table} t, (SELECT unnest({new}) AS id) n WHERE t.id = {pattern}"
        )
        self.records[name] = sorted({*self.records[name], *new})
        self.ever[name] |= set(new)
        if table == "transaction":
            keys = self.lines[pattern]
            self.lines |= {order: [] for order in new}
            yield self._new_lines(random, new, keys, stamp)

    def _delete(self, random: Random, name: str, event: Event, stamp: str) -> Iterable[str]:
        table = TABLES[name]
        free = [one for one in self.records[name] if one not in self._referred.get(name, ())]
        ids = self._some(random, free, min(event.count, max(0, len(self.records[name]) - 50)))
        if not ids:
            return
        among = _numbers(ids)
        self.records[name] = sorted(set(self.records[name]) - set(ids))
        self.gone[name] = sorted({*self.gone[name], *ids})
        if name == SWEPT:
            self.untold |= set(ids)
        else:
            yield self._deleted_record(table, among, stamp)
        if table == "transaction":
            yield f"INSERT INTO gone_transactionline SELECT * FROM transactionline WHERE transaction IN ({among})"
            yield f"DELETE FROM transactionline WHERE transaction IN ({among})"
        yield f"INSERT INTO gone_{table} SELECT * FROM {table} WHERE id IN ({among})"
        yield f"DELETE FROM {table} WHERE id IN ({among})"

    @staticmethod
    def _deleted_record(table: str, among: str, stamp: str) -> str:
        return (
            "INSERT INTO deletedrecord BY NAME SELECT (SELECT coalesce(max(id), 0) FROM deletedrecord) + row_number()"
            f" OVER () AS id, id AS recordid, '{table}' AS type, {stamp} AS deleteddate FROM {table}"
            f" WHERE id IN ({among})"
        )

    def _undelete(self, random: Random, name: str, event: Event, stamp: str) -> Iterable[str]:
        table, ids = TABLES[name], self._some(random, self.gone[name], event.count)
        if not ids:
            return
        among = _numbers(ids)
        self.gone[name] = sorted(set(self.gone[name]) - set(ids))
        self.records[name] = sorted({*self.records[name], *ids})
        untold = name == SWEPT and random.random() < 0.5
        self.untold |= set(ids) if untold else set()
        moment = "lastmodifieddate" if untold else stamp
        back = f"SELECT * REPLACE ({moment} AS lastmodifieddate) FROM gone_{table} WHERE id IN ({among})"
        yield f"INSERT INTO {table} {back}"
        yield f"DELETE FROM gone_{table} WHERE id IN ({among})"
        if table == "transaction":
            yield f"INSERT INTO transactionline SELECT * FROM gone_transactionline WHERE transaction IN ({among})"
            yield f"DELETE FROM gone_transactionline WHERE transaction IN ({among})"

    def _change_lines(self, random: Random, keys: Sequence[int], stamp: str) -> str:
        return (
            f"UPDATE transactionline SET memo = {_text(random)}, foreignamount = {random.randrange(10**6) / 100},"
            f" linelastmodifieddate = {stamp} WHERE uniquekey IN ({_numbers(keys)})"
        )

    def _new_lines(self, random: Random, orders: Sequence[int], keys: Sequence[int], stamp: str) -> str:
        """Lines like those with these keys, for each of ``orders``."""
        firsts = []
        for order in orders:
            firsts.append(self._top_line + random.randrange(1, 4))
            self._top_line = firsts[-1] + len(keys)
            self.lines[order] += range(firsts[-1], firsts[-1] + len(keys))
        number = (
            "(SELECT *, row_number() OVER (ORDER BY uniquekey) AS place FROM transactionline"
            f" WHERE uniquekey IN ({_numbers(keys)}))"
        )
        return (
            "INSERT INTO transactionline BY NAME SELECT l.* EXCLUDE (place) REPLACE (o.parent AS transaction,"
            f" o.first - 1 + place AS uniquekey, o.first % 100000 + place AS id, {stamp} AS linelastmodifieddate)"
            f" FROM {number} l, (SELECT unnest({list(orders)}) AS parent, unnest({firsts}) AS first) o"
        )

    def _new_links(self, random: Random, count: int) -> str:
        first = self._top[LIST] + 1
        self._top[LIST] += count
        self.links += range(first, first + count)
        customer = random.choice(self.records["customer"])
        return (
            f"INSERT INTO {LIST} BY NAME SELECT * REPLACE (n.id AS id, {customer} AS entity, 'F' AS isprimarysub) FROM"
            f" (SELECT * FROM {LIST} ORDER BY id LIMIT 1) l, (SELECT unnest(range({first}, {first + count})) AS id) n"
        )

    def _new_ids(self, random: Random, table: str, count: int, late: bool) -> list[int]:
        spare = self._spare[table]
        if late:
            taken = sorted(random.sample(spare, min(count, len(spare))))
            self._spare[table] = [one for one in spare if one not in taken]
            return taken
        ids: list[int] = []
        for _ in range(count):
            new = self._top[table] + random.choice([1, 1, 1, 2])
            spare += range(self._top[table] + 1, new)
            self._top[table] = new
            ids.append(new)
        return ids

    def _orders(self, random: Random, count: int, least: int = 1) -> list[int]:
        """Transactions that have so many lines or more."""
        there = [*self.records["sales_order"], *self.records["invoice"]]
        return self._some(random, [order for order in there if len(self.lines[order]) >= least], count)

    @staticmethod
    def _some(random: Random, among: Sequence[int], count: int) -> list[int]:
        return sorted(random.sample(among, min(count, len(among))))

    def _ids(self, name: str) -> list[int]:
        where = CATALOG[name].source.where
        statement = f"SELECT t.id AS id FROM {TABLES[name]} t" + (f" WHERE {where}" if where else "")
        return sorted(int(row["id"]) for row in self._read(statement))

    def _lines(self) -> dict[int, list[int]]:
        """The keys of each transaction's lines, its main line's first."""
        lines: dict[int, list[int]] = {order: [] for name in ("sales_order", "invoice") for order in self.records[name]}
        statement = "SELECT t.transaction AS parent, t.uniquekey AS key FROM transactionline t ORDER BY t.uniquekey ASC"
        for row in read_suiteql(self.simulator, statement):
            if int(row["parent"]) in lines:
                lines[int(row["parent"])].append(int(row["key"]))
        return lines

    def _referred_to(self) -> dict[str, set[int]]:
        """Records that others show by name, which NetSuite does not let anybody delete."""
        customers = self._read("SELECT DISTINCT t.entity AS id FROM transaction t WHERE t.entity IS NOT NULL")
        orders = self._read(
            "SELECT DISTINCT t.createdfrom AS id FROM transactionline t WHERE t.createdfrom IS NOT NULL"
        )
        items = self._read("SELECT DISTINCT t.item AS id FROM transactionline t WHERE t.item IS NOT NULL")
        found = {"customer": customers, "sales_order": orders, "non_inventory_item": items}
        return {name: {int(row["id"]) for row in rows} for name, rows in found.items()}

    def _highest(self, column: str, table: str) -> int:
        (row,) = self._read(f"SELECT MAX(t.{column}) AS id FROM {table} t")
        return int(row["id"])

    def _read(self, statement: str) -> list[dict[str, str]]:
        return list(read_suiteql(self.simulator, statement))


def _text(random: Random) -> str:
    """A value for a text column, as SQL."""
    if random.random() < 0.05:
        return "NULL"
    return f"'{random.randrange(10**6)}'" if random.random() < ORDINARY else f"'{random.choice(WORDS)}'"


def _stamp(at: datetime) -> str:
    return f"TIMESTAMP '{at.astimezone(UTC):%Y-%m-%d %H:%M:%S}'"


def _numbers(ids: Iterable[int]) -> str:
    return ", ".join(map(str, ids)) or "NULL"
