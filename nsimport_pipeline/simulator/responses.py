"""NetSuite's error bodies, word for word where a source gives the words.

Belongs here: building error answers. Does not belong here: deciding on one (``server.py``), SuiteQL's texts
(``suiteql_text.py``).
"""

import random
import string
from typing import Any

import orjson
from starlette.responses import Response

_RFC = "https://www.rfc-editor.org/rfc/rfc9110.html#section-"
_SECTIONS = {
    400: "15.5.1",
    401: "15.5.2",
    403: "15.5.4",
    404: "15.5.5",
    405: "15.5.6",
    500: "15.6.1",
    502: "15.6.3",
    503: "15.6.4",
}
_TITLES = {
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    500: "Internal Server Error",
    502: "Bad Gateway",
    503: "Service Unavailable",
}
INVALID_LOGIN = (
    "Invalid login attempt. For more details, see the Login Audit Trail in the NetSuite UI at "
    "Setup > Users/Roles > User Management > View Login Audit Trail."
)


def json_response(body: Any, status: int = 200, kind: str = "application/json") -> Response:
    return Response(orjson.dumps(body), status, media_type=kind)


def error(status: int, detail: str, code: str, *, headers: dict[str, str] | None = None, **extra: str) -> Response:
    """One error in NetSuite's envelope. ``extra``: ``query_param`` or ``header``, which name the part at fault."""
    details: dict[str, str] = {"detail": detail}
    for name, key in (("query_param", "o:errorQueryParam"), ("header", "o:errorHeader")):
        if name in extra:
            details[key] = extra[name]
    details["o:errorCode"] = code
    body = {
        "type": _RFC + _SECTIONS[status],
        "title": _TITLES[status],
        "status": status,
        "o:errorDetails": [details],
    }
    kind = "application/vnd.oracle.resource+json; type=error; charset=UTF-8"
    return Response(orjson.dumps(body), status, headers, media_type=kind)


def invalid_query(detail: str) -> Response:
    return error(400, detail, "INVALID_PARAMETER", query_param="q")


def invalid_login() -> Response:
    return error(401, INVALID_LOGIN, "INVALID_LOGIN")


def forbidden() -> Response:
    return error(
        403,
        "You do not have permission to perform this operation: your role lacks the REST Web Services permission.",
        "INSUFFICIENT_PERMISSION",
    )


def concurrency_exceeded(retry_after: float | None = None) -> Response:
    """The 429 as documented: titled Bad Request, with a USER_ERROR at its top."""
    body = {
        "type": "https://www.w3.org/Protocols/rfc2616/rfc2616-sec10.html#sec10.4.1",
        "title": "Bad Request",
        "status": 429,
        "o:errorCode": "USER_ERROR",
        "o:errorDetails": [
            {
                "detail": "Concurrent request limit exceeded. Request blocked.",
                "o:errorCode": "CONCURRENCY_LIMIT_EXCEEDED",
            }
        ],
    }
    headers = {"Retry-After": f"{retry_after:g}"} if retry_after is not None else None
    kind = "application/vnd.oracle.resource+json; type=error; charset=UTF-8"
    return Response(orjson.dumps(body), 429, headers, media_type=kind)


def unexpected(rng: random.Random) -> Response:
    """A 500 with a made-up error id."""
    identity = "".join(rng.choices(string.ascii_lowercase, k=20))
    return error(500, f"An unexpected error occurred. Error ID: {identity}", "UNEXPECTED_ERROR")


def unavailable(status: int) -> Response:
    """A 502 or 503 as a proxy in front of NetSuite gives it: a page, not JSON."""
    title = _TITLES[status]
    return Response(
        f"<html><head><title>{status} {title}</title></head><body>{title}</body></html>", status, media_type="text/html"
    )
