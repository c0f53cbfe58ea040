"""The simulator as a process of its own, through ``nsimport simulate``."""

import signal
from pathlib import Path

import pytest

from nsimport_pipeline.errors import ConfigurationError
from nsimport_pipeline.simulator.options import SimulatorOptions
from nsimport_pipeline.simulator.process import SimulatorProcess
from nsimport_pipeline.simulator.server import listen

ROWS = {"*": 0, "customer": 1200}


def test_it_starts_answers_and_ends_cleanly_when_told_to(tmp_path: Path) -> None:
    with SimulatorProcess(SimulatorOptions(credentials=tmp_path / "keys", rows=ROWS)) as simulator:
        assert simulator.record_types()["customer"] == 1200
        assert simulator.tenants_file.is_file()
        assert simulator.process is not None
        simulator.process.send_signal(signal.SIGTERM)
        said = simulator.process.communicate(timeout=20)[1]
        assert (simulator.process.returncode, said) == (0, b"")
    assert not simulator.healthy()


def test_what_was_issued_before_a_restart_still_holds(tmp_path: Path) -> None:
    options = SimulatorOptions(credentials=tmp_path, rows=ROWS)
    with SimulatorProcess(options) as first:
        keys = {file.name: file.read_bytes() for file in tmp_path.iterdir() if file.name != "tenants.yaml"}
        port = first.port
    with SimulatorProcess(SimulatorOptions(credentials=tmp_path, rows=ROWS, port=port)) as second:
        assert second.port == port
        assert keys == {file.name: file.read_bytes() for file in tmp_path.iterdir() if file.name != "tenants.yaml"}


@pytest.mark.parametrize("faults", ["nonsense", "429:7"])
def test_a_wrong_option_ends_it_with_one_clear_line(tmp_path: Path, faults: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        SimulatorProcess(SimulatorOptions(credentials=tmp_path, rows=ROWS, faults=faults)).start()
    assert faults in str(caught.value)
    assert "Traceback" not in str(caught.value)


def test_a_port_in_use_ends_it_with_one_clear_line(tmp_path: Path) -> None:
    taken = listen(0)
    try:
        options = SimulatorOptions(credentials=tmp_path, rows=ROWS, port=taken.getsockname()[1])
        with pytest.raises(ConfigurationError, match="cannot be used") as caught:
            SimulatorProcess(options).start()
        assert "Traceback" not in str(caught.value)
    finally:
        taken.close()
