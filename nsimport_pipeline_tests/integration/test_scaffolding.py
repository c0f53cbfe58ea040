"""``nsimport record-type new`` against the simulator's metadata catalogue: what it writes, what it refuses."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nsimport_pipeline.cli import run
from nsimport_pipeline.record_types.criteria import load_catalog
from nsimport_pipeline.simulator.options import SimulatorOptions
from nsimport_pipeline.simulator.process import SimulatorThread

Command = Callable[..., tuple[int, str]]


@pytest.fixture(scope="module")
def simulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimulatorThread]:
    options = SimulatorOptions(credentials=tmp_path_factory.mktemp("simulator"), rows={"*": 3})
    with SimulatorThread(options) as running:
        yield running


@pytest.fixture
def new(
    simulator: SimulatorThread, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    """``nsimport record-type new`` with a criteria directory that does not exist yet; exit code and what was said."""
    simulator.set_faults("")
    monkeypatch.setenv("NSIMPORT_TENANTS", str(simulator.tenants_file))
    monkeypatch.setenv("NSIMPORT_CRITERIA_PATH", str(tmp_path / "criteria"))

    def command(*arguments: str) -> tuple[int, str]:
        code = run(["record-type", "new", *arguments])
        said = capsys.readouterr()
        return code, said.out + said.err

    return command


@pytest.mark.parametrize("name", ["customer", "sales_order", "project", "accounting_period", "inventory_item"])
def test_a_built_in_type_made_anew_agrees_with_the_one_written_by_hand(new: Command, tmp_path: Path, name: str) -> None:
    by_hand = load_catalog()[name]
    source = ("--from", by_hand.source.from_) if by_hand.source.where is None else ()
    code, said = new(name, *source, "--tenant", "demo", "--force")
    assert code == 0, said

    made = load_catalog(tmp_path / "criteria")[name]
    # Which feature and which permission it takes is nowhere in the metadata.
    told = {"requires", "permission"}
    assert made.source.model_dump(exclude=told) == by_hand.source.model_dump(exclude=told)
    assert (made.family, made.table) == (by_hand.family, by_hand.table)
    theirs = {field.key: field for field in by_hand.fields if field.expression is None}
    alike = [field for field in made.fields if field.key in theirs and field.type == theirs[field.key].type]
    texts = ("string", "text", "json")
    wrong = {
        field.key: (field.type, theirs[field.key].type)
        for field in made.fields
        if field.key in theirs and field not in alike and not (field.type in texts and theirs[field.key].type in texts)
    }
    assert len(alike) >= 0.6 * len(theirs)
    assert set(wrong.values()) <= {("decimal", "money"), ("money", "decimal")}, wrong
    for field in made.fields:
        assert field.references in (None, name, *made.dependencies)


def test_columns_that_suiteql_lacks_are_left_out_and_said(
    new: Command, simulator: SimulatorThread, tmp_path: Path
) -> None:
    simulator.set_faults("unknown:department.subsidiary,unknown:department.lastmodifieddate")
    code, said = new("unit", "--from", "department", "--tenant", "demo")
    assert code == 0, said
    assert re.search(r"left out, .*: (subsidiary, lastmodifieddate|lastmodifieddate, subsidiary)\n", said)
    assert "always read whole" in said
    made = load_catalog(tmp_path / "criteria")["unit"]
    assert made.source.last_modified is None
    assert "subsidiary" not in made.dependencies
    assert {"subsidiary", "lastmodifieddate"}.isdisjoint(field.key for field in made.fields)


def test_a_file_that_is_there_stays_unless_forced(new: Command, tmp_path: Path) -> None:
    assert new("gauge")[0] == 0
    file = tmp_path / "criteria" / "gauge" / "criteria.json"
    before = file.read_text(encoding="utf-8")

    code, said = new("gauge", "--from", "customrecord_gauge")
    assert code == 2
    assert "--force replaces it" in said
    assert file.read_text(encoding="utf-8") == before

    assert new("gauge", "--from", "customrecord_gauge", "--force")[0] == 0
    assert load_catalog(tmp_path / "criteria")["gauge"].source.from_ == "customrecord_gauge"


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["Bad-Name"], "record_type"),
        (["../thing"], "record_type"),
        (["customer"], "built in"),
        (["currencie", "--force"], "duplicate table 'currencies'"),
        (["vend", "--tenant", "demo"], "near it: vendor"),
        (["thing", "--tenant", "nobody"], "unknown tenant 'nobody'"),
    ],
)
def test_what_cannot_be_made_is_said_and_nothing_is_written(
    new: Command, tmp_path: Path, arguments: list[str], reason: str
) -> None:
    code, said = new(*arguments)
    assert code == 2
    assert reason in said
    assert list(tmp_path.glob("**/criteria.json")) == []


def test_without_a_directory_the_message_says_what_to_do(new: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NSIMPORT_CRITERIA_PATH")
    code, said = new("thing")
    assert code == 2
    assert "--directory" in said
    assert "NSIMPORT_CRITERIA_PATH" in said


def test_a_refused_login_is_said_as_such(new: Command, simulator: SimulatorThread, tmp_path: Path) -> None:
    simulator.set_faults("403")
    code, said = new("machine", "--from", "department", "--tenant", "demo")
    assert code == 2, said
    assert "role" in said
    assert list(tmp_path.glob("**/criteria.json")) == []
