"""Alerts from real control tables to a real webhook: faults that fire a rule, what ends them, who is told."""

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import dagster as dg
import pytest
import yaml
from click.testing import CliRunner
from sqlalchemy import Engine

from nsimport_pipeline.commands.alerting import alerts as alerts_command
from nsimport_pipeline.defs.alert_sensor import alert_sensor
from nsimport_pipeline.errors import Category
from nsimport_pipeline.imports import store
from nsimport_pipeline.imports.alerting import Delivery, deliver, evaluate
from nsimport_pipeline.imports.records import BatchStats
from nsimport_pipeline.imports.states import ImportState
from nsimport_pipeline.imports.stuck import note_stuck_wave
from nsimport_pipeline.netsuite.circuit import Circuit, CircuitState
from nsimport_pipeline.settings import Tenant
from nsimport_pipeline.telemetry.alerts import Severity
from nsimport_pipeline.telemetry.notify import send
from nsimport_pipeline.warehouse.engine import make_engine
from nsimport_pipeline.warehouse.migrate import ensure_control_tables
from nsimport_pipeline_tests.integration.imports_world import World, tenant

SECRET = "hush-hush"
Fault = Callable[[World], Callable[[], object]]
"""Brings a world into a state that fires, and returns what ends it."""


@dataclass
class Webhook:
    """An HTTP server on this machine that keeps what it is sent; ``status`` is what it answers."""

    port: int = 0
    status: int = 200
    heard: list[dict[str, str]] = field(default_factory=list)

    @property
    def address(self) -> str:
        return f"json://operator:{SECRET}@127.0.0.1:{self.port}/{SECRET}"

    def titles(self) -> list[str]:
        """Of what was sent since it was last asked."""
        titles = [notice["title"] for notice in self.heard]
        self.heard.clear()
        return titles


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    hook = Webhook()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            notice = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if hook.status == 200:
                hook.heard.append(notice)
            self.send_response(hook.status)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        hook.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield hook
        server.shutdown()
        thread.join()


@pytest.fixture
def engine(sqlite_url: str) -> Iterator[Engine]:
    engine = make_engine(sqlite_url, pool_size=3)
    ensure_control_tables(engine)
    yield engine
    engine.dispose()


def tick(world: World, owner: Tenant, seconds: float = 30) -> Delivery:
    """What the sensor does, so much later."""
    world.wait(seconds)
    evaluate(world.engine, owner, world.now)
    return deliver(world.engine, owner, send, lambda: world.now)


# ------------------------------------------------------------ faults


def stuck(world: World) -> Callable[[], object]:
    world.tick()
    world.wait(2000)
    assert note_stuck_wave(world.engine, world.job, 1800, world.now) == 1
    return world.calm


def outage(world: World) -> Callable[[], object]:
    down = Circuit(CircuitState.OPEN, 4, 1, world.now, world.now, world.now)

    def change(before: Circuit, after: Circuit) -> None:
        with world.engine.begin() as connection:
            assert store.set_circuit(connection, "acme", before, after)

    change(Circuit(), down)
    return lambda: change(down, Circuit(changed_at=world.now))


def failed(world: World) -> Callable[[], object]:
    with world.engine.begin() as connection:
        store.move_import(connection, world.id, ImportState.CANCELLING, world.now, "401: NetSuite let nobody in")
        store.move_import(connection, world.id, ImportState.FAILED, world.now)
    assert world.job.state is ImportState.FAILED
    return lambda: (world.resume(), world.calm())


def with_failures(world: World) -> Callable[[], object]:
    for _ in range(20):
        world.tick()
        for run in world.alive():
            world.work_through(run, besides=["1000"])
        world.wait(20)
    world.calm()
    assert world.job.state is ImportState.COMPLETED_WITH_FAILURES
    return lambda: (world.retry(), world.calm())


def failing_batch(world: World) -> Callable[[], object]:
    world.tick()
    run = world.runs[0]
    world.begin(run)
    batch = world.claim(run)
    assert batch is not None
    world.fail(run, batch, Category.PERMANENT_ERROR)
    return lambda: (world.calm(), world.retry(), world.calm())


def rejecting(world: World) -> Callable[[], object]:
    world.tick()
    run = world.runs[0]
    world.begin(run)
    batch = world.claim(run)
    assert batch is not None
    assert world.complete(run, batch, rejected=101)
    return world.calm


def lagging(world: World) -> Callable[[], object]:
    world.tick()
    for run in world.alive():
        if run.spec.wave == 1:
            world.work_through(run)
    world.wait(61)
    return world.calm


def out_of_sync(world: World) -> Callable[[], object]:
    """NetSuite has records that the table does not; the same is imported again, and meanwhile nothing is over."""
    world.calm()

    def count(of: World, rows: int) -> None:
        found = {"source_count": 9, "table_count": rows, "in_sync": rows == 9}
        with world.engine.begin() as connection:
            store.record_checks(connection, of.id, "customer", (), **found, now=of.now)  # type: ignore[arg-type]

    def mend() -> None:
        repeated = World(world.engine, [("customer", 0, 4)], suffix="0002", at=world.now).plan()
        for _ in range(4):
            world.wait(30)
            (standing,) = evaluate(world.engine, tenant(), world.now)
            assert standing.alert.rule == "completeness"
        repeated.calm()
        count(repeated, 9)

    count(world, 8)
    return mend


def finish(world: World, batches: int, **stats: float) -> None:
    """So many batches are completed, with these numbers."""
    for run in world.alive():
        if run.todo is None:
            world.begin(run)
        while run.todo and batches:
            batch = world.claim(run)
            assert batch is not None
            run.held.remove(batch)
            with world.engine.begin() as connection:
                done = BatchStats(1000, 1000, **stats)  # type: ignore[arg-type]
                assert store.complete_batch(connection, batch, run.run_id, done, world.now)
            batches -= 1
    assert not batches


def busy(world: World) -> Callable[[], object]:
    """NetSuite answered at all five slots for the whole hour."""
    world.tick()
    finish(world, 1, fetch_seconds=18_000)
    return lambda: (world.calm(), world.wait(3600))


def slowed(world: World) -> Callable[[], object]:
    world.tick()
    finish(world, 20, fetch_seconds=9, write_seconds=1)
    world.wait(601)
    finish(world, 5, fetch_seconds=9, write_seconds=4)
    return world.calm


def let_in_early(world: World) -> Callable[[], object]:
    """A run of the second wave begins past the gate."""
    world.tick()
    world.work_through(next(run for run in world.runs if run.spec.wave == 2))
    return world.calm


def crowded(world: World) -> Callable[[], object]:
    """Forty batches in one wave, with a threshold that is meant for less."""
    world.tick()
    world.begin(world.runs[0])
    world.claim(world.runs[0])
    return world.calm


def hopeless(world: World) -> Callable[[], object]:
    for _ in range(20):
        world.tick()
        for run in world.alive():
            world.work_through(run, besides=["0", "1000", "2000"])
        world.wait(20)
    return lambda: (world.retry(), world.calm())


@pytest.mark.parametrize(
    ("rule", "severity", "fault"),
    [
        ("stuck_wave", "critical", stuck),
        ("netsuite_down", "critical", outage),
        ("import_failed", "critical", failed),
        ("completeness", "critical", out_of_sync),
        ("import_with_failures", "warning", with_failures),
        ("batch_failures", "warning", failing_batch),
        ("schema_errors", "warning", rejecting),
        ("dispatch_lag", "performance", lagging),
        ("slot_utilisation", "performance", busy),
        ("throughput", "performance", slowed),
        ("early_waves", "warning", let_in_early),
        ("queue_depth", "critical", crowded),
        ("retry_success", "warning", hopeless),
    ],
)
def test_a_fault_is_told_once_and_so_is_its_end(
    engine: Engine, webhook: Webhook, rule: str, severity: str, fault: Fault
) -> None:
    # What else comes of the fault is the matter of another case.
    companions = {"dispatch_lag", "retry_success", "stuck_wave"}
    companions |= {"import_with_failures"} if rule == "retry_success" else set()
    owner = tenant(alerts=[webhook.address], alert_rules={"off": sorted(companions - {rule}), "queue_depth": 30})
    batches, wave_size = (40, 40) if rule in ("throughput", "queue_depth") else (4, 2)
    world = World(engine, [("customer", 0, batches)], wave_size=wave_size, retry_attempts=1).plan()
    tick(world, owner)
    assert webhook.titles() == []

    mend = fault(world)
    told = tick(world, owner, 1)
    assert told.sent == ["json://127.0.0.1 was told of 1"]
    (notice,) = webhook.heard
    assert f"{severity.upper()} {rule} since 2026-03-01" in notice["message"]
    assert "\nnext: nsimport " in notice["message"]
    assert world.id in notice["message"] or rule in ("netsuite_down", "slot_utilisation")
    assert webhook.titles() == [f"nsimport acme: {rule} ({severity})"]
    tick(world, owner)
    assert webhook.titles() == [], "the same again"

    mend()
    for seconds in (30, 30, 700, 30):
        tick(world, owner, seconds)
    assert webhook.titles() == ["nsimport acme: 1 resolved"]
    assert evaluate(engine, owner, world.now) == []


def test_a_notice_that_fails_is_tried_again_and_keeps_nobody_else_waiting(warehouse_url: str, webhook: Webhook) -> None:
    engine = make_engine(warehouse_url, pool_size=3)
    ensure_control_tables(engine)
    nobody = f"jsons://{SECRET}:{SECRET}@127.0.0.1:1/{SECRET}?cto=0.5"
    owner = tenant(alerts=[nobody, f"nonsense://{SECRET}", webhook.address])
    world = World(engine, [("customer", 0, 4)], wave_size=4).plan()
    stuck(world)

    webhook.status = 503
    down = tick(world, owner)
    assert down.sent == []
    assert down.failed[2] == "json://127.0.0.1: it was refused (HTTP 503)"
    assert "not understood" in down.failed[1]
    assert "could not be reached" in down.failed[0]
    assert SECRET not in str(down)

    webhook.status = 200
    assert tick(world, owner).sent == ["json://127.0.0.1 was told of 1"]
    assert not tick(world, owner).sent
    assert webhook.titles() == ["nsimport acme: stuck_wave (critical)"]
    with engine.connect() as connection:
        assert all(SECRET not in str(row) for table in world.dump().values() for row in table)
        assert store.find_job(connection, world.id) is not None
    engine.dispose()


def test_slow_destinations_do_not_outlast_a_tick(engine: Engine, webhook: Webhook) -> None:
    owner = tenant(alerts=[f"{webhook.address}?number={number}" for number in range(3)])
    world = World(engine, [("customer", 0, 4)], wave_size=4).plan()
    stuck(world)
    evaluate(engine, owner, world.now)

    def slow(address: str, title: str, body: str, severity: Severity | None) -> str | None:
        world.wait(20)
        return send(address, title, body, severity)

    assert [len(deliver(engine, owner, slow, lambda: world.now).sent) for _ in range(3)] == [2, 1, 0]


def test_two_daemons_send_one_notice(warehouse_url: str, webhook: Webhook) -> None:
    engine = make_engine(warehouse_url, pool_size=5)
    ensure_control_tables(engine)
    owner = tenant(alerts=[webhook.address])
    world = World(engine, [("customer", 0, 4)], wave_size=4).plan()
    stuck(world)
    barrier = threading.Barrier(4)

    def daemon() -> None:
        barrier.wait()
        evaluate(engine, owner, world.now)
        deliver(engine, owner, send, lambda: world.now)

    threads = [threading.Thread(target=daemon) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert webhook.titles() == ["nsimport acme: stuck_wave (critical)"]
    engine.dispose()


@pytest.fixture
def installation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, webhook: Webhook, engine: Engine
) -> Callable[[list[str]], None]:
    """Writes the tenants file, with these addresses; its database has an import that is stuck."""
    world = World(engine, [("customer", 0, 4)], wave_size=4).plan()
    stuck(world)
    file = tmp_path / "tenants.yaml"
    monkeypatch.setenv("NSIMPORT_TENANTS", str(file))
    monkeypatch.setenv("HOOK", webhook.address)

    def write(addresses: list[str]) -> None:
        auth = {"method": "tba", "consumer_key": "a", "consumer_secret": "b", "token_id": "c", "token_secret": "d"}
        body = {"account": "T1", "auth": auth, "warehouse_url": str(engine.url)}
        file.write_text(
            yaml.safe_dump({"defaults": {"alerts": addresses}, "tenants": {"acme": body}}), encoding="utf-8"
        )

    return write


def test_the_sensor_judges_tells_and_says_what_it_did(
    installation: Callable[[list[str]], None], webhook: Webhook
) -> None:
    sensor = alert_sensor()

    def said() -> str:
        with dg.DagsterInstance.local_temp() as instance, dg.build_sensor_context(instance) as context:
            found = sensor.evaluate_tick(context)
        assert not found.run_requests
        assert SECRET not in str(found.skip_message)
        return str(found.skip_message)

    installation([])
    assert said().endswith("nobody is told: the tenants file names no address under `alerts`")
    assert "stuck_wave (acme-" in said()
    installation(["${HOOK}"])
    assert said().endswith("json://127.0.0.1 was told of 1")
    assert webhook.titles() == ["nsimport acme: stuck_wave (critical)"]
    assert "told" not in said()
    webhook.status = 500
    installation(["${HOOK}?again=yes"])
    assert said().endswith("json://127.0.0.1: it was refused (HTTP 500) (tried again)")
    installation(["${NOT_SET}"])
    assert "environment variable NOT_SET is not set" in said()


def test_the_command_lists_what_fires_and_tries_every_address(
    installation: Callable[[list[str]], None], webhook: Webhook
) -> None:
    installation(["${HOOK}", "${HOOK}?second=yes"])
    with dg.DagsterInstance.local_temp() as instance, dg.build_sensor_context(instance) as context:
        alert_sensor().evaluate_tick(context)
    webhook.heard.clear()

    def run(*arguments: str) -> tuple[int, str]:
        result = CliRunner().invoke(alerts_command, arguments, standalone_mode=False)
        return result.return_value, result.output

    (listed,) = json.loads(run("list", "--json")[1])
    assert (listed["rule"], listed["severity"], listed["state"]) == ("stuck_wave", "critical", "firing")
    assert listed["command"] == f"nsimport waves reset {listed['import_id']} 1"
    shown = run()[1]
    assert shown == run("--tenant", "acme")[1]
    assert shown.startswith("CRITICAL stuck_wave since ")
    assert shown.endswith(f"next: {listed['command']}\n")
    code, told = run("test")
    assert (code, told) == (0, "acme: address 1, json://127.0.0.1: ok\nacme: address 2, json://127.0.0.1: ok\n")
    assert webhook.titles() == ["nsimport acme: test"] * 2
    webhook.status = 404
    code, told = run("test", "--tenant", "acme", "--json")
    assert code == 1
    assert {each["wrong"] for each in json.loads(told)} == {"it was refused (HTTP 404)"}
