"""The picture of ``nsimport watch`` fits a terminal, and leaves out what matters least."""

import io
from typing import Any

import pytest
from rich.console import Console

from nsimport_pipeline.commands.waiting import picture
from nsimport_pipeline.imports.states import BatchState


def document(types: int = 4, waves: int = 3) -> dict[str, Any]:
    """The status of an import whose third record type is at work."""
    states = ["completed" if n < 2 else "running" if n == 2 else "pending" for n in range(types)]
    return {
        "import_id": "acme-20260301120000-0001",
        "state": "running",
        "reason": "level 1: wave 2 of 3 running, 212 of 300 batches done",
        "progress": 0.61,
        "records_per_second": 2310.5,
        "eta_seconds": 134,
        "record_types": [
            {
                "name": f"inter_company_journal_{n}",
                "level": n,
                "state": state,
                "batches": {"total": 138, **{s.value: 0 for s in BatchState}, "completed": 138 if n < 2 else 60},
                "records": {"expected": 1_377_053, "imported": 1_128_901, "rejected": 0, "deleted": 0},
            }
            for n, state in enumerate(states)
        ],
        "waves": [
            {"number": n, "state": "completed" if n < 2 else "processing" if n == 2 else "pending", "completed": 212,
             "batches": 300}
            for n in range(1, waves + 1)
        ],
        "slots": {"limit": 5, "in_use": 3, "waiting": 0},
    }  # fmt: skip


def drawn(shown: dict[str, Any], width: int, height: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width, height=height, force_terminal=True, color_system=None)
    console.print(picture(shown, width, height))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    return [line.rstrip() for line in text.splitlines()]


@pytest.mark.parametrize("width", [80, 120])
def test_everything_is_there_on_one_line_each(width: int) -> None:
    lines = drawn(document(), width, 24)
    assert max(map(len, lines)) <= width
    assert len(lines) == 1 + 4 + 1 + 1 + 1
    assert "inter_company_journal_2" in lines[3]
    assert lines[3].endswith("running")
    assert "1,128,901/1,377,053" in lines[3]
    assert "1 of 3  2 (212/300)" in lines[5]
    assert "■■■□□  61%  2,310 records/s, about 2 min 14 s left" in lines[6]
    assert "212 of 300 batches done" in lines[7]


def test_a_low_terminal_shows_what_is_at_work_and_says_what_it_leaves_out() -> None:
    lines = drawn(document(types=29, waves=30), 80, 15)
    assert len(lines) <= 15
    text = "\n".join(lines)
    assert "journal_2 " in text
    assert "journal_0 " not in text
    assert "and 21 more record types" in text
    assert "slots  ■■■□□" in text


def test_no_time_is_named_that_is_not_known() -> None:
    assert "left" not in "\n".join(drawn({**document(), "eta_seconds": None}, 80, 24))
