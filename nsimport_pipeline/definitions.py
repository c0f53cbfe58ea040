"""Entry point of the Dagster code location; ``workspace.yaml`` names it."""

import dagster as dg

from nsimport_pipeline import garbage
from nsimport_pipeline.defs.build import build_definitions
from nsimport_pipeline.defs.signs_of_life import show_life
from nsimport_pipeline.defs.this_run import tenants_of, this_run

garbage.look_seldom()


@dg.definitions
def defs() -> dg.Definitions:
    found = this_run()
    if found is None:
        definitions = build_definitions()
        garbage.keep()  # of hundreds of tenants it is much, and all of it stays
        return definitions
    instance, run = found
    # Before Dagster takes the run for started: killed from here on, it is missed at once.
    show_life(instance, run.run_id)
    return build_definitions(only=tenants_of(run))
