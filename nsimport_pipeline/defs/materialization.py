"""The materialization of a partition: what Dagster shows of a batch that was committed.

Belongs here: its metadata. Does not belong here: when it is reported (``run_body.py``, ``reconcile.py``).
"""

from collections.abc import Sequence
from typing import Any

import dagster as dg

from nsimport_pipeline.defs import names
from nsimport_pipeline.imports.records import Batch, BatchStats


def batch_materializations(
    key: dg.AssetKey, import_id: str, batch: Batch, stats: BatchStats, partial_parents: Sequence[str]
) -> list[dg.AssetMaterialization]:
    """What a committed batch read, wrote and took, and which of its record type's parents are not there in full.

    One for its partition; of a batch of changes, which may span many, one for each in which rows changed.
    """
    seconds = stats.fetch_seconds + stats.transform_seconds + stats.write_seconds
    metadata: dict[str, Any] = {
        "rows_read": stats.rows_read,
        "rows_upserted": stats.rows_upserted,
        "rows_rejected": stats.rows_rejected,
        "rows_deleted": stats.rows_deleted,
        "rows_per_second": round(stats.rows_read / seconds, 1) if seconds else 0.0,
        "requests": stats.requests,
        "retries": stats.retries,
        "slot_wait_seconds": round(stats.slot_wait_seconds, 4),
        "fetch_seconds": round(stats.fetch_seconds, 4),
        "transform_seconds": round(stats.transform_seconds, 4),
        "write_seconds": round(stats.write_seconds, 4),
        "netsuite_key_low": batch.range.low,
        "netsuite_key_high": batch.range.high,
        "import": import_id,
        "runs_of_import": names.runs_of(import_id),
        "wave": batch.wave,
        **({"partial_parents": ", ".join(partial_parents)} if partial_parents else {}),
    }
    if stats.touched is None:
        own = {batch.range.partition_key: {"dagster/partition_row_count": stats.rows_upserted}}
    else:
        own = {partition: {"rows_changed": rows} for partition, rows in stats.touched.items()}
    return [
        dg.AssetMaterialization(asset_key=key, partition=partition, metadata=more | metadata)
        for partition, more in own.items()
    ]
