"""Whatever NetSuite, or something on the way, answers: the right rows or a typed failure, never anything else.

Thousands of spoilt answers through the same functions as a batch: reading, checking, transforming. All repeatable.
"""

from itertools import pairwise
from random import Random
from typing import Any
from zoneinfo import ZoneInfo

import orjson
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nsimport_pipeline.errors import ImportFailure, IncompleteResponse
from nsimport_pipeline.imports.plan import PlannedType, plan_type
from nsimport_pipeline.netsuite.answers import Page, key_count, parse_page
from nsimport_pipeline.netsuite.errors import DETAIL_LENGTH, classify
from nsimport_pipeline.netsuite.retrying import RetryPolicy
from nsimport_pipeline.netsuite.suiteql import check_page, selected
from nsimport_pipeline.record_types.criteria import load_catalog
from nsimport_pipeline.record_types.transform import transform
from nsimport_pipeline.warehouse.schema import target_table
from nsimport_pipeline.warehouse.shapes import PYTHON_TYPES
from nsimport_pipeline_tests.mutations import JUNK, garbled, spoilt, written
from nsimport_pipeline_tests.unit.netsuite.scripted import Answer, client, scripted

RECORD_TYPES = [load_catalog()[name] for name in ("currency", "customer", "charge", "transaction_line")]
TABLES = {record_type.name: target_table(record_type) for record_type in RECORD_TYPES}
LOW, HIGH = 100, 200
ZONE = ZoneInfo("America/Los_Angeles")
randoms = st.integers(0, 2**64).map(Random)


def repeatably(examples: int) -> Any:
    return settings(
        max_examples=examples, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck)
    )


VALUES = {
    "boolean": ("T", "F"),
    "date": ("2026-02-28",),
    "datetime": ("2026-02-28T23:59:59",),
    "string": ("A", "Zürich 😀"),
    "text": ("text",),
    "json": ("{}",),
}


def page_of(random: Random, record_type: Any) -> dict[str, Any]:
    """A whole and correct page."""
    keys = sorted(random.sample(range(LOW + 1, HIGH + 1), random.randrange(5)))
    items = []
    for key in keys:
        item = {"links": [], record_type.source.key.lower(): str(key)}
        for field in random.sample(record_type.fields, min(6, len(record_type.fields))):
            item.setdefault(field.key, random.choice(VALUES.get(field.type, ("7",))))
        items.append(item)
    return {"links": [], "count": len(items), "hasMore": False, "items": items, "offset": 0, "totalResults": len(items)}


def accepted(body: bytes, record_type: Any) -> Page | None:
    """The page, as ``fetch_range`` takes it; None if it is found incomplete."""
    try:
        page = parse_page(body, 1000, 0)
        check_page(page.items, page.total_results, LOW, HIGH, record_type.source.key.lower())
    except IncompleteResponse:
        return None
    return page


def check_rows(page: Page, record_type: Any) -> None:
    """Every row is stored or rejected, under its own id, with values of its columns' types."""
    done = transform(record_type, page.items, timezone=ZONE, store_raw=True)
    assert len(done.rows) + len(done.rejected) == len(page.items)
    table = TABLES[record_type.name]
    ids = [int(row[record_type.source.key.lower()]) for row in page.items]
    place = list(done.columns).index("refid")
    assert [row[place] for row in done.rows] == [n for n in ids if n in {row[place] for row in done.rows}]
    for row in done.rows:
        for name, value in zip(done.columns, row, strict=True):
            assert type(value) in PYTHON_TYPES[table.c[name].info["shape"].kind], name


@repeatably(2000)
@given(random=randoms)
def test_a_spoilt_document_gives_right_rows_or_a_failure(random: Random) -> None:
    record_type = random.choice(RECORD_TYPES)
    true = page_of(random, record_type)
    document = true
    for _ in range(random.randrange(4)):
        document = spoilt(random, document)
    page = accepted(written(document), record_type)
    if document == true:
        assert page is not None
        assert page.items == [{k: v for k, v in item.items() if k != "links"} for item in true["items"]]
    if page is not None:
        assert LOW < HIGH
        check_rows(page, record_type)


@repeatably(2000)
@given(random=randoms)
def test_rows_lost_doubled_or_out_of_order_are_never_accepted(random: Random) -> None:
    record_type = random.choice(RECORD_TYPES)
    true = page_of(random, record_type)
    items = list(true["items"])
    match random.randrange(4) if items else 4:
        case 0:
            items.pop(random.randrange(len(items)))
        case 1:
            items.insert(random.randrange(len(items) + 1), random.choice(items))
        case 2:
            outside = {record_type.source.key.lower(): str(random.choice((0, LOW, HIGH + 1)))}
            items[random.randrange(len(items))] = {**items[0], **outside}
        case 3 if len(items) > 1:
            items.reverse()
        case _:
            true["totalResults"] += random.randrange(1, 5)
    assert accepted(written({**true, "items": items}), record_type) is None


@repeatably(2000)
@given(random=randoms)
def test_garbled_bytes_give_rows_that_were_there_or_a_failure(random: Random) -> None:
    record_type = random.choice(RECORD_TYPES)
    body = written(page_of(random, record_type))
    for _ in range(random.randrange(1, 3)):
        body = garbled(random, body)
    page = accepted(body, record_type)
    if page is not None:
        assert page.total_results == len(page.items) == len(orjson.loads(body)["items"])
        check_rows(page, record_type)


HEADERS = ("Retry-After", "Date", "Content-Type", "X-N-OperationId", "Retry-after")
ERROR = {
    "type": "https://www.w3.org/Protocols/rfc2616/rfc2616-sec10.html#sec10.4.1",
    "title": "Bad Request",
    "status": 400,
    "o:errorDetails": [
        {"detail": "Invalid search query. Detailed unprocessed description follows. Search error occurred: Unknown "
         "identifier 't.custbody_x'.", "o:errorQueryParam": "q", "o:errorCode": "INVALID_PARAMETER"}
    ],
}  # fmt: skip


@repeatably(2000)
@given(random=randoms)
def test_any_refusal_is_a_typed_failure_with_a_short_message(random: Random) -> None:
    document: Any = ERROR
    for _ in range(random.randrange(4)):
        document = spoilt(random, document)
    body = written(document)
    if random.random() < 0.3:
        body = garbled(random, body)
    status = random.choice((100, 201, 204, 302, 400, 401, 403, 404, 408, 413, 429, 500, 502, 503, 504, 520, 599))
    headers = {random.choice(HEADERS): str(random.choice((*JUNK, "Fri, 31 Dec 9999 23:59:59 GMT", "1e9")))}
    failure = classify(status, headers, body)
    assert isinstance(failure, ImportFailure)
    assert len(str(failure)) < 3 * DETAIL_LENGTH + 400
    assert failure.retry_after is None or 0 <= failure.retry_after < float("inf")


@repeatably(1000)
@given(random=randoms)
def test_a_spoilt_count_or_boundary_gives_a_plan_without_gaps_or_a_failure(random: Random) -> None:
    class Answers:
        """Answers a plan's questions with spoilt rows, read as the client reads them."""

        def query(self, statement: str, *, limit: int = 1000, offset: int = 0, check: Any = None) -> Page:
            rows: Any = [{"last_key": "1000"}, {"last_key": "2000"}, {"last_key": "2400"}]
            for _ in range(random.randrange(2)):
                rows = spoilt(random, rows)
            page = parse_page(written({"items": rows, "totalResults": len(rows) if rows else 0}), limit, offset)
            if check is not None:
                check(page)
            return page

        def count(self, record_type: Any, low: int | None = None, high: int | None = None) -> Any:
            rows: Any = [{"n": "2500", "low": "1", "high": "2500"}]
            for _ in range(random.randrange(2)):
                rows = spoilt(random, rows)
            return key_count(parse_page(written({"items": rows, "totalResults": 1}), 1000, 0))

    try:
        plan: PlannedType = plan_type(RECORD_TYPES[0], 0, client=Answers())
    except ImportFailure:
        return
    assert plan.records >= 0
    if plan.ranges:
        assert plan.ranges[-1].high == plan.upper_bound
        for before, after in pairwise(plan.ranges):
            assert before.high == after.low
        assert all(one.low < one.high for one in plan.ranges)


def test_spoilt_answers_over_http_end_typed_too() -> None:
    """A few hundred of the same through sockets, headers and all."""
    random = Random(4)
    record_type = RECORD_TYPES[1]
    columns = selected(record_type)
    answers = []
    for _ in range(300):
        body = written(spoilt(random, page_of(random, record_type)))
        status = random.choice((200, 200, 200, 204, 301, 400, 429, 500))
        headers = {"X-Odd": "é"} if random.random() < 0.2 else {}
        if random.random() < 0.2:
            headers["Content-Encoding"] = random.choice(("gzip", "br", "nonsense"))
        if random.random() < 0.2:
            headers["Content-Type"] = "text/html; charset=utf-7"
        cut = random.randrange(len(body)) if random.random() < 0.2 and body else None
        answers.append(Answer(status, garbled(random, body) if random.random() < 0.3 else body, headers, cut=cut))
    policy = RetryPolicy(attempts=1, patience=0)
    read = 0
    with scripted(*answers) as server, client(server, sleep=lambda _: None, policy=policy) as netsuite:
        for _ in answers:
            try:
                fetched = netsuite.fetch_range(record_type, LOW, HIGH, columns)
            except ImportFailure:
                continue
            read += 1
            check_rows(Page(fetched.items, len(fetched.items)), record_type)
    assert 0 < read < len(answers)
