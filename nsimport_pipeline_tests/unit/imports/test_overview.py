"""The overview says of each import how far it is and what it waits for, as a table and as numbers, and knows news."""

import copy
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from nsimport_pipeline.imports.estimate import time_in_words
from nsimport_pipeline.imports.overview import fingerprint, headline, markdown, numbers
from nsimport_pipeline.imports.states import BatchState


def record_type(name: str, expected: int, imported: int, rejected: int = 0, state: str = "running") -> dict[str, Any]:
    return {
        "name": name,
        "state": state,
        "batches": {"total": 3, **{one.value: 0 for one in BatchState}, "failed": rejected},
        "records": {"expected": expected, "imported": imported, "rejected": rejected, "deleted": 0},
    }


def document(**more: Any) -> dict[str, Any]:
    return {
        "import_id": "acme-20260301120000-0001",
        "state": "running",
        "reason": "level 1: wave 2 of 3 running | 2 of 3 batches done",
        "progress": 0.5,
        "records_per_second": 1234.5,
        "eta_seconds": 134,
        "record_types": [
            record_type("currency", 4, 4, state="completed"),
            record_type("customer", 2996, 1496, 2),
            record_type("location", 0, 0, state="unavailable"),
        ],
        "slots": {"limit": 5, "in_use": 3, "waiting": 0},
    } | more


def test_an_open_import_is_a_table_under_what_it_waits_for() -> None:
    assert markdown([document()], lambda import_id: f"/runs?of={import_id}").splitlines() == [
        "### [acme-20260301120000-0001](/runs?of=acme-20260301120000-0001): running",
        "",
        "level 1: wave 2 of 3 running \\| 2 of 3 batches done",
        "",
        "50% done · 1,234 records/s · about 2 min 14 s left · 3 of 5 slots in use",
        "",
        "| record type | done | share | rejected | state |",
        "| --- | ---: | ---: | ---: | --- |",
        "| currency | 4 / 4 | 100% | 0 | completed |",
        "| customer | 1,496 / 2,996 | 50% | 2 | running |",
        "| location | 0 / 0 | – | 0 | unavailable |",
        "| **all** | 1,500 / 3,000 | 50% | 2 | **running** |",
    ]


def test_time_left_and_slots_are_told_of_open_imports_only() -> None:
    over = markdown([document(state="completed", progress=1.0, eta_seconds=0)], str)
    assert "100% done · 1,234 records/s\n" in over
    assert "time left not known yet" in markdown([document(eta_seconds=None)], str)


def test_several_imports_follow_each_other() -> None:
    text = markdown([document(), document(import_id="acme-20260301130000-0002", state="completed")], str)
    assert [line for line in text.splitlines() if line.startswith("###")] == [
        "### [acme-20260301120000-0001](acme-20260301120000-0001): running",
        "### [acme-20260301130000-0002](acme-20260301130000-0002): completed",
    ]


def test_numbers_plot_all_imports_together() -> None:
    ended = document(state="completed", progress=1.0, eta_seconds=0, records_per_second=99.0)
    assert numbers([document(), ended]) == {
        "progress_percent": 75.0,
        "records_expected": 6000,
        "records_imported": 3000,
        "records_rejected": 4,
        "records_per_second": 1234.5,
        "seconds_left": 134,
        "batches_failed": 4,
        "slots_in_use": 3,
    }


@given(st.lists(st.tuples(st.floats(0, 1), st.integers(0, 10**7), st.integers(0, 10**7)), min_size=1, max_size=4))
def test_progress_is_a_share_whatever_is_going_on(imports: list[tuple[float, int, int]]) -> None:
    documents = [
        document(progress=progress, record_types=[record_type("customer", expected, imported)])
        for progress, expected, imported in imports
    ]
    shares = [100 * progress for progress, _, _ in imports]
    assert min(shares) - 0.1 <= numbers(documents)["progress_percent"] <= max(shares) + 0.1


def test_a_state_a_count_or_a_reason_is_news_rate_and_time_left_are_not() -> None:
    before = document()
    slower = document(records_per_second=1.0, eta_seconds=99, slots={"limit": 5, "in_use": 1, "waiting": 4})
    assert fingerprint([before]) == fingerprint([slower])

    counted, ended = copy.deepcopy(before), copy.deepcopy(before)
    counted["record_types"][1]["records"]["imported"] += 1
    ended["record_types"][1]["state"] = "completed"
    different = [before, counted, ended, document(reason="NetSuite is not answering"), document(state="cancelling")]
    assert len({fingerprint([one]) for one in different}) == len(different)


def test_the_headline_says_which_import_how_far_and_why() -> None:
    assert headline(document(reason="wave 1 of 1 running")) == (
        "acme-20260301120000-0001: running, 50%: wave 1 of 1 running"
    )


def test_time_left_is_said_as_people_do() -> None:
    assert [time_in_words(seconds) for seconds in (0, 59.9, 60, 3599, 3600, 90_061)] == [
        "0 s", "59 s", "1 min 00 s", "59 min 59 s", "1 h 00 min", "25 h 01 min"
    ]  # fmt: skip
