"""Who gets in: client assertions, access tokens, OAuth 1.0a signatures."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest
from oauthlib.oauth1 import Client

from nsimport_pipeline.simulator import credentials as known
from nsimport_pipeline.simulator.auth import Authenticator, TokenRefusedError, UnauthorizedError
from nsimport_pipeline.simulator.credentials import SimulatorCredentials

HOST = "http://127.0.0.1:8080"
TOKEN_URL = f"{HOST}/services/rest/auth/oauth2/v1/token"
SUITEQL = f"{HOST}/services/rest/query/v1/suiteql"
ACCOUNT = "1234567-sb1"


class Clock:
    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Iterator[Clock]:
    return Clock()


@pytest.fixture
def authenticator(credentials: SimulatorCredentials, clock: Clock) -> Authenticator:
    return Authenticator(credentials, ACCOUNT, clock=clock)


def form(auth: dict[str, str], clock: Clock, header: dict[str, Any] | None = None, **claims: Any) -> dict[str, str]:
    now = int(clock())
    body = {
        "iss": auth["client_id"],
        "aud": TOKEN_URL,
        "iat": now,
        "exp": now + 300,
        "scope": ["rest_webservices"],
    } | claims
    assertion = jwt.encode(
        {key: value for key, value in body.items() if value is not None},
        Path(auth["private_key_file"]).read_bytes(),
        auth["algorithm"],
        headers={"kid": auth["certificate_id"], **(header or {})},
    )
    return {
        "grant_type": "client_credentials",
        "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        "client_assertion": assertion,
    }


@pytest.mark.parametrize("which", ["oauth2", "oauth2_ec"])
def test_a_signed_assertion_buys_a_token_that_opens_the_door(
    authenticator: Authenticator, credentials: SimulatorCredentials, clock: Clock, which: str
) -> None:
    answer = authenticator.issue_token(form(getattr(credentials, which), clock), TOKEN_URL)
    assert (answer["token_type"], answer["expires_in"]) == ("Bearer", 3600)
    authenticator.authorize("POST", SUITEQL, "", f"Bearer {answer['access_token']}")


@pytest.mark.parametrize(
    ("claims", "header", "code"),
    [
        ({"iss": "somebody"}, {}, "invalid_client"),
        ({"aud": "https://elsewhere/token"}, {}, "invalid_client"),
        ({"exp": 1_799_999_999}, {}, "invalid_client"),
        ({"exp": 1_800_003_601}, {}, "invalid_client"),
        ({"iat": 1_800_000_600, "exp": 1_800_000_900}, {}, "invalid_client"),
        ({"exp": None}, {}, "invalid_client"),
        ({"scope": None}, {}, "invalid_scope"),
        ({}, {"kid": "unknown"}, "invalid_client"),
        ({}, {"kid": known.EC_CERTIFICATE}, "invalid_client"),
    ],
)
def test_assertions_that_do_not_hold(
    authenticator: Authenticator,
    credentials: SimulatorCredentials,
    clock: Clock,
    claims: dict[str, Any],
    header: dict[str, str],
    code: str,
) -> None:
    with pytest.raises(TokenRefusedError) as caught:
        authenticator.issue_token(form(credentials.oauth2, clock, header, **claims), TOKEN_URL)
    assert caught.value.code == code


def test_the_old_rsa_padding_is_refused(
    authenticator: Authenticator, credentials: SimulatorCredentials, clock: Clock
) -> None:
    with pytest.raises(TokenRefusedError):
        authenticator.issue_token(form({**credentials.oauth2, "algorithm": "RS256"}, clock), TOKEN_URL)


def test_a_key_that_is_not_registered_is_refused(authenticator: Authenticator, clock: Clock, tmp_path: Path) -> None:
    stranger = known.ensure_credentials(tmp_path)
    with pytest.raises(TokenRefusedError):
        authenticator.issue_token(form(stranger.oauth2, clock), TOKEN_URL)


def test_no_assertion_at_all(authenticator: Authenticator, credentials: SimulatorCredentials, clock: Clock) -> None:
    for change in ({"client_assertion": "x"}, {"grant_type": "password"}, {"client_assertion_type": "y"}):
        with pytest.raises(TokenRefusedError):
            authenticator.issue_token(form(credentials.oauth2, clock) | change, TOKEN_URL)


def test_a_token_ends_and_can_be_revoked(
    authenticator: Authenticator, credentials: SimulatorCredentials, clock: Clock
) -> None:
    def bearer() -> str:
        return f"Bearer {authenticator.issue_token(form(credentials.oauth2, clock), TOKEN_URL)['access_token']}"

    token = bearer()
    clock.now += 3599
    authenticator.authorize("POST", SUITEQL, "", token)
    clock.now += 1
    with pytest.raises(UnauthorizedError):
        authenticator.authorize("POST", SUITEQL, "", token)
    token = bearer()
    clock.now += 1
    authenticator.revoke_tokens()
    with pytest.raises(UnauthorizedError):
        authenticator.authorize("POST", SUITEQL, "", token)
    authenticator.authorize("POST", SUITEQL, "", bearer())


def test_a_token_outlives_a_restart(credentials: SimulatorCredentials, clock: Clock) -> None:
    token = Authenticator(credentials, ACCOUNT, clock=clock).issue_token(form(credentials.oauth2, clock), TOKEN_URL)
    Authenticator(credentials, ACCOUNT, clock=clock).authorize("POST", SUITEQL, "", f"Bearer {token['access_token']}")


def test_a_token_of_the_wrong_scope_opens_nothing(
    authenticator: Authenticator, credentials: SimulatorCredentials, clock: Clock
) -> None:
    token = authenticator.issue_token(form(credentials.oauth2, clock, scope=["restlets"]), TOKEN_URL)["access_token"]
    with pytest.raises(UnauthorizedError):
        authenticator.authorize("POST", SUITEQL, "", f"Bearer {token}")


@pytest.mark.parametrize("authorization", [None, "", "Bearer", "Bearer x.y.z", "Basic abc", "OAuth", 'OAuth realm="x"'])
def test_headers_that_are_no_authorization(authenticator: Authenticator, authorization: str | None) -> None:
    with pytest.raises(UnauthorizedError):
        authenticator.authorize("POST", SUITEQL, "", authorization)


def signed(clock: Clock, url: str = SUITEQL, **changes: Any) -> str:
    """An authorization header made by oauthlib, not by our own signing."""
    settings = {
        "client_key": known.CONSUMER_KEY,
        "client_secret": known.CONSUMER_SECRET,
        "resource_owner_key": known.TOKEN_ID,
        "resource_owner_secret": known.TOKEN_SECRET,
        "signature_method": "HMAC-SHA256",
        "realm": "1234567_SB1",
        "timestamp": str(int(clock())),
    } | changes
    header: str = Client(**settings).sign(url, "POST")[1]["Authorization"]
    return header


def test_a_signature_made_by_oauthlib_is_accepted_with_its_query(authenticator: Authenticator, clock: Clock) -> None:
    query = "limit=1000&offset=0&x=a%20b%2Fc"
    authenticator.authorize("POST", SUITEQL, query, signed(clock, f"{SUITEQL}?{query}"))


@pytest.mark.parametrize(
    "changes",
    [
        {"client_secret": "wrong"},
        {"resource_owner_secret": "wrong"},
        {"client_key": "wrong"},
        {"resource_owner_key": "wrong"},
        {"realm": "1234567_sb1"},
        {"realm": "1234567-SB1"},
        {"signature_method": "HMAC-SHA1"},
        {"timestamp": "1799999000"},
        {"timestamp": "1800001000"},
    ],
)
def test_signatures_that_do_not_hold(authenticator: Authenticator, clock: Clock, changes: dict[str, str]) -> None:
    with pytest.raises(UnauthorizedError):
        authenticator.authorize("POST", SUITEQL, "", signed(clock, **changes))


def test_a_signature_covers_method_address_and_query(authenticator: Authenticator, clock: Clock) -> None:
    header = signed(clock)
    for method, url, query in (("GET", SUITEQL, ""), ("POST", SUITEQL + "x", ""), ("POST", SUITEQL, "limit=5")):
        with pytest.raises(UnauthorizedError):
            authenticator.authorize(method, url, query, header)
    authenticator.authorize("POST", SUITEQL, "", header)


def test_a_nonce_works_once(authenticator: Authenticator, clock: Clock) -> None:
    header = signed(clock)
    authenticator.authorize("POST", SUITEQL, "", header)
    with pytest.raises(UnauthorizedError):
        authenticator.authorize("POST", SUITEQL, "", header)


def test_credentials_are_made_once_and_readable_by_their_owner_only(tmp_path: Path) -> None:
    first = known.ensure_credentials(tmp_path / "deep" / "er")
    before = {file.name: file.read_bytes() for file in first.directory.iterdir()}
    second = known.ensure_credentials(tmp_path / "deep" / "er")
    assert before == {file.name: file.read_bytes() for file in second.directory.iterdir()}
    assert {file.stat().st_mode & 0o777 for file in second.directory.iterdir()} == {0o600}
