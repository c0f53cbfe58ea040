"""What run a process carries out, if it loads the definitions for that.

Belongs here: finding out, and which tenants it needs: with hundreds, all take seconds to load. Does not belong here:
building definitions (``build.py``).

Dagster tells nobody while it loads them, but its worker has the run at hand when it does: it is found among the
callers. If it is not, all tenants are loaded, and the process shows life a moment later: that is all.
"""

import sys
from types import FrameType

import dagster as dg

from nsimport_pipeline.defs import names

WORKER = "core_execute_run"
"""Dagster's function that carries out a run in a process of its own; the run is its ``dagster_run``."""


def this_run() -> tuple[dg.DagsterInstance, dg.DagsterRun] | None:
    """The run that this process carries out, and where it is recorded; None in a code server or a command."""
    frame: FrameType | None = sys._getframe()
    while frame is not None and frame.f_code.co_name != WORKER:
        frame = frame.f_back
    known = {} if frame is None else frame.f_locals
    instance, run = known.get("instance"), known.get("dagster_run")
    return (instance, run) if isinstance(instance, dg.DagsterInstance) and isinstance(run, dg.DagsterRun) else None


def tenants_of(run: dg.DagsterRun) -> set[str] | None:
    """The tenants whose assets or checks a run selects; None if it selects all there are."""
    if run.job_name != names.ASSET_JOB:
        return set()  # no job of ours touches an asset
    keys = {*(run.asset_selection or ()), *(check.asset_key for check in run.asset_check_selection or ())}
    return {key.path[0] for key in keys} or None
