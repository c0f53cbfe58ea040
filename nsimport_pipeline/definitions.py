"""Entry point of the Dagster code location; ``workspace.yaml`` names it."""

import dagster as dg

from nsimport_pipeline.defs.build import build_definitions


@dg.definitions
def defs() -> dg.Definitions:
    return build_definitions()
