"""The only conversation with NetSuite over HTTP: one tenant, many threads, whole answers or a typed failure.

Belongs here: connections, timeouts, sending and reading a SuiteQL query, fetching a range of keys completely.
Does not belong here: statements (``suiteql.py``), signing (``auth.py``), what answers and errors mean (``answers.py``,
``errors.py``), when to try again (``retrying.py``), or how many requests may be in flight (``slots.py``).
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from copy import copy
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from functools import partial
from http.cookiejar import DefaultCookiePolicy
from random import random as uniform
from typing import Any
from urllib.parse import urlsplit

import orjson
import requests
import urllib3.exceptions
from requests.adapters import HTTPAdapter

from nsimport_pipeline.errors import ImportFailure, IncompleteResponse, TimedOut
from nsimport_pipeline.netsuite.answers import KeyCount, Page, Row, key_count, parse_page
from nsimport_pipeline.netsuite.auth import authenticator
from nsimport_pipeline.netsuite.circuit import PROBE_SECONDS, PROBE_STATEMENT, Breaker
from nsimport_pipeline.netsuite.errors import classify, classify_exception
from nsimport_pipeline.netsuite.retrying import Allowance, Line, RetryListener, RetryPolicy, persevere
from nsimport_pipeline.netsuite.sizing import Answer, Pace, Sizing
from nsimport_pipeline.netsuite.suiteql import (
    PAGE_LIMIT,
    RESULT_LIMIT,
    Selected,
    check_page,
    column_groups,
    count_statement,
    key_alias,
    page_statement,
    parent_alias,
)
from nsimport_pipeline.record_types.criteria import RecordType
from nsimport_pipeline.settings import Tenant

__all__ = ["Fetched", "KeyCount", "NetSuiteClient", "Page", "Row"]

QUERY_PATH = "/services/rest/query/v1/suiteql"
CONNECT_TIMEOUT = 10.0
LEAST_SECONDS = 0.1
"""A request that is still sent is given so long, however little its batch has left."""
CHUNK = 1 << 16
"""Bytes read from a connection between two looks at the clock."""


@dataclass(frozen=True)
class Fetched:
    """All records of a range of keys, and what they cost; ``requests`` were sent in all, ``retries`` of them again."""

    items: list[Row]
    requests: int
    retries: int
    waited_seconds: float
    seconds: float


@dataclass(frozen=True)
class _Place:
    """Where the rest of a range begins and ends."""

    record_type: RecordType
    low: int | None
    high: int | None
    after: tuple[int, int] | None = None


class NetSuiteClient:
    """SuiteQL for one tenant. Safe for many threads; connections are kept alive, as many as the tenant has slots.

    ``clock`` gives seconds since the epoch, ``random`` numbers in [0, 1); ``sleep`` is called before
    a failed request is sent again, and may raise to give up.
    ``timeouts`` are seconds to connect, and for a whole answer. Raises ConfigurationError for an unusable key file.
    """

    def __init__(
        self,
        tenant: Tenant,
        *,
        session: requests.Session | None = None,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
        random: Callable[[], float] = uniform,
        policy: RetryPolicy | None = None,
        listener: RetryListener | None = None,
        breaker: Breaker | None = None,
        timeouts: tuple[float, float] | None = None,
    ) -> None:
        self.tenant = tenant
        self._clock = clock
        self._policy = policy or RetryPolicy.of(tenant.retries)
        self._allowance: Allowance | None = None
        self._persevere = partial(
            persevere,
            sleep=sleep,
            random=random,
            listener=listener,
            breaker=breaker,
            probe=self.probe,
            line=Line(tenant.slots, clock),
        )
        self._connect_timeout, self._answer_timeout = timeouts or (CONNECT_TIMEOUT, tenant.answer_seconds)
        self._session = session or _session(tenant)
        self._authenticate = authenticator(tenant, self._post_form, clock)
        self.clock_apart: float | None = None
        """Seconds that NetSuite's clock was ahead of ours when it last answered, to a second; None before that."""

    def __repr__(self) -> str:
        return f"NetSuiteClient({self.tenant.name!r}, {self.tenant.url!r})"

    def __enter__(self) -> "NetSuiteClient":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def following(self, policy: RetryPolicy) -> "NetSuiteClient":
        """The same client with another policy: it shares connections and tokens, and ends with this one."""
        other = copy(self)
        other._policy = policy
        return other

    def within(self, allowance: Allowance) -> "NetSuiteClient":
        """The same client for one batch, whose requests share an allowance; like ``following`` otherwise."""
        other = copy(self)
        other._allowance = allowance
        return other

    def close(self) -> None:
        """Let go of the connections."""
        self._session.close()

    def probe(self) -> None:
        """Ask once whether NetSuite answers at all, with little patience. Raises an ImportFailure if not."""
        self._send_query(PROBE_STATEMENT, 1, 0, min(PROBE_SECONDS, self._answer_timeout))

    def query(
        self,
        statement: str,
        *,
        limit: int = PAGE_LIMIT,
        offset: int = 0,
        check: Callable[[Page], object] | None = None,
    ) -> Page:
        """One page of a statement's result, complete: as many rows as ``totalResults``, limit and offset say.

        ``check`` looks at the page too, and raises IncompleteResponse to have it asked for again.
        Raises an ImportFailure (see ``errors.py``) once the policy gives up.
        """
        if not 1 <= limit <= PAGE_LIMIT or offset < 0 or offset % limit:
            raise ValueError(f"NetSuite takes limits of 1 to {PAGE_LIMIT}, and offsets that are multiples of the limit")

        def attempt() -> Page:
            page = parse_page(self._send_query(statement, limit, offset), limit, offset)
            if check is not None:
                check(page)
            return page

        page, effort = self._persevere(attempt, self._policy, allowance=self._allowance)
        return page.costing(effort)

    def pages(self, statement: str, *, limit: int = PAGE_LIMIT) -> Iterator[Page]:
        """All pages of a small result, by offset; the statement needs a unique ORDER BY.

        Raises IncompleteResponse if the result changes its size between pages, or is larger than NetSuite gives out.
        """
        offset, total = 0, None
        while True:
            page = self.query(statement, limit=limit, offset=offset)
            if page.total_results > RESULT_LIMIT:
                raise IncompleteResponse(
                    f"a result of {page.total_results} rows cannot be read by offset: NetSuite stops at {RESULT_LIMIT}"
                )
            if total not in (None, page.total_results):
                raise IncompleteResponse(
                    f"the result changed from {total} to {page.total_results} rows while it was read"
                )
            yield page
            total, offset = page.total_results, offset + limit
            if offset >= total:
                return

    def count(self, record_type: RecordType, low: int | None = None, high: int | None = None) -> KeyCount:
        """How many records NetSuite has now with ``low < key <= high``, and between which keys."""
        read = partial(key_count, distinct=not record_type.derived_from)
        return read(self.query(count_statement(record_type, low, high), check=read))

    def fetch_range(
        self,
        record_type: RecordType,
        low: int | None,
        high: int | None,
        columns: Sequence[Selected],
        *,
        pace: Pace | None = None,
        expected: int = PAGE_LIMIT,
    ) -> Fetched:
        """Every record with ``low < key <= high`` in the order of keys; None leaves that end open.

        ``columns`` as ``suiteql.selected`` gives them, the key first. A range with more records than are asked for at
        once is read on by key (of a derived type, whose ranges are of parents, by parent and key); more columns are
        read in several statements and put together by key. How much that is, ``pace`` says, and learns; ``expected``:
        how many records there should be, to tell it so when an answer does not come.
        Raises an ImportFailure once the policy gives up; never returns part of a range.
        """
        started = self._clock()
        pace = pace or Pace()
        items: list[Row] = []
        costs: list[Page] = []
        key, parent = key_alias(record_type), parent_alias(record_type)
        place = _Place(record_type, low, high)
        while True:
            page, rest = self._rows(place, columns, pace, max(1, expected - len(items)))
            costs.append(page)
            rows = page.items
            while rows and any(not column.identifies for column in rest):
                upto = replace(place, high=int(rows[-1][parent or key]))
                more, rest = self._rows(upto, rest, pace, len(rows), [row[key] for row in rows])
                costs.append(more)
                # Fewer, if so many turned out to be too many: the others are asked for with the next page.
                rows = rows[: len(more.items)]
                for row, added in zip(rows, more.items, strict=True):
                    row.update(added)
            items += rows
            if page.total_results <= len(rows):
                break
            last = rows[-1]
            place = (
                replace(place, low=int(last[key]))
                if parent is None
                else replace(place, after=(int(last[parent]), int(last[key])))
            )
            expected = len(items) + page.total_results - len(rows)
        sent = sum(page.attempts for page in costs)
        waited = sum(page.waited_seconds for page in costs)
        return Fetched(items, sent, sent - len(costs), waited, max(0.0, self._clock() - started))

    def read(self, path: str, *, accept: str) -> bytes:
        """The body of the REST resource at ``path``. Raises an ImportFailure once the policy gives up."""

        def attempt() -> bytes:
            return self._signed(f"{self.tenant.url}{path}", None, {"Accept": accept})

        return self._persevere(attempt, self._policy)[0]

    def _rows(
        self,
        place: "_Place",
        columns: Sequence[Selected],
        pace: Pace,
        expected: int,
        keys: Sequence[str] | None = None,
    ) -> tuple[Page, list[Selected]]:
        """The first rows from a place on with the first of ``columns``, and the columns left, with those that identify.

        ``keys``: those that the rows have to have, as far as they come.
        """
        record_type, low, high, after = place.record_type, place.low, place.high, place.after
        key, parent = key_alias(record_type), parent_alias(record_type)
        size, begun = pace.sizing, 0.0

        def limit() -> int:
            return size.rows if keys is None else min(size.rows, len(keys))

        def group() -> list[Selected]:
            return column_groups(columns, size.columns)[0]

        def saw(rows: int, *, came: bool) -> Sizing:
            return pace.saw(Answer(rows, len(group()), self._clock() - begun, self._answer_timeout, came))

        def check(page: Page) -> None:
            check_page(page.items, page.total_results, low, high, key, limit(), parent=parent, after=after)
            if keys is not None and [row[key] for row in page.items] != list(keys[: limit()]):
                raise IncompleteResponse("records came or went between two statements over the same keys")

        def attempt() -> Page:
            nonlocal begun
            begun = self._clock()
            statement = page_statement(record_type, low, high, group(), after)
            page = parse_page(self._send_query(statement, limit(), 0), limit(), 0)
            check(page)
            saw(len(page.items), came=True)
            return page

        def asks_for_less(_: TimedOut) -> bool:
            nonlocal size
            learnt = saw(min(limit(), expected), came=False)
            if not learnt.smaller_than(min(limit(), expected), len(group())):
                return False
            # Never more than before, whatever others find out meanwhile: that is how it comes to an end.
            size = replace(learnt, rows=min(learnt.rows, size.rows), columns=min(learnt.columns, size.columns))
            return True

        page, effort = self._persevere(attempt, self._policy, allowance=self._allowance, asks_for_less=asks_for_less)
        taken = group()
        left = [column for column in columns if column.identifies or column not in taken]
        return page.costing(effort), left

    def _send_query(self, statement: str, limit: int, offset: int, answer_timeout: float | None = None) -> bytes:
        url = f"{self.tenant.url}{QUERY_PATH}?limit={limit}&offset={offset}"
        headers = {"Content-Type": "application/json", "Prefer": "transient"}
        return self._signed(url, orjson.dumps({"q": statement}), headers, answer_timeout)

    def _signed(
        self, url: str, data: bytes | None, headers: dict[str, str], answer_timeout: float | None = None
    ) -> bytes:
        longest = answer_timeout or self._answer_timeout
        if self._allowance is not None:
            longest = min(longest, max(LEAST_SECONDS, self._allowance.left))
        send = partial(self._send, url, data, headers, self._authenticate, longest)
        status, said, body, authorization = send()
        if status == 401 and self._authenticate.renewable(authorization):
            status, said, body, _ = send()
        if status != 200:
            raise self._classified(status, said, body)
        return body

    def _post_form(self, url: str, form: dict[str, str]) -> bytes:
        # A callable that does nothing keeps `requests` from signing with what it finds in a .netrc.
        status, headers, body, _ = self._send(url, form, {}, lambda request: request, self._answer_timeout)
        if status != 200:
            raise self._classified(status, headers, body)
        return body

    def _send(
        self, url: str, data: bytes | dict[str, str] | None, headers: dict[str, str], auth: Any, answer_timeout: float
    ) -> tuple[int, requests.structures.CaseInsensitiveDict[str], bytes, str]:
        """Send once, ``data`` as a POST; the answer's status, headers and body, and the Authorization sent with it."""
        deadline = self._clock() + answer_timeout
        try:
            with self._session.request(
                "GET" if data is None else "POST",
                url,
                data=data,
                headers={"Accept": "application/json", **headers},
                auth=auth,
                timeout=(self._connect_timeout, answer_timeout),
                allow_redirects=False,
                verify=True,
                stream=True,
            ) as response:
                body = bytearray()
                # The read timeout is for each read; an answer that trickles in needs the deadline as well.
                while chunk := response.raw.read1(CHUNK, decode_content=True):
                    body += chunk
                    if self._clock() > deadline:
                        raise TimedOut(f"NetSuite did not finish its answer in {answer_timeout:.0f} s")
                sent = str(response.request.headers.get("Authorization", ""))
                self._compare_clocks(response.headers.get("Date", ""))
                return response.status_code, response.headers, bytes(body), sent
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            raise classify_exception(error) from None

    def _compare_clocks(self, date: str) -> None:
        # A proxy may leave the header out, or write what is no date.
        with suppress(ValueError, TypeError):
            self.clock_apart = parsedate_to_datetime(date).timestamp() - self._clock()

    def _classified(self, status: int, headers: Any, body: bytes) -> ImportFailure:
        text = body.decode("utf-8", "replace")
        for secret in self._authenticate.secrets():
            text = text.replace(secret, "[redacted]") if secret else text
        return classify(status, headers, text)


def _session(tenant: Tenant) -> requests.Session:
    session = requests.Session()
    adapter = HTTPAdapter(pool_connections=2, pool_maxsize=tenant.slots + 1, max_retries=0)
    session.mount("https://", adapter)
    session.mount("http://", adapter)
    # A shared cookie jar would tie threads to one server session; nothing here needs one.
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    if urlsplit(tenant.url).hostname in ("localhost", "127.0.0.1", "::1"):
        session.trust_env = False  # a simulator on this machine is not behind the company's proxy
    return session
