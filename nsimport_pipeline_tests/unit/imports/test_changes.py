"""Which changes are asked for: none is missed between two imports, whatever clocks and zones do."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nsimport_pipeline.imports.changes import changes_since, derived_since, upper_bound
from nsimport_pipeline.imports.records import KeyRange, TypePlan, Watermark
from nsimport_pipeline.record_types.criteria import load_catalog

CATALOG = load_catalog()
CUSTOMER = CATALOG["customer"]
NOW = datetime(2026, 11, 1, 9, tzinfo=UTC)
DAY = timedelta(days=1)
PINNED = (KeyRange("customer", 0, "0", 0, 99, 99),)
MARK = Watermark("customer", NOW - DAY, 99, "acme-1")
SECONDS = st.integers(0, 10**6)


@given(
    starts=st.lists(SECONDS, min_size=1, max_size=10).map(sorted),
    change=SECONDS,
    late=st.integers(0, 3600),
)
def test_a_change_is_in_some_import_that_begins_when_it_can_be_seen(starts: list[int], change: int, late: int) -> None:
    """``change`` is the time NetSuite gives it, ``late`` how much later others see it: less than the overlap."""
    mark = replace(MARK, modified_at=NOW)
    seen = False
    for start in starts:
        until = NOW + timedelta(seconds=start)
        changes = changes_since(CUSTOMER, mark, PINNED, until=until, overlap=timedelta(hours=1))
        assert changes is not None
        moment = NOW + timedelta(seconds=change)
        seen = seen or (change + late <= start and changes.since <= moment <= changes.until)
        mark = replace(mark, modified_at=until)
    assert seen == (change + late <= starts[-1])


@given(st.floats(-86400, 86400))
def test_the_bound_is_netsuites_clock_in_whole_seconds(apart: float) -> None:
    bound = upper_bound(NOW + timedelta(milliseconds=700), apart)
    assert bound.microsecond == 0
    assert timedelta(0) <= NOW + timedelta(milliseconds=700, seconds=apart) - bound < timedelta(seconds=1)
    assert upper_bound(NOW, None) == NOW


@pytest.mark.parametrize(
    ("record_type", "mark", "pinned", "left_out"),
    [
        (CATALOG["customer_subsidiary"], MARK, PINNED, ()),
        (CUSTOMER, None, PINNED, ()),
        (CUSTOMER, MARK, (), ()),
        (CUSTOMER, MARK, PINNED, ("lastmodifieddate",)),
    ],
    ids=["no column", "never imported", "no partitions", "a column that the account lacks"],
)
def test_what_cannot_be_told_is_loaded_whole(record_type, mark, pinned, left_out) -> None:  # type: ignore[no-untyped-def]
    assert changes_since(record_type, mark, pinned, until=NOW, overlap=DAY, left_out=left_out) is None


def plan(name: str, since: datetime | None, unavailable: str | None = None) -> tuple[str, TypePlan]:
    return name, TypePlan(name, 0, 0, None, unavailable, changed_since=since)


@pytest.mark.parametrize(
    ("own", "then", "now", "plans", "expected"),
    [
        (NOW, ["invoice"], ["invoice"], [], NOW),
        (NOW, ["invoice"], ["invoice"], [plan("invoice", NOW - DAY)], NOW - DAY),
        (NOW - DAY, ["invoice"], ["invoice"], [plan("invoice", NOW)], NOW - DAY),
        (NOW, ["invoice"], ["invoice"], [plan("invoice", None)], None),
        (NOW, ["invoice"], ["invoice"], [plan("invoice", None, "no such feature")], NOW),
        (NOW, ["invoice"], ["invoice", "sales_order"], [], None),
        (NOW, None, ["invoice"], [], None),
        (None, ["invoice"], ["invoice"], [], None),
    ],
)
def test_lines_begin_where_their_parents_begin(own, then, now, plans, expected) -> None:  # type: ignore[no-untyped-def]
    assert derived_since(own, then, now, dict(plans)) == expected
