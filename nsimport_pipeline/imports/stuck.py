"""Waves that have come to a standstill: said once, in the import's events.

Belongs here: noticing it, writing it down, and whether it still holds. Does not belong here:
ending the runs that hang (``defs/standstill.py``).
"""

from collections.abc import Callable, Iterable
from datetime import datetime

from sqlalchemy import Connection, Engine

from nsimport_pipeline.imports import store
from nsimport_pipeline.imports.records import ImportJob, Wave
from nsimport_pipeline.imports.states import FINISHED_WAVES, WaveState
from nsimport_pipeline.netsuite.circuit import Circuit
from nsimport_pipeline.telemetry.facts import is_stuck
from nsimport_pipeline.warehouse.engine import read_only
from nsimport_pipeline.warehouse.migrate import serialise

EVENT = "wave_stuck"


def note_stuck_wave(
    engine: Engine,
    job: ImportJob,
    wave_timeout: float,
    now: datetime,
    *,
    queued: Callable[[int], bool] = lambda wave: False,
) -> int | None:
    """The wave of an open import in which nothing has moved for ``wave_timeout`` seconds; None if all is well.

    Its event is written once for each standstill. Waiting is none: for a NetSuite that is down, nor in Dagster's queue
    for others to end (``queued`` says so of a wave).
    """
    with read_only(engine).connect() as connection:
        circuit = store.circuit_of(connection, job.tenant)
        if circuit.confirmed:
            return None
        last = _last_sign(connection, job, circuit)
        if last is None or not is_stuck(last, now, wave_timeout):
            return None
        wave = _at_work(store.waves(connection, job.import_id))
    if wave is None or queued(wave):
        return None
    with engine.begin() as connection:
        serialise(connection)
        if not store.has_event(connection, job.import_id, EVENT, wave, last):
            message = (
                f"nothing has moved for {(now - last).total_seconds():.0f} s: its runs are ended and its batches tried "
                f"again; if that does not help, `nsimport waves reset {job.import_id} {wave}`"
            )
            store.record_event(connection, job.import_id, EVENT, now, wave=wave, message=message)
    return wave


def stuck_since(
    connection: Connection, job: ImportJob, waves: Iterable[Wave], circuit: Circuit
) -> tuple[int, datetime] | None:
    """The wave that was said to be stuck, and when something last moved; None if something has since."""
    last, wave = _last_sign(connection, job, circuit), _at_work(waves)
    if last is None or wave is None or not store.has_event(connection, job.import_id, EVENT, wave, last):
        return None
    return wave, last


def _last_sign(connection: Connection, job: ImportJob, circuit: Circuit) -> datetime | None:
    signs = (store.last_sign_of_life(connection, job.import_id), circuit.changed_at)
    return max((sign for sign in signs if sign is not None), default=None)


def _at_work(waves: Iterable[Wave]) -> int | None:
    """The first wave that has begun and is not finished."""
    begun = (wave for wave in waves if wave.state is not WaveState.PENDING)
    return next((wave.number for wave in begun if wave.state not in FINISHED_WAVES), None)
