"""What NetSuite's refusals and a broken connection mean for us.

Belongs here: the only code that reads the bodies of NetSuite's errors; turning a status, a body or an exception of
``requests`` into one ``ImportFailure``; keeping secrets out of the text. Pure functions: no clock, no network.
Does not belong here: retrying (``retrying.py``), or reading a good answer (``client.py``).
"""

import re
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

import orjson
import requests
import urllib3.exceptions

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

DETAIL_LENGTH = 300
"""Characters of an error body that a message may quote."""

_CONCURRENCY = re.compile(
    r"CONCURRENCY_LIMIT_EXCEEDED|SSS_REQUEST_LIMIT_EXCEEDED|WS_REQUEST_BLOCKED"
    r"|concurrent request limit exceeded|ExceededConcurrentRequestLimitFault",
    re.IGNORECASE,
)
_UNKNOWN_COLUMN = (
    re.compile(r"Unknown identifier '([^']{1,200})'", re.IGNORECASE),
    re.compile(r"Field '([^']{1,200})' for record '[^']*' was not found", re.IGNORECASE),
)
_NO_RECORD = re.compile(r"(?<!for )Record '([^']{1,200})' was not found", re.IGNORECASE)
_UNSUPPORTED = re.compile(r"Invalid or unsupported search", re.IGNORECASE)
_NO_SEARCH = re.compile(r"Invalid search type: ([A-Za-z0-9_]{1,200})", re.IGNORECASE)
_COLUMN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")

_TOKEN_ADVICE = {
    "invalid_client": "check client_id and certificate_id, and that the certificate is active and belongs to the key",
    "invalid_grant": "check that the certificate is mapped to the integration, user and role in OAuth 2.0 Client "
    "Credentials setup, that it has not expired, and this machine's clock",
    "unauthorized_client": "check that client credentials are switched on in the integration record",
    "invalid_scope": "check that the integration record allows REST Web Services",
    "access_denied": "check that the role may log in using OAuth 2.0 access tokens",
    "invalid_request": "check account, client_id and certificate_id",
}
_LOGIN_ADVICE = (
    "check the account id (the realm is case-sensitive), the token or certificate, this machine's clock, and that the "
    "role has REST Web Services, SuiteAnalytics Workbook and the permission to log in with tokens; "
    "NetSuite's Login Audit Trail names the reason"
)
_ROLE_ADVICE = (
    "give the integration's role REST Web Services, SuiteAnalytics Workbook and the permission to log in with tokens"
)

_SECRETS = (
    (re.compile(r"\b(authorization\b\W{1,4})[^\r\n]*", re.IGNORECASE), r"\1[redacted]"),
    (re.compile(r"\b(Bearer|Basic)\s+[^\s\"',;]+", re.IGNORECASE), r"\1 [redacted]"),
    (
        re.compile(
            r"(?P<key>[\w.-]{0,40}(?:token|secret|passw|assertion|signature|nonce|consumer_?key|client_?id|api_?key)\w{0,20})"
            r"(?P<sign>[\"']?\s*[:=]\s*)(?P<value>\"[^\"]*\"?|'[^']*'?|[^\s\"',;&}]+)",
            re.IGNORECASE,
        ),
        r"\g<key>\g<sign>[redacted]",
    ),
    (re.compile(r"\beyJ[\w-]{5,}(?:\.[\w-]*)*"), "[redacted]"),
    (re.compile(r"[\w.+-]{1,64}@[\w-]{1,64}(?:\.[\w-]{1,64}){1,5}"), "[redacted]"),
)
_LONG_WORD = re.compile(r"[A-Za-z0-9+/=_-]{32,}")
_IDENTIFIER = re.compile(r"cust[a-z0-9_]+")


@dataclass(frozen=True)
class _Refusal:
    """An error body, whatever its shape: REST envelope, RESTlet, token endpoint, or no JSON at all."""

    codes: tuple[str, ...]
    text: str
    token_error: str | None

    @property
    def code(self) -> str:
        """The most telling code: the details' (last) before the envelope's."""
        return self.codes[-1] if self.codes else ""


def classify(status: int, headers: Mapping[str, str], body: bytes | str) -> ImportFailure:
    """The failure that an answer with this HTTP status, these headers and this body stands for.

    Meant for every status but 200. Never raises, whatever the body holds. The message quotes at most
    ``DETAIL_LENGTH`` characters of the body, without anything that looks like a secret.
    """
    failure = _classify(status, _read(body))
    seconds = retry_after(headers)
    if seconds is not None and isinstance(failure, RateLimited | ApiUnavailable | TimedOut):
        failure.retry_after = seconds
    return failure


def _classify(status: int, refusal: _Refusal) -> ImportFailure:
    said = _said(status, refusal)
    if status < 300:
        return IncompleteResponse(f"{said}, which is not an answer to a query")
    if status < 400:
        return PermanentError(f"{said}, a redirect that is not followed: check account and base_url")
    if status == 429 or _CONCURRENCY.search(" ".join((*refusal.codes, refusal.text))):
        return RateLimited(f"{said}: too many requests in flight for this account")
    if status == 408:
        return TimedOut(f"{said}: the request took too long")
    if status == 500:
        return ServerError(said)
    if status > 500:
        return ApiUnavailable(said)
    if refusal.token_error in _TOKEN_ADVICE:
        return AccessDenied(f"{said}: no access token was given: {_TOKEN_ADVICE[refusal.token_error]}")
    if status == 401 or any(code.startswith("INVALID_LOGIN") for code in refusal.codes):
        return AccessDenied(f"{said}: the credentials were refused: {_LOGIN_ADVICE}")
    if status == 403:
        return AccessDenied(f"{said}: the role may not do this: {_ROLE_ADVICE}")
    for pattern in _UNKNOWN_COLUMN:
        if (match := pattern.search(refusal.text)) and (column := _column(match.group(1))):
            return UnknownColumn(f"{said}: the account has no column {column!r} here", column=column)
    if match := _NO_RECORD.search(refusal.text):
        return RecordNotAvailable(
            f"{said}: the account has no table {redact(match.group(1))!r}, or the role may not see it: "
            "check the feature it belongs to and the role's permissions",
            table=match.group(1),
        )
    if match := _NO_SEARCH.search(refusal.text):
        return RecordDenied(f"{said}: the role may not see table {redact(match.group(1))!r}, or there is none")
    if _UNSUPPORTED.search(refusal.text):
        return UnsupportedSearch(said)
    return PermanentError(said)


def classify_exception(error: Exception) -> ImportFailure:
    """The failure that an exception of ``requests`` or ``urllib3`` stands for: no answer, or only part of one.

    The message names the innermost cause by its kind only: its text may quote addresses with credentials.
    """
    causes = list(_causes(error))
    if any(_is_timeout(cause) for cause in causes):
        connecting = any(
            isinstance(cause, requests.ConnectTimeout | urllib3.exceptions.ConnectTimeoutError) for cause in causes
        )
        where = "no connection to NetSuite could be made in time" if connecting else "NetSuite did not answer in time"
        return TimedOut(f"{where}: it is slow or out of reach; check the network if this goes on")
    if isinstance(error, ValueError) and isinstance(error, requests.RequestException):
        return PermanentError(
            f"the request to NetSuite cannot be sent ({type(error).__name__}): check base_url and proxies"
        )
    if any(isinstance(cause, requests.exceptions.ProxyError | urllib3.exceptions.ProxyError) for cause in causes):
        return ApiUnavailable("the proxy between here and NetSuite refused or failed: check HTTPS_PROXY")
    if any(isinstance(c, requests.exceptions.SSLError | urllib3.exceptions.SSLError | ssl.SSLError) for c in causes):
        return ApiUnavailable(
            "no trusted TLS connection to NetSuite: check base_url and this machine's CA certificates"
        )
    if any(isinstance(cause, urllib3.exceptions.NameResolutionError) for cause in causes):
        return ApiUnavailable("NetSuite's host name is unknown here: check account, base_url and DNS")
    kind = type(causes[-1]).__name__
    if any(isinstance(cause, ConnectionRefusedError) for cause in causes):
        return ApiUnavailable("NetSuite refused the connection: check base_url if this goes on")
    return ApiUnavailable(f"the connection to NetSuite broke ({kind})")


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that the ``Retry-After`` header asks to wait, or None; a date is taken relative to ``Date``."""
    lowered = {str(name).lower(): str(value).strip() for name, value in headers.items()}
    value = lowered.get("retry-after", "")
    if re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", value):
        return float(value)
    try:
        until = parsedate_to_datetime(value)
        return max(0.0, (until - parsedate_to_datetime(lowered["date"])).total_seconds())
    except (KeyError, ValueError, TypeError, IndexError, OverflowError):
        return None


def redact(text: str) -> str:
    """``text`` without tokens, keys, signatures, e-mail addresses and other long secret-like words."""
    for pattern, replacement in _SECRETS:
        text = pattern.sub(replacement, text)
    return _LONG_WORD.sub(lambda match: match.group() if _harmless(match.group()) else "[redacted]", text)


def _harmless(word: str) -> bool:
    mixed = any(c.isdigit() for c in word) and any(c.isalpha() for c in word)
    return not mixed or bool(_IDENTIFIER.fullmatch(word))


def _said(status: int, refusal: _Refusal) -> str:
    """Who said what: ``NetSuite answered 400 INVALID_PARAMETER (its words)``."""
    detail = redact(" ".join(refusal.text.split()))
    if len(detail) > DETAIL_LENGTH:
        detail = detail[:DETAIL_LENGTH] + "…"
    code = f" {redact(refusal.code)[:80]}" if refusal.code else ""
    return f"NetSuite answered {status}{code}" + (f" ({detail})" if detail else "")


def _read(body: bytes | str) -> _Refusal:
    text = body.decode("utf-8", "replace") if isinstance(body, bytes) else body
    text = text[:100_000]
    try:
        document = orjson.loads(text)
    except ValueError:  # includes lone surrogates and the missing comma of the documented 429
        document = None
    if not isinstance(document, dict):
        # A page of a gateway: its tags say nothing.
        return _Refusal(
            (), re.sub(r"<(?:style|script).*?</(?:style|script)>|<[^<>]*>", " ", text, flags=re.S | re.I), None
        )
    error = document.get("error")
    details = document.get("o:errorDetails")
    parts = [document, *(part for part in (details if isinstance(details, list) else []) if isinstance(part, dict))]
    if isinstance(error, dict):
        parts.append(error)
    codes = _texts(parts, ("o:errorCode", "code"))
    texts = _texts(parts, ("detail", "message", "error_description")) or _texts([document], ("title",))
    token_error = error if isinstance(error, str) else None
    return _Refusal((*codes, *([token_error] if token_error else [])), " ".join(texts), token_error)


def _is_timeout(error: BaseException) -> bool:
    # urllib3 counts every connection that cannot be made, a refused one too, among the timeouts.
    return isinstance(error, requests.Timeout | urllib3.exceptions.TimeoutError | TimeoutError) and not isinstance(
        error, urllib3.exceptions.NewConnectionError
    )


def _texts(parts: list[dict[str, object]], keys: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(value for part in parts for key in keys if isinstance(value := part.get(key), str) and value)


def _column(identifier: str) -> str | None:
    """The bare lower-case column of ``t.Column``, or None if it is not a name at all."""
    name = identifier.rpartition(".")[2].strip()
    return name.lower() if _COLUMN_NAME.fullmatch(name) else None


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The exception and what lies under it, outermost first; ``requests`` keeps causes in ``args`` and ``reason``."""
    seen: set[int] = set()
    queue: list[BaseException] = [error]
    while queue:
        current = queue.pop(0)
        if id(current) in seen:
            continue
        seen.add(id(current))
        yield current
        below = (getattr(current, "reason", None), *current.args, current.__cause__, current.__context__)
        queue += [cause for cause in below if isinstance(cause, BaseException)]
