"""The control tables: what each import plans, did and still has to do, beside the imported tables.

Belongs here: the tables' shape. Does not belong here: statements over them (``imports/store/``) and their
migrations (``migrations/``, which must end at exactly this shape; a test compares the two).
Times are UTC. Counters of waves are not stored: they are counted from ``wave_batches``, so they cannot drift.
"""

from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Double,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)
from sqlalchemy.dialects import mysql
from sqlalchemy.types import DateTime, TypeEngine

control = MetaData()

_Timestamp = DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")
_Long: TypeEngine[str] = Text().with_variant(mysql.LONGTEXT(), "mysql", "mariadb")
# SQLite numbers rows by itself only in a column that is INTEGER to the letter.
_Serial = BigInteger().with_variant(Integer(), "sqlite")

_OPTIONS: dict[str, Any] = {
    "mysql_charset": "utf8mb4",
    "mysql_engine": "InnoDB",
    "mariadb_charset": "utf8mb4",
    "mariadb_engine": "InnoDB",
}

import_jobs = Table(
    "import_jobs",
    control,
    Column("import_id", String(64), primary_key=True),
    Column("tenant", String(32), nullable=False),
    Column("mode", String(16), nullable=False),
    Column("origin", String(16), nullable=False),
    Column("state", String(32), nullable=False),
    Column("requested", JSON, nullable=False),
    Column("wave_size", Integer, nullable=False),
    Column("completion_threshold", Double, nullable=False),
    Column("retry_attempts", Integer, nullable=False),
    Column("continue_on_permanent", Boolean, nullable=False),
    Column("created_at", _Timestamp, nullable=False),
    Column("started_at", _Timestamp),
    Column("finished_at", _Timestamp),
    Column("failure_reason", Text),
    Index("ix_import_jobs_state", "state"),
    **_OPTIONS,
)

import_record_types = Table(
    "import_record_types",
    control,
    Column("import_id", String(64), primary_key=True),
    Column("record_type", String(64), primary_key=True),
    Column("dependency_level", Integer, nullable=False),
    Column("expected", BigInteger, nullable=False),
    Column("upper_bound", BigInteger),
    Column("unavailable", Text),
    Column("denied", Boolean, nullable=False, server_default="0"),
    Column("planned", Boolean, nullable=False),
    Column("parents", JSON),
    # Of changes only: those from then on. Any: the watermark that the import leaves.
    Column("changed_since", _Timestamp),
    Column("changed_until", _Timestamp),
    # Rows marked deleted beside the batches.
    Column("deleted", BigInteger, nullable=False, server_default="0"),
    Column("planning_number", Integer, nullable=False),
    Column("planning_attempts", Integer, nullable=False),
    Column("planning_not_before", _Timestamp),
    Column("planning_failure", Text),
    Column("source_count", BigInteger),
    Column("table_count", BigInteger),
    Column("in_sync", Boolean),
    Column("checks", JSON),
    Column("checked_at", _Timestamp),
    **_OPTIONS,
)

wave_coordination = Table(
    "wave_coordination",
    control,
    Column("id", _Serial, primary_key=True, autoincrement=True),
    Column("import_id", String(64), nullable=False),
    Column("wave_number", Integer, nullable=False),
    Column("dependency_level", Integer, nullable=False),
    Column("status", String(16), nullable=False),
    Column("retried_batches", Integer, nullable=False, server_default="0"),
    Column("dispatched_at", _Timestamp),
    Column("completed_at", _Timestamp),
    Column("failure_reason", Text),
    UniqueConstraint("import_id", "wave_number", name="uq_wave_coordination_wave"),
    **_OPTIONS,
)

wave_batches = Table(
    "wave_batches",
    control,
    Column("id", _Serial, primary_key=True, autoincrement=True),
    Column("import_id", String(64), nullable=False),
    Column("batch_id", String(96), nullable=False),
    Column("wave_number", Integer, nullable=False),
    Column("run_number", Integer),
    Column("dependency_level", Integer, nullable=False),
    Column("record_type", String(64), nullable=False),
    Column("batch_number", Integer, nullable=False),
    Column("partition_key", String(64), nullable=False),
    Column("low_key", BigInteger, nullable=False),
    Column("high_key", BigInteger),
    Column("expected", Integer, nullable=False),
    Column("status", String(16), nullable=False),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("not_before", _Timestamp),
    Column("run_id", String(64)),
    Column("failure_category", String(32)),
    Column("failure_reason", Text),
    Column("dispatched_at", _Timestamp),
    Column("started_at", _Timestamp),
    Column("finished_at", _Timestamp),
    Column("rows_read", Integer, nullable=False, server_default="0"),
    Column("rows_upserted", Integer, nullable=False, server_default="0"),
    Column("rows_rejected", Integer, nullable=False, server_default="0"),
    Column("rows_deleted", Integer, nullable=False, server_default="0"),
    # Of an incremental import: rows changed by partition.
    Column("touched", JSON(none_as_null=True)),
    Column("requests", Integer, nullable=False, server_default="0"),
    Column("retries", Integer, nullable=False, server_default="0"),
    Column("statements", Integer, nullable=False, server_default="0"),
    Column("slot_wait_seconds", Double, nullable=False, server_default="0"),
    Column("fetch_seconds", Double, nullable=False, server_default="0"),
    Column("transform_seconds", Double, nullable=False, server_default="0"),
    Column("write_seconds", Double, nullable=False, server_default="0"),
    UniqueConstraint("import_id", "batch_id", name="uq_wave_batches_batch"),
    Index("ix_wave_batches_wave", "import_id", "wave_number", "status"),
    Index("ix_wave_batches_type", "import_id", "record_type", "batch_number"),
    **_OPTIONS,
)

partition_ranges = Table(
    "partition_ranges",
    control,
    Column("record_type", String(64), primary_key=True),
    Column("batch_number", Integer, primary_key=True, autoincrement=False),
    Column("partition_key", String(64), nullable=False),
    Column("low_key", BigInteger, nullable=False),
    Column("high_key", BigInteger, nullable=False),
    Column("expected", Integer, nullable=False),
    Column("import_id", String(64), nullable=False),
    **_OPTIONS,
)

job_events = Table(
    "job_events",
    control,
    Column("id", _Serial, primary_key=True, autoincrement=True),
    Column("import_id", String(64), nullable=False),
    Column("at", _Timestamp, nullable=False),
    Column("event", String(48), nullable=False),
    Column("wave_number", Integer),
    Column("record_type", String(64)),
    Column("partition_key", String(64)),
    Column("run_id", String(64)),
    Column("message", Text),
    Index("ix_job_events_import", "import_id", "id"),
    **_OPTIONS,
)

import_errors = Table(
    "import_errors",
    control,
    Column("id", _Serial, primary_key=True, autoincrement=True),
    Column("import_id", String(64), nullable=False),
    Column("at", _Timestamp, nullable=False),
    Column("category", String(32), nullable=False),
    Column("record_type", String(64)),
    Column("partition_key", String(64)),
    Column("table_name", String(64)),
    Column("column_name", String(64)),
    Column("constraint_name", String(64)),
    Column("attempt", Integer, nullable=False, server_default="0"),
    Column("occurrences", Integer, nullable=False, server_default="1"),
    Column("final", Boolean, nullable=False),
    Column("fingerprint", String(16), nullable=False),
    Column("message", Text, nullable=False),
    Index("ix_import_errors_import", "import_id", "category"),
    **_OPTIONS,
)

rejected_records = Table(
    "rejected_records",
    control,
    Column("id", _Serial, primary_key=True, autoincrement=True),
    Column("import_id", String(64), nullable=False),
    Column("record_type", String(64), nullable=False),
    Column("partition_key", String(64), nullable=False),
    Column("refid", BigInteger),
    Column("column_name", String(128)),
    Column("constraint_name", String(64)),
    Column("fingerprint", String(16), nullable=False),
    Column("reason", Text, nullable=False),
    Column("raw", _Long, nullable=False),
    Column("rejected_at", _Timestamp, nullable=False),
    Index("ix_rejected_records_batch", "import_id", "record_type", "partition_key"),
    **_OPTIONS,
)

account_record_types = Table(
    "account_record_types",
    control,
    Column("record_type", String(64), primary_key=True),
    Column("state", String(16), nullable=False),
    Column("reason", Text),
    Column("probed_for", String(32)),
    Column("checked_at", _Timestamp, nullable=False),
    **_OPTIONS,
)

account_columns = Table(
    "account_columns",
    control,
    Column("record_type", String(64), primary_key=True),
    Column("column_name", String(128), primary_key=True),
    Column("category", String(32), nullable=False),
    Column("reason", Text, nullable=False),
    Column("checked_at", _Timestamp, nullable=False),
    **_OPTIONS,
)

account_sizes = Table(
    "account_sizes",
    control,
    Column("record_type", String(64), primary_key=True),
    Column("rows_at_once", Integer, nullable=False),
    Column("columns_at_once", Integer, nullable=False),
    Column("patience", Integer, nullable=False),
    Column("grown", Boolean, nullable=False),
    Column("reason", Text, nullable=False),
    Column("changed_at", _Timestamp, nullable=False),
    **_OPTIONS,
)

netsuite_circuits = Table(
    "netsuite_circuits",
    control,
    Column("tenant", String(32), primary_key=True),
    Column("state", String(16), nullable=False),
    Column("failures", Integer, nullable=False),
    Column("probes", Integer, nullable=False),
    Column("opened_at", _Timestamp),
    Column("next_probe_at", _Timestamp),
    Column("changed_at", _Timestamp),
    **_OPTIONS,
)

sync_watermarks = Table(
    "sync_watermarks",
    control,
    Column("record_type", String(64), primary_key=True),
    Column("modified_at", _Timestamp, nullable=False),
    Column("refid", BigInteger, nullable=False),
    Column("import_id", String(64), nullable=False),
    Column("updated_at", _Timestamp, nullable=False),
    **_OPTIONS,
)

# The last sweep of each record type for what NetSuite has deleted.
sweeps = Table(
    "sweeps",
    control,
    Column("record_type", String(64), primary_key=True),
    Column("started_at", _Timestamp, nullable=False),
    Column("finished_at", _Timestamp),
    Column("requests", Integer, nullable=False, server_default="0"),
    Column("compared", BigInteger, nullable=False, server_default="0"),
    Column("deleted", BigInteger, nullable=False, server_default="0"),
    Column("missing", BigInteger, nullable=False, server_default="0"),
    # Of those missing: no import of changes would fetch them.
    Column("drifted", BigInteger, nullable=False, server_default="0"),
    Column("failure", Text),
    **_OPTIONS,
)

feature_flags = Table(
    "feature_flags",
    control,
    Column("name", String(64), primary_key=True),
    # Both may be anything, as people write here by hand: what is unclear means off.
    Column("enabled", Integer),
    Column("tenant_ids", Text),
    Column("created_at", _Timestamp),
    Column("updated_at", _Timestamp),
    **_OPTIONS,
)

alerts = Table(
    "alerts",
    control,
    Column("tenant", String(32), primary_key=True),
    Column("rule", String(32), primary_key=True),
    Column("subject", String(160), primary_key=True),
    Column("state", String(16), nullable=False),
    Column("severity", String(16), nullable=False),
    Column("import_id", String(64)),
    Column("record_type", String(64)),
    Column("message", Text, nullable=False),
    Column("command", String(255), nullable=False),
    Column("first_at", _Timestamp, nullable=False),
    Column("last_at", _Timestamp, nullable=False),
    Column("resolved_at", _Timestamp),
    Index("ix_alerts_import", "import_id"),
    **_OPTIONS,
)

alert_notices = Table(
    "alert_notices",
    control,
    Column("tenant", String(32), primary_key=True),
    Column("rule", String(32), primary_key=True),
    Column("subject", String(160), primary_key=True),
    Column("destination", String(32), primary_key=True),
    # The state of the alert that the destination was last told of, and when.
    Column("told", String(16)),
    Column("told_at", _Timestamp),
    # Until then nobody (else) tries: it is being sent, or has failed.
    Column("held_until", _Timestamp),
    Column("failures", Integer, nullable=False, server_default="0"),
    Column("import_id", String(64)),
    Index("ix_alert_notices_import", "import_id"),
    **_OPTIONS,
)
