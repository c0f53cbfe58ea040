"""What can be done about an open import: the steps that are decided on.

Belongs here: the actions as plain values. Does not belong here: choosing them (``decide.py``) or carrying them out
(``settle.py`` for the control tables, ``defs/reconcile.py`` for Dagster).
"""

from dataclasses import dataclass
from datetime import datetime

from nsimport_pipeline.imports.records import Batch, Hold, PlanSpec, RunSpec
from nsimport_pipeline.imports.states import BatchState, ImportState, WaveState
from nsimport_pipeline.imports.waves import PlannedWave


@dataclass(frozen=True, slots=True)
class Dispatch:
    """Start a wave: its batches become dispatched, its runs are submitted."""

    wave: int
    runs: tuple[RunSpec, ...]


@dataclass(frozen=True, slots=True)
class Submit:
    """Ask Dagster for runs of a wave that it does not have."""

    runs: tuple[RunSpec, ...]


@dataclass(frozen=True, slots=True)
class MarkProcessing:
    """Every run of the wave exists in Dagster."""

    wave: int


@dataclass(frozen=True, slots=True)
class Fold:
    """A batch that its run left behind: to be retried, or failed if its attempts are used up."""

    batch: Batch
    to: BatchState
    attempts: int
    """Failures to add: none if the run was ended before it began this batch."""
    reason: str
    not_before: datetime | None = None


@dataclass(frozen=True, slots=True)
class Regroup:
    """Put batches that wait for a retry into a new wave of their level."""

    wave: PlannedWave


@dataclass(frozen=True, slots=True)
class CountAgain:
    """Do the last batch of each of some record types once more, in new waves, so that its run takes the final count."""

    batches: tuple[Batch, ...]
    waves: tuple[PlannedWave, ...]


@dataclass(frozen=True, slots=True)
class FinishWave:
    wave: int
    state: WaveState


@dataclass(frozen=True, slots=True)
class Stop:
    """Begin to wind the import down."""

    reason: str | None
    """Why it failed; None if it is cancelled on request."""


@dataclass(frozen=True, slots=True)
class CancelWaiting:
    """Cancel the batches that no run works on."""


@dataclass(frozen=True, slots=True)
class CancelRun:
    """Take a run that has not started out of the queue."""

    run_id: str


@dataclass(frozen=True, slots=True)
class Release:
    """An ended run was folded, so it holds back no later wave of its level; with ``hold`` none, no higher level either.

    A higher level is held until everything left at the run's level belongs to a run that Dagster knows.
    """

    run_id: str
    hold: Hold


@dataclass(frozen=True, slots=True)
class PlanDerived:
    """Ask Dagster for the run that plans a derived record type."""

    spec: PlanSpec


@dataclass(frozen=True, slots=True)
class FoldPlanning:
    """The run of this attempt is over and the record type is not planned: there is another, or it has failed."""

    spec: PlanSpec
    not_before: datetime
    failure: str | None


@dataclass(frozen=True, slots=True)
class FinishImport:
    state: ImportState
    reason: str | None


Action = (
    Dispatch
    | Submit
    | MarkProcessing
    | Fold
    | Regroup
    | CountAgain
    | FinishWave
    | Stop
    | CancelWaiting
    | CancelRun
    | Release
    | PlanDerived
    | FoldPlanning
    | FinishImport
)
