"""Entry point of the Dagster code location; ``workspace.yaml`` names it."""

import gc

import dagster as dg

from nsimport_pipeline.defs.build import build_definitions
from nsimport_pipeline.defs.this_run import tenants_of_this_run

# With many tenants loading makes millions of objects, all of which stay. Looking through them for garbage as often as
# Python does by default took a fifth of the processor time.
gc.set_threshold(20_000, 50, 100)


@dg.definitions
def defs() -> dg.Definitions:
    return build_definitions(only=tenants_of_this_run())
