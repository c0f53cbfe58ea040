"""Good answers of NetSuite as values, or the finding that one is not whole. Pure functions.

Belongs here: reading the body of a 200. Does not belong here: getting it (``client.py``), other statuses
(``errors.py``), or whether keys stand where they should (``suiteql.check_page``).
"""

import json
import re
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

import orjson

from nsimport_pipeline.errors import IncompleteResponse
from nsimport_pipeline.netsuite.retrying import Effort
from nsimport_pipeline.record_types.parse import json_text

INTEGER = re.compile(r"-?[0-9]{1,19}")
"""A key or a count as NetSuite writes it."""

MOST_DIGITS = 38
"""Of a number in NetSuite's database."""

Row = dict[str, str]
"""A record as NetSuite sent it: lower-case keys, text values; columns that are null are left out."""


@dataclass(frozen=True)
class Page:
    """One answer to a query: ``items`` in order, and what it cost (requests sent, seconds slept between them)."""

    items: list[Row]
    total_results: int
    attempts: int = 1
    waited_seconds: float = 0.0

    def costing(self, effort: Effort) -> "Page":
        return replace(self, attempts=effort.attempts, waited_seconds=effort.waited_seconds)


@dataclass(frozen=True)
class KeyCount:
    """How many records there are, and their lowest and highest key (None when there are none)."""

    n: int
    low: int | None
    high: int | None


class _Lowered(dict[str, str]):
    """Lower-cased keys, each made once: a thousand rows share them."""

    def __missing__(self, key: str) -> str:
        lowered = self[key] = key.lower()
        return lowered


def parse_page(body: bytes, limit: int, offset: int) -> Page:
    """The page that the body of a 200 holds. Raises IncompleteResponse for anything but a whole one."""
    try:
        document = _document(body)
    except (ValueError, RecursionError):
        what = "an empty answer" if not body else "an answer that is no JSON, or was cut off"
        raise IncompleteResponse(f"NetSuite sent {what} with status 200") from None
    items = document.get("items") if isinstance(document, dict) else None
    total = _number(document.get("totalResults")) if isinstance(document, dict) else None
    if total is None or not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise IncompleteResponse("NetSuite sent an answer without a list of items and their totalResults")
    expected = max(0, min(limit, total - offset))
    if len(items) != expected or document.get("count", expected) != expected:
        raise IncompleteResponse(f"NetSuite sent {len(items)} rows where its totalResults of {total} means {expected}")
    # Only so is it seen that the total after a full page is too small. A false hasMore may come too soon: no matter.
    if document.get("hasMore") is True and total <= offset + limit:
        raise IncompleteResponse(f"NetSuite says that there is more after all of its totalResults of {total}")
    lowered = _Lowered()
    return Page([_row(item, lowered) for item in items], total)


def key_count(page: Page, *, distinct: bool = True) -> KeyCount:
    """The answer to ``suiteql.count_statement``. Raises IncompleteResponse if it is none.

    ``distinct``: no two records have the same key, as only those of derived types do, which go by their parent's.
    """
    try:
        (row,) = page.items
        n = _integer(row["n"])
        low, high = (_integer(row["low"]), _integer(row["high"])) if n else (None, None)
    except (ValueError, KeyError):
        raise IncompleteResponse("NetSuite's answer to a count has no number of records, or no keys") from None
    # Of different keys there cannot be more than numbers between the first and the last.
    if n < 0 or (low is not None and high is not None and n > high - low + 1 and distinct):
        raise IncompleteResponse(f"NetSuite's answer to a count, {n} records from {low} to {high}, cannot be true")
    return KeyCount(n, low, high)


def tallies(page: Page, spans: int) -> tuple[int | None, list[tuple[int, int, int]]]:
    """The answer to ``suiteql.tally_statement`` about so many ``spans``: the lowest key, and three sums for each.

    Raises IncompleteResponse if it is none.
    """
    try:
        (row,) = page.items
        low = _integer(row["low"]) if "low" in row else None
        sums = [tuple(_whole(row.get(f"{name}{place}", "0")) for name in "nts") for place in range(spans)]
    except (ValueError, ArithmeticError):
        raise IncompleteResponse("NetSuite's answer to a count by ranges has sums that are no whole numbers") from None
    if (low is None) != (not any(n for n, _, _ in sums)) or any(n < 0 for n, _, _ in sums):
        raise IncompleteResponse("NetSuite's answer to a count by ranges cannot be true")
    return low, [(n, total, squares) for n, total, squares in sums]


def _whole(text: str) -> int:
    """A sum, which may be written as ``1.5E13``. Raises ValueError, ArithmeticError."""
    number = Decimal(text)
    if number != number.to_integral_value() or number.adjusted() > MOST_DIGITS:
        raise ValueError
    return int(number)


def _integer(text: str) -> int:
    """Digits alone: ``int`` takes underscores and other scripts' digits too. Raises ValueError."""
    if not INTEGER.fullmatch(text):
        raise ValueError
    return int(text)


def _row(item: dict[str, Any], lowered: _Lowered) -> Row:
    row = {lowered[key]: value for key, value in item.items() if value is not None}
    row.pop("links", None)
    if not all(type(value) is str for value in row.values()):
        row = {key: _text(value) for key, value in row.items()}
    return row


def _text(value: Any) -> str:
    """Values are text as a rule; what is not becomes the text that NetSuite uses elsewhere."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "T" if value else "F"
    return json_text(value)


def _document(body: bytes) -> Any:
    """The JSON in ``body``. Half a character, as NetSuite leaves where it cuts a text, spoils its own row only."""
    try:
        return orjson.loads(body)
    except ValueError:
        if b"\\ud" not in body.lower() and b"\xed" not in body:
            raise
        return json.loads(body, parse_constant=_no_constant)


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _number(value: Any) -> int | None:
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 19:
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
