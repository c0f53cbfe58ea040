"""What must hold after an import whatever was done to it.

Belongs here: looking at the tables, the control tables, Dagster's records and the simulator's, and saying what is
wrong. Does not belong here: changing anything.
"""

import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from math import floor
from typing import Any

import dagster as dg
import sqlalchemy as sa

from nsimport_pipeline.record_types.criteria import RecordType, load_catalog
from nsimport_pipeline.settings import pool_name
from nsimport_pipeline_tests.acceptance.reference import Row, differences, stored_value
from nsimport_pipeline_tests.chaos.drive import PAST_THE_END, Story
from nsimport_pipeline_tests.chaos.installation import ALIVE, Installation
from nsimport_pipeline_tests.chaos.plan import LINES, Plan

SETTLING = 150.0
"""Seconds in which slots are given back, and events that were lost with a process said again: the wave sensor looks for
those once a minute."""
_MOST = 6


def verify(story: Story, installation: Installation) -> list[str]:
    """Everything that is wrong; empty if nothing is."""
    if not story.import_id or not story.status:
        return story.problems
    engine = sa.create_engine(story.url, poolclass=sa.NullPool)
    look = _Look(story, installation, engine)
    found = [
        *story.problems,
        *look.tables(),
        *look.batches(),
        *look.ending(),
        *look.requests(),
        *look.gate(),
        *look.queue(),
        *look.slots(),
        *look.colours(),
    ]
    engine.dispose()
    return found


class _Look:
    def __init__(self, story: Story, installation: Installation, engine: sa.Engine) -> None:
        self.story, self.plan, self.installation = story, story.plan, installation
        self.instance = installation.instance
        # Not while another import's blow has the database down.
        with installation.process_lock, engine.connect() as connection:
            self.stored = {
                name: [
                    dict(row)
                    for row in connection.exec_driver_sql(f"SELECT * FROM {load_catalog()[name].table}").mappings()
                ]
                for name in self.plan.record_types
            }
            self.batch_rows = self._control(connection, "wave_batches")
            self.wave_rows = self._control(connection, "wave_coordination")
            self.left_out = connection.exec_driver_sql("SELECT * FROM account_columns").mappings().all()
            self.rejected = self._control(connection, "rejected_records")
            tags = {"nsimport/import": story.import_id}
            self.runs = list(self.instance.get_run_records(dg.RunsFilter(tags=tags), ascending=True))

    def _control(self, connection: sa.Connection, table: str) -> list[dict[str, Any]]:
        statement = sa.text(f"SELECT * FROM {table} WHERE import_id = :id ORDER BY id")
        rows = connection.execute(statement, {"id": self.story.import_id}).mappings()
        return [{key: _moment(key, value) for key, value in row.items()} for row in rows]

    # What was imported

    def tables(self) -> Iterable[str]:
        """The tables equal the source; what was edited meanwhile is as it was before or after."""
        for name in self.plan.record_types:
            record_type = load_catalog()[name]
            live = [row for row in self.stored[name] if row["deleted_at"] is None]
            found = {
                row["refid"]: {column: stored_value(record_type, column, value) for column, value in row.items()}
                for row in live
            }
            if len(found) != len(live):
                yield f"{name}: {len(live) - len(found)} rows are there twice"
            before, after = self._given(record_type, self.story.before), self._given(record_type, self.story.after)
            failed = self._failed_ranges(name)
            ranged = record_type.range_column
            wanted: dict[int, Row] = {}
            for refid in before.keys() | after.keys():
                is_ = found.get(refid)
                row = before.get(refid) or after[refid]
                if any(low < row.get(ranged, refid) <= high for low, high in failed):
                    continue
                if refid not in before:
                    if is_ is not None and refid < PAST_THE_END:
                        wanted[refid] = after[refid]
                elif refid not in after:
                    if is_ is not None:
                        wanted[refid] = before[refid]
                elif is_ is not None and not differences({refid: after[refid]}, {refid: is_}):
                    wanted[refid] = after[refid]
                else:
                    wanted[refid] = before[refid]
            known = {refid: row for refid, row in found.items() if not any(lo < row[ranged] <= hi for lo, hi in failed)}
            yield from (f"{name}: {text}" for text in differences(wanted, known, _MOST))
        if self.rejected:
            yield f"{len(self.rejected)} records were rejected, and none was bad: {self.rejected[0]['reason']}"

    def _given(self, record_type: RecordType, rows: Mapping[str, dict[int, Row]]) -> dict[int, Row]:
        """The rows as the account gave them: without the column it did not have."""
        if self.plan.lost is None or self.plan.lost[0] != record_type.name:
            return rows[record_type.name]
        field = next(f for f in record_type.fields if (f.source or f.name) == self.plan.lost[1])
        return {refid: {**row, field.name: field.default} for refid, row in rows[record_type.name].items()}

    def _failed_ranges(self, name: str) -> list[tuple[int, int]]:
        return [
            (batch["low_key"], batch["high_key"])
            for batch in self.batch_rows
            if batch["record_type"] == name and batch["status"] == "failed"
        ]

    # The control tables

    def batches(self) -> Iterable[str]:
        plan = self.plan
        states = {batch["status"] for batch in self.batch_rows}
        if states - {"completed"}:
            bad = [b for b in self.batch_rows if b["status"] != "completed"]
            reasons = [f"{b['record_type']} {b['partition_key']} {b['status']}: {b['failure_reason']}" for b in bad]
            yield f"{len(bad)} batches are not completed; {'; '.join(reasons[:3])}"
        for name, count in plan.rows.items():
            own = [batch for batch in self.batch_rows if batch["record_type"] == name]
            if len(own) != -(-count // plan.batch_size):
                yield f"{name} has {len(own)} batches"
        if plan.derived and not any(batch["record_type"] == LINES for batch in self.batch_rows):
            yield f"{LINES} was never planned"
        for wave in self.wave_rows:
            members = [batch for batch in self.batch_rows if batch["wave_number"] == wave["wave_number"]]
            # One all of whose batches failed, and went on in another wave when the import was resumed, stays failed.
            if wave["status"] not in ("completed", "cancelled") and (members or wave["status"] != "failed"):
                yield f"wave {wave['wave_number']} is {wave['status']}"
            if len(members) > plan.wave_size:
                yield f"wave {wave['wave_number']} has {len(members)} batches"
            if len({batch["dependency_level"] for batch in members}) > 1:
                yield f"wave {wave['wave_number']} mixes levels"
        over = [batch for batch in self.batch_rows if batch["attempts"] > plan.retry_attempts]
        if over:
            yield f"{len(over)} batches used more than {plan.retry_attempts} retries"
        harmless = all(fault.startswith(("429", "noise", "slow:0.5")) for fault in plan.faults)
        if harmless and not plan.denied and not self._shaken() and any(b["attempts"] for b in self.batch_rows):
            yield "waiting used up attempts"

    def _shaken(self) -> bool:
        """Whether anything that may cost attempts was done to this installation meanwhile."""
        return bool(self.story.struck) or len(self.installation.lanes) > 1

    def ending(self) -> Iterable[str]:
        state, reason = self.story.status["state"], self.story.status["reason"]
        edited = self.plan.edits and state == "completed_with_failures" and "more records than arrived" in reason
        if state != "completed" and not edited:
            yield f"it ended {state}: {reason}"
        left_out = [(row["record_type"], row["column_name"]) for row in self.left_out]
        if left_out != ([self.plan.lost] if self.plan.lost else []):
            yield f"columns recorded as left out: {left_out}, and the account does not have {self.plan.lost}"

    # NetSuite

    def requests(self) -> Iterable[str]:
        """Never more requests at once than slots, besides those whose asker was gone."""
        most = _most_at_once([entry for entry in self.story.statistics["log"] if not entry.get("abandoned")])
        if most > self.plan.slots:
            yield f"{most} requests at once on {self.plan.slots} slots"

    # Dagster

    def gate(self) -> Iterable[str]:
        """Levels in order, waves in order, room for one wave and a tail: at each moment a run began."""
        # The run that plans derived record types works no batches.
        runs = [r for r in self.runs if r.start_time is not None and "nsimport/wave" in r.dagster_run.tags]
        settled = defaultdict(list)
        for batch in self.batch_rows:
            if batch["started_at"] is not None and batch["finished_at"] is not None:
                settled[batch["run_id"]].append(batch)
        ends = {run.dagster_run.run_id: run.end_time or time.time() for run in runs}
        starts = {run.dagster_run.run_id: run.start_time or 0.0 for run in runs}
        tail = floor(self.plan.wave_size * (100 - self.plan.completion_threshold) / 100)
        for run in runs:
            tags, began = run.dagster_run.tags, run.start_time or 0.0
            level, wave = int(tags["nsimport/level"]), int(tags["nsimport/wave"])
            # Batches that were at work, or given to a run at work, in the moment this run began.
            open_ = [
                batch
                for run_id, batches in settled.items()
                for batch in batches
                if starts.get(run_id, began) < began < batch["finished_at"] and ends.get(run_id, 0) > began
            ]
            lower = [batch for batch in open_ if batch["dependency_level"] < level]
            if lower:
                yield f"a run of level {level} began with {len(lower)} batches of lower levels unfinished"
            earlier = [b for b in open_ if b["dependency_level"] == level and b["wave_number"] < wave]
            if len(earlier) > tail:
                yield f"a run of wave {wave} began with {len(earlier)} batches of earlier waves unfinished"
            if len(open_) + int(tags["nsimport/batches"]) > max(
                self.plan.wave_size + tail, int(tags["nsimport/batches"])
            ):
                yield f"{len(open_)} batches were admitted as {tags['nsimport/batches']} more were let in"

    def queue(self) -> Iterable[str]:
        """Nothing of this tenant is in the queue or at work."""
        tenant = dg.RunsFilter(tags={"nsimport/tenant": self.story.lane}, statuses=ALIVE)
        left = _until_none(lambda: [f"{run.run_id} {run.status.value}" for run in self.instance.get_runs(tenant)])
        if left:
            yield f"runs are left {SETTLING:g} s after the end: {', '.join(left)}"

    def slots(self) -> Iterable[str]:
        """All slots are free."""
        pool = pool_name(self.story.lane)

        def in_use() -> list[str]:
            info = self.instance.event_log_storage.get_concurrency_info(pool)
            return [slot.run_id for slot in info.claimed_slots] + [step.run_id for step in info.pending_steps]

        held = _until_none(in_use)
        if held:
            yield f"slots are held {SETTLING:g} s after the end by {', '.join(held)}"

    def colours(self) -> Iterable[str]:
        """Each partition of a completed batch is green, and no other."""

        def odd() -> list[str]:
            return [text for name in self.plan.record_types for text in self._odd_partitions(name)]

        found = _until_none(odd)
        if found:
            yield f"{len(found)} partitions are at odds with their batch: {'; '.join(found[:3])}"

    def _odd_partitions(self, name: str) -> list[str]:
        key = dg.AssetKey([self.story.lane, name])
        definition = dg.DynamicPartitionsDefinition(name=f"{self.story.lane}/{name}")
        keys = list(self.instance.get_dynamic_partitions(f"{self.story.lane}/{name}"))
        states = self.instance.get_status_by_partition(key, keys, definition) or {}
        odd = []
        wanted = [batch["partition_key"] for batch in self.batch_rows if batch["record_type"] == name]
        if sorted(keys) != sorted(wanted):
            odd.append(f"{name} has partitions {len(keys)} and batches {len(wanted)}")
        for batch in self.batch_rows:
            if batch["record_type"] != name:
                continue
            partition, status = batch["partition_key"], batch["status"]
            state = states.get(partition)
            colour = state.value if state else "none"
            if (status == "completed") != (colour == "MATERIALIZED"):
                odd.append(f"{name} {partition} is {status} and {colour}")
        return odd


def _until_none(look: Any) -> list[str]:
    """What ``look`` finds, once it finds nothing or time is up."""
    deadline = time.monotonic() + SETTLING
    found: list[str] = ["could not be looked at"]
    while time.monotonic() < deadline:
        # Another import's database may be Dagster's too, and away for a moment.
        with suppress(sa.exc.SQLAlchemyError):
            found = look()
            if not found:
                return []
        time.sleep(0.5)
    return found


def _most_at_once(log: list[dict[str, Any]]) -> int:
    # What was refused at the door took no time, and no slot.
    inside = [entry for entry in log if entry["end"] > entry["start"]]
    moments = sorted([*((entry["start"], 1) for entry in inside), *((entry["end"], -1) for entry in inside)])
    most = now = 0
    for _, step in moments:
        now += step
        most = max(most, now)
    return most


def _moment(key: str, value: Any) -> Any:
    """Times as seconds since the epoch."""
    if not key.endswith(("_at", "not_before")) or value is None:
        return value
    moment = datetime.fromisoformat(value) if isinstance(value, str) else value
    return moment.replace(tzinfo=UTC).timestamp()


def measured(plan: Plan, story: Story) -> list[str]:
    """How soon each cancel took effect, for people."""
    said = []
    for now, given, over in story.cancels:
        starts = [story.began + entry["start"] for entry in story.statistics.get("log", ())]
        late = [start - given for start in starts if given < start <= over]
        last = f", last request begun {max(late):.2f} s after it" if late else ", no request begun after it"
        said.append(
            f"cancel{' --now' if now else ''} over after {over - given:.2f} s{last}, longest request "
            f"{plan.longest_request:g} s"
        )
    return said
