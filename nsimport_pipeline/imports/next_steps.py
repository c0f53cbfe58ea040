"""What a person types next about an import: each thing that is wrong with it, and the command that mends it.

Belongs here: pure functions over the status document. Does not belong here: why an open import waits for what comes by
itself (``explain.py``), or finding out what is wrong (``progress.py``, ``commands/showing.py``).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from nsimport_pipeline.imports.explain import MOST_OF_A_REASON, Cause

_MEND_PARENTS = (Cause.STOPPED, Cause.CANCELLED, Cause.FAILED_BATCHES, Cause.REJECTED_ROWS, Cause.DENIED)
"""What keeps parents from being complete; the command for the first of them comes before the others."""


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that is wrong, and what to do about it."""

    cause: Cause
    says: str
    """What is wrong, for people; it has the words of the cause in it."""
    command: str | None
    """What mends it, to be typed once what brought it about is over; None where no command does."""

    def document(self) -> dict[str, str | None]:
        """As ``status --json`` has it."""
        return asdict(self) | {"cause": self.cause.name.lower()}


@dataclass(frozen=True, slots=True)
class FailedBatches:
    """Batches of a record type that were given up for one reason."""

    record_type: str
    batches: int
    reason: str


def in_words(step: Mapping[str, str | None]) -> str:
    """A step of a status document as ``status`` prints it."""
    return f"{step['says']}: `{step['command']}`" if step["command"] else str(step["says"])


def of_import(
    document: Mapping[str, Any], requested: Sequence[str], failed: Iterable[FailedBatches], *, is_open: bool
) -> list[Step]:
    """What there is to do about an import, the gravest first. ``requested``: as the user named them."""
    import_id, tenant, types = document["import_id"], document["tenant"], document["record_types"]
    alone = {each["name"] for each in types} == set(requested)
    again = f"nsimport import {' '.join(requested)} --tenant {tenant}{' --no-dependencies' if alone else ''}"
    if document["mode"] != "full":
        again += f" --mode {document['mode']}"
    steps = _open(document) if is_open else _over(document, again, failed)
    for each in types:
        if each["state"] == "denied":
            steps.append(Step(Cause.DENIED, f"{each['name']}: {Cause.DENIED}: {each['unavailable']}", again))
        elif each["unavailable"]:
            says = f"{each['name']}: {Cause.FEATURE_OFF}: {each['unavailable']}; once it is switched on"
            steps.append(Step(Cause.FEATURE_OFF, says, again))
    for each in types:
        if columns := each["columns_left_out"]:
            missing = ", ".join(columns)
            says = f"{each['name']}: {Cause.COLUMNS_LEFT_OUT}: {missing}; once they are back, import again after"
            command = f"nsimport record-types {each['name']} --tenant {tenant} --probe"
            steps.append(Step(Cause.COLUMNS_LEFT_OUT, says, command))
    mends = {step.cause: step.command for step in reversed(steps)}
    for each in types:
        if (rows := each["records"]["rejected"]) and not is_open:
            says = (
                f"{each['name']}: {rows} {Cause.REJECTED_ROWS} (`nsimport rejects {import_id}` says why); once that is "
                "mended"
            )
            steps.append(Step(Cause.REJECTED_ROWS, says, f"nsimport retry {import_id} --rejected"))
            mends.setdefault(Cause.REJECTED_ROWS, steps[-1].command)
        elif each["in_sync"] is False and not is_open and not each["batches"]["failed"]:
            says = f"{each['name']}: {Cause.OUT_OF_SYNC}: NetSuite and the table do not have the same number of records"
            command = f"nsimport import {each['name']} --tenant {tenant} --no-dependencies --mode full"
            steps.append(Step(Cause.OUT_OF_SYNC, says, command))
    for each in types:
        if parents := each["partial_parents"]:
            says = f"{each['name']}: {Cause.PARTIAL_PARENTS}: not all of {', '.join(parents)} arrived"
            mend = next((mends[cause] for cause in _MEND_PARENTS if cause in mends), None)
            steps.append(Step(Cause.PARTIAL_PARENTS, says, mend))
    for each in types:
        if each["sweep"] and (missing := each["sweep"]["missing"]) and not is_open:
            says = (
                f"{each['name']}: the last sweep found {missing} {Cause.MISSING}; the next import brings them, at once"
            )
            command = f"nsimport import {each['name']} --tenant {tenant} --mode incremental"
            steps.append(Step(Cause.MISSING, says, command))
    return steps


def _open(document: Mapping[str, Any]) -> list[Step]:
    import_id, circuit, steps = document["import_id"], document["circuit"], []
    if circuit["state"] != "closed" and circuit["failed_probes"]:
        says = f"{Cause.NETSUITE_DOWN}: the import goes on by itself when it does; to ask it at once"
        steps.append(Step(Cause.NETSUITE_DOWN, says, f"nsimport reconcile {import_id}"))
    for wave in document["waves"]:
        if wave["stuck"]:
            says = (
                f"wave {wave['number']} {Cause.STUCK}: runs that hang are ended, and those that nobody starts asked "
                "for again, within a minute or two; at once"
            )
            steps.append(Step(Cause.STUCK, says, f"nsimport waves reset {import_id} {wave['number']}"))
    return steps


def _over(document: Mapping[str, Any], again: str, failed: Iterable[FailedBatches]) -> list[Step]:
    import_id, state, types = document["import_id"], document["state"], document["record_types"]
    retry, resume = f"nsimport retry {import_id}", f"nsimport resume {import_id}"
    if state in ("failed", "cancelled") and not any(each["batches"]["total"] for each in types):
        says = f"{Cause.NOT_PLANNED}, nothing was imported; once what its reason says is mended"
        return [Step(Cause.NOT_PLANNED, says, again)]
    if state == "failed":
        return [Step(Cause.STOPPED, f"{Cause.STOPPED}; once what its reason says is mended", resume)]
    if state == "cancelled" or any(each["state"] == "cancelled" for each in types):
        return [Step(Cause.CANCELLED, f"{Cause.CANCELLED}; to go on with it", resume)]
    unplanned = [each["name"] for each in types if each["state"] == "failed" and not each["batches"]["total"]]
    return [
        Step(Cause.NOT_PLANNED, f"{name}: {Cause.NOT_PLANNED}; once what the import's reason says is mended", retry)
        for name in unplanned
    ] + [
        Step(
            Cause.FAILED_BATCHES,
            f"{each.record_type}: {each.batches} {Cause.FAILED_BATCHES} ({each.reason[:MOST_OF_A_REASON]}); once that "
            "is mended",
            retry,
        )
        for each in failed
    ]


def of_surroundings(
    tenant: str,
    *,
    waiting: bool = False,
    full_disks: Sequence[str] = (),
    leaked_slots: int = 0,
    switched_off: str | None = None,
    by_flag: bool = False,
) -> list[Step]:
    """What there is to do around imports. ``waiting``: one is open and no daemon runs; ``full_disks``: places.

    ``switched_off``: why the tenant may begin none, if so; ``by_flag``: it is the flag in the database that decides.
    """
    steps = []
    if waiting:
        steps.append(Step(Cause.NO_DAEMON, f"{Cause.NO_DAEMON}, so nobody carries the import on", "nsimport up"))
    for place in full_disks:
        says = f"the disk of {place} {Cause.DISK_FULL}: free some, open imports then go on; at once"
        steps.append(Step(Cause.DISK_FULL, says, f"nsimport reconcile --tenant {tenant}"))
    if leaked_slots:
        says = f"{leaked_slots} slots are {Cause.SLOTS_LEAKED}"
        steps.append(Step(Cause.SLOTS_LEAKED, says, f"nsimport slots --tenant {tenant} --reset"))
    if switched_off:
        says = f"tenant {tenant} {Cause.SWITCHED_OFF} ({switched_off}): nothing new begins"
        steps.append(Step(Cause.SWITCHED_OFF, says, f"nsimport flags --tenant {tenant} --on" if by_flag else None))
    return steps
