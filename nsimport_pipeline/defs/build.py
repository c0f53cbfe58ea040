"""All Dagster definitions, from the tenants file and the catalogue.

Belongs here: putting assets and sensors of all tenants together. Does not belong here: what they do.
Needs no secret: a tenant's variables are looked up only when a run or tick of it begins.
"""

from collections.abc import Collection, Mapping
from types import MappingProxyType

import dagster as dg

from nsimport_pipeline.defs import names, resources
from nsimport_pipeline.defs.alert_sensor import alert_sensor
from nsimport_pipeline.defs.assets import record_type_asset
from nsimport_pipeline.defs.behind import behind_sensor, freshness
from nsimport_pipeline.defs.overview import overview_sensor, overview_spec
from nsimport_pipeline.defs.planning import planning_job, planning_sensor
from nsimport_pipeline.defs.schedules import tenant_schedules
from nsimport_pipeline.defs.steering_jobs import steering_jobs
from nsimport_pipeline.defs.wave_sensor import wave_sensor
from nsimport_pipeline.record_types.criteria import Catalog
from nsimport_pipeline.record_types.graph import levels
from nsimport_pipeline.settings import Settings


def build_definitions(only: Collection[str] | None = None) -> dg.Definitions:
    """The definitions of every tenant; for a run, with the assets of ``only`` some and what runs are asked for.

    Raises ConfigurationError.
    """
    settings, catalog = resources.settings(), resources.catalog()
    assets: list[dg.AssetsDefinition | dg.AssetSpec] = []
    steering, planning = steering_jobs(), planning_job()
    for tenant in settings.tenant_names:
        if only is None or tenant in only:
            policies = freshness(settings, catalog, tenant)
            assets += tenant_assets(settings, catalog, tenant, policies)
            assets.append(overview_spec(tenant, policies.get(names.OVERVIEW)))
    # One process for each run: its worker threads do the rest.
    executed = dg.Definitions(assets=assets, jobs=[*steering, planning], executor=dg.in_process_executor)
    if only is not None:
        return executed
    sensors = [wave_sensor(), planning_sensor(planning), overview_sensor(), alert_sensor(), behind_sensor(steering)]
    schedules = [schedule for tenant in settings.tenant_names for schedule in tenant_schedules(settings, tenant)]
    return dg.Definitions.merge(executed, dg.Definitions(sensors=sensors, schedules=schedules))


def tenant_assets(
    settings: Settings, catalog: Catalog, tenant: str, policies: Mapping[str, dg.FreshnessPolicy] = MappingProxyType({})
) -> list[dg.AssetsDefinition]:
    """The assets of a tenant's record types; ``policies`` by record type."""
    level_of = levels(catalog)
    wave_size = int(settings.number(tenant, "wave_size", 300))
    warehouse = settings.warehouse_location(tenant)
    return [
        record_type_asset(
            tenant,
            record_type,
            level=level_of[name],
            batches_per_run=wave_size,
            warehouse=warehouse,
            freshness=policies.get(name),
        )
        for name, record_type in catalog.items()
    ]
