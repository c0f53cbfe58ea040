"""The states of imports, waves and batches, and the legal steps between them.

Belongs here: names of states and one table of legal transitions for each kind. Does not belong here: who takes a
step when (``decide.py``, ``execute.py``) and how it is stored (``store/``, which refuses any step not listed here).
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import TypeVar


class ImportState(StrEnum):
    PLANNING = "planning"
    PENDING = "pending"
    RUNNING = "running"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"
    COMPLETED = "completed"
    COMPLETED_WITH_FAILURES = "completed_with_failures"
    FAILED = "failed"


class WaveState(StrEnum):
    PENDING = "pending"
    DISPATCHING = "dispatching"
    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class BatchState(StrEnum):
    PENDING = "pending"
    """Planned, not asked for yet."""
    DISPATCHED = "dispatched"
    """Part of a wave whose runs are submitted."""
    PROCESSING = "processing"
    """A run works on it."""
    RETRYING = "retrying"
    """Failed; goes into a later wave of its level."""
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


OPEN_IMPORTS = frozenset({ImportState.PLANNING, ImportState.PENDING, ImportState.RUNNING, ImportState.CANCELLING})
ACTIVE_IMPORTS = frozenset({ImportState.PENDING, ImportState.RUNNING})
"""Imports whose batches may be started."""
FINISHED_WAVES = frozenset({WaveState.COMPLETED, WaveState.FAILED, WaveState.CANCELLED})
TERMINAL_BATCHES = frozenset({BatchState.COMPLETED, BatchState.FAILED, BatchState.CANCELLED})

_I, _W, _B = ImportState, WaveState, BatchState

IMPORT_STEPS: Mapping[ImportState, frozenset[ImportState]] = {
    _I.PLANNING: frozenset({_I.PENDING, _I.CANCELLING, _I.FAILED}),
    _I.PENDING: frozenset({_I.RUNNING, _I.CANCELLING, _I.COMPLETED, _I.COMPLETED_WITH_FAILURES, _I.FAILED}),
    _I.RUNNING: frozenset({_I.CANCELLING, _I.COMPLETED, _I.COMPLETED_WITH_FAILURES, _I.FAILED}),
    _I.CANCELLING: frozenset({_I.CANCELLED, _I.FAILED}),
    _I.CANCELLED: frozenset({_I.RUNNING}),
    _I.COMPLETED: frozenset({_I.RUNNING}),
    _I.COMPLETED_WITH_FAILURES: frozenset({_I.RUNNING}),
    _I.FAILED: frozenset({_I.RUNNING}),
}

WAVE_STEPS: Mapping[WaveState, frozenset[WaveState]] = {
    _W.PENDING: frozenset({_W.DISPATCHING, _W.COMPLETED, _W.FAILED, _W.CANCELLED}),
    _W.DISPATCHING: frozenset({_W.PROCESSING, _W.COMPLETED, _W.FAILED, _W.CANCELLED}),
    _W.PROCESSING: frozenset({_W.COMPLETED, _W.FAILED, _W.CANCELLED}),
    _W.COMPLETED: frozenset(),
    _W.FAILED: frozenset(),
    _W.CANCELLED: frozenset(),
}

BATCH_STEPS: Mapping[BatchState, frozenset[BatchState]] = {
    _B.PENDING: frozenset({_B.DISPATCHED, _B.CANCELLED}),
    _B.DISPATCHED: frozenset({_B.PROCESSING, _B.RETRYING, _B.FAILED, _B.CANCELLED, _B.PENDING}),
    _B.PROCESSING: frozenset({_B.COMPLETED, _B.RETRYING, _B.FAILED, _B.DISPATCHED, _B.CANCELLED, _B.PENDING}),
    _B.RETRYING: frozenset({_B.PENDING, _B.FAILED, _B.CANCELLED}),
    _B.COMPLETED: frozenset({_B.PENDING}),
    _B.FAILED: frozenset({_B.PENDING, _B.PROCESSING}),
    _B.CANCELLED: frozenset({_B.PENDING, _B.PROCESSING}),
}


_State = TypeVar("_State", bound=StrEnum)


def sources(steps: Mapping[_State, frozenset[_State]], target: _State) -> frozenset[_State]:
    """The states from which ``target`` can be reached in one step."""
    return frozenset(state for state, targets in steps.items() if target in targets)
