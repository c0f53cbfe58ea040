"""Fingerprints: what differs from one occurrence to the next does not show, where it happened does."""

from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nsimport_pipeline.errors import Category
from nsimport_pipeline.imports.fingerprint import fingerprint, normalised

NAMES = st.from_regex(r"[a-z_]{1,12}", fullmatch=True)
IDS = st.integers(1, 10**15)
VALUES = st.text(st.characters(codec="utf-8", exclude_characters="'\"`"), max_size=20)
MOMENTS = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1)).map(lambda at: at.replace(microsecond=0))


@given(NAMES, st.tuples(IDS, IDS), st.tuples(VALUES, VALUES), st.tuples(MOMENTS, MOMENTS), st.sampled_from(Category))
def test_ids_values_and_times_do_not_tell_failures_apart(
    column: str,
    ids: tuple[int, int],
    values: tuple[str, str],
    moments: tuple[datetime, datetime],
    category: Category,
) -> None:
    def of(n: int) -> str:
        message = (
            f"acme-{moments[n]:%Y%m%d%H%M%S}-0001: record {ids[n]} of batch {ids[n] // 1000 * 1000} was refused at "
            f"{moments[n].isoformat()}Z: '{values[n]}' is no value of {column}"
        )
        return fingerprint(category, message, record_type="customer", table="customers", column=column)

    assert of(0) == of(1)


PLACES = st.tuples(*[st.none() | NAMES] * 4, st.sampled_from(Category))


@given(st.lists(PLACES, min_size=2, max_size=2, unique=True))
def test_another_place_is_another_failure(places: list[tuple[str | None, ...]]) -> None:
    one, other = (
        fingerprint(Category(category), "refused", record_type=of, table=table, column=column, constraint=constraint)
        for of, table, column, constraint, category in places
    )
    assert one != other


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("no answer after 300.0 s", "no answer after # s"),
        ("NetSuite answered 503 at /query/v1/suiteql?limit=1000", "NetSuite answered # at /query/#/suiteql?limit=#"),
        ("ids 4, 5 and -6 are twice", "ids # and # are twice"),
        ("1,204 of 1,300 rows", "# of # rows"),
        ("'O'Brien' is refused, isn't it", "? is refused, isn't it"),
        ("`nsimport retry acme-20260301120000-0001`\n  again", "? again"),
        ("its run ended before it was begun", "its run ended before it was begun"),
    ],
)
def test_what_is_left_of_a_message(message: str, expected: str) -> None:
    assert normalised(message) == expected
