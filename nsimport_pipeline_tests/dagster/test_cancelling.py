"""Cancelling an import whose requests fail: they are not sent again."""

import threading
import time
from pathlib import Path

import pytest

from nsimport_pipeline.simulator.options import SimulatorOptions
from nsimport_pipeline.simulator.process import SimulatorThread
from nsimport_pipeline_tests.dagster.in_process import InProcess

IN_RUN = 5
"""Retries within the run, after 1, 2, 4, 8 and 16 seconds."""


@pytest.mark.parametrize(("fault", "category"), [("503:1", "api_unavailable"), ("timeout:1=1", "timeout")])
def test_a_batch_that_is_being_tried_again_is_given_back_and_costs_no_attempt(
    fault: str, category: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with SimulatorThread(SimulatorOptions(credentials=tmp_path / "keys", rows={"*": 12})) as simulator:
        installation = InProcess(tmp_path, simulator, monkeypatch)
        (tmp_path / "home").mkdir()
        installation.tenant(
            request_timeout=1,
            circuit={"failures": 1000},
            retries={category: {"in_run": IN_RUN, "in_run_delay": 1}},
        )
        import_id = installation.begin("classification", "--no-dependencies")
        simulator.set_faults(fault)
        simulator.reset_stats()

        def cancel_once_a_request_has_failed() -> None:
            while not simulator.stats()["kinds"].get("suiteql"):
                time.sleep(0.05)
            assert installation.nsimport("cancel", import_id).code == 0

        cancelling = threading.Thread(target=cancel_once_a_request_has_failed)
        cancelling.start()
        assert installation.carry_on(import_id) == "cancelled"
        cancelling.join()
        assert simulator.stats()["kinds"]["suiteql"] <= IN_RUN
        (batch,) = installation.query("acme", "SELECT status, attempts, failure_reason FROM wave_batches")
        assert dict(batch) == {"status": "cancelled", "attempts": 0, "failure_reason": None}
