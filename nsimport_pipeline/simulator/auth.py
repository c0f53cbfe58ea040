"""Verifies who asks: OAuth 2.0 client credentials and token-based authentication, signatures and all.

Belongs here: issuing and checking tokens, checking OAuth 1.0a signatures. Does not belong here: the credentials
themselves (``credentials.py``), HTTP answers (``server.py``).
"""

import base64
import hashlib
import hmac
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl, quote, unquote

import jwt
from cryptography.hazmat.primitives import serialization

from nsimport_pipeline.simulator.credentials import (
    CLIENT_ID,
    CONSUMER_KEY,
    CONSUMER_SECRET,
    EC_CERTIFICATE,
    RSA_CERTIFICATE,
    TOKEN_ID,
    TOKEN_SECRET,
    SimulatorCredentials,
)

TOKEN_PATH = "/services/rest/auth/oauth2/v1/token"  # noqa: S105 - an address
SCOPE = "rest_webservices"
_ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_ALGORITHMS = {
    RSA_CERTIFICATE: ("PS256", "PS384", "PS512"),
    EC_CERTIFICATE: ("ES256",),
}
_WINDOW = 300
"""Seconds by which a TBA timestamp may differ from the server's clock."""
_LEEWAY = 60
_LONGEST_ASSERTION = 3600


class TokenRefusedError(Exception):
    """The token endpoint's refusal; ``code`` is the OAuth error."""

    def __init__(self, code: str, why: str) -> None:
        super().__init__(why)
        self.code = code
        self.why = why


class UnauthorizedError(Exception):
    """A request whose authorization does not hold. The reason is for tests, NetSuite never tells it."""


class Authenticator:
    """Checks tokens and signatures for one account. ``clock`` gives seconds since the epoch."""

    def __init__(
        self,
        credentials: SimulatorCredentials,
        account: str,
        token_lifetime: float = 3600,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._signing_key = credentials.signing_key
        self._keys = {
            certificate: serialization.load_pem_private_key(file.read_bytes(), None).public_key()
            for certificate, file in ((RSA_CERTIFICATE, credentials.rsa_key), (EC_CERTIFICATE, credentials.ec_key))
        }
        self.realm = account.upper().replace("-", "_")
        self._host = account.lower().replace("_", "-")
        self.token_lifetime = token_lifetime
        self._clock = clock
        self._nonces: dict[str, float] = {}
        self._not_before = 0.0

    def revoke_tokens(self) -> None:
        """Every access token issued so far is refused from now on."""
        self._not_before = self._clock()

    def issue_token(self, form: Mapping[str, str], url: str) -> dict[str, Any]:
        """Answer of the token endpoint to ``form``. Raises TokenRefusedError."""
        if form.get("grant_type") != "client_credentials":
            raise TokenRefusedError("unsupported_grant_type", "grant_type")
        if form.get("client_assertion_type") != _ASSERTION_TYPE:
            raise TokenRefusedError("invalid_request", "client_assertion_type")
        claims = self._assertion(form.get("client_assertion", ""), url)
        now = self._clock()
        token = jwt.encode(
            {
                "sub": CLIENT_ID,
                "iat": now,
                "exp": now + self.token_lifetime,
                "scope": claims["scope"],
                "jti": hashlib.sha256(form["client_assertion"].encode() + str(now).encode()).hexdigest()[:16],
            },
            self._signing_key,
            "HS256",
        )
        return {"access_token": token, "expires_in": int(self.token_lifetime), "token_type": "Bearer"}

    def _assertion(self, assertion: str, url: str) -> dict[str, Any]:
        """The claims of a client assertion whose signature and times are right."""
        try:
            header = jwt.get_unverified_header(assertion)
        except jwt.PyJWTError:
            raise TokenRefusedError("invalid_request", "client_assertion is no JWT") from None
        certificate = str(header.get("kid"))
        if certificate not in self._keys:
            raise TokenRefusedError("invalid_client", "kid")
        try:
            claims: dict[str, Any] = jwt.decode(
                assertion,
                self._keys[certificate],  # type: ignore[arg-type]
                algorithms=list(_ALGORITHMS[certificate]),
                options={"verify_aud": False, "verify_exp": False, "verify_iat": False, "require": ["iat", "exp"]},
            )
        except jwt.PyJWTError as error:
            raise TokenRefusedError("invalid_client", type(error).__name__) from None
        if claims.get("iss") != CLIENT_ID:
            raise TokenRefusedError("invalid_client", "iss")
        if claims.get("aud") not in (url, f"https://{self._host}.suitetalk.api.netsuite.com{TOKEN_PATH}"):
            raise TokenRefusedError("invalid_client", "aud")
        issued, expires, now = claims["iat"], claims["exp"], self._clock()
        if not all(isinstance(moment, int | float) for moment in (issued, expires)):
            raise TokenRefusedError("invalid_client", "times")
        if expires <= now or issued > now + _LEEWAY or not 0 < expires - issued <= _LONGEST_ASSERTION:
            raise TokenRefusedError("invalid_client", "times")
        scope = claims.get("scope")
        claims["scope"] = scope.replace(",", " ").split() if isinstance(scope, str) else scope
        if not isinstance(claims["scope"], list) or not claims["scope"]:
            raise TokenRefusedError("invalid_scope", "scope")
        return claims

    def authorize(self, method: str, url: str, query: str, authorization: str | None) -> None:
        """Check one request's ``Authorization``. ``url`` has no query string. Raises UnauthorizedError."""
        scheme, _, rest = (authorization or "").partition(" ")
        match scheme.lower():
            case "bearer":
                self._check_bearer(rest.strip())
            case "oauth":
                self._check_signature(method, url, query, rest)
            case _:
                raise UnauthorizedError("no authorization")

    def _check_bearer(self, token: str) -> None:
        try:
            options = {"verify_exp": False, "verify_iat": False}
            claims = jwt.decode(token, self._signing_key, ["HS256"], options=options)  # type: ignore[arg-type]
        except jwt.PyJWTError as error:
            raise UnauthorizedError(type(error).__name__) from None
        if claims["exp"] <= self._clock() or claims["iat"] < self._not_before:
            raise UnauthorizedError("expired")
        if SCOPE not in claims["scope"]:
            raise UnauthorizedError("ScopeMismatched")

    def _check_signature(self, method: str, url: str, query: str, rest: str) -> None:
        given = _header_parameters(rest)
        if given.pop("realm", None) != self.realm:
            raise UnauthorizedError("realm")
        signature = given.pop("oauth_signature", "")
        if given.get("oauth_consumer_key") != CONSUMER_KEY or given.get("oauth_token") != TOKEN_ID:
            raise UnauthorizedError("key")
        if given.get("oauth_signature_method") != "HMAC-SHA256" or given.get("oauth_version", "1.0") != "1.0":
            raise UnauthorizedError("method")
        stamp, nonce, now = given.get("oauth_timestamp", ""), given.get("oauth_nonce", ""), self._clock()
        if not stamp.isdigit() or abs(int(stamp) - now) > _WINDOW:
            raise UnauthorizedError("timestamp")
        pairs = [*parse_qsl(query, keep_blank_values=True), *given.items()]
        if not hmac.compare_digest(signature, sign(method, url, pairs)):
            raise UnauthorizedError("signature")
        self._use_nonce(nonce, now)

    def _use_nonce(self, nonce: str, now: float) -> None:
        if not nonce or nonce in self._nonces:
            raise UnauthorizedError("nonce")
        self._nonces[nonce] = now
        if len(self._nonces) > 50_000:
            self._nonces = {key: when for key, when in self._nonces.items() if when > now - 2 * _WINDOW}


def sign(method: str, url: str, pairs: list[tuple[str, str]]) -> str:
    """The OAuth 1.0a signature (HMAC-SHA256) over a request's parameters, with the account's secrets."""
    encoded = sorted((quote(key, safe="~"), quote(value, safe="~")) for key, value in pairs)
    parameters = "&".join(f"{key}={value}" for key, value in encoded)
    base = "&".join((method.upper(), quote(url, safe="~"), quote(parameters, safe="~")))
    key = f"{quote(CONSUMER_SECRET, safe='~')}&{quote(TOKEN_SECRET, safe='~')}"
    return base64.b64encode(hmac.new(key.encode(), base.encode(), hashlib.sha256).digest()).decode()


def _header_parameters(text: str) -> dict[str, str]:
    result = {}
    for part in text.split(","):
        key, _, value = part.strip().partition("=")
        result[unquote(key)] = unquote(value.strip().strip('"'))
    return result
