"""The short set of ``make test``: imports that are broken on purpose, by seed, and kills whose price is counted.

Each seed is a test; all of them are carried out once, side by side on one installation, by the module's own command.
``make chaos SEEDS=…`` runs as many as one likes.
"""

import json
import subprocess
import sys

import pytest

from nsimport_pipeline_tests.chaos.plan import draw

SEEDS = (15, 20, 22, 47, 95, 99, 102, 191, 192, 193)
"""They draw every fault and every blow at least once, which a test below sees to; of such sets, the quickest."""
KILLS = (33, 30)
"""A run is killed, then everything; that comes last, as it costs the other lanes their runs too."""
MINUTES = 14


@pytest.fixture(scope="module")
def carried_out(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """What was wrong with each seed, and each kill, that came to its end."""
    directory = tmp_path_factory.mktemp("chaos")
    results = directory / "results.jsonl"
    command = [sys.executable, "-m", "nsimport_pipeline_tests.chaos", "--directory", str(directory)]
    command += ["--seeds", ",".join(map(str, SEEDS)), "--kills", ",".join(map(str, KILLS)), "--results", str(results)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            print(process.communicate(timeout=MINUTES * 60)[0])
        except subprocess.TimeoutExpired:
            process.terminate()
            print(process.communicate()[0])
    documents = [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []
    return {document["name"]: document["problems"] for document in documents}


@pytest.mark.timeout(MINUTES * 60 + 120)
@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_is_lost_and_nothing_is_stuck(carried_out: dict[str, list[str]], seed: int) -> None:
    assert carried_out.get(f"seed {seed}", ["it did not come to its end"]) == []


@pytest.mark.timeout(MINUTES * 60 + 120)
@pytest.mark.parametrize("seed", KILLS)
def test_a_run_that_is_killed_costs_at_most_the_batches_in_flight(carried_out: dict[str, list[str]], seed: int) -> None:
    assert carried_out.get(f"kill {seed}", ["it did not come to its end"]) == []


def test_a_seed_always_draws_the_same() -> None:
    assert draw(7) == draw(7)
    assert len({tuple(draw(seed).lines()[1:]) for seed in range(100)}) > 80


def test_the_short_set_draws_everything_that_two_hundred_seeds_do() -> None:
    def drawn(seed: int) -> set[str]:
        plan = draw(seed)
        faults = {fault.partition(":")[0] + ("burst" if "@" in fault else "") for fault in plan.faults}
        blows = {blow.kind for blow in plan.blows} | ({"denied"} if plan.denied else set())
        kinds = {"lines"} if plan.derived else set()
        kinds |= {"levels"} if len(plan.rows) > 1 else set()
        return faults | blows | kinds | {plan.database, plan.auth}

    everything = set().union(*(drawn(seed) for seed in range(1, 201)))
    assert set().union(*(drawn(seed) for seed in SEEDS)) == everything
    assert everything >= {
        *("kill run", "kill daemon", "kill code server", "kill database", "cut connections", "edit", "revoke tokens"),
        *("cancel", "cancel now", "ask again", "denied", "lines", "levels"),
        *("429", "429burst", "500", "502", "503", "503burst", "outage", "timeout", "slow", "slowburst", "reset"),
        *("empty", "truncated", "short", "duplicate", "wrongtotal", "tokenlife", "noise"),
        *("unknown", "removed", "badcolumn", "mysql", "sqlite", "tba", "oauth2", "oauth2_ec"),
    }
