"""NetSuite's answers and broken connections become the failure that says what to do."""

import json
import ssl

import pytest
import requests
import urllib3
from hypothesis import given
from hypothesis import strategies as st

from nsimport_pipeline.errors import (
    AccessDenied,
    ApiUnavailable,
    ImportFailure,
    IncompleteResponse,
    PermanentError,
    RateLimited,
    RecordDenied,
    RecordNotAvailable,
    ServerError,
    TimedOut,
    UnknownColumn,
    UnsupportedSearch,
)
from nsimport_pipeline.netsuite.errors import DETAIL_LENGTH, classify, classify_exception, redact, retry_after
from nsimport_pipeline_tests.unit.netsuite.scripted import (
    CONCURRENCY,
    INVALID_LOGIN,
    RESTLET_CONCURRENCY,
    UNEXPECTED,
    error_body,
)

UNPROCESSED = "Invalid search query. Detailed unprocessed description follows. "
DOCUMENTED_429 = """{
  "type": "https://www.w3.org/Protocols/rfc2616/rfc2616-sec10.html",
  "title": "Bad Request", "status": 429,
  "o:errorCode": "USER_ERROR"
  "o:errorDetails": [{"detail": "Concurrent request limit exceeded. Request blocked.",
                      "o:errorCode": "CONCURRENCY_LIMIT_EXCEEDED"}]}"""


def invalid(detail: str) -> dict[str, object]:
    return error_body(400, "INVALID_PARAMETER", detail)


UNKNOWN_IDENTIFIER = (
    UNPROCESSED + "Search error occurred: Unknown identifier 'subsidiary'. "
    "Available identifiers are: {transaction=transaction}."
)
REMOVED = (
    "Search error occurred: Field 'location' for record 'transaction' was not found. Reason: REMOVED - Field is removed"
)

CASES = [
    (429, CONCURRENCY, RateLimited),
    (429, DOCUMENTED_429, RateLimited),
    (429, "", RateLimited),
    (400, RESTLET_CONCURRENCY, RateLimited),
    (400, DOCUMENTED_429, RateLimited),
    (500, {"error": "SuiteTalk concurrent request limit exceeded. Request blocked."}, RateLimited),
    (401, INVALID_LOGIN, AccessDenied),
    (401, "", AccessDenied),
    (400, error_body(400, "INVALID_LOGIN_ATTEMPT", "Invalid login attempt."), AccessDenied),
    (403, error_body(403, "INSUFFICIENT_PERMISSION", "Permission Violation"), AccessDenied),
    (403, "<html><body>Forbidden</body></html>", AccessDenied),
    (400, {"error": "invalid_grant"}, AccessDenied),
    (400, {"error": "invalid_client", "error_description": "no such certificate"}, AccessDenied),
    (401, {"error": "invalid_client"}, AccessDenied),
    (400, invalid(UNKNOWN_IDENTIFIER), UnknownColumn),
    (400, invalid(REMOVED), UnknownColumn),
    (400, invalid(UNPROCESSED + "Search error occurred: Record 'currency' was not found."), RecordNotAvailable),
    (400, invalid(UNPROCESSED + "Invalid search type: chargetype."), RecordDenied),
    (400, invalid("Field '?' for record 'transaction' was not found."), PermanentError),
    (400, invalid(UNPROCESSED + "Search error occurred: Invalid or unsupported search."), UnsupportedSearch),
    (400, invalid("Failed to parse SQL: syntax error"), PermanentError),
    (400, error_body(400, "USER_ERROR", "This record has been locked by a user defined workflow."), PermanentError),
    (400, error_body(400, "INVALID_HEADER", "Invalid language. REST web services currently only"), PermanentError),
    (404, error_body(404, "NONEXISTENT_ID", "Record does not exist."), PermanentError),
    (405, "", PermanentError),
    (302, "", PermanentError),
    (408, "", TimedOut),
    (500, UNEXPECTED, ServerError),
    (500, "", ServerError),
    (501, "", ApiUnavailable),
    (502, "<html><h1>502 Bad Gateway</h1></html>", ApiUnavailable),
    (503, "", ApiUnavailable),
    (504, "", ApiUnavailable),
    (204, "", IncompleteResponse),
]


@pytest.mark.parametrize(("status", "body", "kind"), CASES)
def test_every_documented_answer_becomes_its_kind_of_failure(
    status: int, body: dict[str, object] | str, kind: type[ImportFailure]
) -> None:
    failure = classify(status, {}, body if isinstance(body, str) else json.dumps(body).encode())

    assert type(failure) is kind
    assert f"NetSuite answered {status}" in str(failure)


@pytest.mark.parametrize(("detail", "column"), [(UNKNOWN_IDENTIFIER, "subsidiary"), (REMOVED, "location")])
def test_the_unknown_column_is_named(detail: str, column: str) -> None:
    failure = classify(400, {}, json.dumps(invalid(detail)))

    assert isinstance(failure, UnknownColumn)
    assert failure.column == column


def test_the_table_alias_is_not_part_of_the_column() -> None:
    failure = classify(400, {}, json.dumps(invalid("Unknown identifier 't.Custentity_Foo'")))

    assert isinstance(failure, UnknownColumn)
    assert failure.column == "custentity_foo"


@pytest.mark.parametrize(
    ("status", "body", "advice"),
    [
        (401, INVALID_LOGIN, ["INVALID_LOGIN", "realm", "certificate", "role", "clock"]),
        (
            403,
            error_body(403, "INSUFFICIENT_PERMISSION", "x"),
            ["INSUFFICIENT_PERMISSION", "role", "REST Web Services"],
        ),
        (400, {"error": "invalid_client"}, ["invalid_client", "client_id", "certificate_id"]),
        (400, {"error": "invalid_grant"}, ["invalid_grant", "certificate", "expired"]),
    ],
)
def test_a_denial_says_what_to_check(status: int, body: dict[str, object], advice: list[str]) -> None:
    message = str(classify(status, {}, json.dumps(body)))

    assert [word for word in advice if word not in message] == []


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"Retry-After": "7"}, 7.0),
        ({"retry-after": " 2.5 "}, 2.5),
        ({"Retry-After": "-3"}, None),
        ({"Retry-After": "inf"}, None),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "Wed, 21 Oct 2026 07:28:30 GMT"}, None),
        ({"Retry-After": "Wed, 21 Oct 2026 07:28:30 GMT", "Date": "Wed, 21 Oct 2026 07:28:00 GMT"}, 30.0),
        ({"Retry-After": "Wed, 21 Oct 2026 07:27:00 GMT", "Date": "Wed, 21 Oct 2026 07:28:00 GMT"}, 0.0),
    ],
)
def test_retry_after_is_read_as_seconds_or_as_a_date(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers) == seconds
    for status in (429, 503):
        assert classify(status, headers, b"").retry_after == seconds


def test_details_are_trimmed() -> None:
    message = str(classify(400, {}, json.dumps(invalid("word " * 1000))))

    assert len(message) < DETAIL_LENGTH + 100
    assert "…" in message


@pytest.mark.parametrize(
    "text",
    [
        "Authorization: OAuth realm=SECRET, oauth_token=SECRET",
        'header OAuth oauth_consumer_key="SECRET", oauth_signature="SECRET"',
        "Bearer SECRET",
        '{"access_token": "SECRET", "expires_in": 3600}',
        "client_assertion=SECRET&grant_type=client_credentials",
        "token eyJSECRETSECRET.SECRET.SECRET",
        "the word SECRET0123456789012345678901234567890123456789",
        "customer SECRET@example.com is locked",
    ],
)
def test_nothing_secret_like_is_quoted(text: str) -> None:
    assert "SECRET" in text
    assert "SECRET" not in redact(text)
    assert "SECRET" not in str(classify(400, {}, text))
    assert "SECRET" not in str(classify(500, {}, json.dumps(error_body(500, "UNEXPECTED_ERROR", text))))


def test_redaction_leaves_what_a_person_needs() -> None:
    for text in (
        UNKNOWN_IDENTIFIER,
        REMOVED,
        "Error ID: jrgbpyylphhishmmlxyt",
        "custbody_nsts_gaw_created_by_2_is_unknown_1",
    ):
        assert redact(text) == text


def test_the_page_of_a_gateway_is_quoted_without_its_tags() -> None:
    page = "<html><style>h1 { color: red }</style><h1>502 Bad Gateway</h1></html>"

    assert str(classify(502, {}, page)) == "NetSuite answered 502 (502 Bad Gateway)"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(
            st.sampled_from(["error", "code", "message", "detail", "title", "o:errorCode", "o:errorDetails", "x"]),
            inner,
        )
    ),
)


@given(
    status=st.integers(100, 599),
    headers=st.dictionaries(st.sampled_from(["Retry-After", "Date"]), st.text()),
    body=st.binary() | st.text() | json_values.map(json.dumps),
)
def test_no_answer_can_break_the_classification(status: int, headers: dict[str, str], body: bytes | str) -> None:
    failure = classify(status, headers, body)

    assert isinstance(failure, ImportFailure)
    assert len(str(failure)) < 1500


@given(
    text=st.text(alphabet=st.characters(codec="ascii"), max_size=200),
    secret=st.text(alphabet="abcdef0123456789", min_size=40),
)
def test_a_long_secret_is_never_quoted_wherever_it_stands(text: str, secret: str) -> None:
    mixed = secret + "a1"

    assert mixed not in redact(f"{text} {mixed} {text}")


def test_exceptions_of_the_connection_are_told_apart() -> None:
    pool = urllib3.HTTPConnectionPool("netsuite.example")
    refused = requests.ConnectionError(
        urllib3.exceptions.MaxRetryError(pool, "/", ConnectionRefusedError(111, "refused"))
    )
    table: list[tuple[Exception, type[ImportFailure], str]] = [
        (requests.ConnectTimeout(), TimedOut, "no connection"),
        (requests.ReadTimeout(), TimedOut, "did not answer in time"),
        (urllib3.exceptions.ReadTimeoutError(pool, "/", "x"), TimedOut, "did not answer in time"),
        (requests.ConnectionError(urllib3.exceptions.ReadTimeoutError(pool, "/", "x")), TimedOut, "in time"),
        (refused, ApiUnavailable, "refused the connection"),
        (requests.ConnectionError(ConnectionResetError(104, "reset")), ApiUnavailable, "ConnectionResetError"),
        (requests.exceptions.ChunkedEncodingError(), ApiUnavailable, "broke"),
        (urllib3.exceptions.ProtocolError("x"), ApiUnavailable, "broke"),
        (requests.exceptions.SSLError(ssl.SSLCertVerificationError()), ApiUnavailable, "certificates"),
        (requests.exceptions.ProxyError(), ApiUnavailable, "proxy"),
        (requests.exceptions.InvalidURL(), PermanentError, "base_url"),
        (OSError(), ApiUnavailable, "OSError"),
    ]
    for error, kind, words in table:
        failure = classify_exception(error)
        assert type(failure) is kind, error
        assert words in str(failure)


def test_an_exception_is_never_quoted_because_it_may_hold_a_proxys_password() -> None:
    error = requests.exceptions.ProxyError("cannot reach http://user:hunter2@proxy:3128")

    assert "hunter2" not in str(classify_exception(error))
