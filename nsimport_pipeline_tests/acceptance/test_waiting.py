"""Where no daemon runs: `--wait` brings one along, and commands mend what is left behind without one."""

import fcntl
import signal
import time
from collections.abc import Iterator

import pytest

from nsimport_pipeline.commands.processes import daemon_runs
from nsimport_pipeline_tests.acceptance.environment import TENANT, Environment

QUICK = ("import", "currency", "--no-dependencies", "--tenant", "other")


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Environment]:
    directory = tmp_path_factory.mktemp("alone") / "installation"
    with Environment(
        directory,
        f"sqlite:///{directory}/acme.db",
        {"*": 12, "customer": 2000},
        latency=0.05,
        tenant={"slots": 1, "record_types": {"customer": {"batch_size": 50}}},
        others={"other": {"warehouse_url": f"sqlite:///{directory}/other.db"}},
    ) as environment:
        yield environment


def test_slots_of_the_dead_are_freed_on_request(alone: Environment) -> None:
    with alone.dagster() as instance:
        instance.event_log_storage.set_concurrency_slots(f"netsuite_{TENANT}", 1)
        assert instance.event_log_storage.claim_concurrency_slot(f"netsuite_{TENANT}", "dead", "slot_1").is_claimed

    use = alone.json("slots", "--tenant", TENANT, "--reset")

    assert (use["in_use"], use["freed"]) == (0, 1)
    assert "0 slots of dead holders freed" in alone.nsimport("slots", "--tenant", TENANT, "--reset").stdout


def test_ctrl_c_while_it_is_planned_leaves_nothing_behind_that_is_in_the_way(alone: Environment) -> None:
    alone.simulator.set_faults("slow=3")
    with alone.start("import", "currency", "--tenant", TENANT) as process:
        assert process.stdout is not None
        import_id = process.stdout.readline().strip()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    alone.simulator.set_faults("")

    assert process.returncode == 130
    assert "nothing was imported" in errors
    assert "Traceback" not in errors
    status = alone.json("status", import_id)
    assert (status["state"], status["reason"]) == ("failed", "planning was interrupted")


def test_a_daemon_that_one_command_brought_stays_as_long_as_another_waits(alone: Environment) -> None:
    with (alone.home / "waiting.lock").open("w") as another, alone.start(*QUICK, "--wait") as process:
        fcntl.flock(another, fcntl.LOCK_SH)
        assert process.stderr is not None
        line = "-"
        while line and "another command waits for an import: the daemon stays" not in line:
            line = process.stderr.readline()
        assert line, "it did not stay"
        with alone.dagster() as instance:
            assert daemon_runs(instance, time.time())
        # What the other one waits for is carried out.
        import_id = alone.start_import("customer", "--no-dependencies")
        assert alone.wait_for_import(import_id, timeout=300)["state"] == "completed"
        assert process.poll() is None
        fcntl.flock(another, fcntl.LOCK_UN)
        output, _ = process.communicate(timeout=120)

    assert process.returncode == 0
    assert "completed: everything was imported" in output
    statement = "SELECT COUNT(*) AS n, MAX(attempts) AS attempts FROM wave_batches WHERE record_type = 'customer'"
    assert alone.query(statement) == [{"n": 40, "attempts": 0}]
    with alone.dagster() as instance:
        assert instance.get_daemon_heartbeats() == {}


def test_reconcile_says_what_it_compared_and_mends_what_is_wrong(alone: Environment) -> None:
    (report,) = alone.json("reconcile", "--tenant", TENANT)
    assert report["repaired"] == []
    assert report["compared"]["batches"] == 40
    with alone.dagster() as instance:
        instance.add_dynamic_partitions(f"{TENANT}/customer", ["123456"])

    said = alone.nsimport("reconcile").stdout
    assert f"{TENANT}: compared " in said
    assert "1 partitions of customer deleted in Dagster: they are not planned" in said
    assert "other: compared" in said

    again = alone.nsimport("reconcile").stdout
    assert again.count("nothing to repair") == 2
