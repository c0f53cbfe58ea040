"""A run in this process, as Dagster executes it: its batches, the checks at their end, and checks by themselves."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml

from nsimport_pipeline.defs import names, resources
from nsimport_pipeline.defs.build import build_definitions
from nsimport_pipeline.imports import store
from nsimport_pipeline.imports.finish import CHECKS
from nsimport_pipeline.imports.plan import make_plan
from nsimport_pipeline.imports.settle import settle
from nsimport_pipeline.imports.snapshot import Rules
from nsimport_pipeline.imports.start import Request, open_import, write_plan
from nsimport_pipeline.netsuite.client import NetSuiteClient
from nsimport_pipeline.simulator.options import SimulatorOptions
from nsimport_pipeline.simulator.process import SimulatorThread
from nsimport_pipeline.warehouse.migrate import ensure_control_tables
from nsimport_pipeline.warehouse.schema import ensure_table
from nsimport_pipeline_tests.integration.imports_world import START

KEY = dg.AssetKey(["acme", "classification"])


@pytest.fixture
def simulator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SimulatorThread]:
    """An account with a few classes, and a tenants file that names it."""
    with SimulatorThread(SimulatorOptions(credentials=tmp_path / "keys", rows={"*": 20})) as simulator:
        tenant = {
            "account": simulator.options.account,
            "base_url": simulator.base_url,
            "auth": simulator.credentials.tba,
            "warehouse_url": f"sqlite:///{tmp_path / 'acme.db'}",
        }
        file = tmp_path / "tenants.yaml"
        file.write_text(yaml.safe_dump({"tenants": {"acme": tenant}}))
        monkeypatch.setenv("NSIMPORT_TENANTS", str(file))
        yield simulator


def executed(instance: dg.DagsterInstance, tags: dict[str, str] | None = None, **selection: Any) -> Any:
    job = build_definitions().resolve_implicit_global_asset_job_def().get_subset(**selection)
    return job.execute_in_process(instance=instance, tags=tags, raise_on_error=False)


def taken(result: Any) -> dict[str, bool]:
    return {one.check_name: one.passed for one in result.get_asset_check_evaluations()}


def test_a_run_takes_the_checks_at_its_end_and_they_can_be_taken_again_alone(simulator: SimulatorThread) -> None:
    tenant = resources.settings().enabled_tenant("acme")
    engine = resources.warehouse(tenant)
    ensure_control_tables(engine)
    chosen = ("classification", "subsidiary")
    for name in chosen:
        ensure_table(engine, resources.record_type(tenant, name))
    job = open_import(engine, tenant, Request(chosen, chosen), now=START, suffix="0001")
    with NetSuiteClient(tenant) as client:
        plan = make_plan(resources.catalog(), chosen, client=client, wave_size=10, batch_sizes={}, workers=1)
    write_plan(engine, job, plan, now=START)
    settle(engine, job.import_id, rules=Rules.of(tenant), now=lambda: START, runs=list)
    tags = {names.IMPORT: job.import_id, names.TENANT: "acme"}
    with dg.DagsterInstance.ephemeral() as instance:
        never = executed(instance, asset_selection=set(), asset_check_selection={dg.AssetCheckKey(KEY, "unique_key")})
        assert not never.success
        assert "takes the checks when its last batch is settled" in str(never.get_step_failure_events())

        for name in ("subsidiary", "classification"):
            key = dg.AssetKey(["acme", name])
            instance.add_dynamic_partitions(f"acme/{name}", ["0"])
            job_def = build_definitions().resolve_implicit_global_asset_job_def().get_subset(asset_selection={key})
            run = job_def.execute_in_process(instance=instance, partition_key="0", tags=tags, raise_on_error=False)
            assert run.success, run.get_step_failure_events()
        assert taken(run) == dict.fromkeys(CHECKS, True)
        with engine.begin() as connection:
            kept = {one.record_type: one for one in store.type_plans(connection, job.import_id)}["classification"]
            assert {check.name: check.passed for check in kept.checks} == dict.fromkeys(CHECKS, True)

        # A sensor sees that no run is left; meanwhile it is open.
        settle(engine, job.import_id, rules=Rules.of(tenant), now=lambda: START, runs=list)
        some = {dg.AssetCheckKey(KEY, "complete"), dg.AssetCheckKey(KEY, "references")}
        alone = executed(instance, asset_selection=set(), asset_check_selection=some)
        assert alone.success, alone.get_step_failure_events()
        assert taken(alone) == {"complete": True, "references": True}
