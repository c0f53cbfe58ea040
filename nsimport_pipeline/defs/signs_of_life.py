"""Whether the process of a run, or one that plans an import or sweeps, still lives: it keeps a file locked till then.

Belongs here: the locks, declaring runs ended whose process is gone, asking a process to end. Does not belong here: what
becomes of their batches and imports (``imports/decide.py``), or runs that live and stand still (``wave_sensor.py``).

The system unlocks a file however its process ends, so no patience is needed.
Dagster's code server notices the death of a run it started, and ends it if asked to, but not once it was killed itself,
alone or with the whole machine. Only processes of this host are judged, as a lock says nothing about another's.
"""

import fcntl
import os
import signal
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import dagster as dg

from nsimport_pipeline.errors import RefusedError

LOCKS = "run_locks"
"""Directory below DAGSTER_HOME; in it one for each host, in it a file for each run."""
PLANNER_LOCKS = "planner_locks"
"""The same, with a file for each import that is being planned."""
SWEEP_LOCKS = "sweep_locks"
"""The same, with a file for each record type of a tenant that was ever swept."""

_held: dict[str, IO[str]] = {}
"""By run; kept open, and so locked, until this process ends."""


def show_life(instance: dg.DagsterInstance, run_id: str) -> None:
    """Let others see from now on that this process, which carries out a run, lives.

    Done as it loads its definitions; by its step once more, in case Dagster's worker was not known for one by then.
    """
    if run_id not in _held:
        _held[run_id] = _locked(_directory(instance, LOCKS), run_id)


@contextmanager
def planning(instance: dg.DagsterInstance, import_id: str) -> Iterator[None]:
    """Let others see that this process lives, which plans an import. To be entered before the import is written down.

    Its file stays until somebody has seen to the import: it may be that it could not be given up in good order.
    """
    with _locked(_directory(instance, PLANNER_LOCKS), import_id):
        yield


@contextmanager
def sweeping(instance: dg.DagsterInstance, tenant: str, record_type: str) -> Iterator[None]:
    """Let no other process of this host sweep the record type meanwhile. Raises RefusedError if one does."""
    directory = _directory(instance, SWEEP_LOCKS)
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / f"{tenant}.{record_type}").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RefusedError(f"{record_type} of tenant {tenant!r} is being swept already: wait for it") from None
        yield


def no_longer_planned(instance: dg.DagsterInstance) -> set[str]:
    """The imports whose planning has ended, in whatever way, and whose file is there yet.

    One that is read *afterwards* and still is being planned was left behind.
    """
    files = _directory(instance, PLANNER_LOCKS).glob("*")
    return {file.name for file in files if not file.suffix and not _is_locked(file)}


def forget_planning(instance: dg.DagsterInstance, import_ids: Iterable[str]) -> None:
    """Clear away the files of imports that have been seen to."""
    for import_id in import_ids:
        (_directory(instance, PLANNER_LOCKS) / import_id).unlink(missing_ok=True)


def end_the_dead(instance: dg.DagsterInstance) -> int:
    """Declare the runs ended whose process is gone without having said so. Returns how many."""
    ended = 0
    for file in _directory(instance, LOCKS).glob("*"):
        if file.suffix or _is_locked(file):
            continue
        run = instance.get_run_by_id(file.name)
        if run is not None and not run.is_finished:
            message = "The process of this run ended without a word: it was killed, or its machine was."
            if run.status is dg.DagsterRunStatus.CANCELING:
                instance.report_run_canceled(run, message)
            else:
                instance.report_run_failed(run, message)
            ended += 1
        file.unlink(missing_ok=True)
    return ended


def end_run(instance: dg.DagsterInstance, run_id: str) -> None:
    """Take a run out of the queue, or ask its process to end, whether or not the code server that started it lives."""
    run = instance.get_run_by_id(run_id)
    if run is not None and run.status is dg.DagsterRunStatus.NOT_STARTED:
        # Whoever was to put it into the queue died over it, and nobody else can end it.
        instance.report_run_canceled(run, "It was never put into the queue.")
        return
    try:
        asked = instance.run_coordinator.cancel_run(run_id)
    except dg.DagsterError:
        asked = False
    file = _directory(instance, LOCKS) / run_id
    if not asked and file.exists() and _is_locked(file):
        # As the code server would: Dagster's run worker takes an interrupt for the wish to cancel it.
        os.kill(int(file.read_text()), signal.SIGINT)


def _directory(instance: dg.DagsterInstance, kind: str) -> Path:
    return Path(instance.root_directory) / kind / socket.gethostname()


def _locked(directory: Path, name: str) -> IO[str]:
    directory.mkdir(parents=True, exist_ok=True)
    # Locked before it is seen under its name: whoever finds it unlocked knows that its process is gone.
    part = directory / f"{name}.part"
    file = part.open("w")
    fcntl.flock(file, fcntl.LOCK_EX)
    print(os.getpid(), file=file, flush=True)
    part.rename(directory / name)
    return file


def _is_locked(file: Path) -> bool:
    try:
        with file.open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return False
    except FileNotFoundError:
        return True  # somebody else has just cleared it away
    except BlockingIOError:
        return True
