"""The control tables."""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_TIMESTAMP = sa.DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")
_LONG = sa.Text().with_variant(mysql.LONGTEXT(), "mysql", "mariadb")
_SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_OPTIONS: dict[str, Any] = {
    "mysql_charset": "utf8mb4",
    "mysql_engine": "InnoDB",
    "mariadb_charset": "utf8mb4",
    "mariadb_engine": "InnoDB",
    # A migration that was killed half-way is simply run again.
    "if_not_exists": True,
}


def _index(name: str, table: str, columns: list[str]) -> None:
    # MySQL has no CREATE INDEX IF NOT EXISTS.
    if name not in {index["name"] for index in sa.inspect(op.get_bind()).get_indexes(table)}:
        op.create_index(name, table, columns)


def upgrade() -> None:
    op.create_table(
        "feature_flags",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("enabled", sa.Integer(), nullable=True),
        sa.Column("tenant_ids", sa.Text(), nullable=True),
        sa.Column("created_at", _TIMESTAMP, nullable=True),
        sa.Column("updated_at", _TIMESTAMP, nullable=True),
        sa.PrimaryKeyConstraint("name"),
        **_OPTIONS,
    )
    op.create_table(
        "account_columns",
        sa.Column("record_type", sa.String(length=64), nullable=False),
        sa.Column("column_name", sa.String(length=128), nullable=False),
        sa.Column("category", sa.String(length=32), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("checked_at", _TIMESTAMP, nullable=False),
        sa.PrimaryKeyConstraint("record_type", "column_name"),
        **_OPTIONS,
    )
    op.create_table(
        "account_sizes",
        sa.Column("record_type", sa.String(length=64), nullable=False),
        sa.Column("rows_at_once", sa.Integer(), nullable=False),
        sa.Column("columns_at_once", sa.Integer(), nullable=False),
        sa.Column("patience", sa.Integer(), nullable=False),
        sa.Column("grown", sa.Boolean(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("changed_at", _TIMESTAMP, nullable=False),
        sa.PrimaryKeyConstraint("record_type"),
        **_OPTIONS,
    )
    op.create_table(
        "account_record_types",
        sa.Column("record_type", sa.String(length=64), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("probed_for", sa.String(length=32), nullable=True),
        sa.Column("checked_at", _TIMESTAMP, nullable=False),
        sa.PrimaryKeyConstraint("record_type"),
        **_OPTIONS,
    )
    op.create_table(
        "import_errors",
        sa.Column("id", _SERIAL, autoincrement=True, nullable=False),
        sa.Column("import_id", sa.String(length=64), nullable=False),
        sa.Column("at", _TIMESTAMP, nullable=False),
        sa.Column("category", sa.String(length=32), nullable=False),
        sa.Column("record_type", sa.String(length=64), nullable=True),
        sa.Column("partition_key", sa.String(length=64), nullable=True),
        sa.Column("table_name", sa.String(length=64), nullable=True),
        sa.Column("column_name", sa.String(length=64), nullable=True),
        sa.Column("constraint_name", sa.String(length=64), nullable=True),
        sa.Column("attempt", sa.Integer(), server_default="0", nullable=False),
        sa.Column("occurrences", sa.Integer(), server_default="1", nullable=False),
        sa.Column("final", sa.Boolean(), nullable=False),
        sa.Column("fingerprint", sa.String(length=16), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        **_OPTIONS,
    )
    _index("ix_import_errors_import", "import_errors", ["import_id", "category"])
    op.create_table(
        "import_jobs",
        sa.Column("import_id", sa.String(length=64), nullable=False),
        sa.Column("tenant", sa.String(length=32), nullable=False),
        sa.Column("mode", sa.String(length=16), nullable=False),
        sa.Column("origin", sa.String(length=16), nullable=False),
        sa.Column("state", sa.String(length=32), nullable=False),
        sa.Column("requested", sa.JSON(), nullable=False),
        sa.Column("wave_size", sa.Integer(), nullable=False),
        sa.Column("completion_threshold", sa.Double(), nullable=False),
        sa.Column("retry_attempts", sa.Integer(), nullable=False),
        sa.Column("continue_on_permanent", sa.Boolean(), nullable=False),
        sa.Column("created_at", _TIMESTAMP, nullable=False),
        sa.Column("started_at", _TIMESTAMP, nullable=True),
        sa.Column("finished_at", _TIMESTAMP, nullable=True),
        sa.Column("failure_reason", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("import_id"),
        **_OPTIONS,
    )
    _index("ix_import_jobs_state", "import_jobs", ["state"])
    op.create_table(
        "import_record_types",
        sa.Column("import_id", sa.String(length=64), nullable=False),
        sa.Column("record_type", sa.String(length=64), nullable=False),
        sa.Column("dependency_level", sa.Integer(), nullable=False),
        sa.Column("expected", sa.BigInteger(), nullable=False),
        sa.Column("upper_bound", sa.BigInteger(), nullable=True),
        sa.Column("unavailable", sa.Text(), nullable=True),
        sa.Column("denied", sa.Boolean(), server_default="0", nullable=False),
        sa.Column("planned", sa.Boolean(), nullable=False),
        sa.Column("parents", sa.JSON(), nullable=True),
        sa.Column("changed_since", _TIMESTAMP, nullable=True),
        sa.Column("changed_until", _TIMESTAMP, nullable=True),
        sa.Column("deleted", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("planning_number", sa.Integer(), nullable=False),
        sa.Column("planning_attempts", sa.Integer(), nullable=False),
        sa.Column("planning_not_before", _TIMESTAMP, nullable=True),
        sa.Column("planning_failure", sa.Text(), nullable=True),
        sa.Column("source_count", sa.BigInteger(), nullable=True),
        sa.Column("table_count", sa.BigInteger(), nullable=True),
        sa.Column("in_sync", sa.Boolean(), nullable=True),
        sa.Column("checks", sa.JSON(), nullable=True),
        sa.Column("checked_at", _TIMESTAMP, nullable=True),
        sa.PrimaryKeyConstraint("import_id", "record_type"),
        **_OPTIONS,
    )
    op.create_table(
        "job_events",
        sa.Column("id", _SERIAL, autoincrement=True, nullable=False),
        sa.Column("import_id", sa.String(length=64), nullable=False),
        sa.Column("at", _TIMESTAMP, nullable=False),
        sa.Column("event", sa.String(length=48), nullable=False),
        sa.Column("wave_number", sa.Integer(), nullable=True),
        sa.Column("record_type", sa.String(length=64), nullable=True),
        sa.Column("partition_key", sa.String(length=64), nullable=True),
        sa.Column("run_id", sa.String(length=64), nullable=True),
        sa.Column("message", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        **_OPTIONS,
    )
    _index("ix_job_events_import", "job_events", ["import_id", "id"])
    op.create_table(
        "netsuite_circuits",
        sa.Column("tenant", sa.String(length=32), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("probes", sa.Integer(), nullable=False),
        sa.Column("opened_at", _TIMESTAMP, nullable=True),
        sa.Column("next_probe_at", _TIMESTAMP, nullable=True),
        sa.Column("changed_at", _TIMESTAMP, nullable=True),
        sa.PrimaryKeyConstraint("tenant"),
        **_OPTIONS,
    )
    op.create_table(
        "partition_ranges",
        sa.Column("record_type", sa.String(length=64), nullable=False),
        sa.Column("batch_number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("partition_key", sa.String(length=64), nullable=False),
        sa.Column("low_key", sa.BigInteger(), nullable=False),
        sa.Column("high_key", sa.BigInteger(), nullable=False),
        sa.Column("expected", sa.Integer(), nullable=False),
        sa.Column("import_id", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("record_type", "batch_number"),
        **_OPTIONS,
    )
    op.create_table(
        "rejected_records",
        sa.Column("id", _SERIAL, autoincrement=True, nullable=False),
        sa.Column("import_id", sa.String(length=64), nullable=False),
        sa.Column("record_type", sa.String(length=64), nullable=False),
        sa.Column("partition_key", sa.String(length=64), nullable=False),
        sa.Column("refid", sa.BigInteger(), nullable=True),
        sa.Column("column_name", sa.String(length=128), nullable=True),
        sa.Column("constraint_name", sa.String(length=64), nullable=True),
        sa.Column("fingerprint", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("raw", _LONG, nullable=False),
        sa.Column("rejected_at", _TIMESTAMP, nullable=False),
        sa.PrimaryKeyConstraint("id"),
        **_OPTIONS,
    )
    _index("ix_rejected_records_batch", "rejected_records", ["import_id", "record_type", "partition_key"])
    op.create_table(
        "sync_watermarks",
        sa.Column("record_type", sa.String(length=64), nullable=False),
        sa.Column("modified_at", _TIMESTAMP, nullable=False),
        sa.Column("refid", sa.BigInteger(), nullable=False),
        sa.Column("import_id", sa.String(length=64), nullable=False),
        sa.Column("updated_at", _TIMESTAMP, nullable=False),
        sa.PrimaryKeyConstraint("record_type"),
        **_OPTIONS,
    )
    op.create_table(
        "wave_batches",
        sa.Column("id", _SERIAL, autoincrement=True, nullable=False),
        sa.Column("import_id", sa.String(length=64), nullable=False),
        sa.Column("batch_id", sa.String(length=96), nullable=False),
        sa.Column("wave_number", sa.Integer(), nullable=False),
        sa.Column("run_number", sa.Integer(), nullable=True),
        sa.Column("dependency_level", sa.Integer(), nullable=False),
        sa.Column("record_type", sa.String(length=64), nullable=False),
        sa.Column("batch_number", sa.Integer(), nullable=False),
        sa.Column("partition_key", sa.String(length=64), nullable=False),
        sa.Column("low_key", sa.BigInteger(), nullable=False),
        sa.Column("high_key", sa.BigInteger(), nullable=True),
        sa.Column("expected", sa.Integer(), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("not_before", _TIMESTAMP, nullable=True),
        sa.Column("run_id", sa.String(length=64), nullable=True),
        sa.Column("failure_category", sa.String(length=32), nullable=True),
        sa.Column("failure_reason", sa.Text(), nullable=True),
        sa.Column("dispatched_at", _TIMESTAMP, nullable=True),
        sa.Column("started_at", _TIMESTAMP, nullable=True),
        sa.Column("finished_at", _TIMESTAMP, nullable=True),
        sa.Column("rows_read", sa.Integer(), server_default="0", nullable=False),
        sa.Column("rows_upserted", sa.Integer(), server_default="0", nullable=False),
        sa.Column("rows_rejected", sa.Integer(), server_default="0", nullable=False),
        sa.Column("rows_deleted", sa.Integer(), server_default="0", nullable=False),
        sa.Column("touched", sa.JSON(), nullable=True),
        sa.Column("requests", sa.Integer(), server_default="0", nullable=False),
        sa.Column("retries", sa.Integer(), server_default="0", nullable=False),
        sa.Column("statements", sa.Integer(), server_default="0", nullable=False),
        sa.Column("slot_wait_seconds", sa.Double(), server_default="0", nullable=False),
        sa.Column("fetch_seconds", sa.Double(), server_default="0", nullable=False),
        sa.Column("transform_seconds", sa.Double(), server_default="0", nullable=False),
        sa.Column("write_seconds", sa.Double(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("import_id", "batch_id", name="uq_wave_batches_batch"),
        **_OPTIONS,
    )
    _index("ix_wave_batches_type", "wave_batches", ["import_id", "record_type", "batch_number"])
    _index("ix_wave_batches_wave", "wave_batches", ["import_id", "wave_number", "status"])
    op.create_table(
        "wave_coordination",
        sa.Column("id", _SERIAL, autoincrement=True, nullable=False),
        sa.Column("import_id", sa.String(length=64), nullable=False),
        sa.Column("wave_number", sa.Integer(), nullable=False),
        sa.Column("dependency_level", sa.Integer(), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("retried_batches", sa.Integer(), server_default="0", nullable=False),
        sa.Column("dispatched_at", _TIMESTAMP, nullable=True),
        sa.Column("completed_at", _TIMESTAMP, nullable=True),
        sa.Column("failure_reason", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("import_id", "wave_number", name="uq_wave_coordination_wave"),
        **_OPTIONS,
    )
    op.create_table(
        "alerts",
        sa.Column("tenant", sa.String(length=32), nullable=False),
        sa.Column("rule", sa.String(length=32), nullable=False),
        sa.Column("subject", sa.String(length=160), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("severity", sa.String(length=16), nullable=False),
        sa.Column("import_id", sa.String(length=64), nullable=True),
        sa.Column("record_type", sa.String(length=64), nullable=True),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("command", sa.String(length=255), nullable=False),
        sa.Column("first_at", _TIMESTAMP, nullable=False),
        sa.Column("last_at", _TIMESTAMP, nullable=False),
        sa.Column("resolved_at", _TIMESTAMP, nullable=True),
        sa.PrimaryKeyConstraint("tenant", "rule", "subject"),
        **_OPTIONS,
    )
    _index("ix_alerts_import", "alerts", ["import_id"])
    op.create_table(
        "alert_notices",
        sa.Column("tenant", sa.String(length=32), nullable=False),
        sa.Column("rule", sa.String(length=32), nullable=False),
        sa.Column("subject", sa.String(length=160), nullable=False),
        sa.Column("destination", sa.String(length=32), nullable=False),
        sa.Column("told", sa.String(length=16), nullable=True),
        sa.Column("told_at", _TIMESTAMP, nullable=True),
        sa.Column("held_until", _TIMESTAMP, nullable=True),
        sa.Column("failures", sa.Integer(), server_default="0", nullable=False),
        sa.Column("import_id", sa.String(length=64), nullable=True),
        sa.PrimaryKeyConstraint("tenant", "rule", "subject", "destination"),
        **_OPTIONS,
    )
    _index("ix_alert_notices_import", "alert_notices", ["import_id"])

    op.create_table(
        "sweeps",
        sa.Column("record_type", sa.String(length=64), nullable=False),
        sa.Column("started_at", _TIMESTAMP, nullable=False),
        sa.Column("finished_at", _TIMESTAMP, nullable=True),
        sa.Column("requests", sa.Integer(), server_default="0", nullable=False),
        sa.Column("compared", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("deleted", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("missing", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("drifted", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("failure", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("record_type"),
        **_OPTIONS,
    )


def downgrade() -> None:
    for table in (
        "sweeps",
        "alert_notices",
        "alerts",
        "wave_coordination",
        "wave_batches",
        "sync_watermarks",
        "rejected_records",
        "netsuite_circuits",
        "partition_ranges",
        "job_events",
        "import_record_types",
        "import_jobs",
        "import_errors",
        "account_sizes",
        "account_record_types",
        "account_columns",
        "feature_flags",
    ):
        op.drop_table(table, if_exists=True)
