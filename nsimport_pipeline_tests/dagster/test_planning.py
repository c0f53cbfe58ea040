"""A run that plans a derived record type, as Dagster executes it, while NetSuite is down or busy."""

import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
import sqlalchemy as sa
import yaml
from sqlalchemy import Engine

from nsimport_pipeline.defs import names, resources
from nsimport_pipeline.defs.planning import planning_job
from nsimport_pipeline.defs.signs_of_life import LOCKS
from nsimport_pipeline.imports import store
from nsimport_pipeline.imports.plan import make_plan
from nsimport_pipeline.imports.records import ImportJob, TypePlan
from nsimport_pipeline.imports.start import Request, open_import, write_plan
from nsimport_pipeline.imports.steer import cancel_import
from nsimport_pipeline.netsuite.circuit import Circuit, CircuitState
from nsimport_pipeline.netsuite.client import NetSuiteClient
from nsimport_pipeline.simulator.options import SimulatorOptions
from nsimport_pipeline.simulator.process import SimulatorThread
from nsimport_pipeline.warehouse.control import job_events
from nsimport_pipeline.warehouse.migrate import ensure_control_tables
from nsimport_pipeline.warehouse.schema import ensure_table, target_table
from nsimport_pipeline_tests.integration.imports_world import START

LINES = "transaction_line"


@dataclass
class Installed:
    """A tenant with an import of lines that are still to be planned, and what plans them."""

    simulator: SimulatorThread
    instance: dg.DagsterInstance
    engine: Engine
    job: ImportJob

    def planned(self) -> dg.ExecuteInProcessResult:
        tags = {names.IMPORT: self.job.import_id, names.PLANS: LINES, names.ATTEMPT: "1", names.TENANT: "acme"}
        return planning_job().execute_in_process(instance=self.instance, tags=tags, raise_on_error=False)

    def plan(self) -> TypePlan:
        with self.engine.connect() as connection:
            (plan,) = store.type_plans(connection, self.job.import_id)
        return plan


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Installed]:
    options = SimulatorOptions(credentials=tmp_path / "keys", rows={"*": 20, LINES: 60})
    with SimulatorThread(options) as simulator, dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        body = {
            "account": options.account,
            "base_url": simulator.base_url,
            "auth": simulator.credentials.tba,
            "warehouse_url": f"sqlite:///{tmp_path / 'acme.db'}",
            "retries": {"api_rate_limit": {"patience": 20}},
        }
        file = tmp_path / "tenants.yaml"
        file.write_text(yaml.safe_dump({"tenants": {"acme": body}}))
        monkeypatch.setenv("NSIMPORT_TENANTS", str(file))
        tenant = resources.settings().enabled_tenant("acme")
        engine = resources.warehouse(tenant)
        ensure_control_tables(engine)
        for name in (LINES, *resources.catalog()[LINES].derived_from):
            ensure_table(engine, resources.record_type(tenant, name))
        parents = target_table(resources.record_type(tenant, "sales_order"))
        with engine.begin() as connection:
            connection.execute(sa.insert(parents).values(refid=10_000, import_id="before"))
        job = open_import(engine, tenant, Request((LINES,), (LINES,)), now=START, suffix="0001")
        with NetSuiteClient(tenant) as client:
            plan = make_plan(
                resources.catalog(), [LINES], client=client, wave_size=10, batch_sizes={}, workers=1, late=True
            )
        write_plan(engine, job, plan, now=START)
        yield Installed(simulator, instance, engine, job)


def test_planning_waits_for_a_netsuite_that_is_down_and_that_costs_no_attempt(
    installed: Installed, tmp_path: Path
) -> None:
    now = datetime.now(UTC)
    down = Circuit(CircuitState.OPEN, 10, 1, now, now, now + timedelta(seconds=1))
    with installed.engine.begin() as connection:
        assert store.set_circuit(connection, "acme", Circuit(), down)
    run = installed.planned()

    assert run.success
    plan = installed.plan()
    assert (plan.planned, plan.attempts) == (True, 0)
    assert plan.expected > 0
    with installed.engine.connect() as connection:
        told = list(connection.scalars(sa.select(job_events.c.event).order_by(job_events.c.id)))
    assert [event for event in told if event.startswith("circuit")] == ["circuit_closed"]  # by its probe
    (sign,) = (tmp_path / LOCKS).glob(f"*/{run.run_id}")
    assert int(sign.read_text()) == os.getpid()


def test_an_import_that_is_cancelled_while_netsuite_refuses_to_answer_is_not_planned_on(installed: Installed) -> None:
    installed.simulator.set_faults("429:1")
    installed.simulator.reset_stats()

    def cancel_once_it_was_refused() -> None:
        while not installed.simulator.stats()["kinds"].get("suiteql"):
            time.sleep(0.05)
        cancel_import(installed.engine, installed.job, now=START)

    cancelling = threading.Thread(target=cancel_once_it_was_refused)
    cancelling.start()
    run = installed.planned()
    cancelling.join()

    assert run.success
    assert (installed.plan().planned, installed.plan().failure) == (False, None)
