"""Questions about an imported table as a whole: is its key unique, do its references lead somewhere?

Belongs here: SQL that looks for what is wrong, bounded to one pass over the table for each question. Does not belong
here: which references can be judged and what a finding means (``imports/finish.py``). Rows marked deleted are left out.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy import Connection, Table

SAMPLE = 5
"""Ids that a finding shows."""
MOST_JOINS = 30
"""Tables joined in one statement; SQLite and MySQL take about 60."""


@dataclass(frozen=True, slots=True)
class Orphans:
    """Rows whose reference leads to no row."""

    rows: int
    sample: tuple[tuple[int, int], ...]
    """A row's id and the id it refers to, lowest first."""


def duplicate_keys(connection: Connection, table: Table) -> int:
    """Ids that more than one row has; rows without an id count too. Free where the database enforces a unique key."""
    inspector = sa.inspect(connection)
    keys = [inspector.get_pk_constraint(table.name)["constrained_columns"]]
    if keys == [["refid"]]:
        return 0
    twice = (
        sa.select(table.c.refid)
        .group_by(table.c.refid)
        .having(sa.or_(sa.func.count() > 1, table.c.refid.is_(None)))
        .subquery()
    )
    return connection.execute(sa.select(sa.func.count()).select_from(twice)).scalar_one()


def orphans(connection: Connection, table: Table, references: Mapping[str, tuple[Table, int]]) -> dict[str, Orphans]:
    """The orphans of each of ``references``: column → the table it leads to, and the highest id looked up there.

    Empty and 0 refer to nothing. All columns are looked at in one pass over the table, which costs more than looking
    ids up by primary key: reading 1,000,000 wide rows again for each column would take several times as long.
    """
    live = table.c.deleted_at.is_(None)
    found: dict[str, Orphans] = {}
    names = list(references)
    for some in (names[start : start + MOST_JOINS] for start in range(0, len(names), MOST_JOINS)):
        joined: sa.FromClause = table
        broken: dict[str, sa.ColumnElement[bool]] = {}
        for number, name in enumerate(some):
            parent, highest = references[name]
            there = parent.alias(f"parent_{number}")
            joined = joined.outerjoin(there, there.c.refid == table.c[name])
            broken[name] = sa.and_(table.c[name] != 0, table.c[name] <= highest, there.c.refid.is_(None))
        counts = sa.select(*(sa.func.count(sa.case((is_broken, 1))) for is_broken in broken.values()))
        for (name, is_broken), rows in zip(
            broken.items(), connection.execute(counts.select_from(joined).where(live)).one(), strict=True
        ):
            sample = sa.select(table.c.refid, table.c[name]).select_from(joined).where(live, is_broken)
            ids = connection.execute(sample.order_by(table.c.refid).limit(SAMPLE)) if rows else ()
            found[name] = Orphans(rows, tuple((int(refid), int(to)) for refid, to in ids))
    return found
