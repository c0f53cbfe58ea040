"""Which record types of an import are built on parents that did not arrive in full.

Belongs here: the rule, and what it looks at. Does not belong here: showing it (``progress.py``, ``defs/``).
"""

from collections.abc import Collection, Iterable, Mapping, Sequence

from sqlalchemy import Connection
from sqlalchemy.engine import RowMapping

from nsimport_pipeline.imports import store
from nsimport_pipeline.imports.records import TypePlan
from nsimport_pipeline.imports.states import BatchState
from nsimport_pipeline.record_types.criteria import RecordType


def partial_parents(
    plans: Sequence[TypePlan], lacking: Collection[str], upstream: Mapping[str, Iterable[str]]
) -> dict[str, tuple[str, ...]]:
    """The parents in the same import that did not arrive in full, for each record type that goes on without.

    ``lacking``: record types with failed batches or rejected rows; one that the role may not see is lacking too, a
    feature that is off is not. ``upstream``: the parents of each record type, of this import or not.
    """
    partial = {plan.record_type for plan in plans if plan.denied or plan.record_type in lacking}
    found = {
        plan.record_type: tuple(sorted(partial.intersection(upstream.get(plan.record_type, ()))))
        for plan in plans
        if plan.unavailable is None
    }
    return {record_type: parents for record_type, parents in found.items() if parents}


def lacking_types(counts: Iterable[RowMapping]) -> set[str]:
    """The record types with failed batches or rejected rows, from ``store.batch_counts``."""
    return {row["record_type"] for row in counts if row["status"] == BatchState.FAILED.value or int(row["rejected"])}


def partial_parents_of(
    connection: Connection, import_id: str, record_type: str, catalog: Mapping[str, RecordType]
) -> tuple[str, ...]:
    """The parents of one record type that did not arrive in full by now."""
    lacking = lacking_types(store.batch_counts(connection, import_id))
    plans = store.type_plans(connection, import_id)
    upstream = {record_type: catalog[record_type].upstream} if record_type in catalog else {}
    return partial_parents(plans, lacking, upstream).get(record_type, ())
