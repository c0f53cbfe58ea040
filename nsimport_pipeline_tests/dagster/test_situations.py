"""Twelve broken situations: what ``nsimport status`` says names the cause and the next command, which mends it.

Each is brought about with the real commands, sensor, runs, databases and simulator; then what broke is taken away, the
command that was printed is typed as it stands, and the import goes on.
"""

import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import sqlalchemy as sa

from nsimport_pipeline.commands.processes import free_port, nsimport_command
from nsimport_pipeline.commands.session import dagster_instance
from nsimport_pipeline.defs import resources
from nsimport_pipeline.defs.wave_sensor import look
from nsimport_pipeline.imports import batch, store
from nsimport_pipeline.imports.explain import Cause
from nsimport_pipeline.settings import pool_name
from nsimport_pipeline.simulator.options import SimulatorOptions
from nsimport_pipeline.simulator.process import SimulatorThread
from nsimport_pipeline_tests import mysql_server as private_mysql
from nsimport_pipeline_tests.dagster.in_process import InProcess

ROWS = 12
"""Of each record type: one batch."""


@pytest.fixture(scope="module")
def simulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimulatorThread]:
    options = SimulatorOptions(credentials=tmp_path_factory.mktemp("simulator"), rows={"*": ROWS})
    with SimulatorThread(options) as simulator:
        yield simulator


@pytest.fixture(scope="module")
def installation(simulator: SimulatorThread, tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcess]:
    with pytest.MonkeyPatch.context() as patch:
        yield InProcess(tmp_path_factory.mktemp("situations"), simulator, patch)


@pytest.fixture
def installed(installation: InProcess) -> Iterator[InProcess]:
    yield installation
    installation.simulator.set_faults("")


def mended(installed: InProcess, import_id: str, command: list[str]) -> dict[str, Any]:
    """Type a command, let the daemon's work be done, and return the status: there is nothing left to do."""
    done = installed.nsimport(*command)
    assert done.code == 0, done.text
    installed.carry_on(import_id)
    status = installed.status(import_id)
    assert (status["state"], status["next_steps"]) == ("completed", []), status
    return status


def test_bad_credentials(installed: InProcess) -> None:
    tenant = installed.tenant("refused")
    import_id = installed.begin("vendor", "--no-dependencies", tenant=tenant)
    good = installed.tenants[tenant]["auth"]
    installed.tenant(tenant, auth=good | {"certificate_id": "revoked"})
    assert installed.carry_on(import_id) == "failed"

    said = installed.nsimport("status", import_id)
    assert "no access token was given" in said.text
    assert Cause.STOPPED in said.text

    installed.tenant(tenant, auth=good)
    mended(installed, import_id, said.command("resume"))


def test_bad_credentials_while_it_was_planned(installed: InProcess) -> None:
    tenant = installed.tenant("strange")
    good = installed.tenants[tenant]["auth"]
    installed.tenant(tenant, auth=good | {"certificate_id": "revoked"})
    refused = installed.nsimport("import", "vendor", "--no-dependencies", "--tenant", tenant)
    assert refused.code == 2

    said = installed.nsimport("status", refused.text.splitlines()[0])
    assert "no access token was given" in said.text
    assert Cause.NOT_PLANNED in said.text
    assert " completed " not in said.text

    installed.tenant(tenant, auth=good)
    again = installed.nsimport(*said.command("import"))
    assert installed.carry_on(again.text.splitlines()[0]) == "completed"


def test_one_tenants_database_down(installed: InProcess, mysql_server: private_mysql.MysqlServer) -> None:
    with private_mysql.fresh_database(mysql_server.url()) as url:
        down, up = installed.tenant("drowned", warehouse_url=url), installed.tenant("dry")
        import_id = installed.begin("vendor", "--no-dependencies", tenant=down)
        other = installed.begin("vendor", "--no-dependencies", tenant=up)
        mysql_server.kill()
        try:
            said = installed.nsimport("status", import_id)
            assert (said.code, Cause.DATABASE_DOWN in said.text) == (2, True), said.text
            assert url.partition("@")[2].partition("/")[0] in said.text
            assert installed.carry_on(other) == "completed"
        finally:
            mysql_server.start()
        mended(installed, import_id, said.command("reconcile"))
        resources.warehouse(resources.settings().tenant(down)).dispose()


def test_netsuite_down(installed: InProcess) -> None:
    # Not asked again by itself while the test lasts.
    patient = {"failures": 2, "probe_delay": 600, "longest_probe_delay": 600}
    quick = {"api_unavailable": {"in_run_delay": 0.05}}
    tenant = installed.tenant("cut_off", circuit=patient, retries=quick)
    import_id = installed.begin("vendor", "--no-dependencies", tenant=tenant)
    installed.simulator.set_faults("outage:600")
    daemon = threading.Thread(target=installed.carry_on, args=(import_id,))
    daemon.start()
    try:
        said = installed.until(lambda: installed.nsimport("status", import_id), Cause.NETSUITE_DOWN)
    finally:
        installed.simulator.set_faults("")
    mending = installed.nsimport(*said.command("reconcile"))
    assert "NetSuite is answering" in mending.text
    daemon.join(60)
    assert installed.status(import_id)["state"] == "completed"


def test_stuck_wave(installed: InProcess) -> None:
    tenant = installed.tenant("hung", wave_timeout=1)
    import_id = installed.begin("vendor", "--no-dependencies", tenant=tenant)
    engine = resources.warehouse(resources.settings().tenant(tenant))
    with dagster_instance() as instance:
        (request,) = look(instance, tenant, ()).requests
        run = dg.DagsterRun(job_name="hangs", tags=request.tags, status=dg.DagsterRunStatus.STARTED)
        instance.add_run(run)
        with engine.begin() as connection:
            (one,) = store.batches(connection, import_id)
            assert store.claim_batch(connection, one, run.run_id, installed.now())
        time.sleep(1.1)
        look(instance, tenant, ())

    said = installed.nsimport("status", import_id)
    assert f"wave 1 {Cause.STUCK}" in said.text

    mended(installed, import_id, said.command("waves reset"))


def test_poisoned_rows(installed: InProcess) -> None:
    tenant = installed.tenant("poisoned")
    installed.carry_on(installed.begin("vendor", "--no-dependencies", tenant=tenant))
    installed.query(tenant, "UPDATE vendors SET phone = refid")
    installed.query(tenant, "CREATE UNIQUE INDEX uq_phone ON vendors (phone)")
    installed.simulator.sql("UPDATE vendor SET phone = '+1' WHERE id IN (SELECT id FROM vendor ORDER BY id LIMIT 3)")
    import_id = installed.begin("vendor", "--no-dependencies", tenant=tenant)
    assert installed.carry_on(import_id) == "completed_with_failures"

    said = installed.nsimport("status", import_id)
    assert Cause.REJECTED_ROWS in said.text
    (group,) = installed.json("errors", import_id)
    assert {key: group[key] for key in ("category", "table_name", "column_name", "constraint_name", "count")} == {
        "category": "database_schema",
        "table_name": "vendors",
        "column_name": "phone",
        "constraint_name": "UNIQUE",
        "count": 2,
    }
    assert f"nsimport retry {import_id} --rejected" in group["what_to_do"]

    installed.query(tenant, "DROP INDEX uq_phone")
    mended(installed, import_id, said.command("retry"))


def test_missing_feature(installed: InProcess) -> None:
    tenant = installed.tenant("smaller")
    installed.simulator.set_faults("without:departments")
    import_id = installed.begin("department", "--no-dependencies", tenant=tenant)
    assert installed.carry_on(import_id) == "completed"

    said = installed.nsimport("status", import_id)
    assert f"department: {Cause.FEATURE_OFF}: the account's Departments feature is off" in said.text

    installed.simulator.set_faults("")
    again = installed.nsimport(*said.command("import")).text.splitlines()[0]
    assert installed.carry_on(again) == "completed"
    (entry,) = installed.status(again)["record_types"]
    assert entry["records"]["imported"] == entry["records"]["expected"] > 0


def test_slots_leaked(installed: InProcess) -> None:
    tenant = installed.tenant("leaky")
    import_id = installed.begin("vendor", "--no-dependencies", tenant=tenant)
    with dagster_instance() as instance:
        gone = dg.DagsterRun(job_name="gone", status=dg.DagsterRunStatus.FAILURE)
        instance.add_run(gone)
        for number in range(2):
            assert instance.event_log_storage.claim_concurrency_slot(
                pool_name(tenant), gone.run_id, f"slot_{number}"
            ).is_claimed

    said = installed.nsimport("status", import_id)
    assert f"2 slots are {Cause.SLOTS_LEAKED}" in said.text

    freed = installed.nsimport(*said.command("slots"))
    assert "2 slots of dead holders freed" in freed.text
    assert Cause.SLOTS_LEAKED not in installed.nsimport("status", import_id).text
    assert installed.carry_on(import_id) == "completed"


def test_daemon_off(simulator: SimulatorThread, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # With a tenant of its own only: a real daemon loads them all.
    installed = InProcess(tmp_path, simulator, monkeypatch)
    tenant = installed.tenant("idle")
    import_id = installed.begin("vendor", "--no-dependencies", tenant=tenant)

    said = installed.nsimport("status", import_id)
    assert Cause.NO_DAEMON in said.text

    # As it stands, but for the port, which may be in use here.
    command = nsimport_command(*said.command("up"), "--port", str(free_port()))
    log = installed.directory / "up.log"
    with (
        log.open("wb") as output,
        subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True, cwd=installed.directory) as up,
    ):
        try:
            status = installed.until(lambda: installed.nsimport("status", import_id), ": completed: ", seconds=120)
        finally:
            up.send_signal(signal.SIGINT)
            up.wait(60)
    assert Cause.NO_DAEMON not in status.text


def test_disk_full(installed: InProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    tenant = installed.tenant("crowded")
    import_id = installed.begin("vendor", "--no-dependencies", tenant=tenant)
    monkeypatch.setattr(batch, "DATABASE_RETRY_DELAYS", (0.05,))
    engine = resources.warehouse(resources.settings().tenant(tenant))

    def fill(connection: Any, _: object) -> None:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages}")

    engine.dispose()
    sa.event.listen(engine, "connect", fill)
    installed.carry_on(import_id)
    said = installed.nsimport("status", import_id)
    sa.event.remove(engine, "connect", fill)
    engine.dispose()
    assert "the database has no disk space left" in said.text
    assert Cause.FAILED_BATCHES in said.text

    mended(installed, import_id, said.command("retry"))


def test_partial_parents(installed: InProcess) -> None:
    tenant = installed.tenant("orphaned")
    import_id = installed.begin("customer", "sales_order", "--no-dependencies", tenant=tenant)
    installed.simulator.set_faults("denied:customer")
    assert installed.carry_on(import_id) == "completed_with_failures"

    said = installed.nsimport("status", import_id)
    assert f"sales_order: {Cause.PARTIAL_PARENTS}: not all of customer arrived" in said.text
    (told,) = [text for text in said.text.splitlines() if Cause.PARTIAL_PARENTS in text]

    installed.simulator.set_faults("")
    mended(installed, import_id, type(said)(0, told).command("retry"))


def test_schema_drift(installed: InProcess) -> None:
    tenant = installed.tenant("drifting")
    import_id = installed.begin("vendor", "--no-dependencies", tenant=tenant)
    installed.simulator.set_faults("removed:vendor.phone")
    assert installed.carry_on(import_id) == "completed"

    said = installed.nsimport("status", import_id)
    assert f"vendor: {Cause.COLUMNS_LEFT_OUT}: phone" in said.text
    assert "nsimport record-types vendor" in installed.nsimport("errors", import_id).text

    installed.simulator.set_faults("")
    mended(installed, import_id, said.command("record-types"))
    again = installed.begin("vendor", "--no-dependencies", tenant=tenant)
    assert installed.carry_on(again) == "completed"
    assert installed.query(tenant, "SELECT count(phone) AS n FROM vendors")[0]["n"] > 0


def test_disabled_tenant(installed: InProcess) -> None:
    tenant = installed.tenant("dormant", enabled="database")
    assert installed.nsimport("import", "vendor", "--no-dependencies", "--tenant", tenant).code == 4

    said = installed.nsimport("status", "--tenant", tenant)
    assert f"tenant dormant {Cause.SWITCHED_OFF}" in said.text

    assert installed.nsimport(*said.command("flags")).code == 0
    assert installed.carry_on(installed.begin("vendor", "--no-dependencies", tenant=tenant)) == "completed"
    assert Cause.SWITCHED_OFF not in installed.nsimport("status", "--tenant", tenant).text
