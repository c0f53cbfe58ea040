"""Values nobody expects: each is stored exactly, or its row is rejected with a reason that names the column."""

from datetime import date, datetime
from decimal import Decimal
from typing import Any, Final
from zoneinfo import ZoneInfo

import pytest

from nsimport_pipeline.record_types.criteria import FieldSpec
from nsimport_pipeline.record_types.transform import transform
from nsimport_pipeline_tests.unit.record_types.test_transform import record_type, run

REJECTED: Final = object()
D = Decimal

HOSTILE: list[tuple[str, Any, Any]] = [
    # booleans
    ("boolean", "T", True),
    ("boolean", "f", False),
    ("boolean", " TRUE ", True),
    ("boolean", "no", False),
    ("boolean", "Y", True),
    ("boolean", "0", False),
    ("boolean", 1, True),
    ("boolean", 0.0, False),
    ("boolean", True, True),
    ("boolean", "", None),
    ("boolean", None, None),
    ("boolean", "2", REJECTED),
    ("boolean", 2, REJECTED),
    ("boolean", "maybe", REJECTED),
    ("boolean", ["T"], REJECTED),
    ("boolean", {"id": "T"}, REJECTED),
    # whole numbers
    ("integer", "007", 7),
    ("integer", "+5", 5),
    ("integer", "-5", -5),
    ("integer", "−5", -5),  # U+2212
    ("integer", "5.00", 5),
    ("integer", "1e3", 1000),
    ("integer", "1,234", 1234),
    ("integer", 12, 12),
    ("integer", 12.0, 12),
    ("integer", str(2**63 - 1), 2**63 - 1),
    ("integer", str(-(2**63)), -(2**63)),
    ("integer", "  ", None),
    ("integer", "5.5", REJECTED),
    ("integer", str(2**63), REJECTED),
    ("integer", "1e999999999", REJECTED),
    ("integer", "9" * 5000, REJECTED),
    ("integer", "1_000", REJECTED),
    ("integer", "0x1F", REJECTED),
    ("integer", "1\n2", REJECTED),
    ("integer", "١٢٣", REJECTED),
    ("integer", "１２", REJECTED),
    ("integer", True, REJECTED),
    ("integer", "T", REJECTED),
    ("integer", [1], REJECTED),
    ("integer", "nan", REJECTED),
    ("integer", "--1", REJECTED),
    # decimals and money
    ("decimal", ".5", D("0.5")),
    ("decimal", "5.", D(5)),
    ("decimal", "-.25", D("-0.25")),
    ("decimal", "0.12345678", D("0.12345678")),
    ("decimal", "0.1234567800000000", D("0.12345678")),
    ("decimal", "1.5E-3", D("0.0015")),
    ("decimal", "9999999999999999.99999999", D("9999999999999999.99999999")),
    ("decimal", "-0", D(0)),
    ("decimal", 0.1, D("0.1")),
    ("decimal", "0.123456789", REJECTED),
    ("decimal", "10000000000000000", REJECTED),
    ("decimal", "1e-400", REJECTED),
    ("decimal", "$5", REJECTED),
    ("decimal", "Infinity", REJECTED),
    ("decimal", "sNaN", REJECTED),
    ("decimal", "1.2.3", REJECTED),
    ("decimal", "1,2,3", REJECTED),
    ("decimal", {"value": 1}, REJECTED),
    ("money", "1,234,567.89", D("1234567.89")),
    ("money", "1.234.567,89", D("1234567.89")),
    ("money", "1 234,5", D("1234.5")),
    ("money", "1'234.50", D("1234.5")),
    ("money", "12,5", D("12.5")),
    ("money", "0,123", D("0.123")),
    ("money", "(1,234.50)", D("-1234.5")),
    ("money", "-$ 5.10", D("-5.1")),
    ("money", "$-5.10", D("-5.1")),
    ("money", "5,10 €", D("5.1")),
    ("money", "CHF 5", D(5)),
    ("money", "US$5", D(5)),
    ("money", "0.1", D("0.1")),
    ("money", "0.00000001", D("1E-8")),
    ("money", "$", REJECTED),
    ("money", "USD", REJECTED),
    ("money", "$5 USD", REJECTED),
    ("money", "5 - 3", REJECTED),
    ("money", "(5", REJECTED),
    ("money", "1,23,456", REJECTED),
    ("money", "five", REJECTED),
    ("percent", "12.5%", D("12.5")),
    ("percent", "12.5 %", D("12.5")),
    ("percent", "-3%", D(-3)),
    ("percent", "33.3333333333333333", D("33.3333333333333333")),
    ("percent", "0.125", D("0.125")),
    ("percent", "%", REJECTED),
    ("percent", "5%%", REJECTED),
    # dates
    ("date", "2026-03-02", date(2026, 3, 2)),
    ("date", "2026-03-02 00:00:00", date(2026, 3, 2)),
    ("date", "3/2/2026", date(2026, 3, 2)),
    ("date", "2.3.2026", date(2026, 3, 2)),
    ("date", "2-Mar-2026", date(2026, 3, 2)),
    ("date", "2 MARCH, 2026", date(2026, 3, 2)),
    ("date", "2026/3/2", date(2026, 3, 2)),
    ("date", "2024-02-29", date(2024, 2, 29)),
    ("date", "0001-01-01", date(1, 1, 1)),
    ("date", "9999-12-31", date(9999, 12, 31)),
    ("date", "", None),
    ("date", "2026-02-29", REJECTED),
    ("date", "0000-00-00", REJECTED),
    ("date", "13/2/2026", REJECTED),
    ("date", "3/2/26", REJECTED),
    ("date", "2-Mär-2026", REJECTED),
    ("date", "2026-03-02 13:05:00", REJECTED),
    ("date", "20260302", REJECTED),
    ("date", "2026-W10-1", REJECTED),
    ("date", 20260302, REJECTED),
    ("date", "today", REJECTED),
    # dates with time
    ("datetime", "2026-03-02 13:05:09", datetime(2026, 3, 2, 13, 5, 9)),
    ("datetime", "2026-03-02T13:05:09Z", datetime(2026, 3, 2, 13, 5, 9)),
    ("datetime", "2026-03-02T13:05:09+02:00", datetime(2026, 3, 2, 11, 5, 9)),
    ("datetime", "2026-03-02 13:05:09.25", datetime(2026, 3, 2, 13, 5, 9, 250_000)),
    ("datetime", "3/2/2026 1:05 pm", datetime(2026, 3, 2, 21, 5)),
    ("datetime", "3/2/2026 12:05 AM", datetime(2026, 3, 2, 8, 5)),
    ("datetime", "3/2/2026 13-05-09", datetime(2026, 3, 2, 21, 5, 9)),
    ("datetime", "3/2/2026", datetime(2026, 3, 2, 8)),
    ("datetime", "2026-03-02", datetime(2026, 3, 2, 8)),
    ("datetime", "2026-03-02 24:00:00", REJECTED),
    ("datetime", "2026-03-02 13:05:09.1234567", REJECTED),
    ("datetime", "3/2/2026 13:05 pm", REJECTED),
    ("datetime", "9999-12-31 11:59 pm", REJECTED),
    ("datetime", "2026-03-02 13:05:09+99:00", REJECTED),
    ("datetime", 1772456709, REJECTED),
    # references
    ("reference", "12", 12),
    ("reference", " 12 ", 12),
    ("reference", "12.0", 12),
    ("reference", "-5", -5),
    ("reference", 12, 12),
    ("reference", {"id": "12", "refName": "Acme"}, 12),
    ("reference", "0", None),
    ("reference", 0, None),
    ("reference", "", None),
    ("reference", "- None -", None),
    ("reference", {}, None),
    ("reference", "Acme", REJECTED),
    ("reference", "1,2", REJECTED),
    ("reference", "12.5", REJECTED),
    ("reference", True, REJECTED),
    ("reference", ["12"], REJECTED),
    # texts, at most 20 characters
    ("string", "", ""),
    ("string", "  kept  ", "  kept  "),
    ("string", 'O\'Brien \\ "x" %s', 'O\'Brien \\ "x" %s'),
    ("string", "a\0b", "a\0b"),
    ("string", "\u200bzero\u200d\ufeff", "\u200bzero\u200d\ufeff"),
    ("string", "👩‍👩‍👧‍👦 🏴󠁧󠁢󠁳󠁣󠁴󠁿", "👩‍👩‍👧‍👦 🏴󠁧󠁢󠁳󠁣󠁴󠁿"),
    ("string", "𠜎𠜱𝒜", "𠜎𠜱𝒜"),
    ("string", "e\u0301", "e\u0301"),
    ("string", "line\r\nfeed\u2028", "line\r\nfeed\u2028"),
    ("string", "\u202egnp.exe", "\u202egnp.exe"),
    ("string", "漢" * 20, "漢" * 20),
    ("string", "null", "null"),
    ("string", "NaN", "NaN"),
    ("string", 12, "12"),
    ("string", 1.5, "1.5"),
    ("string", True, "true"),
    ("string", ["a", 1], '["a",1]'),
    ("string", {"a": None}, '{"a":null}'),
    ("string", None, None),
    ("string", "x" * 21, REJECTED),
    ("string", "half \ud83d", REJECTED),
    ("text", "x" * 100_000, "x" * 100_000),
    ("text", "\udc00", REJECTED),
    # JSON
    ("json", '{"a": 1}', '{"a": 1}'),
    ("json", {"a": [1, "é"]}, '{"a":[1,"é"]}'),
    ("json", "plain", '"plain"'),
    ("json", 12, "12"),
    ("json", "NaN", '"NaN"'),
    ("json", "", None),
    ("json", {"a": "\ud83d"}, REJECTED),
]

PLAIN = {
    "boolean": "F",
    "integer": "1",
    "decimal": "1.5",
    "money": "2.50",
    "percent": "10",
    "date": "2026-01-01",
    "datetime": "2026-01-01 00:00:00",
    "reference": "9",
    "string": "plain",
    "text": "plain",
    "json": "1",
}


def specification(kind: str) -> dict[str, Any]:
    return {"name": "hostile", "type": kind, "length": 20}


def test_there_are_many_of_them_for_every_field_type() -> None:
    kinds = FieldSpec.model_fields["type"].annotation.__args__  # type: ignore[union-attr]
    assert {kind for kind, _, _ in HOSTILE} == set(kinds)
    assert len(HOSTILE) >= 60


@pytest.mark.parametrize(
    ("kind", "value", "expected"), HOSTILE, ids=lambda x: repr(x)[:30] if x is not REJECTED else "✗"
)
def test_a_hostile_value_is_stored_exactly_or_rejected(kind: str, value: Any, expected: Any) -> None:
    thing = record_type(specification(kind))
    items = [{"id": "1", "hostile": PLAIN[kind]}, {"id": "2", "hostile": value}, {"id": "3", "hostile": PLAIN[kind]}]
    result = run(thing, *items)
    stored = {row[0]: row[-1] for row in result.rows}
    assert {1, 3} <= stored.keys(), "a bad row must not stop its neighbours"
    assert stored[1] == stored[3]
    if expected is REJECTED:
        (rejected,) = result.rejected
        assert (rejected.refid, rejected.column) == (2, "hostile")
        assert rejected.reason.startswith("hostile: ")
        assert rejected.raw is items[1]
    else:
        assert result.rejected == []
        assert stored[2] == expected
        assert type(stored[2]) is type(expected)


def test_all_of_them_in_one_batch_give_what_each_gives_alone() -> None:
    for kind in PLAIN:
        mine = [(value, expected) for other, value, expected in HOSTILE if other == kind]
        items = [{"id": number, "hostile": value} for number, (value, _) in enumerate(mine, 1)]
        result = transform(
            record_type(specification(kind)), items, timezone=ZoneInfo("America/Los_Angeles"), store_raw=True
        )
        good = {row[0]: row[2] for row in result.rows}
        assert good == {n: expected for n, (_, expected) in enumerate(mine, 1) if expected is not REJECTED}
        assert [row.refid for row in result.rejected] == [n for n, (_, x) in enumerate(mine, 1) if x is REJECTED]


def test_values_that_python_holds_for_equal_are_told_apart() -> None:
    result = run(
        record_type(specification("integer")), *({"id": n, "hostile": v} for n, v in enumerate([1, True, 1.0]))
    )
    assert [(row[0], row[-1]) for row in result.rows] == [(0, 1), (2, 1)]


def test_a_text_that_is_too_long_is_cut_only_where_the_criteria_allow_it() -> None:
    thing = record_type(specification("string") | {"truncate": True})
    assert run(thing, {"id": "1", "hostile": "é" * 21}).rows == [(1, None, "é" * 20)]


def test_a_tiny_or_huge_decimal_is_spelt_without_exponent() -> None:
    thing = record_type(specification("decimal"))
    assert str(run(thing, {"id": "1", "hostile": "1E+3"}).rows[0][-1]) == "1000"
