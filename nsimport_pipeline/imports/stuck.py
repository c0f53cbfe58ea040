"""Waves that have come to a standstill: said once, in the import's events.

Belongs here: noticing and writing it down. Does not belong here: ending the runs that hang (``defs/wave_sensor.py``).
"""

from collections.abc import Callable
from datetime import datetime

from sqlalchemy import Engine

from nsimport_pipeline.imports import store
from nsimport_pipeline.imports.records import ImportJob
from nsimport_pipeline.imports.states import FINISHED_WAVES, WaveState
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
    (``queued`` says so of a wave).
    """
    with read_only(engine).connect() as connection:
        circuit = store.circuit_of(connection, job.tenant)
        if circuit.confirmed:
            return None
        signs = (store.last_sign_of_life(connection, job.import_id), circuit.changed_at)
        last = max((sign for sign in signs if sign is not None), default=None)
        if last is None or not is_stuck(last, now, wave_timeout):
            return None
        begun = (w for w in store.waves(connection, job.import_id) if w.state is not WaveState.PENDING)
        wave = next((w.number for w in begun if w.state not in FINISHED_WAVES), None)
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
