"""The rules of limit and offset, and the envelope around a page.

Belongs here: pure functions. Does not belong here: running the statement (``suiteql_engine.py``).
"""

from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

DEFAULT_LIMIT = 1000
MAX_LIMIT = 1000
MAX_PAGES = 1000
CAP = 100_000
"""Results that can be reached by paging through one query."""


class PagingError(Exception):
    """A limit or offset that NetSuite refuses with 400; ``parameter`` names it."""

    def __init__(self, detail: str, parameter: str) -> None:
        super().__init__(detail)
        self.detail = detail
        self.parameter = parameter


@dataclass(frozen=True)
class Page:
    """The part of a result that a request asks for."""

    limit: int
    offset: int
    asked: bool = True
    """Whether the address had any query string."""

    @property
    def reach(self) -> int:
        """Rows that paging with this limit can ever show."""
        return min(CAP, self.limit * MAX_PAGES)

    @property
    def wanted(self) -> int:
        """Rows to fetch: none past the reach."""
        return max(0, min(self.limit, self.reach - self.offset))


def parse_page(query: str, *, refuse_past_cap: bool = False) -> Page:
    """Limit and offset of a query string. Raises PagingError."""
    values = dict(parse_qsl(query, keep_blank_values=True))
    limit = _whole(values, "limit", DEFAULT_LIMIT)
    offset = _whole(values, "offset", 0)
    if not 1 <= limit <= MAX_LIMIT:
        raise PagingError(
            f"Invalid value '{limit}' for parameter limit. The value must be between 1 and 1000.", "limit"
        )
    if offset % limit:
        raise PagingError(
            f"Invalid value '{offset}' for parameter offset. The offset must be divisible by the limit.", "offset"
        )
    page = Page(limit, offset, bool(query))
    if refuse_past_cap and offset >= page.reach:
        raise PagingError(f"Invalid value '{offset}' for parameter offset. The value is out of range.", "offset")
    return page


def _whole(values: dict[str, str], name: str, otherwise: int) -> int:
    text = values.get(name)
    if text is None:
        return otherwise
    if not text.isascii() or not text.isdigit():
        raise PagingError(f"Invalid value '{text}' for parameter {name}. It must be a non-negative integer.", name)
    return int(text)


def envelope(address: str, page: Page, items: list[dict[str, Any]], total: int) -> dict[str, Any]:
    """NetSuite's collection around ``items``; past the cap ``hasMore`` is false although ``totalResults`` is larger."""
    reachable = min(total, page.reach)
    has_more = page.offset + len(items) < reachable and page.offset < reachable
    return {
        "links": links(address, page, reachable),
        "count": len(items),
        "hasMore": has_more,
        "items": items,
        "offset": page.offset,
        "totalResults": total,
    }


def links(address: str, page: Page, reachable: int) -> list[dict[str, str]]:
    """``previous, first, next, last, self`` as far as they exist. ``address`` has no query string."""

    def link(rel: str, offset: int) -> dict[str, str]:
        return {"rel": rel, "href": f"{address}?limit={page.limit}&offset={offset}"}

    last = max(0, (reachable - 1) // page.limit * page.limit)
    result = []
    if page.offset > 0:
        result += [link("previous", page.offset - page.limit), link("first", 0)]
    if page.offset + page.limit < reachable:
        result += [link("next", page.offset + page.limit), link("last", last)]
    alone = page.offset == 0 and reachable <= page.limit and not page.asked
    return [*result, {"rel": "self", "href": address} if alone else link("self", page.offset)]
