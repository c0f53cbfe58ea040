"""Proving to NetSuite who we are: OAuth 2.0 client credentials, and token-based authentication (OAuth 1.0a).

Belongs here: signing a request, getting and keeping an access token, reading the private key.
Does not belong here: sending the request itself and trying again (``client.py``, ``retrying.py``).
Objects of this module never show a secret in ``repr``, ``str`` or a log.
"""

import logging
import threading
import uuid
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Protocol

import jwt
import orjson
import requests
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from requests.auth import AuthBase
from requests_oauthlib import OAuth1

from nsimport_pipeline.errors import ConfigurationError, IncompleteResponse
from nsimport_pipeline.settings import OAuth2, Tenant, TokenBased

TOKEN_PATH = "/services/rest/auth/oauth2/v1/token"  # noqa: S105 - a path
ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
ASSERTION_SECONDS = 300
SMALLEST_RSA_KEY = 2048

# At debug level these print consumer keys, token secrets and signatures; no log setting may switch that on.
for _name in ("oauthlib", "requests_oauthlib"):
    logging.getLogger(_name).setLevel(logging.INFO)

PostForm = Callable[[str, dict[str, str]], bytes]
"""Posts a form to a URL once, and returns the body of the 200; raises an ImportFailure otherwise."""


class Authenticator(Protocol):
    """Signs requests; called anew for every attempt. Safe for many threads."""

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest: ...

    def renewable(self, authorization: str) -> bool:
        """Told that ``authorization`` was refused with 401: whether signing again can help, with a fresh token."""
        ...

    def secrets(self) -> tuple[str, ...]:
        """Every text that must not appear in a message."""
        ...


def authenticator(tenant: Tenant, post_form: PostForm, clock: Callable[[], float]) -> Authenticator:
    """The authenticator for a tenant's settings. Raises ConfigurationError for an unusable key file."""
    if isinstance(tenant.auth, OAuth2):
        return ClientCredentials(tenant.auth, tenant.url + TOKEN_PATH, post_form, clock)
    return TokenSignature(tenant.auth, tenant.realm, clock)


class TokenSignature(AuthBase):
    """OAuth 1.0a with HMAC-SHA256: a new nonce and timestamp for each request, query parameters signed."""

    def __init__(self, settings: TokenBased, realm: str, clock: Callable[[], float]) -> None:
        self._settings = settings
        self._realm = realm
        self._clock = clock

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        sign = OAuth1(
            client_key=self._settings.consumer_key.get_secret_value(),
            client_secret=self._settings.consumer_secret.get_secret_value(),
            resource_owner_key=self._settings.token_id.get_secret_value(),
            resource_owner_secret=self._settings.token_secret.get_secret_value(),
            signature_method="HMAC-SHA256",
            realm=self._realm,
            timestamp=str(int(self._clock())),
            nonce=uuid.uuid4().hex,
        )
        signed: requests.PreparedRequest = sign(request)
        header = signed.headers["Authorization"]
        # oauthlib makes it bytes; the rest of the header is text.
        signed.headers["Authorization"] = header.decode() if isinstance(header, bytes) else header
        return signed

    def renewable(self, authorization: str) -> bool:
        return False

    def secrets(self) -> tuple[str, ...]:
        settings = self._settings
        values = (settings.consumer_key, settings.consumer_secret, settings.token_id, settings.token_secret)
        return tuple(value.get_secret_value() for value in values)


class ClientCredentials(AuthBase):
    """OAuth 2.0 client credentials: a signed assertion buys a token, which all threads share until it nears its end."""

    def __init__(self, settings: OAuth2, token_url: str, post_form: PostForm, clock: Callable[[], float]) -> None:
        self._settings = settings
        self._token_url = token_url
        self._post_form = post_form
        self._clock = clock
        self._key = read_private_key(settings.private_key_file, settings.algorithm)
        self._lock = threading.Lock()
        self._token = ""
        self._renew_at = 0.0
        self._flight: Future[str] | None = None

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self.token()}"
        return request

    def token(self) -> str:
        """A token that is good for some time yet. One thread fetches it; the others wait and share what comes of it."""
        with self._lock:
            if self._token and self._clock() < self._renew_at:
                return self._token
            flight = self._flight
            if flight is None:
                mine = self._flight = Future()
        if flight is not None:
            return flight.result()
        try:
            token, lifetime = self._fetch()
        except BaseException as failure:
            with self._lock:
                self._flight = None
            mine.set_exception(failure)
            raise
        with self._lock:
            self._token = token
            # A tenth of its life early, five minutes at most: long enough for a request under way to end.
            self._renew_at = self._clock() + lifetime - min(300.0, lifetime / 10)
            self._flight = None
        mine.set_result(token)
        return token

    def renewable(self, authorization: str) -> bool:
        with self._lock:
            # Threads refused with a token that was replaced meanwhile must not throw the new one away.
            if authorization == f"Bearer {self._token}":
                self._token = ""
        return True

    def secrets(self) -> tuple[str, ...]:
        settings = self._settings
        return (settings.client_id.get_secret_value(), settings.certificate_id.get_secret_value(), self._token)

    def assertion(self) -> str:
        """The signed claim, good for five minutes, that the token endpoint takes for a password."""
        now = int(self._clock())
        client_id = self._settings.client_id.get_secret_value()
        claims = {
            "iss": client_id,
            "scope": ["rest_webservices"],
            "aud": self._token_url,
            "iat": now,
            "exp": now + ASSERTION_SECONDS,
            "jti": uuid.uuid4().hex,
        }
        headers = {"kid": self._settings.certificate_id.get_secret_value()}
        return jwt.encode(claims, self._key, algorithm=self._settings.algorithm, headers=headers)

    def _fetch(self) -> tuple[str, float]:
        form = {
            "grant_type": "client_credentials",
            "client_assertion_type": ASSERTION_TYPE,
            "client_assertion": self.assertion(),
        }
        return parse_token(self._post_form(self._token_url, form))


def parse_token(body: bytes) -> tuple[str, float]:
    """The token and its life in seconds (an hour if NetSuite does not say). Raises IncompleteResponse."""
    try:
        document: Any = orjson.loads(body)
        token, lifetime = document["access_token"], float(document.get("expires_in", 3600))
    except (ValueError, TypeError, KeyError, AttributeError):
        raise IncompleteResponse("NetSuite's token endpoint sent an answer that cannot be read") from None
    if not isinstance(token, str) or not token.isascii() or not token.isprintable() or not token or " " in token:
        raise IncompleteResponse("NetSuite's token endpoint sent an answer without an access token")
    # Not `lifetime <= 0`, which lets a NaN through.
    return token, min(lifetime, 86_400.0) if lifetime > 0 else 3600.0


def read_private_key(file: Path, algorithm: str) -> rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey:
    """The key in a PEM file. Raises ConfigurationError that names the file and what is wrong with it."""
    try:
        content = file.read_bytes()
    except OSError as error:
        raise ConfigurationError(
            f"private key {file} cannot be read: {error.strerror or type(error).__name__}"
        ) from None
    try:
        key = load_pem_private_key(content, password=None)
    except TypeError:
        raise ConfigurationError(f"private key {file} is encrypted: give one without a passphrase") from None
    except (ValueError, UnsupportedAlgorithm):
        raise ConfigurationError(f"private key {file} is not a private key in PEM form") from None
    if algorithm == "ES256":
        if isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, ec.SECP256R1):
            return key
        raise ConfigurationError(f"private key {file} does not fit ES256: an EC key on curve P-256 is needed")
    if not isinstance(key, rsa.RSAPrivateKey):
        raise ConfigurationError(f"private key {file} does not fit {algorithm}: an RSA key is needed")
    if key.key_size < SMALLEST_RSA_KEY:
        raise ConfigurationError(
            f"private key {file} is too short: {key.key_size} bits, NetSuite wants {SMALLEST_RSA_KEY} or more"
        )
    return key
