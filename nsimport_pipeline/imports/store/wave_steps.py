"""Waves: their states, giving their batches to runs, and putting batches into a later one."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, insert, select, update

from nsimport_pipeline.imports.records import RunSpec, Wave
from nsimport_pipeline.imports.states import (
    FINISHED_WAVES,
    WAVE_STEPS,
    BatchState,
    WaveState,
    sources,
)
from nsimport_pipeline.imports.store.rows import aware, chunks, may_become, naive
from nsimport_pipeline.imports.waves import PlannedWave
from nsimport_pipeline.warehouse.control import (
    wave_batches,
    wave_coordination,
)


def waves(connection: Connection, import_id: str) -> list[Wave]:
    table = wave_coordination
    statement = select(table).where(table.c.import_id == import_id).order_by(table.c.wave_number)
    return [
        Wave(
            number=row["wave_number"],
            level=row["dependency_level"],
            state=WaveState(row["status"]),
            retried=row["retried_batches"],
            dispatched_at=aware(row["dispatched_at"]),
            completed_at=aware(row["completed_at"]),
        )
        for row in connection.execute(statement).mappings()
    ]


def move_wave(connection: Connection, import_id: str, number: int, to: WaveState, now: datetime) -> bool:
    values: dict[str, Any] = {"status": to.value}
    if to is WaveState.DISPATCHING:
        values["dispatched_at"] = naive(now)
    if to in FINISHED_WAVES:
        values["completed_at"] = naive(now)
    table = wave_coordination
    return bool(
        connection.execute(
            update(table)
            .where(
                table.c.import_id == import_id,
                table.c.wave_number == number,
                table.c.status.in_([state.value for state in sources(WAVE_STEPS, to)]),
            )
            .values(values)
        ).rowcount
    )


def dispatch_batches(connection: Connection, import_id: str, runs: Iterable[RunSpec], now: datetime) -> int:
    """Mark the pending batches of these runs dispatched and note which run each belongs to."""
    moved = 0
    for run in runs:
        for keys in chunks(run.partition_keys):
            moved += connection.execute(
                update(wave_batches)
                .where(
                    wave_batches.c.import_id == import_id,
                    wave_batches.c.wave_number == run.wave,
                    wave_batches.c.record_type == run.record_type,
                    wave_batches.c.partition_key.in_(keys),
                    may_become(BatchState.DISPATCHED),
                )
                .values(
                    status=BatchState.DISPATCHED.value,
                    run_number=run.number,
                    run_id=None,
                    dispatched_at=naive(now),
                )
            ).rowcount
    return moved


def regroup(connection: Connection, import_id: str, wave: PlannedWave, now: datetime) -> int:
    """Put batches that wait for a retry into a new wave. Returns how many; none if another tick did it already."""
    keys = {(r.record_type, r.partition_key) for r in wave.ranges}
    rows = connection.execute(
        select(
            wave_batches.c.id, wave_batches.c.wave_number, wave_batches.c.record_type, wave_batches.c.partition_key
        ).where(
            wave_batches.c.import_id == import_id,
            wave_batches.c.dependency_level == wave.level,
            wave_batches.c.status.in_([BatchState.RETRYING.value, BatchState.PENDING.value]),
        )
    ).all()
    chosen = [row for row in rows if (row.record_type, row.partition_key) in keys]
    if not chosen:
        return 0
    connection.execute(
        insert(wave_coordination).values(
            import_id=import_id, wave_number=wave.number, dependency_level=wave.level, status=WaveState.PENDING.value
        )
    )
    left: dict[int, int] = {}
    for row in chosen:
        left[row.wave_number] = left.get(row.wave_number, 0) + 1
    for number, count in left.items():
        connection.execute(
            update(wave_coordination)
            .where(wave_coordination.c.import_id == import_id, wave_coordination.c.wave_number == number)
            .values(retried_batches=wave_coordination.c.retried_batches + count)
        )
    for ids in chunks([row.id for row in chosen]):
        connection.execute(
            update(wave_batches)
            .where(wave_batches.c.id.in_(ids))
            .values(
                status=BatchState.PENDING.value,
                wave_number=wave.number,
                run_number=None,
                run_id=None,
                not_before=None,
            )
        )
    return len(chosen)
