"""Whatever is wrong with what a user gives: one clear line, the right exit code, soon, no traceback, no secret."""

import os
import socket
import sqlite3
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
import yaml

from nsimport_pipeline_tests.acceptance.environment import TENANT, Environment

SOON = 25.0
"""Seconds, with others running at the same time: what cannot work is said at once."""
PASSWORD = "hidden-password-of-the-database"
IMPORT = ("import", "currency", "--no-dependencies", "--tenant", TENANT)


@dataclass
class Case:
    """One thing that is wrong, and what is said about it."""

    arguments: tuple[str, ...]
    says: tuple[str, ...]
    """Words the line must have."""
    exit_code: int = 2
    tenant: dict[str, Any] = field(default_factory=dict)
    """What is different in the tenants file."""
    variables: dict[str, str] = field(default_factory=dict)
    spoil: Callable[[Path], None] = lambda directory: None
    """What is done to the case's own directory, where the command runs."""


def _criteria(text: str) -> Callable[[Path], None]:
    def write(directory: Path) -> None:
        (directory / "criteria" / "gadget").mkdir(parents=True)
        (directory / "criteria" / "gadget" / "criteria.json").write_text(text)

    return write


def _file(name: str, text: str) -> Callable[[Path], None]:
    return lambda directory: (directory / name).write_text(text) and None


def _closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


CLOSED = _closed_port()
TBA = {"method": "tba", "consumer_key": "k-secret", "consumer_secret": "c-secret", "token_id": "i", "token_secret": "s"}
OAUTH = {"method": "oauth2", "client_id": "wrong-client", "certificate_id": "c", "private_key_file": "key.pem"}
CASES = {
    "no tenants file": Case(IMPORT, ("no tenants file", "tenants.example.yaml"), variables={"NSIMPORT_TENANTS": "x"}),
    "tenants file that is no YAML": Case(
        IMPORT, ("not valid YAML", "line"), variables={"NSIMPORT_TENANTS": "t"}, spoil=_file("t", "a: [b\nc: d")
    ),
    "unknown key": Case(IMPORT, ("tenants.acme.slotz",), tenant={"slotz": 3}),
    "wrong value": Case(IMPORT, ("tenants.acme.slots",), tenant={"slots": 0}),
    "unknown tenant": Case(("import", "currency", "--tenant", "acne"), ("unknown tenant 'acne'", "acme")),
    "unknown record type": Case(
        ("import", "custmer", "--tenant", TENANT), ("unknown record type 'custmer'", "did you mean customer")
    ),
    "unknown record type of a graph": Case(("graph", "zzz"), ("unknown record type 'zzz'",)),
    "missing variable": Case(IMPORT, ("ACME_NOT_SET", "not set"), tenant={"account": "${ACME_NOT_SET}"}),
    "no key file": Case(IMPORT, ("key.pem",), tenant={"auth": OAUTH}),
    "unreadable key file": Case(IMPORT, ("key.pem",), tenant={"auth": OAUTH}, spoil=_file("key.pem", "no key at all")),
    "criteria directory that is none": Case(
        ("record-types",), ("NSIMPORT_CRITERIA_PATH",), variables={"NSIMPORT_CRITERIA_PATH": "nowhere"}
    ),
    "criteria that are no JSON": Case(
        ("record-types",),
        ("gadget/criteria.json", "line 1"),
        variables={"NSIMPORT_CRITERIA_PATH": "criteria"},
        spoil=_criteria("{"),
    ),
    "criteria with an unknown key": Case(
        ("record-types",),
        ("gadget/criteria.json", "tabel"),
        variables={"NSIMPORT_CRITERIA_PATH": "criteria"},
        spoil=_criteria(
            '{"record_type": "gadget", "family": "lists", "table": "gadgets", "tabel": 1, "description": "", '
            '"source": {"from": "gadget"}, "fields": []}'
        ),
    ),
    "criteria with a cycle": Case(
        ("graph", "gadget"),
        ("cycle", "gadget -> gadget"),
        variables={"NSIMPORT_CRITERIA_PATH": "criteria"},
        spoil=_criteria(
            '{"record_type": "gadget", "family": "lists", "table": "gadgets", "description": "", '
            '"source": {"from": "gadget"}, "dependencies": ["gadget"], "fields": []}'
        ),
    ),
    "database that is not there": Case(
        IMPORT,
        ("warehouse_url", "127.0.0.1"),
        tenant={"warehouse_url": f"mysql+pymysql://user:{PASSWORD}@127.0.0.1:{CLOSED}/acme"},
    ),
    "database URL that is none": Case(IMPORT, ("warehouse_url",), tenant={"warehouse_url": f"{PASSWORD}@nowhere"}),
    "database of a kind unknown": Case(
        IMPORT, ("warehouse_url", "postgresql"), tenant={"warehouse_url": f"postgresql://u:{PASSWORD}@h/d"}
    ),
    "NetSuite that is not there": Case(IMPORT, ("NetSuite",), tenant={"base_url": f"http://127.0.0.1:{CLOSED}"}),
    "NetSuite whose name nobody knows": Case(IMPORT, ("NetSuite",), tenant={"base_url": "https://nsimport.invalid"}),
    "wrong credentials": Case(IMPORT, ("401",), tenant={"auth": TBA}),
    "tenant that is not enabled": Case(IMPORT, ("not enabled",), exit_code=4, tenant={"enabled": False}),
    "record type that is not enabled": Case(
        IMPORT, ("currency", "not enabled"), exit_code=4, tenant={"record_types": {"currency": {"enabled": False}}}
    ),
    "import that is not there": Case(("status", "acme-20200101000000-0000"), ("no import", "nsimport status")),
    "import of a tenant that is not there": Case(("watch", "acne-20200101000000-0000"), ("acne",)),
    "missing option": Case(("import", "currency"), ("--tenant",)),
    "wave size that is none": Case((*IMPORT, "--wave-size", "0"), ("--wave-size",)),
    "unknown command": Case(("improt",), ("improt",)),
    "port of the simulator in use": Case(("simulate", "--port", "{taken}"), ("port", "{taken}")),
    "port of the UI in use": Case(("up", "--port", "{taken}"), ("port", "{taken}")),
    "faults nobody knows": Case(("simulate", "--port", "0", "--faults", "flood"), ("flood",)),
    "settings of Dagster without the gate": Case(
        IMPORT, ("WaveRunCoordinator",), variables={"DAGSTER_HOME": "home"}, spoil=lambda d: _home_without_gate(d)
    ),
}


def _home_without_gate(directory: Path) -> None:
    (directory / "home").mkdir()
    (directory / "home" / "dagster.yaml").write_text("telemetry: {enabled: false}\n")


@dataclass(frozen=True)
class Answer:
    done: CompletedProcess[str]
    seconds: float


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Environment]:
    """A good installation, to be spoilt case by case."""
    directory = tmp_path_factory.mktemp("plain") / "installation"
    with Environment(directory, f"sqlite:///{directory}/acme.db", {"*": 3}, auth="tba") as environment:
        with environment.dagster():
            pass  # Dagster's files are made once, before many commands run side by side
        yield environment


@pytest.fixture(scope="module")
def answers(plain: Environment) -> dict[str, Answer]:
    """What each case gives; a few run side by side, as they mostly wait for Python to start."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        with ThreadPoolExecutor(3) as pool:
            futures = {name: pool.submit(_answer, plain, name, case, port) for name, case in CASES.items()}
            return {name: future.result() for name, future in futures.items()}


def _answer(plain: Environment, name: str, case: Case, taken: str) -> Answer:
    directory = plain.directory / name.replace(" ", "_")
    directory.mkdir()
    document = yaml.safe_load(plain.tenants_file.read_text())
    document["tenants"][TENANT] |= {"warehouse_url": "sqlite:///own.db", **case.tenant}
    (directory / "tenants.yaml").write_text(yaml.safe_dump(document))
    case.spoil(directory)
    variables = {"NSIMPORT_TENANTS": "tenants.yaml", **case.variables}
    started = time.monotonic()
    arguments = [word.replace("{taken}", taken) for word in case.arguments]
    done = plain.nsimport(*arguments, directory=directory, variables=variables)
    case.says = tuple(word.replace("{taken}", taken) for word in case.says)
    return Answer(done, time.monotonic() - started)


@pytest.mark.parametrize("name", CASES)
def test_what_is_wrong_is_said_in_one_line(answers: dict[str, Answer], name: str) -> None:
    answer, case = answers[name], CASES[name]
    said = answer.done.stderr
    assert answer.done.returncode == case.exit_code, said
    assert "Traceback" not in said
    lines = [line for line in said.splitlines() if line.strip()]
    # Click shows how a command is called before it says what is wrong with the call.
    problem = [line for line in lines if not line.startswith(("Usage:", "Try "))]
    assert len(problem) == 1, said
    for words in case.says:
        assert words in problem[0]


@pytest.mark.parametrize("name", CASES)
def test_it_is_said_soon(answers: dict[str, Answer], name: str) -> None:
    assert answers[name].seconds < SOON


def test_no_secret_is_in_any_of_it(plain: Environment, answers: dict[str, Answer]) -> None:
    secrets = [*plain.secrets(), PASSWORD, "k-secret", "c-secret", os.environ.get("ACME_DB_PASSWORD") or PASSWORD]
    for name, answer in answers.items():
        for secret in secrets:
            assert secret not in answer.done.stdout + answer.done.stderr, name


def test_no_open_import_is_left_behind(plain: Environment, answers: dict[str, Answer]) -> None:
    files = list(plain.directory.glob("*/own.db"))
    assert files
    for file in files:
        with sqlite3.connect(file) as connection:
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
            rows = connection.execute("SELECT state FROM import_jobs") if "import_jobs" in tables else []
            assert {state for (state,) in rows} <= {"failed"}, file.parent.name
