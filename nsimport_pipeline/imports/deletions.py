"""What NetSuite has deleted: found out without reading what is there.

Belongs here: asking NetSuite which of our rows it does not have any more. Does not belong here: marking them
(``warehouse/deletes.py``), or rows that are missed because their whole range was read (``batch.py``).

``deletedrecord`` gives ids without saying reliably what of: its words for types differ from the tables' names, and ids
of several tables overlap. So it only says where to look: an id is gone if its own table does not have it.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Protocol

from nsimport_pipeline.errors import AccessDenied, IncompleteResponse, PermanentError, ServerError
from nsimport_pipeline.netsuite.client import Page
from nsimport_pipeline.netsuite.suiteql import PAGE_LIMIT, check_page, deleted_statement, key_alias, there_statement
from nsimport_pipeline.record_types.criteria import RecordType


class Asker(Protocol):
    def query(self, statement: str, *, limit: int = 1000, offset: int = 0) -> Page: ...


def deleted_ids(client: Asker, since: datetime, until: datetime) -> list[int] | None:
    """The ids of records of whatever kind that were deleted in ``since`` to ``until``, ascending.

    None if the account does not tell. Raises ImportFailure if it cannot be asked.
    """
    ids: list[int] = []
    while True:
        after = ids[-1] if ids else None
        try:
            page = client.query(deleted_statement(since, until, after), limit=PAGE_LIMIT)
        except (AccessDenied, IncompleteResponse):
            raise
        except (PermanentError, ServerError):
            return None
        check_page(page.items, page.total_results, after, None, "id")
        ids += [int(item["id"]) for item in page.items]
        if page.total_results <= PAGE_LIMIT:
            return ids


def gone(client: Asker, record_type: RecordType, ids: Sequence[int]) -> list[int]:
    """Those of ``ids`` that NetSuite has no record of this type for. Raises ImportFailure if it cannot be asked."""
    missing: list[int] = []
    for some in _chunks(sorted(set(ids))):
        page = client.query(there_statement(record_type, some), limit=PAGE_LIMIT)
        key = key_alias(record_type)
        check_page(page.items, page.total_results, None, None, key)
        missing += sorted(set(some) - {int(item[key]) for item in page.items})
    return missing


def _chunks(ids: Sequence[int]) -> Iterable[Sequence[int]]:
    return (ids[start : start + PAGE_LIMIT] for start in range(0, len(ids), PAGE_LIMIT))
