"""Which finished imports may be forgotten.

Belongs here: the rule. Does not belong here: deleting (``store/jobs.py`` for the control tables,
``commands/pruning.py`` for Dagster's runs). Imported tables, pinned key ranges and watermarks are never pruned: they
are no import's own.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Finished:
    """An import that is over."""

    import_id: str
    finished_at: datetime
    record_types: frozenset[str]
    """Those it planned."""
    whole: bool
    """Whether it was a full import that came to its end, not a few partitions by hand, a failure or an increment."""


def prunable(imports: Iterable[Finished], before: datetime) -> list[str]:
    """Ids of imports that ended before ``before``, oldest first, without any that is the last word on a record type.

    The newest whole import of a record type is kept however old it is: its rejected rows, its final count and its
    materializations say what the table is today.
    """
    newest: dict[str, Finished] = {}
    by_age = sorted(imports, key=lambda finished: (finished.finished_at, finished.import_id))
    for finished in by_age:
        for record_type in finished.record_types if finished.whole else ():
            newest[record_type] = finished
    kept = {finished.import_id for finished in newest.values()}
    return [f.import_id for f in by_age if f.finished_at < before and f.import_id not in kept]
