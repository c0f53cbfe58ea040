"""One asset for each tenant and record type, all made by one factory from the criteria.

Belongs here: asset specs and definitions. Does not belong here: what a run does (``run_body.py``).
"""

from collections.abc import Iterator, Mapping
from functools import cache

import dagster as dg

from nsimport_pipeline.defs.checks import check_specs
from nsimport_pipeline.defs.names import asset_key, partition_set
from nsimport_pipeline.defs.run_body import StepEvent, materialize
from nsimport_pipeline.record_types.criteria import FieldSpec, RecordType
from nsimport_pipeline.settings import pool_name

OWNER = "team:data-platform"
_SYSTEM_COLUMNS = (
    dg.TableColumn(
        "refid", "bigint", "NetSuite's internal id.", constraints=dg.TableColumnConstraints(nullable=False, unique=True)
    ),
    dg.TableColumn("external_id", "string", "Id given by another system."),
    dg.TableColumn("raw", "json", "The row as NetSuite sent it."),
    dg.TableColumn("imported_at", "datetime", "When the row was last written, in UTC."),
    dg.TableColumn("import_id", "string", "Import that wrote it last."),
    dg.TableColumn("deleted_at", "datetime", "When it was found missing in NetSuite, in UTC."),
)


def record_type_asset(
    tenant: str,
    record_type: RecordType,
    *,
    level: int,
    batches_per_run: int,
    warehouse: str,
    freshness: dg.FreshnessPolicy | None = None,
) -> dg.AssetsDefinition:
    """The asset of one record type of one tenant.

    ``batches_per_run``: most partitions a backfill puts into one run. ``warehouse``: where the table
    is, without secrets.
    """
    spec = record_type_spec(tenant, record_type, level=level, warehouse=warehouse, freshness=freshness)

    @dg.multi_asset(
        specs=[spec],
        name=f"{tenant}__{record_type.name}",
        pool=pool_name(tenant),
        # Makes the checks optional: only the run that settles a record type's last batch takes them.
        can_subset=True,
        backfill_policy=dg.BackfillPolicy.multi_run(max_partitions_per_run=batches_per_run),
        check_specs=check_specs(record_type, spec.key),
    )
    def asset(context: dg.AssetExecutionContext) -> Iterator[StepEvent]:
        yield from materialize(context, tenant, record_type.name)

    return asset


def record_type_spec(
    tenant: str, record_type: RecordType, *, level: int, warehouse: str, freshness: dg.FreshnessPolicy | None = None
) -> dg.AssetSpec:
    """What the catalogue says about a record type, in Dagster's words."""
    return dg.AssetSpec(
        key=asset_key(tenant, record_type.name),
        # Offsets of two record types have nothing to do with each other: each needs the whole of the other.
        deps=[
            dg.AssetDep(asset_key(tenant, name), partition_mapping=dg.AllPartitionMapping())
            for name in record_type.upstream
        ],
        description=record_type.description,
        group_name=record_type.family,
        kinds={"netsuite", warehouse.partition(":")[0]},
        owners=[OWNER],
        tags={"nsimport/tenant": tenant, "nsimport/level": str(level)},
        code_version=record_type.version,
        partitions_def=dg.DynamicPartitionsDefinition(name=partition_set(tenant, record_type.name)),
        # A run with failed batches yields nothing for the asset as a whole.
        skippable=True,
        freshness_policy=freshness,
        metadata=_metadata(record_type, warehouse),
    )


def _metadata(record_type: RecordType, warehouse: str) -> Mapping[str, object]:
    return {
        "dagster/column_schema": _schema(record_type),
        "dagster/table_name": record_type.table,
        "dagster/uri": f"{warehouse}/{record_type.table}",
        "netsuite_table": record_type.source.from_,
    }


@cache
def _schema(record_type: RecordType) -> dg.TableSchema:
    """One for all tenants: each of hundreds would hold and describe the same columns again."""
    columns = list(_SYSTEM_COLUMNS[:2])
    for field in record_type.fields:
        columns.append(_column(field))
        if field.display_column:
            columns.append(dg.TableColumn(field.display_column, "string", f"Display text of {field.name}."))
    return dg.TableSchema(columns=[*columns, *_SYSTEM_COLUMNS[2:]])


def _column(field: FieldSpec) -> dg.TableColumn:
    kind = {"string": f"string({field.length})", "decimal": f"decimal({field.precision},{field.scale})"}
    return dg.TableColumn(
        field.name,
        kind.get(field.type, field.type),
        field.description,
        constraints=dg.TableColumnConstraints(
            nullable=field.nullable, other=[f"references {field.references}"] if field.references else []
        ),
    )
