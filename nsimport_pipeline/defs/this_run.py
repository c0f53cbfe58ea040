"""Which tenants a process needs that loads the definitions to carry out one run: with hundreds, all take seconds.

Belongs here: finding out what run it is. Does not belong here: building definitions (``build.py``).

Dagster tells nobody while it loads them, but its worker has the run at hand when it does: it is found among the
callers. If it is not, all tenants are loaded: that is slower, and nothing else.
"""

import sys
from types import FrameType

import dagster as dg

from nsimport_pipeline.defs import names

WORKER = "core_execute_run"
"""Dagster's function that carries out a run in a process of its own; the run is its ``dagster_run``."""


def tenants_of_this_run() -> set[str] | None:
    """The tenants whose assets the run of this process selects; None if all are wanted, as in a code server."""
    frame: FrameType | None = sys._getframe()
    while frame is not None and frame.f_code.co_name != WORKER:
        frame = frame.f_back
    run = None if frame is None else frame.f_locals.get("dagster_run")
    return tenants_of(run) if isinstance(run, dg.DagsterRun) else None


def tenants_of(run: dg.DagsterRun) -> set[str] | None:
    """The tenants whose assets or checks a run selects; None if it selects all there are."""
    if run.job_name != names.ASSET_JOB:
        return set()  # no job of ours touches an asset
    keys = {*(run.asset_selection or ()), *(check.asset_key for check in run.asset_check_selection or ())}
    return {key.path[0] for key in keys} or None
