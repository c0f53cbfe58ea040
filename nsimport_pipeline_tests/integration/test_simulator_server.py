"""The simulator over real HTTP: NetSuite's protocol as a client sees it, faults, limits, its own controls."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jwt
import pytest
import requests
from requests_oauthlib import OAuth1

from nsimport_pipeline.errors import ConfigurationError
from nsimport_pipeline.settings import Settings
from nsimport_pipeline.simulator.options import SimulatorOptions
from nsimport_pipeline.simulator.process import SimulatorControl, SimulatorThread
from nsimport_pipeline.simulator.server import SUITEQL, listen, serve

ROWS = {"*": 0, "customer": 1500, "subsidiary": 5, "sales_order": 300}


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("simulator")


@pytest.fixture(scope="module")
def simulator(directory: Path) -> Iterator[SimulatorThread]:
    with SimulatorThread(SimulatorOptions(credentials=directory, rows=ROWS, slots=3)) as running:
        yield running


@pytest.fixture(autouse=True)
def calm(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "simulator" in request.fixturenames:
        running = request.getfixturevalue("simulator")
        running.set_faults("")
        running.reset_stats()


def token(simulator: SimulatorThread) -> str:
    auth, url, now = (
        simulator.credentials.oauth2,
        simulator.base_url + "/services/rest/auth/oauth2/v1/token",
        time.time(),
    )
    claims = {"iss": auth["client_id"], "aud": url, "iat": now, "exp": now + 300, "scope": ["rest_webservices"]}
    assertion = jwt.encode(
        claims,
        Path(auth["private_key_file"]).read_bytes(),
        auth["algorithm"],
        headers={"kid": auth["certificate_id"]},
    )
    answer = requests.post(
        url,
        data={
            "grant_type": "client_credentials",
            "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
            "client_assertion": assertion,
        },
        timeout=30,
    )
    assert answer.status_code == 200, answer.text
    return str(answer.json()["access_token"])


Ask = Callable[..., requests.Response]


def asker(simulator: SimulatorThread) -> Ask:
    bearer = token(simulator)

    def ask(q: str = "SELECT id FROM customer ORDER BY id ASC", query: str = "", **more: Any) -> requests.Response:
        headers = {"Authorization": f"Bearer {bearer}", "Prefer": "transient"} | more.pop("headers", {})
        more.setdefault("json", {"q": q})
        timeout = more.pop("timeout", 30)
        return requests.post(simulator.base_url + SUITEQL + query, headers=headers, timeout=timeout, **more)

    return ask


@pytest.fixture
def ask(simulator: SimulatorThread) -> Ask:
    return asker(simulator)


def error_of(answer: requests.Response) -> tuple[int, str, str]:
    body = answer.json()
    return answer.status_code, body["title"], body["o:errorDetails"][0]["o:errorCode"]


def test_a_page_in_netsuites_envelope(ask: Ask, simulator: SimulatorThread) -> None:
    body = ask(query="?limit=100&offset=200").json()
    assert (body["count"], body["hasMore"], body["offset"], body["totalResults"]) == (100, True, 200, 1500)
    assert [link["rel"] for link in body["links"]] == ["previous", "first", "next", "last", "self"]
    assert body["links"][2]["href"] == f"{simulator.base_url}{SUITEQL}?limit=100&offset=300"
    assert all(item["links"] == [] for item in body["items"])


def test_following_next_links_reads_everything_once(ask: Ask) -> None:
    seen: list[str] = []
    query = "?limit=500"
    while query:
        body = ask(query=query).json()
        seen += [item["id"] for item in body["items"]]
        following = [link["href"] for link in body["links"] if link["rel"] == "next"]
        query = "?" + following[0].split("?")[1] if following else ""
    assert len(seen) == len(set(seen)) == 1500


def test_what_a_request_must_have(ask: Ask, simulator: SimulatorThread) -> None:
    assert ask(headers={"Prefer": ""}).status_code == 400
    assert error_of(ask(query="?limit=7&offset=3")) == (400, "Bad Request", "INVALID_PARAMETER")
    assert ask(json={"query": "x"}).status_code == 400
    assert ask(json=None, data=b"not json").status_code == 400
    headers = {"Authorization": f"Bearer {token(simulator)}", "Prefer": "transient"}
    assert requests.get(simulator.base_url + SUITEQL, headers=headers, timeout=30).status_code == 405


def test_no_valid_login_is_a_401_in_netsuites_words(ask: Ask) -> None:
    answer = ask(headers={"Authorization": "Bearer nonsense"})
    assert error_of(answer) == (401, "Unauthorized", "INVALID_LOGIN")
    assert "Login Audit Trail" in answer.text


def test_token_based_authentication_with_a_public_client(simulator: SimulatorThread) -> None:
    tba = simulator.credentials.tba
    auth = OAuth1(
        tba["consumer_key"],
        tba["consumer_secret"],
        tba["token_id"],
        tba["token_secret"],
        signature_method="HMAC-SHA256",
        realm=simulator.options.account,
    )
    for _ in range(2):
        answer = requests.post(
            f"{simulator.base_url}{SUITEQL}?limit=5&offset=5",
            json={"q": "SELECT id FROM customer ORDER BY id ASC"},
            headers={"Prefer": "transient"},
            auth=auth,
            timeout=30,
        )
        assert answer.json()["count"] == 5


def test_a_refused_statement_names_its_parameter(ask: Ask) -> None:
    body = ask("SELECT nope FROM customer").json()
    detail = body["o:errorDetails"][0]
    assert detail["o:errorQueryParam"] == "q"
    assert "Unknown identifier 'nope'" in detail["detail"]


def test_bound_parameters(ask: Ask) -> None:
    body = ask(
        json={"q": "SELECT id FROM customer WHERE id > ? AND id <= ? ORDER BY id", "params": ["100", 300]}
    ).json()
    assert body["count"] > 0
    assert all(100 < int(item["id"]) <= 300 for item in body["items"])


def test_more_than_100_columns_find_nothing_although_there_is_something(ask: Ask, simulator: SimulatorThread) -> None:
    statement = "SELECT " + ", ".join(f"id AS c{i}" for i in range(101)) + " FROM subsidiary"
    body = ask(statement).json()
    assert (body["items"], body["count"], body["totalResults"], body["hasMore"]) == ([], 0, 5, False)
    simulator.set_faults("wide")
    assert ask(statement).json()["count"] == 5


def test_the_request_beyond_the_slots_is_refused_while_the_others_are_served(directory: Path) -> None:
    options = SimulatorOptions(credentials=directory, rows=ROWS, slots=3, latency=0.5, jitter=0)
    with SimulatorThread(options) as simulator, ThreadPoolExecutor(6) as pool:
        ask = asker(simulator)
        answers = list(pool.map(lambda _: ask(), range(6)))
        refused = [answer for answer in answers if answer.status_code == 429]
        assert sorted(answer.status_code for answer in answers) == [200] * 3 + [429] * 3
        assert all(answer.elapsed.total_seconds() < 0.4 for answer in refused)
        assert all(answer.elapsed.total_seconds() >= 0.5 for answer in answers if answer.status_code == 200)
        body = refused[0].json()
        assert (body["title"], body["status"], body["o:errorCode"]) == ("Bad Request", 429, "USER_ERROR")
        assert body["o:errorDetails"][0]["o:errorCode"] == "CONCURRENCY_LIMIT_EXCEEDED"
        assert "Retry-After" not in refused[0].headers
        stats = simulator.stats()
        assert (stats["max_in_flight"], stats["in_flight"]) == (3, 0)
        assert stats["statuses"] == {"200": 4, "429": 3}
        served = [entry for entry in stats["log"] if entry["kind"] == "suiteql" and entry["status"] == 200]
        assert all(entry["end"] - entry["start"] >= 0.49 for entry in served)


def test_a_client_that_always_waits_for_its_answers_is_never_refused(ask: Ask, simulator: SimulatorThread) -> None:
    with ThreadPoolExecutor(3) as pool:
        statuses = list(pool.map(lambda _: ask(query="?limit=5").status_code, range(150)))
    assert set(statuses) == {200}
    assert simulator.stats()["max_in_flight"] <= 3


def test_other_users_of_the_account_cause_refusals(directory: Path) -> None:
    options = SimulatorOptions(credentials=directory, rows=ROWS, slots=1, latency=0.05, faults="noise:3")
    with SimulatorThread(options) as simulator:
        ask = asker(simulator)
        statuses = {ask(query="?limit=5").status_code for _ in range(25)}
        assert 429 in statuses
        assert simulator.stats()["max_in_flight"] <= 1


@pytest.mark.parametrize(
    ("spec", "status"), [("429", 429), ("500", 500), ("502", 502), ("503", 503), ("401", 401), ("403", 403)]
)
def test_faults_with_a_status(ask: Ask, simulator: SimulatorThread, spec: str, status: int) -> None:
    simulator.set_faults(f"{spec}@1")
    assert ask().status_code == status
    assert ask().status_code == 200


def test_a_500_has_an_error_id_and_a_429_may_say_how_long_to_wait(ask: Ask, simulator: SimulatorThread) -> None:
    simulator.set_faults("500@1,429=7@2")
    assert "An unexpected error occurred. Error ID: " in ask().json()["o:errorDetails"][0]["detail"]
    assert ask().headers["Retry-After"] == "7"


def test_bodies_that_are_not_whole(ask: Ask, simulator: SimulatorThread) -> None:
    simulator.set_faults("empty@1,truncated@2,reset@3,timeout=0.2@4")
    empty = ask()
    assert (empty.status_code, empty.content) == (200, b"")
    truncated = ask()
    assert truncated.status_code == 200
    with pytest.raises(requests.exceptions.JSONDecodeError):
        truncated.json()
    with pytest.raises((requests.exceptions.ChunkedEncodingError, requests.exceptions.ConnectionError)):
        ask()
    began = time.monotonic()
    with pytest.raises(requests.exceptions.ConnectionError):
        ask()
    assert time.monotonic() - began >= 0.19
    assert ask().json()["count"] == 1000
    assert simulator.stats()["in_flight"] == 0


def test_a_request_whose_client_went_away_holds_its_slot_to_the_end_and_is_marked(
    ask: Ask, simulator: SimulatorThread
) -> None:
    simulator.set_faults("slow=0.6@1")
    simulator.reset_stats()
    with pytest.raises(requests.exceptions.ReadTimeout):
        ask(timeout=0.2)
    assert simulator.stats()["in_flight"] == 1
    ask()
    while simulator.stats()["in_flight"]:
        time.sleep(0.02)
    served = [entry for entry in simulator.stats()["log"] if entry["kind"] == "suiteql"]
    assert [entry.get("abandoned", False) for entry in served] == [False, True]


def test_answers_that_look_right_and_are_not(ask: Ask, simulator: SimulatorThread) -> None:
    simulator.set_faults("short=3@1,duplicate=2@2,wrongtotal=-5@3,slow=0.3@4")
    short = ask().json()
    assert (short["count"], short["hasMore"], short["totalResults"]) == (997, False, 1500)
    double = [item["id"] for item in ask().json()["items"]]
    assert len(double) - len(set(double)) == 2
    assert ask().json()["totalResults"] == 1495
    assert ask().elapsed.total_seconds() >= 0.3


def test_an_outage_hits_logins_too_and_ends_by_itself(ask: Ask, simulator: SimulatorThread) -> None:
    simulator.set_faults("outage:0.6")
    assert ask().status_code == 503
    with pytest.raises(AssertionError):
        token(simulator)
    time.sleep(0.7)
    assert ask().status_code == 200
    simulator.set_faults("outage:60=reset")
    with pytest.raises(requests.exceptions.ConnectionError):
        ask()


def test_an_account_with_a_bad_column_and_without_a_feature(ask: Ask, simulator: SimulatorThread) -> None:
    simulator.set_faults("badcolumn:customer.email,without:oneworld")
    assert error_of(ask("SELECT id, email FROM customer"))[::2] == (500, "UNEXPECTED_ERROR")
    assert ask("SELECT id FROM customer").status_code == 200
    assert "Record 'subsidiary' was not found." in ask("SELECT id FROM subsidiary").text
    simulator.set_faults("")
    assert ask("SELECT id, email FROM customer").status_code == 200


def test_tokens_can_be_short_lived_or_revoked(ask: Ask, simulator: SimulatorThread) -> None:
    assert ask().status_code == 200
    simulator.revoke_tokens()
    assert ask().status_code == 401
    assert asker(simulator)().status_code == 200
    simulator.set_faults("tokenlife:0.2")
    brief = asker(simulator)
    time.sleep(0.3)
    assert brief().status_code == 401


def test_a_wrong_spec_is_refused_and_changes_nothing(ask: Ask, simulator: SimulatorThread) -> None:
    simulator.set_faults("500")
    with pytest.raises(ConfigurationError, match="nonsense"):
        simulator.set_faults("nonsense")
    assert ask().status_code == 500


def test_records_change_while_somebody_reads(directory: Path) -> None:
    with SimulatorThread(SimulatorOptions(credentials=directory, rows=ROWS)) as simulator:
        ask = asker(simulator)
        assert simulator.sql("UPDATE customer SET email = 'new@example.com' WHERE id < 50")[0] > 0
        emails = {item["email"] for item in ask("SELECT email FROM customer WHERE id < 50").json()["items"]}
        assert emails == {"new@example.com"}
        gone = simulator.delete("customer", "id < 50")
        assert simulator.record_types()["customer"] == simulator.tables()["customer"] == 1500 - gone
        deleted = ask("SELECT recordid FROM deletedrecord WHERE LOWER(type) = 'customer' AND recordid < 50").json()
        assert deleted["totalResults"] == gone
        with pytest.raises(ConfigurationError, match="refused"):
            simulator.sql("UPDATE nowhere SET x = 1")


def test_the_account_has_a_clock_of_its_own(simulator: SimulatorThread) -> None:
    moment = datetime(2031, 3, 9, 10, 0, 5, tzinfo=UTC)

    def said(q: str = "SELECT TO_CHAR(SYSDATE, 'YYYY-MM-DD HH24:MI:SS') AS now FROM dual") -> tuple[str, str]:
        # A token is worth nothing in another year, and the signature of a request says when it was made.
        keys, stamp = simulator.credentials.tba, str(int(moment.timestamp()))
        auth = OAuth1(
            keys["consumer_key"], keys["consumer_secret"], keys["token_id"], keys["token_secret"],
            signature_method="HMAC-SHA256", realm=simulator.options.account, timestamp=stamp,
        )  # fmt: skip
        headers = {"Prefer": "transient"}
        answer = requests.post(simulator.base_url + SUITEQL, json={"q": q}, auth=auth, headers=headers, timeout=30)
        return answer.json()["items"][0]["now"], answer.headers["Date"]

    simulator.set_clock(moment)
    try:
        assert said() == ("2031-03-09 03:00:05", "Sun, 09 Mar 2031 10:00:05 GMT")
        simulator.delete("customer", "id = (SELECT max(id) FROM customer)")
        latest = (
            "SELECT TO_CHAR(MAX(SYS_EXTRACT_UTC(d.deleteddate)), 'YYYY-MM-DD HH24:MI:SS') AS now FROM deletedrecord d"
        )
        assert said(latest)[0] == "2031-03-09 10:00:05"
    finally:
        simulator.set_clock(None)
        simulator.sql("DELETE FROM deletedrecord WHERE deleteddate > TIMESTAMP '2031-01-01'")
    with pytest.raises(ConfigurationError, match="'soon' is no moment"):
        simulator._call("clock", b'{"now": "soon"}')


def test_governance_and_metadata(simulator: SimulatorThread) -> None:
    headers = {"Authorization": f"Bearer {token(simulator)}"}

    def get(path: str) -> requests.Response:
        return requests.get(simulator.base_url + path, headers=headers, timeout=30)

    assert get("/services/rest/system/v1/governanceLimits").json()["accountConcurrencyLimit"] == 3
    customer = get("/services/rest/record/v1/metadata-catalog/customer")
    assert customer.headers["Content-Type"].startswith("application/schema+json")
    assert customer.json()["properties"]["lastModifiedDate"]["format"] == "date-time"
    assert get("/services/rest/record/v1/metadata-catalog/nothing").status_code == 404
    assert requests.get(f"{simulator.base_url}/services/rest/system/v1/governanceLimits", timeout=30).status_code == 401


def test_the_tenants_file_is_ready_to_use(tmp_path: Path) -> None:
    with SimulatorThread(SimulatorOptions(credentials=tmp_path, rows=ROWS, slots=3)) as simulator:
        tenant = Settings.load(simulator.tenants_file, {}).tenant("demo")
        assert (tenant.url, tenant.account, tenant.slots) == (simulator.base_url, "TSTDRV1234567", 3)
        assert tenant.auth.method == "oauth2"
        assert tenant.auth.private_key_file.is_file()


def test_a_port_in_use_is_one_clear_sentence(tmp_path: Path) -> None:
    taken = listen(0)
    port = taken.getsockname()[1]
    try:
        with pytest.raises(ConfigurationError, match=f"port {port} .* choose another"):
            serve(SimulatorOptions(port=port, credentials=tmp_path))
    finally:
        taken.close()


def test_no_simulator_there() -> None:
    free = listen(0)
    port = free.getsockname()[1]
    free.close()
    assert not SimulatorControl(f"http://127.0.0.1:{port}").healthy()


def test_a_record_type_of_ones_own_gets_a_table_without_any_code(directory: Path, tmp_path: Path) -> None:
    folder = tmp_path / "criteria" / "rocket"
    folder.mkdir(parents=True)
    (folder / "criteria.json").write_text(
        '{"record_type": "rocket", "family": "custom", "table": "rockets", "description": "Rockets.",'
        ' "source": {"from": "customrecord_rocket", "last_modified": "lastmodifieddate"}, "dependencies": ["customer"],'
        ' "fields": [{"name": "label", "source": "name", "type": "string"},'
        ' {"name": "thrust", "source": "custrecord_thrust", "type": "decimal"},'
        ' {"name": "owner_id", "source": "custrecord_owner", "type": "reference", "references": "customer"}]}',
        encoding="utf-8",
    )
    options = SimulatorOptions(credentials=directory, rows={**ROWS, "rocket": 70}, criteria_path=tmp_path / "criteria")
    with SimulatorThread(options) as simulator:
        body = asker(simulator)(
            "SELECT r.name, r.custrecord_thrust, BUILTIN.DF(r.custrecord_owner) AS owner FROM customrecord_rocket r"
        ).json()
        assert body["totalResults"] == 70
        assert any("owner" in item for item in body["items"])
