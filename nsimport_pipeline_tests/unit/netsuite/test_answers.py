"""The body of a 200 is a correct page, or it is incomplete; nothing in between."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nsimport_pipeline.errors import IncompleteResponse
from nsimport_pipeline.netsuite.answers import KeyCount, Page, key_count, parse_page, tallies

json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=10,
)
nearly_pages = st.fixed_dictionaries(
    {},
    optional={
        "items": json_values | st.lists(st.dictionaries(st.sampled_from(["links", "ID", "b"]), json_values)),
        "totalResults": json_values | st.integers(0, 5),
        "hasMore": json_values,
        "count": json_values | st.integers(0, 5),
    },
)


@given(
    body=st.binary() | st.text().map(str.encode) | (json_values | nearly_pages).map(lambda v: json.dumps(v).encode())
)
def test_any_body_is_a_correct_page_or_an_incomplete_response(body: bytes) -> None:
    try:
        result = parse_page(body, 1000, 0)
    except IncompleteResponse:
        return
    document = json.loads(body)
    assert result.total_results == int(document["totalResults"]) == len(document["items"]) == len(result.items)
    for row, item in zip(result.items, document["items"], strict=True):
        assert all(isinstance(value, str) and key == key.lower() for key, value in row.items())
        assert set(row) == {key.lower() for key, value in item.items() if value is not None} - {"links"}


@pytest.mark.parametrize("half", [b"\\ud83d", b"\\uDE00", b"\xed\xa0\xbd"])
def test_half_a_character_spoils_its_own_row_only(half: bytes) -> None:
    body = b'{"items": [{"id": "1", "name": "cut ' + half + b'"}, {"id": "2", "name": "whole"}], "totalResults": 2}'

    first, second = parse_page(body, 1000, 0).items

    with pytest.raises(UnicodeEncodeError):
        first["name"].encode()
    assert (first["id"], second) == ("1", {"id": "2", "name": "whole"})
    for spoiled in (body[:-10], body.replace(b'"2"', b"NaN")):
        with pytest.raises(IncompleteResponse):
            parse_page(spoiled, 1000, 0)


def test_only_the_last_page_may_be_short() -> None:
    body = json.dumps({"items": [{"id": "1"}] * 5, "totalResults": 25}).encode()

    assert len(parse_page(body, 10, 20).items) == 5
    for offset in (0, 10, 30):
        with pytest.raises(IncompleteResponse):
            parse_page(body, 10, offset)


def test_has_more_false_is_not_believed_against_the_total() -> None:
    body = json.dumps({"items": [], "totalResults": 150_000, "hasMore": False}).encode()

    with pytest.raises(IncompleteResponse, match="0 rows"):
        parse_page(body, 1000, 100_000)


def test_has_more_is_believed_against_a_total_that_is_too_small() -> None:
    body = json.dumps({"items": [{"id": "1"}] * 50, "totalResults": 50, "hasMore": True}).encode()

    with pytest.raises(IncompleteResponse, match="there is more after all"):
        parse_page(body, 50, 0)


@pytest.mark.parametrize(
    ("row", "count"),
    [
        ({"n": "0"}, KeyCount(0, None, None)),
        ({"n": "3", "low": "-1", "high": "9"}, KeyCount(3, -1, 9)),
    ],
)
def test_a_count_is_read(row: dict[str, str], count: KeyCount) -> None:
    assert key_count(Page([row], 1)) == count


@pytest.mark.parametrize(
    "rows", [[], [{}], [{"n": "x"}], [{"n": "3"}], [{"n": "3", "low": "1"}], [{"n": "0"}, {"n": "0"}]]
)
def test_what_is_no_count_is_incomplete(rows: list[dict[str, str]]) -> None:
    with pytest.raises(IncompleteResponse):
        key_count(Page(rows, len(rows)))


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"low": "3", "n0": "2", "t0": "7", "s0": "25"}, (3, [(2, 7, 25), (0, 0, 0)])),
        ({"low": "3", "n0": "0", "n1": "2", "t1": "1.5E13", "s1": "25.0"}, (3, [(0, 0, 0), (2, 15 * 10**12, 25)])),
        ({}, (None, [(0, 0, 0)] * 2)),
    ],
)
def test_sums_by_ranges_are_whole_numbers_however_they_are_written(row: dict[str, str], said: object) -> None:
    assert tallies(Page([row], 1), 2) == said


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [{}, {}],
        [{"low": "3", "n0": "2.5"}],
        [{"low": "3", "n0": "NaN"}],
        [{"low": "3", "n0": "1E999999999"}],
        [{"low": "3", "n0": "two"}],
        [{"low": "3"}],
        [{"n0": "1"}],
        [{"low": "3", "n0": "-1"}],
    ],
)
def test_what_cannot_be_sums_by_ranges_is_incomplete(rows: list[dict[str, str]]) -> None:
    with pytest.raises(IncompleteResponse):
        tallies(Page(rows, len(rows)), 2)
