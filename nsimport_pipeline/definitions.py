"""Entry point of the Dagster code location; ``workspace.yaml`` names it."""

import dagster as dg

from nsimport_pipeline import garbage
from nsimport_pipeline.defs.build import build_definitions
from nsimport_pipeline.defs.this_run import tenants_of_this_run

garbage.look_seldom()


@dg.definitions
def defs() -> dg.Definitions:
    return build_definitions(only=tenants_of_this_run())
