"""Every SQL statement over the control tables.

Belongs here: reading and writing the control tables, transitions as compare-and-set, rows to plain values; one module
for each matter, all of them used through this package. Does not belong here: deciding anything, or the imported tables
(``warehouse/``).

Functions take an open connection, so the caller chooses the transaction: a batch's rows and its state are committed
together. A transition returns how many rows took it; a row that is not in a state it may leave stays as it is.
"""

from nsimport_pipeline.imports.store.account import account_types, keep_account_types, leave_out, left_out
from nsimport_pipeline.imports.store.batch_steps import (
    batch_stats,
    batches,
    batches_of,
    cancel_batches,
    claim_batch,
    complete_batch,
    count_again,
    fail_batch,
    latest_settled,
    release_batch,
    reopen_batches,
    stats_if_completed_by,
    take_back_batches,
    unfinished_batches,
    unfinished_below,
)
from nsimport_pipeline.imports.store.circuits import circuit_of, set_circuit
from nsimport_pipeline.imports.store.facts import (
    connection_use,
    control_bytes,
    events,
    has_event,
    import_facts,
    import_marks,
    last_sign_of_life,
)
from nsimport_pipeline.imports.store.flags import find_flag, put_flag
from nsimport_pipeline.imports.store.jobs import (
    delete_import,
    find_job,
    finished_imports,
    forget_failure,
    insert_job,
    jobs_since,
    latest_import_of,
    latest_jobs,
    move_import,
    open_import_of,
    open_jobs,
)
from nsimport_pipeline.imports.store.journal import (
    error_counts,
    error_groups,
    record_error,
    record_event,
    rejected_groups,
    rejected_of,
    rejected_without_row,
    replace_rejected,
)
from nsimport_pipeline.imports.store.plans import (
    forget_checks,
    insert_type_plans,
    insert_waves,
    pin_ranges,
    pinned_ranges,
    record_checks,
    type_plans,
    update_type_plans,
)
from nsimport_pipeline.imports.store.totals import batch_counts, recent_throughput
from nsimport_pipeline.imports.store.wave_steps import dispatch_batches, move_wave, regroup, waves

__all__ = [
    "account_types",
    "batch_counts",
    "batch_stats",
    "batches",
    "batches_of",
    "cancel_batches",
    "circuit_of",
    "claim_batch",
    "complete_batch",
    "connection_use",
    "control_bytes",
    "count_again",
    "delete_import",
    "dispatch_batches",
    "error_counts",
    "error_groups",
    "events",
    "fail_batch",
    "find_flag",
    "find_job",
    "finished_imports",
    "forget_checks",
    "forget_failure",
    "has_event",
    "import_facts",
    "import_marks",
    "insert_job",
    "insert_type_plans",
    "insert_waves",
    "jobs_since",
    "keep_account_types",
    "last_sign_of_life",
    "latest_import_of",
    "latest_jobs",
    "latest_settled",
    "leave_out",
    "left_out",
    "move_import",
    "move_wave",
    "open_import_of",
    "open_jobs",
    "pin_ranges",
    "pinned_ranges",
    "put_flag",
    "recent_throughput",
    "record_checks",
    "record_error",
    "record_event",
    "regroup",
    "rejected_groups",
    "rejected_of",
    "rejected_without_row",
    "release_batch",
    "reopen_batches",
    "replace_rejected",
    "set_circuit",
    "stats_if_completed_by",
    "take_back_batches",
    "type_plans",
    "unfinished_batches",
    "unfinished_below",
    "update_type_plans",
    "waves",
]
