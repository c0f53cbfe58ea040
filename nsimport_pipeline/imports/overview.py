"""The overview of a tenant's imports: status documents as Markdown, as numbers that plot, and whether there is news.

Belongs here: pure functions over status documents (``progress.py``). Does not belong here: reading those, or showing
the overview in Dagster (``defs/overview.py``).
"""

from collections.abc import Callable, Sequence
from hashlib import sha256

from nsimport_pipeline.imports.estimate import time_in_words
from nsimport_pipeline.imports.progress import Status
from nsimport_pipeline.imports.states import OPEN_IMPORTS

_OPEN = {state.value for state in OPEN_IMPORTS}
_COLUMNS = ("record type", "done", "share", "rejected", "state")


def markdown(documents: Sequence[Status], runs_of: Callable[[str], str]) -> str:
    """A table for each import, under what it waits for. ``runs_of``: where the runs of an import are listed."""
    return "\n\n".join(_section(document, runs_of(document["import_id"])) for document in documents)


def headline(document: Status) -> str:
    """An import in one line: id, state, progress, and what it waits for or came to."""
    return f"{document['import_id']}: {document['state']}, {document['progress']:.0%}: {document['reason']}"


def numbers(documents: Sequence[Status]) -> dict[str, float | int]:
    """What plots over time: shares in percent, seconds, records, summed over the imports."""
    records = [record_type["records"] for document in documents for record_type in document["record_types"]]
    expected = sum(each["expected"] for each in records)
    weighed = sum(document["progress"] * max(1, _expected(document)) for document in documents)
    weight = sum(max(1, _expected(document)) for document in documents)
    return {
        "progress_percent": round(100 * weighed / weight, 1) if weight else 100.0,
        "records_expected": expected,
        "records_imported": sum(each["imported"] for each in records),
        "records_rejected": sum(each["rejected"] for each in records),
        "records_per_second": round(sum(d["records_per_second"] for d in documents if d["state"] in _OPEN), 1),
        "seconds_left": max((d["eta_seconds"] or 0 for d in documents if d["state"] in _OPEN), default=0),
        "batches_failed": sum(t["batches"]["failed"] for d in documents for t in d["record_types"]),
        "slots_in_use": max((document["slots"]["in_use"] for document in documents), default=0),
    }


def fingerprint(documents: Sequence[Status]) -> str:
    """Changes when there is news: a state, a count, a reason. Rate and time left alone are none."""
    told = [
        [d["import_id"], d["state"], d["reason"], [[t["state"], t["batches"], t["records"]] for t in d["record_types"]]]
        for d in documents
    ]
    return sha256(repr(told).encode()).hexdigest()[:16]


def _section(document: Status, runs: str) -> str:
    rows = [_row(each["name"], each["records"], each["state"]) for each in document["record_types"]]
    records = [each["records"] for each in document["record_types"]]
    total = {key: sum(each[key] for each in records) for key in ("expected", "imported", "rejected")}
    rows.append(_row("**all**", total, f"**{document['state']}**"))
    return "\n".join(
        [
            f"### [{document['import_id']}]({runs}): {document['state']}",
            "",
            _cell(document["reason"]),
            "",
            " · ".join(_pace(document)),
            "",
            _line(_COLUMNS),
            "| --- | ---: | ---: | ---: | --- |",
            *rows,
        ]
    )


def _pace(document: Status) -> list[str]:
    told = [f"{document['progress']:.0%} done", f"{document['records_per_second']:,.0f} records/s"]
    if document["state"] not in _OPEN:
        return told
    left = document["eta_seconds"]
    slots = document["slots"]
    return [
        *told,
        "time left not known yet" if left is None else f"about {time_in_words(left)} left",
        f"{slots['in_use']} of {slots['limit']} slots in use",
    ]


def _row(name: str, records: Status, state: str) -> str:
    expected, rejected = records["expected"], records["rejected"]
    arrived = min(expected, records["imported"] + rejected)
    share = f"{arrived / expected:.0%}" if expected else "–"
    return _line((name, f"{records['imported']:,} / {expected:,}", share, f"{rejected:,}", state))


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(_cell(cell) for cell in cells)} |"


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


def _expected(document: Status) -> int:
    return sum(each["records"]["expected"] for each in document["record_types"])
