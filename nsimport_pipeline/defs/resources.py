"""What a process opens once: the catalogue, the settings, each tenant's database.

Belongs here: building and keeping those. Does not belong here: using them.
"""

from functools import lru_cache

from sqlalchemy import Engine

from nsimport_pipeline.errors import ConfigurationError
from nsimport_pipeline.imports.derived import narrowed
from nsimport_pipeline.imports.records import TypePlan
from nsimport_pipeline.netsuite.suiteql import changed_within
from nsimport_pipeline.record_types.criteria import Catalog, RecordType, load_catalog
from nsimport_pipeline.settings import Environment, Settings, Tenant
from nsimport_pipeline.warehouse.engine import make_engine

SPARE_CONNECTIONS = 3
"""Connections beyond one for each slot: for the run's own bookkeeping."""


@lru_cache(maxsize=1)
def catalog() -> Catalog:
    """The record types of this process: the built-in ones and those of ``NSIMPORT_CRITERIA_PATH``."""
    return load_catalog(Environment().criteria_path)


def record_type(tenant: Tenant, name: str) -> RecordType:
    """A record type as this tenant wants it. Raises ConfigurationError for an unknown one."""
    options = tenant.options(name)
    try:
        return catalog().require(name).adapted(options.extra_fields, options.exclude_fields, options.deletes)
    except ValueError:
        raise ConfigurationError(
            f"tenant {tenant.name!r}: record_types.{name}.extra_fields: a NetSuite column is a letter, then letters, "
            "digits and _"
        ) from None


def of_parents(tenant: Tenant, derived: RecordType, plan: TypePlan) -> tuple[RecordType, list[RecordType]]:
    """A derived record type narrowed to the parents it was planned from, and those; any other as it is.

    Never narrowed to changes: for that there is ``of_plan``.
    """
    highest = plan.parents or {}
    parents = [record_type(tenant, name) for name in derived.derived_from if name in highest]
    return (narrowed(derived, parents, highest) if derived.derived_from else derived), parents


def of_plan(tenant: Tenant, name: str, plan: TypePlan) -> tuple[RecordType, list[RecordType]]:
    """A record type as an import asks for it: of its parents, if it is derived, and its changes, if only of these."""
    known, parents = of_parents(tenant, record_type(tenant, name), plan)
    if plan.changed_since is not None and plan.changed_until is not None:
        known = changed_within(known, plan.changed_since, plan.changed_until, parents)
    return known, parents


def settings() -> Settings:
    """The tenants file as it is now."""
    return Settings.load()


def warehouse(tenant: Tenant) -> Engine:
    """The engine of a tenant's database, one for each URL and process."""
    return _engine(tenant.warehouse_url.get_secret_value(), tenant.slots + SPARE_CONNECTIONS)


@lru_cache(maxsize=512)
def _engine(url: str, pool_size: int) -> Engine:
    return make_engine(url, pool_size=pool_size)
