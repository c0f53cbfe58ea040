"""What many tenants cost: loading the code location, a tick of each sensor, and the gate, for 10 and for 200 of them.

Belongs here: measuring processor time, which other work on the machine changes little, and its growth. Does not belong
here: imports themselves (``imports.py``). Each measurement has a process of its own, as a code location has:

    python -m nsimport_pipeline_tests.benchmarks.tenants COUNT
"""

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import dagster as dg
import yaml
from dagster._core.remote_origin import GrpcServerCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin
from dagster._core.remote_representation.external_data import RepositorySnap
from dagster_shared.serdes import serialize_value

from nsimport_pipeline.definitions import defs
from nsimport_pipeline.defs import names, resources
from nsimport_pipeline.defs.run_queue import RunQueue
from nsimport_pipeline.imports.gate import admit
from nsimport_pipeline.warehouse.engine import make_engine
from nsimport_pipeline.warehouse.migrate import ensure_control_tables

STARTED = time.process_time()
"""What it took to start this process and load the code location's modules."""
FEW, MANY = 10, 200
TURNS = 3
"""Processes of each size, by turns; the least counts, as other work on the machine only ever adds."""
RUNS = 30
"""Runs of each tenant in the queue, when the gate is measured."""
ORIGIN = RemoteJobOrigin(
    RemoteRepositoryOrigin(GrpcServerCodeLocationOrigin(host="localhost", port=1, location_name="x"), "repository"), "j"
)


def tenants() -> list[str]:
    """Seconds of processor time for few and for many tenants; how many times as much one of the many costs."""
    found: dict[int, list[dict[str, float]]] = {FEW: [], MANY: []}
    for turn in range(TURNS):
        for count, measured in found.items():
            command = [sys.executable, "-m", __name__, str(count)]
            measured.append(json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout))
            print(f"{count} tenants: {turn + 1} of {TURNS} measured", flush=True)
    few, many = ({what: min(turn[what] for turn in turns) for what in turns[0]} for turns in found.values())
    types = len(resources.catalog())
    lines = [f"{types} record types; seconds of processor time for {FEW} and {MANY} tenants; growth for each tenant"]
    for what, seconds in many.items():
        lines.append(f"{what}: {few[what]:.3f} and {seconds:.3f}; {seconds / few[what] / (MANY / FEW):.2f}")
    return lines


def _measured(directory: Path, count: int) -> dict[str, float]:
    found: dict[str, float] = {}
    _installation(directory, count)
    prepared = time.process_time()
    definitions = defs()
    repository = definitions.get_repository_def()
    repository.load_all_definitions()
    loaded = time.process_time()
    told = serialize_value(RepositorySnap.from_def(repository, defer_snapshots=True))
    finished = time.process_time()
    found["load: the process begins, modules"] = STARTED
    found["load: definitions"] = loaded - prepared
    found["load: what Dagster's daemon and UI are told"] = finished - loaded
    found["load, all of it"] = STARTED + finished - prepared
    found["megabytes told"] = len(told) / 1e6
    with dg.DagsterInstance.local_temp(str(directory)) as instance:
        for sensor in definitions.sensors or ():
            assert isinstance(sensor, dg.SensorDefinition)
            found[f"first tick of {sensor.name}"] = _tick(sensor, instance)
            found[f"tick of {sensor.name}"] = _median_tick(sensor, instance, count)
            if sensor.name == "waves":
                _tick(sensor, instance, since=0.0)  # pools get their size
                found["tick of waves, every tenant compared"] = _median_tick(sensor, instance, count, since=0.0)
        _queue(instance, count)
        queue = RunQueue(instance)
        found["gate, first look"] = _timed(lambda: admit(queue.runs(), 20))
        found["gate, later looks"] = statistics.median(_timed(lambda: admit(queue.runs(), 20)) for _ in range(5))
        found["gate, all places taken"] = statistics.median(_timed(lambda: queue.places(20)) for _ in range(5))
    return found


def _installation(directory: Path, count: int) -> None:
    """Tenants with a database each in which nothing goes on."""
    template = directory / "template.db"
    engine = make_engine(f"sqlite:///{template}", pool_size=1)
    ensure_control_tables(engine)
    engine.dispose()
    auth = {"method": "tba", **dict.fromkeys(("consumer_key", "consumer_secret", "token_id", "token_secret"), "x")}
    bodies = {}
    for number in range(count):
        shutil.copy(template, directory / f"t{number}.db")
        bodies[f"t{number}"] = {
            "account": f"T{number}", "auth": auth, "warehouse_url": f"sqlite:///{directory}/t{number}.db",
        }  # fmt: skip
    (directory / "tenants.yaml").write_text(yaml.safe_dump({"tenants": bodies}))
    os.environ["NSIMPORT_TENANTS"] = str(directory / "tenants.yaml")


def _median_tick(
    sensor: dg.SensorDefinition, instance: dg.DagsterInstance, count: int, since: float | None = None
) -> float:
    """Of seven samples, in each of which as many tenants are looked at: a longer one sees more of what disturbs it."""
    ticks = MANY // count
    samples = (sum(_tick(sensor, instance, since) for _ in range(ticks)) / ticks for _ in range(7))
    return statistics.median(samples)


def _tick(sensor: dg.SensorDefinition, instance: dg.DagsterInstance, since: float | None = None) -> float:
    """Until all tenants have answered: a machine that is busy may need more than one."""
    cursor = str(time.time() if since is None else since) if sensor.name == "waves" else None
    began, said = time.process_time(), "no answer"
    while "no answer" in said:
        with dg.build_sensor_context(instance, cursor=cursor) as context:
            result = sensor.evaluate_tick(context)
        assert not result.run_requests
        said, cursor = str(result.skip_message), None if cursor is None else str(time.time())
    return time.process_time() - began


def _queue(instance: dg.DagsterInstance, count: int) -> None:
    for number in range(count * RUNS):
        tenant = f"t{number % count}"
        tags = {names.TENANT: tenant, names.IMPORT: f"{tenant}-1-1", names.GATE: names.SHUT, names.BATCHES: "10"}
        queued = dg.DagsterRunStatus.QUEUED
        instance.add_run(dg.DagsterRun("j", tags=tags, status=queued, remote_job_origin=ORIGIN))


def _timed(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as measured_in:
        print(json.dumps(_measured(Path(measured_in), int(sys.argv[1]))))
