"""What Dagster is told about tenants and record types: names, groups, pools, partitions, dependencies, limits."""

from pathlib import Path

import dagster as dg
import pytest
import yaml
from dagster._core.definitions.reconstruct import ReconstructableRepository
from dagster._grpc.impl import core_execute_run

from nsimport_pipeline.defs import build, names
from nsimport_pipeline.defs.build import build_definitions, tenant_assets
from nsimport_pipeline.defs.names import STEERING_JOBS
from nsimport_pipeline.defs.signs_of_life import LOCKS
from nsimport_pipeline.defs.this_run import tenants_of, this_run
from nsimport_pipeline.record_types.criteria import Catalog, load_catalog
from nsimport_pipeline.settings import Settings

CATALOG = load_catalog()
SECRET = "never-to-be-seen"


@pytest.fixture
def definitions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dg.Definitions:
    """Two tenants whose secrets are not even in the environment."""
    tenant = {
        "account": "1234567_SB1",
        "auth": {"method": "tba", **dict.fromkeys(("consumer_key", "consumer_secret", "token_id"), "${ABSENT}")},
        "warehouse_url": f"mysql+pymysql://user:{SECRET}@db.internal/acme",
        "wave_size": 7,
    }
    file = tmp_path / "tenants.yaml"
    file.write_text(yaml.safe_dump({"tenants": {"acme": tenant, "beta_2": tenant}}))
    monkeypatch.setenv("NSIMPORT_TENANTS", str(file))
    return build_definitions()


def test_the_daemon_can_load_them_all(definitions: dg.Definitions) -> None:
    repository = definitions.get_repository_def()
    repository.load_all_definitions()
    assert {"plan_derived", *STEERING_JOBS} <= set(repository.job_names)


def test_every_tenant_has_an_asset_of_every_record_type(definitions: dg.Definitions) -> None:
    graph = definitions.resolve_asset_graph()
    assert graph.materializable_asset_keys == {
        dg.AssetKey([tenant, name]) for tenant in ("acme", "beta_2") for name in CATALOG
    }
    others = graph.get_all_asset_keys() - graph.materializable_asset_keys
    assert others == {dg.AssetKey([tenant, "overview"]) for tenant in ("acme", "beta_2")}


@pytest.mark.parametrize("name", STEERING_JOBS)
def test_what_steers_imports_holds_no_slot_and_explains_every_option(definitions: dg.Definitions, name: str) -> None:
    job = definitions.resolve_job_def(name)
    (node,) = job.nodes
    assert node.definition.pools == set()  # type: ignore[attr-defined]
    assert job.description
    options = node.definition.config_schema.config_type.fields  # type: ignore[attr-defined]
    assert all(option.description for option in options.values()), options


@pytest.mark.parametrize("name", ["currency", "customer", "sales_order", "transaction_line"])
def test_an_asset_is_what_its_criteria_say(definitions: dg.Definitions, name: str) -> None:
    record_type, key = CATALOG[name], dg.AssetKey(["acme", name])
    asset = definitions.resolve_asset_graph().get(key)
    spec = definitions.resolve_assets_def(key).specs_by_key[key]

    assert asset.group_name == record_type.family
    assert {parent.path[1] for parent in asset.parent_keys} == set(record_type.upstream)
    assert asset.pools == {"netsuite_acme"}
    assert isinstance(asset.partitions_def, dg.DynamicPartitionsDefinition)
    assert asset.partitions_def.name == f"acme/{name}"
    assert asset.code_version == record_type.version
    assert asset.description == record_type.description
    assert asset.owners
    assert asset.kinds == {"netsuite", "mysql"}
    assert spec.metadata["dagster/table_name"] == record_type.table
    columns = [column.name for column in spec.metadata["dagster/column_schema"].columns]
    assert columns[:2] == ["refid", "external_id"]
    assert {field.name for field in record_type.fields} < set(columns)


def test_a_backfill_puts_at_most_a_wave_into_one_run(definitions: dg.Definitions) -> None:
    policy = definitions.resolve_assets_def(dg.AssetKey(["acme", "customer"])).backfill_policy
    assert policy is not None
    assert policy.max_partitions_per_run == 7


@pytest.mark.parametrize("kind", ["waves", "planning", "overview", "alerts"])
def test_one_sensor_of_each_kind_runs_by_itself_for_all_tenants(definitions: dg.Definitions, kind: str) -> None:
    assert definitions.resolve_sensor_def(kind).default_status is dg.DefaultSensorStatus.RUNNING


def test_nothing_secret_is_in_what_dagster_is_told(definitions: dg.Definitions) -> None:
    for key in definitions.resolve_asset_graph().get_all_asset_keys():
        assert SECRET not in str(definitions.resolve_assets_def(key).specs_by_key[key])


def test_a_run_shows_life_as_it_loads_the_assets_of_its_tenant_only(
    definitions: dg.Definitions, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As Dagster's worker carries it out, in this process; what the run does is not looked at."""
    loaded: list[str] = []

    def counting(settings: Settings, catalog: Catalog, tenant: str, *more: object) -> list[dg.AssetsDefinition]:
        loaded.append(tenant)
        return tenant_assets(settings, catalog, tenant, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(build, "tenant_assets", counting)
    repository = ReconstructableRepository.for_module("nsimport_pipeline.definitions", "defs", str(tmp_path))
    key = dg.AssetKey(["beta_2", "currency"])
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        instance.add_dynamic_partitions("beta_2/currency", ["0"])
        job = definitions.resolve_implicit_global_asset_job_def().get_subset(asset_selection={key})
        run = instance.create_run_for_job(job, asset_selection=frozenset({key}), tags={names.PARTITION: "0"})
        worker = core_execute_run(
            repository.get_reconstructable_job(names.ASSET_JOB), run, instance, inject_env_vars=False
        )
        # From before it counts as started its process can be missed.
        assert next(worker).event_type is dg.DagsterEventType.RUN_START
        assert next((tmp_path / LOCKS).rglob(run.run_id)).is_file()
        # Its settings lack a variable; that is said by the run's own step, so it was found.
        assert any("ABSENT is not set" in str(event.event_specific_data) for event in worker)
    assert set(loaded) == {"beta_2"}


def test_what_a_run_is_about_says_whose_assets_it_needs() -> None:
    check = dg.AssetCheckKey(dg.AssetKey(["beta_2", "customer"]), "complete")
    keys = frozenset({dg.AssetKey(["acme", "customer"])})
    assert tenants_of(dg.DagsterRun("start_import")) == set()
    assert tenants_of(dg.DagsterRun(names.ASSET_JOB)) is None
    assert tenants_of(dg.DagsterRun(names.ASSET_JOB, asset_selection=keys)) == {"acme"}
    checks_only = dg.DagsterRun(names.ASSET_JOB, asset_selection=frozenset(), asset_check_selection={check})
    assert tenants_of(checks_only) == {"beta_2"}
    assert this_run() is None
