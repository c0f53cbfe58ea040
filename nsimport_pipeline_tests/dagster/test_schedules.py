"""Schedules as Dagster has them: what a tick asks for, what it skips and why, and what the run it asked for does."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.test_utils import create_run_for_test

from nsimport_pipeline.commands.processes import free_port
from nsimport_pipeline.commands.session import dagster_instance
from nsimport_pipeline.defs import alert_sensor, names, resources
from nsimport_pipeline.defs.behind import freshness, look
from nsimport_pipeline.defs.build import build_definitions
from nsimport_pipeline.defs.schedules import tenant_schedules
from nsimport_pipeline.defs.steering_jobs import steering_jobs
from nsimport_pipeline.imports.behind import Runs, Tick
from nsimport_pipeline.simulator.options import SimulatorOptions
from nsimport_pipeline.simulator.process import SimulatorThread
from nsimport_pipeline_tests.dagster.in_process import InProcess

SCHEDULES = {
    "changes": {"cron": "H/15 * * * *", "record_types": ["vendor"], "dependencies": False, "enabled": True},
    "deletions": {"cron": "H 3 * * *", "mode": "sweep", "record_types": ["vendor"], "enabled": True},
    "everything": {"cron": "H 2 * * 6", "mode": "full", "timezone": "Europe/Berlin"},
}
OFF = {charge: {"enabled": False} for charge in ("charge", "charge_type")}

MONDAY = datetime(2026, 3, 2, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def simulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimulatorThread]:
    options = SimulatorOptions(credentials=tmp_path_factory.mktemp("simulator"), rows={"*": 3})
    with SimulatorThread(options) as running:
        yield running


@pytest.fixture
def installation(simulator: SimulatorThread, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[InProcess]:
    made = InProcess(tmp_path, simulator, monkeypatch)
    (tmp_path / "home").mkdir()
    made.tenant(schedules=SCHEDULES, record_types=OFF)
    yield made
    simulator.set_faults("")


def schedule(name: str = "changes", tenant: str = "acme") -> dg.ScheduleDefinition:
    found = tenant_schedules(resources.settings(), tenant)
    return {each.name: each for each in found}[f"{tenant}__{name}"]


def ticked(name: str = "changes", tenant: str = "acme", alive: Sequence[Mapping[str, str]] = ()) -> Any:
    with dagster_instance() as instance:
        for tags in alive:
            create_run_for_test(instance, tags=tags, status=dg.DagsterRunStatus.STARTING)
        with dg.build_schedule_context(instance) as context:
            return schedule(name, tenant).evaluate_tick(context)


def skipped(name: str = "changes", tenant: str = "acme") -> str:
    data = ticked(name, tenant)
    assert data.run_requests == []
    assert data.skip_message
    return data.skip_message


def asked(name: str = "changes", tenant: str = "acme") -> dg.RunRequest:
    data = ticked(name, tenant)
    assert data.skip_message is None
    (request,) = data.run_requests or []
    return request


def carried_out(request: dg.RunRequest) -> tuple[dg.ExecuteInProcessResult, dict[str, Any]]:
    """The run that a tick asked for, in this process, and what it shows."""
    with dagster_instance() as instance:
        job = steering_jobs()[
            names.STEERING_JOBS.index("sweep_records" if "sweep" in request.run_config["ops"] else "start_import")
        ]
        result = job.execute_in_process(
            run_config=request.run_config, tags=request.tags, instance=instance, raise_on_error=False
        )
    shown = {
        key: value.value
        for event in result.all_events
        if event.event_type_value == "STEP_OUTPUT"
        for key, value in event.step_output_data.metadata.items()
    }
    return result, shown


def test_each_is_there_without_a_secret_and_runs_by_itself_only_if_it_is_enabled(installation: InProcess) -> None:
    installation.tenant(auth={"method": "tba", "consumer_key": "${ABSENT}"}, timezone="America/Denver")
    changes, everything = schedule(), schedule("everything")
    assert changes.default_status is dg.DefaultScheduleStatus.RUNNING
    assert everything.default_status is dg.DefaultScheduleStatus.STOPPED
    assert (changes.execution_timezone, everything.execution_timezone) == ("America/Denver", "Europe/Berlin")
    assert str(changes.cron_schedule).endswith("-59/15 * * * *")
    assert "incremental import of vendor at H/15" in str(changes.description)
    assert changes.job_name == "start_import"


def test_what_is_scheduled_whole_has_a_policy_and_so_has_the_overview(installation: InProcess) -> None:
    def policies() -> dict[str, dg.FreshnessPolicy]:
        return freshness(resources.settings(), resources.catalog(), "acme")

    # By last materialization it would fail where nothing changes.
    assert set(policies()) == {"overview"}
    whole = {"cron": "H 2 * * 6", "mode": "full", "record_types": ["customer"], "dependencies": False}
    installation.tenant(schedules={"everything": {**whole, "enabled": True}})
    graph = build_definitions().resolve_asset_graph()
    of = {name: graph.get(dg.AssetKey(["acme", name])).freshness_policy for name in ("customer", "vendor", "overview")}
    assert of == policies() | {"vendor": None}
    assert of["customer"] == dg.FreshnessPolicy.time_window(fail_window=timedelta(days=7, hours=6))
    installation.tenant(schedules={"everything": whole})
    assert policies() == {}


def test_a_wrong_one_takes_that_tenants_away_and_no_others(installation: InProcess) -> None:
    installation.tenant("strange", schedules={"changes": {"cron": "H/99 * * * *"}})
    assert {each.name for each in build_definitions().get_repository_def().schedule_defs} == {
        "acme__changes", "acme__deletions", "acme__everything"
    }  # fmt: skip


def test_a_tick_asks_for_an_import_and_the_next_ones_wait_for_its_end(installation: InProcess) -> None:
    request, at_the_same_time = asked(), asked()
    assert request.tags | {"nsimport/tenant": "acme", "nsimport/schedule": "changes"} == request.tags
    config = request.run_config["ops"]["start"]["config"]
    assert config["record_types"] == ["vendor"]
    assert config["mode"] == "incremental"

    result, shown = carried_out(request)
    assert result.success
    import_id = shown["import"]
    assert installation.status(import_id)["mode"] == "incremental"
    assert skipped() == f"{import_id} is still importing vendor: `nsimport status {import_id}`"
    assert import_id in skipped("everything")
    # The whole import comes once a week: it is made up for when it may begin, the changes with the next moment.
    owed = {
        f"acme__{name}": Runs(True, MONDAY - timedelta(days=9), Tick(MONDAY, "an import is open")) for name in SCHEDULES
    }
    assert look(owed, "acme", None, MONDAY + timedelta(minutes=1)).requests == ()

    # One that was asked for before the first had begun: no failure, and no second import.
    result, shown = carried_out(at_the_same_time)
    assert result.success
    assert f"vendor is already being imported for tenant 'acme' by {import_id}" in shown["said"]
    assert installation.query("acme", "SELECT COUNT(*) AS n FROM import_jobs") == [{"n": 1}]

    assert installation.carry_on(import_id) == "completed"
    result, shown = carried_out(asked())
    assert shown["said"] == "nothing was changed: there is nothing to import"
    assert installation.carry_on(shown["import"]) == "completed"

    deletions, everything = look(owed, "acme", None, MONDAY + timedelta(minutes=1)).requests
    assert (deletions.job_name, everything.job_name) == ("sweep_records", "start_import")
    assert str(everything.run_key) == "acme.everything.202603021200.2026030212"
    assert everything.run_config == asked("everything").run_config

    assert schedule("deletions").job_name == "sweep_records"
    result, shown = carried_out(asked("deletions"))
    assert (result.success, shown["deleted"], shown["missing"]) == (True, 0, 0)

    # Nothing was written, and nobody is behind: told now and then, until the next moment is missed.
    now = datetime.now(UTC)
    runs = {"acme__changes": Runs(True, now - timedelta(days=1), Tick(now, None))}
    told = look(runs, "acme", None, now)
    (event,) = told.events
    assert (event.asset_key, told.said) == (dg.AssetKey(["acme", "overview"]), ())
    ((until,),) = (each.values() for each in installation.query("acme", "SELECT modified_at FROM sync_watermarks"))
    assert f"| changes | incremental | {str(until)[:16]}" in str(event.metadata["schedules"].value)
    assert look(runs, "acme", told.cursor, now + timedelta(minutes=5)).events == ()
    assert look(runs, "acme", told.cursor, now + timedelta(minutes=15)).events
    late = look(runs, "acme", told.cursor, now + timedelta(hours=1))
    assert (late.events, late.cursor) == ((), "")
    assert late.said[0].startswith("acme/changes: vendor, in step until ")
    assert late.said[0].endswith(": no Dagster daemon runs, or none did when it was due; `nsimport up`")


def test_being_behind_is_an_alert_unless_somebody_switched_it_off(installation: InProcess) -> None:
    _, shown = carried_out(asked())
    assert installation.carry_on(shown["import"]) == "completed"
    often = {"cron": "* * * * *", "record_types": ["currency"], "dependencies": False, "enabled": True}
    installation.tenant(schedules={"often": often})

    def found(on: bool | None) -> tuple[str, ...]:
        seen = Runs(on, datetime.now(UTC) - timedelta(days=1))
        return tuple(alert_sensor.look({"acme__often": seen}, "acme").said)

    assert found(False) == ()
    (said,) = found(None)
    assert said.startswith("acme: behind (often); nobody is told")
    (alert,) = installation.query("acme", "SELECT rule, message, command FROM alerts")
    assert alert["message"].startswith("currency, in step until never: no Dagster daemon runs")
    assert (alert["rule"], alert["command"]) == ("behind", "nsimport up")


def test_all_enabled_record_types_are_asked_for_where_none_is_named(installation: InProcess) -> None:
    config = asked("everything").run_config["ops"]["start"]["config"]
    assert {"customer", "sales_order", "transaction_line"} <= set(config["record_types"])
    assert not set(OFF) & set(config["record_types"])
    assert config["mode"] == "full"


def test_a_tenant_that_is_switched_off(installation: InProcess) -> None:
    installation.tenant(enabled="database")
    assert "the tenant is not enabled (there is no flag" in skipped()
    installation.tenant(enabled=False)
    assert "is not enabled: set enabled: true" in skipped()


def test_it_is_not_asked_for_again_while_its_run_has_not_ended(installation: InProcess) -> None:
    def busy(tenant: str) -> str | None:
        """Why nothing is begun for acme while this tenant's run is alive."""
        tags = {"nsimport/tenant": tenant, "nsimport/schedule": "changes"}
        said: str | None = ticked(alive=[tags]).skip_message
        return said

    assert busy("beta") is None
    assert "that it asked for last has not ended yet" in str(busy("acme"))


def test_quiet_hours(installation: InProcess) -> None:
    hours = ["00:00-12:00", "12:00-23:59"]
    installation.tenant(schedules={"changes": {"cron": "59 23 * * *", "quiet_hours": hours, "timezone": "UTC"}})
    assert any(skipped().startswith(f"quiet hours: {each} UTC") for each in hours)


def test_what_is_wrong_with_a_tenant_is_the_reason_and_no_traceback(installation: InProcess) -> None:
    installation.tenant(
        "away", schedules=SCHEDULES, warehouse_url=f"mysql+pymysql://user:secret@127.0.0.1:{free_port()}/away"
    )
    said = skipped(tenant="away")
    assert "the database does not answer" in said
    assert "secret" not in said
    (changes, _, everything) = installation.json("schedules", "--tenant", "away")
    assert (changes["state"], everything["state"]) == ("unknown", "off")
    assert (changes["command"], "the database does not answer" in changes["why"]) == (
        "nsimport doctor --tenant away",
        True,
    )
    installation.tenant("unset", schedules=SCHEDULES, auth={"method": "tba", "consumer_key": "${ABSENT}"})
    assert "environment variable ABSENT is not set" in skipped(tenant="unset")
    installation.tenant("odd", schedules={"changes": {"cron": "H * * * *", "record_types": ["nothing_known"]}})
    assert "nothing_known" in skipped(tenant="odd")
    installation.tenant("strange", schedules={"changes": {"cron": "H/99 * * * *"}})
    everybody = installation.nsimport("schedules")
    assert {"acme/changes", "acme/everything", "odd/changes"} <= set(everybody.out.split())
    assert "tenants.strange.schedules.changes.cron: 'H/99'" in everybody.text


def test_while_netsuite_is_down_one_import_fails_and_no_more_are_begun(installation: InProcess) -> None:
    installation.tenant(circuit={"failures": 2, "probe_delay": 0.01, "longest_probe_delay": 0.01})
    installation.simulator.set_faults("outage:3600")
    first, _ = carried_out(asked())
    assert not first.success
    assert installation.query("acme", "SELECT state FROM import_jobs") == [{"state": "failed"}]

    # A probe is due by now: the run sends it before it begins anything.
    second, shown = carried_out(asked())
    assert second.success
    assert "NetSuite is not answering since" in shown["said"]
    assert installation.query("acme", "SELECT COUNT(*) AS n FROM import_jobs") == [{"n": 1}]

    installation.simulator.set_faults("")
    third, shown = carried_out(asked())
    assert third.success
    assert installation.carry_on(shown["import"]) == "completed"
