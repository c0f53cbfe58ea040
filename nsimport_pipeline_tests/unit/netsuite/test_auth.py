"""Both ways of signing in: what is signed can be verified, tokens are shared and renewed, secrets stay inside."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import parse_qsl, unquote

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from hypothesis import given
from hypothesis import strategies as st
from oauthlib.oauth1 import SIGNATURE_HMAC_SHA256, Client

from nsimport_pipeline.errors import AccessDenied, ApiUnavailable, ConfigurationError, IncompleteResponse
from nsimport_pipeline.netsuite.auth import ClientCredentials, parse_token, read_private_key
from nsimport_pipeline.netsuite.retrying import RetryPolicy
from nsimport_pipeline.settings import OAuth2
from nsimport_pipeline_tests.unit.netsuite.scripted import (
    INVALID_LOGIN,
    SECRETS,
    TBA,
    UNEXPECTED,
    Answer,
    Clock,
    client,
    oauth2,
    page,
    scripted,
    token_answer,
    write_key,
)

DENIED = Answer(401, INVALID_LOGIN)


@pytest.fixture(scope="module")
def key_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_key(tmp_path_factory.mktemp("keys"), "ES256")


# Token-based authentication


def test_a_tba_signature_covers_the_query_parameters_and_verifies() -> None:
    clock = Clock()
    with scripted(page([])) as server, client(server, clock=clock) as netsuite:
        netsuite.query("SELECT 1", limit=10, offset=20)
        (query,) = server.queries
    header = query.headers["Authorization"]
    sent = {k: unquote(v) for k, v in (p.strip().split("=", 1) for p in header.removeprefix("OAuth ").split(","))}
    sent = {k: v.strip('"') for k, v in sent.items()}
    again = Client(
        TBA["consumer_key"],
        TBA["consumer_secret"],
        TBA["token_id"],
        TBA["token_secret"],
        signature_method=SIGNATURE_HMAC_SHA256,
        realm="1234567_SB1",
        nonce=sent["oauth_nonce"],
        timestamp=str(int(clock())),
    )

    _, headers, _ = again.sign(f"{server.url}{query.path}", "POST", None, {"Content-Type": "application/json"})
    assert dict(parse_qsl(query.path.partition("?")[2])) == {"limit": "10", "offset": "20"}
    assert f'oauth_signature="{unquote(sent["oauth_signature"])}"' in unquote(headers["Authorization"])
    assert sent["realm"] == "1234567_SB1"
    assert sent["oauth_signature_method"] == "HMAC-SHA256"


def test_every_attempt_is_signed_anew() -> None:
    with scripted(Answer(429), Answer(500, UNEXPECTED), Answer(503), page([])) as server:
        client(server).query("SELECT 1")

    assert len(set(server.authorizations)) == 4


def test_refused_tba_credentials_are_not_tried_again() -> None:
    with scripted(DENIED) as server, pytest.raises(AccessDenied, match="realm"):
        client(server).query("SELECT 1")

    assert len(server.queries) == 1


# OAuth 2.0 client credentials


@pytest.mark.parametrize("algorithm", ["PS256", "ES256"])
def test_the_assertion_is_what_netsuite_asks_for(tmp_path: Path, algorithm: str) -> None:
    file, clock = write_key(tmp_path, algorithm), Clock()
    with scripted(page([]), tokens=[token_answer()]) as server:
        client(server, oauth2(file, algorithm), clock=clock).query("SELECT 1")
    (request,) = server.token_requests
    form, url = request.form, server.url + "/services/rest/auth/oauth2/v1/token"
    public = load_pem_private_key(file.read_bytes(), None).public_key()
    claims = jwt.decode(
        form["client_assertion"],
        public,  # type: ignore[arg-type]
        algorithms=[algorithm],
        audience=url,
        options={"verify_exp": False, "verify_iat": False},
    )

    assert request.path == "/services/rest/auth/oauth2/v1/token"
    assert request.headers["Content-Type"] == "application/x-www-form-urlencoded"
    assert "Authorization" not in request.headers
    assert form["grant_type"] == "client_credentials"
    assert form["client_assertion_type"] == "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
    assert jwt.get_unverified_header(form["client_assertion"]) == {
        "alg": algorithm,
        "typ": "JWT",
        "kid": "certificate-id-88ab",
    }
    assert claims.pop("jti")
    assert claims == {
        "iss": "client-id-4c1f",
        "scope": ["rest_webservices"],
        "aud": url,
        "iat": int(clock()),
        "exp": int(clock()) + 300,
    }
    assert server.authorizations == ["Bearer token-1"]


def test_eight_threads_need_one_token(key_file: Path) -> None:
    slow = Answer(body=token_answer().body, delay=0.2)
    with scripted(page([]), tokens=[slow]) as server:
        netsuite, start = client(server, oauth2(key_file)), threading.Barrier(8)

        def work(_: int) -> None:
            start.wait()
            netsuite.query("SELECT 1")

        with ThreadPoolExecutor(8) as threads:
            list(threads.map(work, range(8)))

    assert len(server.token_requests) == 1
    assert set(server.authorizations) == {"Bearer token-1"}
    assert len(server.queries) == 8


def test_a_failed_token_request_is_shared_by_those_who_wait_for_it(key_file: Path) -> None:
    slow = Answer(400, {"error": "invalid_grant"}, delay=0.3)
    with scripted(page([]), tokens=[slow]) as server:
        netsuite, start = client(server, oauth2(key_file)), threading.Barrier(8)

        def work(_: int) -> None:
            start.wait()
            with pytest.raises(AccessDenied, match="invalid_grant"):
                netsuite.query("SELECT 1")

        with ThreadPoolExecutor(8) as threads:
            list(threads.map(work, range(8)))

    assert len(server.token_requests) == 1
    assert server.queries == []


@pytest.mark.parametrize(
    ("lifetime", "still_good", "renewed"), [(3600, 3299, 3301), ("3600", 3299, 3301), (60, 53, 55)]
)
def test_a_token_is_renewed_before_it_ends(key_file: Path, lifetime: object, still_good: float, renewed: float) -> None:
    clock = Clock()
    with scripted(page([]), tokens=[token_answer("one", lifetime), token_answer("two", lifetime)]) as server:
        netsuite = client(server, oauth2(key_file), clock=clock)
        begin = clock.now
        for moment in (0, still_good, renewed):
            clock.now = begin + moment
            netsuite.query("SELECT 1")

    assert server.authorizations == ["Bearer one", "Bearer one", "Bearer two"]


def test_a_token_that_netsuite_no_longer_takes_is_replaced_once(key_file: Path) -> None:
    clock = Clock()
    with scripted(page([]), DENIED, page([]), tokens=[token_answer("one"), token_answer("two")]) as server:
        netsuite = client(server, oauth2(key_file), clock=clock)
        netsuite.query("SELECT 1")
        result = netsuite.query("SELECT 1")

    assert server.authorizations == ["Bearer one", "Bearer one", "Bearer two"]
    assert result.attempts == 1
    assert clock.slept == []


def test_a_fresh_token_that_is_refused_too_is_a_denial(key_file: Path) -> None:
    with scripted(DENIED, tokens=[token_answer("one"), token_answer("two")]) as server, pytest.raises(AccessDenied):
        client(server, oauth2(key_file)).query("SELECT 1")

    assert server.authorizations == ["Bearer one", "Bearer two"]


def test_threads_refused_with_the_old_token_do_not_throw_the_new_one_away(key_file: Path) -> None:
    tokens = iter([b'{"access_token": "one"}', b'{"access_token": "two"}'])
    settings = OAuth2.model_validate(oauth2(key_file))
    credentials = ClientCredentials(settings, "https://x.invalid/token", lambda url, form: next(tokens), Clock())

    assert credentials.token() == "one"
    assert credentials.renewable("Bearer one")
    assert credentials.token() == "two"
    assert credentials.renewable("Bearer one")
    assert credentials.token() == "two"


def test_a_token_endpoint_in_trouble_is_tried_again(key_file: Path) -> None:
    tokens = [Answer(503), Answer(429), Answer(body=b"{}"), Answer(reset=True), token_answer()]
    with scripted(page([]), tokens=tokens) as server:
        result = client(server, oauth2(key_file), policy=RetryPolicy(attempts=4)).query("SELECT 1")

    assert result.attempts == 5
    assertions = [request.form["client_assertion"] for request in server.token_requests]
    assert len(set(assertions)) == 5


def test_a_token_endpoint_that_stays_away_is_reported_as_unavailable(key_file: Path) -> None:
    with scripted(page([]), tokens=[Answer(503)]) as server, pytest.raises(ApiUnavailable, match="503"):
        client(server, oauth2(key_file)).query("SELECT 1")


@given(
    body=st.binary()
    | st.sampled_from([b'{"access_token": ""}', b'{"access_token": "a b"}', b"[]", b'{"access_token":1}'])
)
def test_an_answer_that_holds_no_token_is_incomplete(body: bytes) -> None:
    with pytest.raises(IncompleteResponse):
        parse_token(body)


@pytest.mark.parametrize("lifetime", ["-1", "0", '"nan"'])
def test_an_impossible_lifetime_counts_as_an_hour(lifetime: str) -> None:
    assert parse_token(b'{"access_token": "x", "expires_in": %s}' % lifetime.encode()) == ("x", 3600.0)


# Keys


def test_an_unusable_key_file_is_a_configuration_error_that_names_it(tmp_path: Path) -> None:
    ec_key, rsa_key = write_key(tmp_path, "ES256"), write_key(tmp_path, "PS256")
    garbage, encrypted = tmp_path / "garbage.pem", tmp_path / "encrypted.pem"
    other_curve, short = tmp_path / "p384.pem", tmp_path / "short.pem"
    garbage.write_text("-----BEGIN CERTIFICATE-----\nnope\n")
    pem = (Encoding.PEM, PrivateFormat.PKCS8)
    encrypted.write_bytes(
        ec.generate_private_key(ec.SECP256R1()).private_bytes(*pem, BestAvailableEncryption(b"passphrase"))
    )
    other_curve.write_bytes(ec.generate_private_key(ec.SECP384R1()).private_bytes(*pem, NoEncryption()))
    short.write_bytes(rsa.generate_private_key(65537, 1024).private_bytes(*pem, NoEncryption()))  # noqa: S505
    table = [
        (tmp_path / "absent.pem", "PS256", "cannot be read: No such file"),
        (tmp_path, "PS256", "cannot be read"),
        (garbage, "PS256", "not a private key"),
        (encrypted, "ES256", "encrypted"),
        (ec_key, "PS256", "RSA"),
        (rsa_key, "ES256", "P-256"),
        (other_curve, "ES256", "P-256"),
        (short, "PS256", "1024 bits"),
    ]
    for file, algorithm, words in table:
        with pytest.raises(ConfigurationError) as caught:
            read_private_key(file, algorithm)
        assert str(file) in str(caught.value)
        assert words in str(caught.value)


def test_a_client_with_an_unusable_key_cannot_be_made(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"absent\.pem"):
        client("http://127.0.0.1:1", oauth2(tmp_path / "absent.pem"))


# Secrets


def test_no_secret_is_logged_or_shown(caplog: pytest.LogCaptureFixture, key_file: Path) -> None:
    caplog.set_level("DEBUG")
    with scripted(page([]), DENIED, tokens=[token_answer("token-9z9z")]) as server:
        for auth in (TBA, oauth2(key_file)):
            netsuite = client(server, auth)
            shown = [repr(netsuite), str(netsuite), repr(vars(netsuite))]
            with pytest.raises(AccessDenied) as caught:
                [netsuite.query("SELECT 1") for _ in range(2)]
            text = "\n".join([*shown, repr(vars(netsuite)), str(caught.value), repr(caught.value), caplog.text])
            secrets = [*SECRETS, "client-id-4c1f", "certificate-id-88ab", "token-9z9z", "oauth_signature"]
            assert [secret for secret in secrets if secret in text] == []
    assert "POST /services" in caplog.text


def test_a_secret_that_netsuite_echoes_is_not_quoted() -> None:
    echo = Answer(400, {"title": f"bad words: {' / '.join(SECRETS)}"})
    with scripted(echo) as server, pytest.raises(Exception, match="bad words") as caught:
        client(server).query("SELECT 1")

    assert [secret for secret in SECRETS if secret in str(caught.value)] == []
