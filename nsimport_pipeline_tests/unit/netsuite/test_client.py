"""Over real HTTP: whole answers, or a failure that says what to do; nothing else."""

import gzip
import json
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests

from nsimport_pipeline.errors import (
    ApiUnavailable,
    Category,
    IncompleteResponse,
    PermanentError,
    RateLimited,
    ServerError,
    TimedOut,
    UnknownColumn,
)
from nsimport_pipeline.netsuite.client import KeyCount, NetSuiteClient, Page
from nsimport_pipeline.netsuite.retrying import RetryPolicy
from nsimport_pipeline.netsuite.sizing import Pace, Sizing
from nsimport_pipeline.netsuite.suiteql import PAGE_LIMIT, Selected, selected
from nsimport_pipeline_tests.unit.netsuite.scripted import (
    CONCURRENCY,
    RESTLET_CONCURRENCY,
    UNEXPECTED,
    Answer,
    Clock,
    Listener,
    ScriptedServer,
    client,
    error_body,
    page,
    record_type,
    scripted,
    write_certificate,
)

BUSY = Answer(429, CONCURRENCY)
ONE = page([{"id": "1"}])


def rows(first: int, last: int) -> list[dict[str, str]]:
    return [{"id": str(n)} for n in range(first, last + 1)]


# One request


def test_a_query_is_posted_as_netsuite_wants_it() -> None:
    with scripted(ONE) as server:
        client(server).query("SELECT id FROM customer ORDER BY id ASC", limit=5, offset=0)
    (query,) = server.queries

    assert query.path == "/services/rest/query/v1/suiteql?limit=5&offset=0"
    assert query.statement == "SELECT id FROM customer ORDER BY id ASC"
    assert query.headers["Prefer"] == "transient"
    assert query.headers["Content-Type"] == "application/json"


def test_rows_come_with_lower_case_keys_and_without_links_and_nulls() -> None:
    body = {
        "items": [{"links": [], "ID": "7", "Email": None, "isPerson": True, "n": 12, "name": "Ünï"}],
        "totalResults": 1,
    }
    with scripted(Answer(body=body)) as server:
        result = client(server).query("SELECT 1")

    assert result == Page([{"id": "7", "isperson": "T", "n": "12", "name": "Ünï"}], 1)


@pytest.mark.parametrize(("limit", "offset"), [(0, 0), (1001, 0), (10, 5), (10, -10)])
def test_limits_and_offsets_that_netsuite_refuses_are_not_sent(limit: int, offset: int) -> None:
    with scripted(ONE) as server, pytest.raises(ValueError, match="multiples"):
        client(server).query("SELECT 1", limit=limit, offset=offset)

    assert server.queries == []


def test_connections_are_kept_alive() -> None:
    with scripted(ONE, BUSY, Answer(500, UNEXPECTED), ONE) as server, client(server) as netsuite:
        for _ in range(5):
            netsuite.query("SELECT 1")

    assert len({query.connection for query in server.queries}) == 1


def test_many_threads_share_one_client() -> None:
    with scripted(ONE) as server, client(server) as netsuite, ThreadPoolExecutor(6) as threads:
        results = list(threads.map(lambda _: netsuite.query("SELECT 1").items, range(60)))

    assert results == [[{"id": "1"}]] * 60
    assert len(set(server.authorizations)) == 60


def test_a_netrc_of_this_machine_does_not_replace_the_signature(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password else\n")
    monkeypatch.setenv("NETRC", str(netrc))
    with scripted(ONE) as server:
        client(server).query("SELECT 1")

    assert server.authorizations[0].startswith("OAuth ")


def test_cookies_are_not_kept() -> None:
    with scripted(Answer(body=ONE.body, headers={"Set-Cookie": "JSESSIONID=1; Path=/"})) as server:
        netsuite = client(server)
        netsuite.query("SELECT 1")
        netsuite.query("SELECT 1")

    assert "Cookie" not in server.queries[1].headers


def test_compressed_and_chunked_answers_are_read() -> None:
    text = json.dumps(ONE.body).encode()
    packed = gzip.compress(text)
    answers = [
        Answer(body=packed, headers={"Content-Encoding": "gzip"}),
        Answer(chunks=[text[:10], text[10:]]),
        Answer(chunks=[packed[:10], packed[10:]], headers={"Content-Encoding": "gzip"}),
    ]
    with scripted(*answers) as server, client(server, policy=RetryPolicy(attempts=1)) as netsuite:
        for _ in answers:
            assert netsuite.query("SELECT 1").items == [{"id": "1"}]


# Trying again


@pytest.mark.parametrize(
    "script",
    [
        [BUSY, Answer(400, RESTLET_CONCURRENCY)],
        [Answer(500), Answer(501), Answer(502)],
        [Answer(503), Answer(504), Answer(408)],
        [Answer(body=b""), Answer(body=b'{"items": [{"id"'), Answer(body=b"null")],
        [Answer(reset=True), Answer(body=ONE.body, cut=20), Answer(chunks=[b'{"items"'], cut=1)],
        [Answer(body=ONE.body, headers={"Content-Encoding": "gzip"})],
        [
            page([], total=1),
            page(rows(1, 3), total=2),
            Answer(body={"items": [{"id": "1"}], "totalResults": 1, "count": 2}),
        ],
    ],
)
def test_passing_trouble_is_sat_out(script: list[Answer]) -> None:
    clock, listener = Clock(), Listener()
    with scripted(*script, ONE) as server:
        result = client(server, clock=clock, listener=listener).query("SELECT 1")

    assert result.items == [{"id": "1"}]
    assert result.attempts == len(script) + 1 == len(server.queries)
    assert len(set(server.authorizations)) == len(server.queries)
    assert result.waited_seconds == pytest.approx(sum(clock.slept))
    assert len(listener.events) == len(script)


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (Answer(500, UNEXPECTED), ServerError),
        (Answer(503), ApiUnavailable),
        (Answer(reset=True), ApiUnavailable),
        (Answer(body=ONE.body, cut=20), ApiUnavailable),
        (Answer(body={}), IncompleteResponse),
        (Answer(body=b""), IncompleteResponse),
        (Answer(body=[]), IncompleteResponse),
        (Answer(body={"items": {}, "totalResults": 0}), IncompleteResponse),
        (Answer(body={"items": ["x"], "totalResults": 1}), IncompleteResponse),
        (Answer(body={"items": [{"id": "1"}]}), IncompleteResponse),
        (Answer(body={"items": [{"id": "1"}], "totalResults": -1}), IncompleteResponse),
        (Answer(204), IncompleteResponse),
    ],
)
def test_lasting_trouble_is_raised_once_the_attempts_are_used_up(answer: Answer, kind: type[Exception]) -> None:
    with scripted(answer) as server, pytest.raises(kind, match="given up at attempt 4") as caught:
        client(server).query("SELECT 1")

    assert type(caught.value) is kind
    assert len(server.queries) == 4


def test_an_answer_without_the_rows_it_counts_is_not_believed() -> None:
    with scripted(page([], total=5)) as server, pytest.raises(IncompleteResponse, match=r"0 rows .* totalResults of 5"):
        client(server).query("SELECT 1")


def test_refusals_for_lack_of_a_slot_cost_no_attempt() -> None:
    listener = Listener()
    with scripted(*[BUSY] * 9, Answer(503), ONE) as server:
        result = client(server, listener=listener, policy=RetryPolicy(attempts=2)).query("SELECT 1")

    assert result.attempts == 11
    assert [event.category for event in listener.events] == [Category.API_RATE_LIMIT] * 9 + [Category.API_UNAVAILABLE]


def test_endless_refusal_ends_with_the_patience() -> None:
    clock = Clock()
    with scripted(BUSY) as server, pytest.raises(RateLimited, match="given up after waiting"):
        client(server, clock=clock, policy=RetryPolicy(patience=60)).query("SELECT 1")

    assert sum(clock.slept) <= 60


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_honoured_and_capped(status: int) -> None:
    clock = Clock()
    script = [Answer(status, headers={"Retry-After": "40"}), Answer(status, headers={"Retry-After": "99999"}), ONE]
    with scripted(*script) as server:
        client(server, clock=clock, policy=RetryPolicy(retry_after_max=90)).query("SELECT 1")

    assert 40 <= clock.slept[0] <= 41
    assert 90 <= clock.slept[1] <= 91


def test_a_permanent_refusal_is_raised_at_once() -> None:
    unknown = Answer(
        400, error_body(400, "INVALID_PARAMETER", "Search error occurred: Unknown identifier 'subsidiary'.")
    )
    with scripted(unknown) as server, pytest.raises(UnknownColumn) as caught:
        client(server).query("SELECT 1")

    assert caught.value.column == "subsidiary"
    assert len(server.queries) == 1


def test_a_redirect_is_not_followed() -> None:
    with scripted(ONE) as elsewhere:
        moved = Answer(307, headers={"Location": f"{elsewhere.url}/services/rest/query/v1/suiteql"})
        with scripted(moved) as server, pytest.raises(PermanentError, match="redirect"):
            client(server).query("SELECT 1")

    assert elsewhere.queries == []


def test_what_the_sleep_raises_ends_the_request() -> None:
    class CancelledError(Exception):
        pass

    def sleep(_: float) -> None:
        raise CancelledError

    with scripted(BUSY) as server, pytest.raises(CancelledError):
        client(server, sleep=sleep).query("SELECT 1")

    assert len(server.queries) == 1


def test_a_server_that_is_too_slow_is_left() -> None:
    with scripted(Answer(body=ONE.body, delay=0.5)) as server, pytest.raises(TimedOut, match="given up at attempt 2"):
        client(server, timeouts=(1, 0.05), policy=RetryPolicy(attempts=2)).query("SELECT 1")


def test_an_answer_that_trickles_in_is_left_too() -> None:
    trickle = Answer(chunks=[b" "] * 100, pause=0.03)
    begin = time.monotonic()
    with scripted(trickle) as server, pytest.raises(TimedOut, match="did not finish"):
        client(server, clock=time.time, sleep=time.sleep, timeouts=(1, 0.2), policy=RetryPolicy(attempts=1)).query(
            "SELECT 1"
        )

    assert time.monotonic() - begin < 2


def test_nobody_at_the_address_is_unavailable() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ApiUnavailable, match="refused the connection"):
            client(address).query("SELECT 1")


def test_speaking_tls_to_a_server_without_it_is_unavailable() -> None:
    with scripted(ONE) as server, pytest.raises(ApiUnavailable, match="TLS"):
        client(server.url.replace("http:", "https:"), policy=RetryPolicy(attempts=1)).query("SELECT 1")


def test_an_untrusted_certificate_is_refused_even_when_the_session_would_take_it(tmp_path: Path) -> None:
    careless = requests.Session()
    careless.verify = False
    with scripted(ONE, certificate=write_certificate(tmp_path)) as server:
        sessions: list[requests.Session | None] = [None, careless]
        for session in sessions:
            with pytest.raises(ApiUnavailable, match="certificates"):
                client(server, policy=RetryPolicy(attempts=1), session=session).query("SELECT 1")

    assert server.queries == []


def test_a_certificate_that_this_machine_trusts_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certificate = write_certificate(tmp_path)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    with scripted(ONE, certificate=certificate) as server:
        assert client(server, session=requests.Session()).query("SELECT 1").items == [{"id": "1"}]


def test_an_unknown_host_is_unavailable() -> None:
    with pytest.raises(ApiUnavailable, match="host name"):
        client("http://netsuite.invalid", policy=RetryPolicy(attempts=1)).query("SELECT 1")


# All pages


def test_a_small_result_is_read_by_offset_to_its_end() -> None:
    script = [page(rows(1, 10), 25), page(rows(11, 20), 25, 10), page(rows(21, 25), 25, 20)]
    with scripted(*script) as server:
        items = [row["id"] for part in client(server).pages("SELECT 1", limit=10) for row in part.items]

    assert items == [str(n) for n in range(1, 26)]
    assert [query.path.partition("?")[2] for query in server.queries] == [f"limit=10&offset={n}" for n in (0, 10, 20)]


def test_an_empty_result_is_one_empty_page() -> None:
    with scripted(page([])) as server:
        assert [part.items for part in client(server).pages("SELECT 1")] == [[]]


def test_a_result_that_changes_size_while_it_is_read_is_given_up() -> None:
    script = [page(rows(1, 10), 15), page(rows(11, 14), 14, 10)]
    with scripted(*script) as server, pytest.raises(IncompleteResponse, match="15 to 14"):
        list(client(server).pages("SELECT 1", limit=10))


def test_a_result_beyond_what_netsuite_gives_out_is_refused_before_it_is_read() -> None:
    with scripted(page(rows(1, PAGE_LIMIT), 100_001)) as server, pytest.raises(IncompleteResponse, match="100000"):
        list(client(server).pages("SELECT 1"))

    assert len(server.queries) == 1


# Counting and ranges of keys


def test_records_are_counted_with_their_lowest_and_highest_key() -> None:
    with scripted(page([{"n": "12", "low": "-5", "high": "90"}]), page([{"n": "0"}])) as server:
        netsuite = client(server)

        assert netsuite.count(record_type()) == KeyCount(12, -5, 90)
        assert netsuite.count(record_type(), 90) == KeyCount(0, None, None)
    assert "WHERE t.id > 90" in server.queries[1].statement


def test_a_count_without_its_keys_is_asked_for_again() -> None:
    with scripted(page([{"n": "12"}]), page([]), page([{"n": "12", "low": "1", "high": "90"}])) as server:
        assert client(server).count(record_type()) == KeyCount(12, 1, 90)


def test_a_range_is_fetched_with_one_statement_when_it_fits() -> None:
    with scripted(page(rows(6, 9))) as server:
        fetched = client(server).fetch_range(record_type(), 5, 10, selected(record_type()))

    assert fetched.items == rows(6, 9)
    assert (fetched.requests, fetched.retries, fetched.waited_seconds) == (1, 0, 0.0)
    assert "WHERE t.id > 5 AND t.id <= 10 ORDER BY t.id ASC" in server.queries[0].statement


def test_a_range_that_outgrew_a_page_is_read_on_by_key() -> None:
    script = [page(rows(1, 1000), 2300), BUSY, page(rows(1001, 2000), 1300), page(rows(2001, 2300), 300)]
    with scripted(*script) as server:
        fetched = client(server).fetch_range(record_type(), 0, None, selected(record_type()))

    assert fetched.items == rows(1, 2300)
    assert (fetched.requests, fetched.retries) == (4, 1)
    assert fetched.waited_seconds > 0
    assert fetched.seconds == pytest.approx(fetched.waited_seconds)
    assert all(query.path.endswith("offset=0") for query in server.queries)
    assert ["t.id > 1000" in query.statement for query in server.queries] == [False, True, True, False]


def test_an_exactly_full_page_needs_no_second_look() -> None:
    with scripted(page(rows(1, 1000))) as server:
        assert len(client(server).fetch_range(record_type(), 0, 1000, selected(record_type())).items) == 1000

    assert len(server.queries) == 1


@pytest.mark.parametrize(
    "wrong",
    [
        page(rows(6, 11)),
        page(rows(5, 9)),
        page([*rows(7, 8), *rows(6, 6)]),
        page([*rows(6, 6), *rows(6, 6)]),
        page([{"email": "x"}]),
    ],
)
def test_a_range_with_keys_in_the_wrong_place_is_asked_for_again(wrong: Answer) -> None:
    with scripted(wrong, page(rows(6, 10))) as server:
        assert client(server).fetch_range(record_type(), 5, 10, selected(record_type())).items == rows(6, 10)
    with scripted(wrong) as server, pytest.raises(IncompleteResponse):
        client(server).fetch_range(record_type(), 5, 10, selected(record_type()))


def test_more_columns_than_an_account_bears_are_put_together_by_key() -> None:
    columns = [
        Selected("id", "t.id", "id", identifies=True),
        *(Selected(f"c{n}", f"t.c{n}", f"c{n}") for n in range(150)),
    ]
    first, second = ([{"id": str(n), column: f"{column}-{n}"} for n in (1, 2)] for column in ("c0", "c149"))
    stale = page([{"id": "1"}, {"id": "3"}])
    with scripted(page(first), stale, page(second)) as server:
        fetched = client(server).fetch_range(record_type(), 0, 9, columns)

    assert fetched.items == [{"id": str(n), "c0": f"c0-{n}", "c149": f"c149-{n}"} for n in (1, 2)]
    assert [query.statement.count(" AS ") for query in server.queries] == [100, 52, 52]


class Toll:
    """A clock that each request moves on by so many seconds, as soon as it has arrived."""

    def __init__(self, *seconds: float) -> None:
        self.seconds = seconds
        self.server: ScriptedServer | None = None

    def __call__(self) -> float:
        return 1e9 + sum(self.seconds[: len(self.server.queries) if self.server else 0])


def in_time(server: ScriptedServer, toll: Toll) -> NetSuiteClient:
    """A client that gives each answer 60 seconds, and asks once."""
    toll.server = server
    return client(server, clock=toll, sleep=time.sleep, timeouts=(5, 60), policy=RetryPolicy(attempts=1))


def limits(server: ScriptedServer) -> list[int]:
    return [int(query.path.partition("limit=")[2].partition("&")[0]) for query in server.queries]


def test_a_page_that_does_not_come_in_time_is_asked_for_in_parts() -> None:
    script = [page(rows(1, 1000)), page(rows(1, 500), 1000), page(rows(501, 750), 500), page(rows(751, 1000), 250)]
    pace = Pace()
    with scripted(*script) as server:
        fetched = in_time(server, Toll(61, 31, 10, 10)).fetch_range(
            record_type(), 0, 1000, selected(record_type()), pace=pace
        )

    assert fetched.items == rows(1, 1000)
    assert (fetched.requests, fetched.retries) == (4, 1)
    assert limits(server) == [1000, 500, 250, 250]
    assert ["t.id > 500 " in query.statement for query in server.queries] == [False, False, True, False]
    assert all("t.id <= 1000 " in query.statement for query in server.queries)
    assert pace.sizing.rows == 250


def test_a_part_of_a_page_has_to_be_whole_too() -> None:
    wrong = page(rows(2, 500), 1000)  # 499 of 500
    with scripted(page(rows(1, 1000)), wrong) as server, pytest.raises(IncompleteResponse, match="499 rows"):
        in_time(server, Toll(61, 1)).fetch_range(record_type(), 0, 1000, selected(record_type()))


def test_what_does_not_come_however_little_is_asked_for_is_a_failure() -> None:
    with scripted(page(rows(1, 60))) as server, pytest.raises(TimedOut, match="given up at attempt 1"):
        in_time(server, Toll(*[61] * 9)).fetch_range(
            record_type(), 0, 60, selected(record_type()), pace=Pace(), expected=60
        )

    assert limits(server) == [1000, 50]


def test_fewer_columns_are_asked_for_if_fewer_rows_do_not_help() -> None:
    columns = [
        Selected("id", "t.id", "id", identifies=True),
        *(Selected(f"c{n}", f"t.c{n}", f"c{n}") for n in range(30)),
    ]

    def part(last: int, *names: str, total: int | None = None) -> Answer:
        return page([{"id": str(n), **{name: f"{name}-{n}" for name in names}} for n in range(1, last + 1)], total)

    pace = Pace(Sizing(50))
    with scripted(part(50), part(50, "c0"), part(50, "c14"), part(50, "c29")) as server:
        fetched = in_time(server, Toll(61, 1, 1, 1)).fetch_range(record_type(), 0, 9999, columns, pace=pace)

    assert fetched.items == [
        {"id": str(n), "c0": f"c0-{n}", "c14": f"c14-{n}", "c29": f"c29-{n}"} for n in range(1, 51)
    ]
    assert [query.statement.count(" AS ") for query in server.queries] == [31, 15, 15, 3]
    assert (pace.sizing.rows, pace.sizing.columns) == (50, 15)


def test_rows_whose_other_columns_do_not_come_in_time_are_asked_for_again() -> None:
    columns = [
        Selected("id", "t.id", "id", identifies=True),
        *(Selected(f"c{n}", f"t.c{n}", f"c{n}") for n in range(120)),
    ]
    script = [page(rows(1, 200)), page(rows(1, 200)), page(rows(1, 100), 200), *[page(rows(101, 200))] * 2]
    with scripted(*script) as server:
        fetched = in_time(server, Toll(1, 61, 1, 1, 1)).fetch_range(record_type(), 0, 200, columns)

    assert fetched.items == rows(1, 200)
    assert limits(server) == [1000, 200, 100, 100, 100]
    assert [query.statement.count(" AS ") for query in server.queries] == [100, 22, 22, 100, 22]
