"""When somebody is told: the typed settings of the alert rules.

Belongs here: each rule's name, its threshold, the defaults and bounds. Does not belong here: reading the file
(``settings.py``), judging (``telemetry/alert_rules.py``) or sending (``telemetry/notify.py``).
"""

from typing import Annotated, Literal

from pydantic import Field

from nsimport_pipeline.retry_settings import StrictModel

RuleName = Literal[
    "import_failed",
    "stuck_wave",
    "netsuite_down",
    "completeness",
    "queue_depth",
    "import_with_failures",
    "batch_failures",
    "schema_errors",
    "retry_success",
    "early_waves",
    "behind",
    "database_connections",
    "dispatch_lag",
    "throughput",
    "slot_utilisation",
]
Percent = Annotated[float, Field(ge=0, le=100)]
Seconds = Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False)]


class AlertRules(StrictModel):
    """What it takes for each rule to fire; rules without a threshold fire whenever it is so. Percent, seconds."""

    off: tuple[RuleName, ...] = ()
    """Rules that are not looked at."""
    queue_depth: Annotated[int, Field(ge=1)] | None = None
    """More batches of an import than this given to runs that may start; null: a third more than ``wave_size``."""
    batch_failures: Annotated[int, Field(ge=1, le=100)] = 3
    """So many failures of the same batch, or one for good."""
    schema_errors: Percent = 10
    """A larger share of a record type's records that the database did not take."""
    retry_success: Percent = 70
    """A smaller share of the batches with requests sent again that came through."""
    early_waves: Percent = 85
    """A wave began while less of the one before was settled."""
    dispatch_lag: Seconds = 60
    """A wave could have begun longer ago."""
    throughput: Percent = 80
    """A record type is imported at less than this share of its usual pace."""
    slot_utilisation: Percent = 80
    """The slots were in use for more than this share of ``slot_utilisation_for`` seconds."""
    slot_utilisation_for: Annotated[float, Field(ge=60, le=86_400)] = 3600
    database_connections: Percent = 80
    """More of the connections that the database's server takes are open."""
    resolve_after: Seconds = 60
    """An alert is over when its rule has not fired for so long."""
