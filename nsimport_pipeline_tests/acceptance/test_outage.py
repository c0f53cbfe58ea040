"""NetSuite goes away in the middle of an import and comes back: nobody lays a hand on it, and it ends complete."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from nsimport_pipeline_tests.acceptance.environment import Environment, wait_until

LONG = 3600
"""Seconds: it lasts until the test has looked at it, however slow this machine is."""
CIRCUIT = {"failures": 3, "probe_delay": 1, "longest_probe_delay": 4}


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[Environment]:
    directory = tmp_path / "installation"
    with Environment(
        directory,
        f"sqlite:///{directory}/acme.db",
        {"*": 5, "currency": 900},
        latency=0.3,
        slots=3,
        tenant={"circuit": CIRCUIT, "record_types": {"currency": {"batch_size": 10}}},
    ) as environment:
        environment.start_daemon()
        yield environment


def test_an_outage_is_sat_out_with_few_probes_and_no_attempt(environment: Environment) -> None:
    import_id = environment.start_import("currency")
    done = "SELECT COUNT(*) AS n FROM wave_batches WHERE status = 'completed'"
    wait_until(lambda: environment.query(done)[0]["n"] >= 10, 180, "the import to be under way")

    environment.simulator.set_faults(f"outage:{LONG}")
    environment.simulator.reset_stats()
    began = time.monotonic()
    wait_until(lambda: environment.query("SELECT probes FROM netsuite_circuits WHERE probes > 0"), 30, "the circuit")
    status = environment.json("status", import_id)
    refused = environment.nsimport("import", "department", "--no-dependencies", "--tenant", "acme")

    assert status["state"] == "running"
    assert status["circuit"]["state"] in ("open", "half_open")
    assert status["reason"].startswith("NetSuite is not answering since ")
    assert (refused.returncode, "NetSuite is not answering since" in refused.stderr) == (2, True), refused.stderr

    environment.simulator.set_faults("")
    lasted = time.monotonic() - began
    ended = environment.wait_for_import(import_id)

    assert ended["state"] == "completed"
    assert ended["circuit"]["state"] == "closed"
    (entry,) = ended["record_types"]
    assert (entry["batches"]["completed"], entry["records"]["imported"], entry["in_sync"]) == (90, 900, True)
    # Those that failed as it began: one for each slot and what opened the circuit. Probes after 1, 2, 4, 4 … s.
    refusals = environment.simulator.stats(log=False)["statuses"].get("503", 0)
    assert refusals <= CIRCUIT["failures"] + 3 + 2 * lasted / CIRCUIT["longest_probe_delay"] + 3
    assert environment.query("SELECT SUM(attempts) AS n FROM wave_batches")[0]["n"] == 0
    told = [row["event"] for row in environment.query("SELECT event FROM job_events ORDER BY id")]
    assert told.count("circuit_opened") == told.count("circuit_closed") == 1
