"""A page of NetSuite rows becomes rows for the database: the same ones a plain, slow transform would make."""

import math
import time
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nsimport_pipeline.record_types.criteria import RecordType, load_catalog, parse_criteria
from nsimport_pipeline.record_types.transform import Transformed, table_columns, transform
from nsimport_pipeline_tests.unit.record_types.plain import plain_transform

PACIFIC = ZoneInfo("America/Los_Angeles")


def record_type(*fields: dict[str, Any], **more: Any) -> RecordType:
    document = {
        "record_type": "thing",
        "family": "lists",
        "table": "things",
        "description": "Things.",
        "source": {"from": "thing", "external_id": "externalid"},
        "fields": list(fields),
        **more,
    }
    return parse_criteria(document, "test")


def run(of: RecordType, *items: dict[str, Any], **options: Any) -> Transformed:
    return transform(of, items, **{"timezone": PACIFIC, "store_raw": False, **options})


def as_dicts(result: Transformed) -> list[dict[str, Any]]:
    return [dict(zip(result.columns, row, strict=True)) for row in result.rows]


WIDE = record_type(
    {"name": "name", "type": "string", "length": 12, "nullable": False, "default": "nobody"},
    {"name": "note", "type": "string", "length": 5, "truncate": True},
    {"name": "comments", "type": "text"},
    {"name": "count", "type": "integer"},
    {"name": "places", "type": "integer", "nullable": False, "default": 2},
    {"name": "ratio", "type": "decimal", "precision": 12, "scale": 4},
    {"name": "amount", "type": "money"},
    {"name": "share", "type": "percent"},
    {"name": "active", "source": "isActive", "type": "boolean", "nullable": False, "default": True},
    {"name": "seen", "type": "boolean"},
    {"name": "day", "type": "date"},
    {"name": "at", "source": "LastModified", "type": "datetime"},
    {"name": "parent_id", "source": "parent", "type": "reference", "display": True},
    {"name": "status", "type": "string", "display": True, "values": {"Open": "open", "Shut Down": "closed"}},
)

_missing = st.none()
_plain_texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=14)
_texts = st.one_of(_plain_texts, st.sampled_from(["", "🚚 Łódź", "a\0b", "\u200b", "x\ny", "\ud83d", "é" * 12]))
_integers = st.one_of(
    st.integers(-(2**63), 2**63 - 1).map(str),
    st.integers(-9, 9).map(str),
    st.sampled_from(["", "x", "1.5", str(2**63)]),
)
_references = st.one_of(st.integers(1, 10**9).map(str), st.sampled_from(["-5", "0", "", "- None -", "acme"]))


def _decimals(whole: int, places: int) -> st.SearchStrategy[str]:
    exact = st.decimals(-(10**whole), 10**whole, places=places, allow_nan=False, allow_infinity=False)
    return st.one_of(exact.map(lambda number: format(number, "f")), st.sampled_from(["", "-0.5", "7", "--1", "NaN"]))


_VALUES: dict[str, st.SearchStrategy[Any]] = {
    "name": _texts,
    "note": _texts,
    "comments": _texts,
    "count": _integers,
    "places": _integers,
    "ratio": _decimals(9, 5),
    "amount": _decimals(17, 9),
    "share": _decimals(3, 16),
    "isactive": st.sampled_from(["T", "F", "t", "true", "No", "", "perhaps", True, False]),
    "seen": st.sampled_from(["T", "F"]),
    "day": st.one_of(st.dates().map(str), st.sampled_from(["2026-02-30", "", "soon"])),
    "lastmodified": st.one_of(
        st.datetimes(min_value=datetime(1000, 1, 1)).map(lambda at: f"{at:%Y-%m-%d %H:%M:%S}"),
        st.sampled_from(["2026-13-01 00:00:00", ""]),
    ),
    "parent": _references,
    "parent_display": _plain_texts,
    "status": st.sampled_from(["A", "B"]),
    "status_display": st.sampled_from(["Open", " shut down ", "Other"]),
    "externalid": _plain_texts,
}
_rows = st.fixed_dictionaries(
    {}, optional={"id": st.integers(-3, 40).map(str), **{k: st.one_of(v, _missing) for k, v in _VALUES.items()}}
)
_calm_values = {  # what NetSuite sends on a normal day: the quick way of every column
    "id": st.integers(1, 10**12).map(str),
    "name": st.text("abc é漢", max_size=12),
    "count": st.integers(-(10**17), 10**17).map(str),
    "ratio": st.integers(-(10**11), 10**11).map(lambda n: f"{n / 10000:.4f}"),
    "amount": st.integers(-(10**10), 10**10).map(lambda n: format(Decimal(n) / 100, "f")),
    "isactive": st.sampled_from("TF"),
    "day": st.dates().map(str),
    "lastmodified": _VALUES["lastmodified"].filter(lambda text: text and "-13-" not in text),
    "parent": st.integers(1, 10**9).map(str),
}


def assert_same(items: list[dict[str, Any]]) -> None:
    good, bad, without_id = plain_transform(WIDE, items)
    result = run(WIDE, *items)
    assert {row["refid"]: row for row in as_dicts(result)} == good
    assert len(result.rows) == len(good) == len(result.raws)
    assert {row.refid: row.column for row in result.rejected if row.refid is not None} == bad
    assert sum(row.refid is None for row in result.rejected) == without_id
    for row in as_dicts(result):
        for column, value in row.items():
            assert type(value) in (int, str, bool, Decimal, date, datetime, type(None)), column
            assert type(value) is type(good[row["refid"]][column])


class TestItEqualsThePlainTransform:
    @settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(_rows, max_size=12))
    def test_for_any_mixture_of_good_and_bad_values(self, items: list[dict[str, Any]]) -> None:
        assert_same(items)

    @settings(max_examples=75, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(st.fixed_dictionaries(_calm_values), min_size=1, max_size=20))
    def test_for_what_netsuite_normally_sends(self, items: list[dict[str, Any]]) -> None:
        assert_same(items)

    @settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(_rows, min_size=1, max_size=8, unique_by=lambda row: row.get("id")), st.randoms())
    def test_and_a_row_never_depends_on_its_neighbours(self, items: list[dict[str, Any]], random: Any) -> None:
        together = sorted(run(WIDE, *items).rows)
        alone = sorted(row for item in items for row in run(WIDE, item).rows)
        assert list(map(repr, together)) == list(map(repr, alone))


class TestABatch:
    def test_has_the_columns_it_says_in_their_order(self) -> None:
        result = run(WIDE, {"id": "1"}, store_raw=True)
        assert result.columns == table_columns(WIDE, store_raw=True)
        assert result.columns[:2] == ("refid", "external_id")
        assert result.columns[-1] == "raw"
        assert "parent_display" in result.columns

    def test_may_be_empty(self) -> None:
        result = run(WIDE)
        assert result.rows == []
        assert result.columns == table_columns(WIDE, store_raw=False)

    def test_keeps_the_raw_row_as_it_came(self) -> None:
        item = {"ID": "1", "custentity_x": 'a\0b 🚚\n\\"', "links": []}
        (row,) = as_dicts(run(WIDE, item, store_raw=True))
        assert orjson.loads(row["raw"]) == item

    def test_takes_keys_in_any_case_and_columns_that_one_row_alone_has(self) -> None:
        rows = as_dicts(run(WIDE, {"Id": "1", "COUNT": "7"}, {"id": "2", "isACTIVE": "F"}, {"ID": "3"}))
        assert [(row["refid"], row["count"], row["active"]) for row in rows] == [
            (1, 7, True),
            (2, None, False),
            (3, None, True),
        ]

    def test_counts_the_later_of_two_rows_with_one_id(self) -> None:
        rows = as_dicts(run(WIDE, {"id": "1", "count": "1"}, {"id": "2"}, {"id": "1", "count": "3"}))
        assert [(row["refid"], row["count"]) for row in rows] == [(2, None), (1, 3)]

    def test_goes_on_without_the_rows_it_rejects(self) -> None:
        items = [{"id": str(n), "count": "many" if n % 3 == 0 else str(n)} for n in range(1, 10)]
        result = run(WIDE, *items)
        assert [row["refid"] for row in as_dicts(result)] == [1, 2, 4, 5, 7, 8]
        assert result.raws == [item for item in items if item["count"] != "many"]
        assert [(row.refid, row.column, row.raw) for row in result.rejected] == [
            (n, "count", {"id": str(n), "count": "many"}) for n in (3, 6, 9)
        ]

    def test_names_the_column_but_never_the_value_in_a_reason(self) -> None:
        (rejected,) = run(WIDE, {"id": "1", "amount": "Jane Roe"}).rejected
        assert rejected.reason.startswith("amount: ")
        assert "Jane" not in rejected.reason

    @pytest.mark.parametrize("refid", [None, "", "abc", "1.5", [], {}, True, str(2**63), "- None -"])
    def test_rejects_a_row_without_a_usable_id(self, refid: Any) -> None:
        result = run(WIDE, {"id": refid, "name": "x"}, {"id": "2"})
        assert [row["refid"] for row in as_dicts(result)] == [2]
        assert [(row.refid, row.column) for row in result.rejected] == [(None, "refid")]

    def test_reads_ids_from_the_key_of_the_source(self) -> None:
        lines = record_type(
            {"name": "line", "source": "id", "type": "integer"}, source={"from": "x", "key": "uniqueKey"}
        )
        assert run(lines, {"uniquekey": "77", "id": "3"}).rows == [(77, None, 3)]


class TestDefaultsAndWords:
    def test_a_missing_or_blank_value_becomes_the_default(self) -> None:
        field = {"name": "n", "type": "integer", "default": "5"}
        assert [
            row[-1] for row in run(record_type(field), {"id": 1}, {"id": 2, "n": " "}, {"id": 3, "n": "0"}).rows
        ] == [
            5,
            5,
            0,
        ]

    def test_words_are_matched_without_case_and_others_kept(self) -> None:
        field = {"name": "w", "type": "string", "values": {"Open": "open"}}
        rows = run(record_type(field), *({"id": n, "w": w} for n, w in enumerate(["OPEN", " open ", "Shut"], 1))).rows
        assert [row[-1] for row in rows] == ["open", "open", "Shut"]

    def test_words_can_lead_to_another_type(self) -> None:
        field = {"name": "b", "type": "boolean", "values": {"oui": "T", "non": "F"}}
        assert [row[-1] for row in run(record_type(field), {"id": 1, "b": "Oui"}, {"id": 2, "b": "T"}).rows] == [
            True,
            True,
        ]

    def test_an_enum_takes_its_default_for_an_unknown_word(self) -> None:
        field = {"name": "e", "type": "string", "values": {"A": "a"}, "normalize": "enum", "default": "other"}
        rows = run(record_type(field), {"id": 1, "e": "a"}, {"id": 2, "e": "Z"}, {"id": 3}, {"id": 4, "e": 7}).rows
        assert [row[-1] for row in rows] == ["a", "other", "other", "other"]

    def test_the_display_text_goes_before_the_stored_code(self) -> None:
        field = {"name": "s", "type": "string", "display": True}
        rows = run(record_type(field), {"id": 1, "s": "B", "s_display": "Billed"}, {"id": 2, "s": "B"}).rows
        assert [row[-1] for row in rows] == ["Billed", "B"]


class TestDatesInTheAccountsOwnFormat:
    AT = record_type({"name": "at", "type": "datetime"})

    def at(self, text: str, zone: str = "America/Los_Angeles", date_format: str = "M/D/YYYY") -> datetime:
        result = run(self.AT, {"id": 1, "at": text}, timezone=ZoneInfo(zone), date_format=date_format)
        assert not result.rejected
        return result.rows[0][-1]

    @given(
        st.datetimes(datetime(1990, 1, 1), datetime(2037, 1, 1)),
        st.sampled_from(["America/Los_Angeles", "Europe/Berlin", "Australia/Lord_Howe", "Asia/Kolkata", "UTC"]),
    )
    def test_come_back_from_the_accounts_zone(self, moment: datetime, zone: str) -> None:
        moment = moment.replace(second=0, microsecond=0)
        local = moment.replace(tzinfo=ZoneInfo("UTC")).astimezone(ZoneInfo(zone))
        if local.fold:
            return  # the second of two equal times reads as the first: see below
        clock = f"{local.hour % 12 or 12}:{local:%M} {'pm' if local.hour >= 12 else 'am'}"
        assert self.at(f"{local.month}/{local.day}/{local.year} {clock}", zone) == moment
        assert self.at(f"{local:%d.%m.%Y %H:%M}", zone, "DD.MM.YYYY") == moment

    def test_an_hour_that_happens_twice_is_the_first(self) -> None:
        assert self.at("11/1/2026 1:30 am") == datetime(2026, 11, 1, 8, 30)
        assert self.at("25.10.2026 02:30", "Europe/Berlin", "DD.MM.YYYY") == datetime(2026, 10, 25, 0, 30)

    def test_an_hour_that_is_skipped_moves_forward(self) -> None:
        assert self.at("3/8/2026 2:30 am") == self.at("3/8/2026 3:30 am") == datetime(2026, 3, 8, 10, 30)

    def test_iso_text_is_utc_already(self) -> None:
        assert self.at("2026-03-08 02:30:00") == datetime(2026, 3, 8, 2, 30)

    @given(st.dates(date(1, 1, 1)), st.sampled_from("/-."))
    def test_the_format_decides_what_is_ambiguous(self, day: date, mark: str) -> None:
        days = record_type({"name": "d", "type": "date"})
        for date_format, text in (
            ("M/D/YYYY", f"{day.month}{mark}{day.day}{mark}{day.year:04}"),
            ("DD/MM/YYYY", f"{day.day:02}{mark}{day.month:02}{mark}{day.year:04}"),
            ("YYYY/MM/DD", f"{day.year:04}{mark}{day.month}{mark}{day.day}"),
            ("D-Mon-YYYY", f"{day.day}-{day:%b}-{day.year:04}"),
            ("DD MONTH, YYYY", f"{day.day:02} {day:%B}, {day.year:04}"),
        ):
            if date_format == "M/D/YYYY" and mark == ".":
                continue  # points always mean day, month, year
            assert run(days, {"id": 1, "d": text}, date_format=date_format).rows == [(1, None, day)]


class TestNumbersInAnySpelling:
    @given(st.decimals(-(10**15), 10**15, places=3))
    def test_mean_the_number_they_spell(self, number: Decimal) -> None:
        money = record_type({"name": "m", "type": "money"})
        plain, grouped = format(number, "f"), format(abs(number), ",f")
        minus = "-" if number < 0 else ""
        spellings = [plain, f"  {plain}\n", f"{number:e}", minus + grouped, f"${plain}", f"{minus}€ {grouped}"]
        spellings += [
            f"{minus}{grouped} USD",
            minus + grouped.replace(",", "\u202f"),
            minus + grouped.replace(",", "'"),
        ]
        if abs(number) >= 1000:
            spellings.append(minus + grouped.translate(str.maketrans(",.", ".,")))
        if number < 0:
            spellings += [f"({grouped})", f"(${grouped})", f"$({grouped})", "\u2212" + grouped]
        rows = run(money, *({"id": n, "m": text} for n, text in enumerate(spellings, 1))).rows
        assert [row[-1] for row in rows] == [number] * len(spellings)

    @given(st.text("0123456789.,-+eE'() %$", max_size=12))
    def test_are_never_guessed_to_have_other_digits(self, text: str) -> None:
        for row in run(record_type({"name": "m", "type": "money"}), {"id": 1, "m": text}).rows:
            if row[-1] is None:
                assert not text.strip()
            elif "e" not in text.lower():
                kept = format(row[-1], "f").strip("-").replace(".", "").strip("0")
                assert kept == "".join(filter(str.isdigit, text)).strip("0")

    def test_become_no_float_on_the_way(self) -> None:
        exact = "1234567890123456.12345678"
        assert str(run(record_type({"name": "m", "type": "money"}), {"id": 1, "m": exact}).rows[0][-1]) == exact


def test_a_thousand_wide_rows_take_milliseconds() -> None:
    """Not a benchmark: it fails if a column falls off the quick way (that costs several times as much)."""
    customer = load_catalog()["customer"]
    samples = {
        "boolean": "T",
        "date": "2026-03-02",
        "datetime": "2026-03-02 13:05:09",
        "money": "1234.56",
        "integer": "17",
        "reference": "4711",
    }
    items = [
        {"id": str(n), **{field.key: samples.get(field.type, f"text {n}") for field in customer.fields}}
        for n in range(1000)
    ]
    best = math.inf
    for _ in range(5):
        start = time.process_time()
        result = transform(customer, items, timezone=PACIFIC, store_raw=True)
        best = min(best, time.process_time() - start)
    assert len(result.rows) == 1000
    assert timedelta(seconds=best) < timedelta(milliseconds=80)
