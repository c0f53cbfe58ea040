"""How much is asked of NetSuite at once: begun with what was learnt before, kept for whoever comes next, and told.

Belongs here: the bridge between what a run learns and the tenant's database, and the words for it. Does not belong
here: the rules (``netsuite/sizing.py``, ``climb.py``), statements over the control tables (``store/``).
"""

import contextlib
from collections.abc import Callable
from datetime import datetime

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from nsimport_pipeline.imports import store
from nsimport_pipeline.imports.climb import Climber
from nsimport_pipeline.netsuite.sizing import Answer, Pace, Sizing
from nsimport_pipeline.warehouse.engine import read_only
from nsimport_pipeline.warehouse.migrate import serialise


def pace_of(engine: Engine, import_id: str, record_type: str, now: Callable[[], datetime]) -> Pace:
    """The pace of a record type in an import. Each change is kept for later runs, and told in the import's journal."""
    with read_only(engine).connect() as connection:
        known = store.sizes(connection).get(record_type)

    def changed(before: Sizing, after: Sizing, answer: Answer) -> None:
        why = reason(before, after, answer)
        # The run goes on with what it learnt, whether others are told or not.
        with contextlib.suppress(SQLAlchemyError), engine.begin() as connection:
            serialise(connection)
            store.keep_size(connection, record_type, after, why, now())
            store.record_event(connection, import_id, store.SIZING_CHANGED, now(), record_type=record_type, message=why)

    return Pace(known.sizing if known else None, changed)


def climber_of(engine: Engine, import_id: str, record_type: str, most: int, now: Callable[[], datetime]) -> Climber:
    """How many requests of a run are worth having; what changes that is told in the import's journal, and forgotten."""

    def tell(why: str) -> None:
        with contextlib.suppress(SQLAlchemyError), engine.begin() as connection:
            store.record_event(
                connection, import_id, store.WORKERS_CHANGED, now(), record_type=record_type, message=why
            )

    return Climber(most, tell)


def reason(before: Sizing, after: Sizing, answer: Answer) -> str:
    """What is asked for from now on, and why, for people."""
    if not after.smaller_than(before.rows, before.columns):
        quick = f"{before.patience} answers in a row each took less than {answer.quick:.3g} s"
        return f"pages of {after} instead of {before}: {quick}"
    asked = f"{answer.rows:,} records with {answer.columns} columns"
    took = f"took {answer.seconds:.1f} s of the {answer.allowed:g} s there are"
    return f"pages of {after}, since {asked} {took if answer.came else f'were not answered in {answer.seconds:.0f} s'}"
