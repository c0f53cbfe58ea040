"""``nsimport doctor``: ok where all is well, and the cause and what to do where it is not."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from nsimport_pipeline_tests.acceptance.environment import Environment

BAD_KEY = "tests-made-this-up"


@pytest.fixture(scope="module")
def clinic(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Environment]:
    """A tenant in good health, and others with one thing wrong each."""
    directory = tmp_path_factory.mktemp("clinic") / "installation"
    with Environment(
        directory,
        f"sqlite:///{directory}/acme.db",
        {"*": 2},
        auth="tba",
        others={
            "stranger": {
                "auth": {
                    **dict.fromkeys(("consumer_key", "token_id"), BAD_KEY),
                    "method": "tba",
                    **dict.fromkeys(("consumer_secret", "token_secret"), BAD_KEY),
                }
            },
            "homeless": {"warehouse_url": "mysql+pymysql://nobody:nothing@127.0.0.1:1/none"},
            "asleep": {"enabled": False},
            "unset": {"warehouse_url": "mysql+pymysql://u:${NO_SUCH_VARIABLE}@127.0.0.1/none"},
        },
    ) as environment:
        yield environment


@pytest.fixture(scope="module")
def findings(clinic: Environment) -> dict[str, dict[str, str]]:
    """What an examination of all tenants finds, by subject."""
    done = clinic.nsimport("doctor", "--json")
    assert done.returncode == 1
    assert BAD_KEY not in done.stdout + done.stderr
    return {finding["subject"]: finding for finding in json.loads(done.stdout)}


@pytest.mark.parametrize("subject", ["settings", "acme database", "acme slots", "acme NetSuite"])
def test_what_is_in_order_is_ok(findings: dict[str, dict[str, str]], subject: str) -> None:
    assert findings[subject]["state"] == "ok"


@pytest.mark.parametrize(
    ("subject", "state", "words"),
    [
        ("daemon", "warning", "nsimport up"),
        ("stranger NetSuite", "failed", "401"),
        ("homeless database", "failed", "127.0.0.1:1"),
        ("unset", "failed", "NO_SUCH_VARIABLE"),
        ("asleep", "warning", "enabled: true"),
    ],
)
def test_what_is_wrong_is_named_with_what_to_do(
    findings: dict[str, dict[str, str]], subject: str, state: str, words: str
) -> None:
    assert findings[subject]["state"] == state
    assert words in findings[subject]["text"]


def test_record_types_the_account_does_not_give_are_listed_and_nothing_is_written(clinic: Environment) -> None:
    clinic.simulator.set_faults("without:projects")
    done = clinic.nsimport("doctor", "--tenant", "acme")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "warning  acme NetSuite: not to be read: project" in done.stdout
    assert not Path(clinic.warehouse_url.removeprefix("sqlite:///")).exists()
