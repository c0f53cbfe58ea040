"""All Dagster definitions, from the tenants file and the catalogue.

Belongs here: putting assets and sensors of all tenants together. Does not belong here: what they do.
Needs no secret: a tenant's variables are looked up only when a run or tick of it begins.
"""

import dagster as dg

from nsimport_pipeline.defs import resources
from nsimport_pipeline.defs.alert_sensor import alert_sensor
from nsimport_pipeline.defs.assets import record_type_asset
from nsimport_pipeline.defs.overview import overview_sensor, overview_spec
from nsimport_pipeline.defs.planning import planning_job, planning_sensor
from nsimport_pipeline.defs.schedules import tenant_schedules
from nsimport_pipeline.defs.steering_jobs import steering_jobs
from nsimport_pipeline.defs.wave_sensor import wave_sensor
from nsimport_pipeline.record_types.criteria import Catalog
from nsimport_pipeline.record_types.graph import levels
from nsimport_pipeline.settings import Settings


def build_definitions() -> dg.Definitions:
    """The definitions of every tenant. Raises ConfigurationError."""
    settings, catalog = resources.settings(), resources.catalog()
    assets: list[dg.AssetsDefinition | dg.AssetSpec] = []
    jobs = steering_jobs()
    start_import = jobs[0]
    sensors: list[dg.SensorDefinition] = []
    schedules: list[dg.ScheduleDefinition] = []
    for tenant in settings.tenant_names:
        assets += [*tenant_assets(settings, catalog, tenant), overview_spec(tenant)]
        jobs.append(planning_job(tenant))
        sensors += [wave_sensor(tenant), planning_sensor(tenant, jobs[-1])]
        sensors += [overview_sensor(tenant), alert_sensor(tenant)]
        schedules += tenant_schedules(settings, tenant, start_import)
    # One process for each run: its worker threads do the rest.
    return dg.Definitions(
        assets=assets, jobs=jobs, sensors=sensors, schedules=schedules, executor=dg.in_process_executor
    )


def tenant_assets(settings: Settings, catalog: Catalog, tenant: str) -> list[dg.AssetsDefinition]:
    level_of = levels(catalog)
    wave_size = int(settings.number(tenant, "wave_size", 300))
    warehouse = settings.warehouse_location(tenant)
    return [
        record_type_asset(tenant, record_type, level=level_of[name], batches_per_run=wave_size, warehouse=warehouse)
        for name, record_type in catalog.items()
    ]
