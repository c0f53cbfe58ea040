"""Runs as the gate sees them, read from Dagster each second at little cost, however many wait.

Belongs here: reading runs and their tags, and remembering those that stay as they are. Does not belong here: the rules
(``imports/gate.py``), or opening the gate (``run_coordinator.py``).
"""

from collections.abc import Mapping
from typing import Literal

import dagster as dg

from nsimport_pipeline.defs import names
from nsimport_pipeline.imports.gate import GateRun

BEGUN = [dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING]
"""A run in one of these takes one of Dagster's ``max_concurrent_runs``."""
ALIVE = [dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.NOT_STARTED, *BEGUN]
ENDED = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]
SHUT = dg.RunsFilter(tags={names.GATE: names.SHUT}, statuses=[dg.DagsterRunStatus.QUEUED])
OPEN = dg.RunsFilter(tags={names.GATE: names.OPEN}, statuses=[dg.DagsterRunStatus.QUEUED])
AT_ONCE = 500
"""Ids in one query."""

Placed = tuple[int, GateRun]
"""A run, and where in the order of being queued it is."""


class RunQueue:
    """The runs of a Dagster instance that concern the gate.

    A run that waits does not change until it is let in, and one that ended with nothing left to hold back never: both
    are read once by each process.
    """

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self._instance = instance
        self._shut: dict[str, Placed] = {}
        self._over: dict[str, Placed] = {}

    def places(self, most: int) -> int | None:
        """How many more runs may be let in if ``most`` may run at once; None if there is no limit (-1)."""
        if most < 0:
            return None
        begun = self._instance.get_runs_count(dg.RunsFilter(statuses=BEGUN))
        return max(0, most - begun - self._instance.get_runs_count(OPEN))

    def waiting(self) -> bool:
        """Whether any run waits to be let in."""
        return self._instance.get_runs_count(SHUT) > 0

    def runs(self) -> list[GateRun]:
        """Every live run of ours, and the ended ones of imports that have waiting runs, in the order they were queued.

        Read in the order in which runs move on: one that moves meanwhile may be seen twice, but is never missed.
        """
        shut = self._read(SHUT, self._shut)
        moving = [
            *self._records(OPEN),
            *self._records(dg.RunsFilter(statuses=[dg.DagsterRunStatus.NOT_STARTED, *BEGUN])),
        ]
        imports = sorted({run.group for _, run in shut.values()})
        over = dg.RunsFilter(tags={names.IMPORT: imports}, statuses=ENDED)
        ended = self._read(over, self._over) if imports else {}
        self._shut = {run_id: one for run_id, one in shut.items() if one[1].phase == "shut"}
        self._over = {run_id: one for run_id, one in ended.items() if not one[1].unsettled("wave", "level")}
        found = shut | {placed[1].run_id: placed for placed in moving} | ended
        return [run for _, run in sorted(found.values(), key=lambda placed: placed[0])]

    def _read(self, wanted: dg.RunsFilter, known: Mapping[str, Placed]) -> dict[str, Placed]:
        run_ids = self._instance.run_storage.get_run_ids(wanted)
        found = {run_id: known[run_id] for run_id in run_ids if run_id in known}
        new = [run_id for run_id in run_ids if run_id not in found]
        for start in range(0, len(new), AT_ONCE):
            records = self._records(dg.RunsFilter(run_ids=new[start : start + AT_ONCE]))
            found |= {run.run_id: (place, run) for place, run in records}
        return found

    def _records(self, wanted: dg.RunsFilter) -> list[Placed]:
        return [
            (record.storage_id, gate_run(record.dagster_run))
            for record in self._instance.get_run_records(wanted)
            if names.TENANT in record.dagster_run.tags and names.GATE in record.dagster_run.tags
        ]


def gate_run(run: dg.DagsterRun) -> GateRun:
    """A run as the gate sees it, from its status and tags."""
    tags = run.tags
    phase: Literal["shut", "open", "ended"]
    if run.status in ENDED:
        phase = "ended"
    elif run.status == dg.DagsterRunStatus.QUEUED and tags.get(names.GATE) == names.SHUT:
        phase = "shut"
    else:
        phase = "open"
    return GateRun(
        run_id=run.run_id,
        tenant=tags.get(names.TENANT, ""),
        group=tags.get(names.IMPORT) or tags.get(names.BACKFILL) or run.run_id,
        level=names.number(tags, names.LEVEL),
        wave=names.number(tags, names.WAVE),
        batches=names.number(tags, names.BATCHES, 1),
        done=names.number(tags, names.DONE),
        phase=phase,
        hold=names.hold(tags),
        threshold=min(100.0, max(0.0, _decimal(tags, names.THRESHOLD, 90.0))),
        wave_size=max(1, names.number(tags, names.WAVE_SIZE, 300)),
        slots=names.number(tags, names.SLOTS, 500),
        let_in_at=_decimal(tags, names.LET_IN, 0.0),
    )


def _decimal(tags: Mapping[str, str], tag: str, otherwise: float) -> float:
    try:
        return float(tags.get(tag) or otherwise)
    except ValueError:
        return otherwise
