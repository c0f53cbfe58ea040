"""Planning: every key in exactly one range, in few requests, whatever the account refuses."""

import re
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nsimport_pipeline.errors import (
    AccessDenied,
    ConfigurationError,
    PermanentError,
    RecordDenied,
    RecordNotAvailable,
    ServerError,
    TimedOut,
    UnsupportedSearch,
)
from nsimport_pipeline.imports.plan import PAGE_ROWS, PlannedType, chosen_types, key_ranges, make_plan, plan_type
from nsimport_pipeline.imports.waves import plan_runs, plan_waves
from nsimport_pipeline.netsuite.client import KeyCount, Page
from nsimport_pipeline.record_types.criteria import RecordType, load_catalog

CATALOG = load_catalog()
CUSTOMER = CATALOG["customer"]


class Account:
    """A NetSuite account that has nothing but keys."""

    def __init__(self, keys: Sequence[int], refuses: Exception | None = None, numbers: bool = True) -> None:
        self.keys = sorted(keys)
        self.refuses = refuses
        self.numbers = numbers
        self.asked: list[str] = []

    def count(self, record_type: RecordType, low: int | None = None, high: int | None = None) -> KeyCount:
        self.asked.append("count")
        if self.refuses is not None:
            raise self.refuses
        return KeyCount(len(self.keys), self.keys[0], self.keys[-1]) if self.keys else KeyCount(0, None, None)

    def query(self, statement: str, *, limit: int = 1000, offset: int = 0) -> Page:
        self.asked.append(statement)
        low, high = (int(re.search(rf"t\.id {sign} (-?\d+)", statement)[1]) for sign in (">", "<="))  # type: ignore[index]
        keys = [key for key in self.keys if low < key <= high]
        if "ROW_NUMBER" not in statement:
            items = [{"id": str(key)} for key in keys]
        elif not self.numbers:
            raise PermanentError("ROW_NUMBER is not supported")
        else:
            size = int(re.search(r"MOD\(b\.place, (\d+)\)", statement)[1])  # type: ignore[index]
            items = [{"last_key": str(key)} for key in keys[size - 1 :: size]]
        return Page(items[:limit], len(items))


def assert_covers(planned: PlannedType, keys: Sequence[int], size: int) -> None:
    """Each key in exactly one range; full batches, but for the last."""
    counts = [sum(r.low < key <= r.high for key in keys) for r in planned.ranges]
    assert sum(counts) == len(keys) == planned.records
    assert counts == [r.expected for r in planned.ranges]
    assert all(count == size for count in counts[:-1])
    assert all(before.high == after.low for before, after in pairwise(planned.ranges))
    assert [r.partition_key for r in planned.ranges] == [str(n * size) for n in range(len(counts))]
    assert [r.number for r in planned.ranges] == list(range(len(counts)))


@given(st.sets(st.integers(-5000, 5000), max_size=300), st.integers(1, 50), st.booleans())
def test_every_key_is_in_exactly_one_range(keys: set[int], size: int, numbers: bool) -> None:
    account = Account(sorted(keys), numbers=numbers)
    planned = plan_type(CUSTOMER, 0, client=account, batch_size=size)
    assert_covers(planned, sorted(keys), size)
    assert planned.upper_bound == max(keys, default=None)


@given(st.lists(st.integers(-(10**12), 10**12), min_size=1, unique=True), st.data())
def test_ranges_have_no_gap_wherever_the_boundaries_lie(keys: list[int], data: st.DataObject) -> None:
    low, high = min(keys) - 1, max(keys)
    boundaries = sorted(data.draw(st.sets(st.sampled_from(keys))))
    ranges = key_ranges("customer", low, high, boundaries, len(keys), 10)
    assert (ranges[0].low, ranges[-1].high) == (low, high)
    assert all(r.low < r.high and r.expected >= 0 for r in ranges)
    assert all(before.high == after.low for before, after in pairwise(ranges))


@pytest.mark.parametrize(
    ("records", "batches", "requests"),
    [(0, 0, 1), (1, 1, 1), (999, 1, 1), (1000, 1, 1), (1001, 2, 2), (2000, 2, 2), (999_999, 1000, 2)],
)
def test_requests_and_batches(records: int, batches: int, requests: int) -> None:
    account = Account(range(7, 7 + records))
    planned = plan_type(CUSTOMER, 3, client=account)
    assert (len(planned.ranges), planned.requests, len(account.asked)) == (batches, requests, requests)
    assert planned.level == 3
    assert sum(r.expected for r in planned.ranges) == records


def test_a_million_records_are_planned_with_three_requests_at_most() -> None:
    account = Account(range(1, 1_000_001))
    planned = plan_type(CUSTOMER, 0, client=account)
    assert len(planned.ranges) == 1000
    assert planned.requests == len(account.asked) <= 3


def test_more_boundaries_than_an_answer_holds_are_read_on() -> None:
    keys = range(1, 2 * PAGE_ROWS * 3 + 2, 2)
    account = Account(keys)
    planned = plan_type(CUSTOMER, 0, client=account, batch_size=2)
    assert len(planned.ranges) == 1501
    assert planned.requests == len(account.asked) == 3
    assert_covers(planned, keys, 2)


@pytest.mark.parametrize("refusal", [PermanentError("no"), ServerError("UNEXPECTED_ERROR")])
def test_where_row_number_is_refused_keys_are_walked_page_by_page(refusal: Exception) -> None:
    class Old(Account):
        def query(self, statement: str, *, limit: int = 1000, offset: int = 0) -> Page:
            page = super().query(statement, limit=limit, offset=offset)
            if "ROW_NUMBER" in statement:
                raise refusal
            return page

    account = Old(range(1, 4501))
    planned = plan_type(CUSTOMER, 0, client=account)
    assert_covers(planned, account.keys, 1000)
    assert planned.requests == len(account.asked) == 7  # the count, the refusal, five pages of keys


def test_a_record_type_that_the_account_does_not_have_is_no_failure() -> None:
    missing = Account([], refuses=RecordNotAvailable("Record 'subsidiary' was not found"))
    planned = plan_type(CATALOG["subsidiary"], 0, client=missing)
    assert planned.ranges == ()
    assert "OneWorld" in (planned.unavailable or "")
    assert "was not found" in (planned.unavailable or "")
    assert not planned.denied


@pytest.mark.parametrize(
    ("name", "refusal"),
    [
        ("customer", RecordNotAvailable("Record 'customer' was not found")),
        ("customer", RecordDenied("Invalid search type: customer")),
        ("subsidiary", RecordDenied("Invalid search type: subsidiary")),
        ("customer", UnsupportedSearch("Invalid or unsupported search")),
    ],
)
def test_a_record_type_that_the_role_may_not_see_is_denied(name: str, refusal: PermanentError) -> None:
    """A table that needs no feature is there in every account, whatever NetSuite says."""
    planned = plan_type(CATALOG[name], 0, client=Account([], refuses=refusal))
    assert planned.ranges == ()
    assert planned.denied
    assert str(refusal) in (planned.unavailable or "")
    assert "role" in (planned.unavailable or "")


@pytest.mark.parametrize("failure", [AccessDenied("401"), TimedOut("no answer")])
def test_other_failures_are_raised(failure: Exception) -> None:
    with pytest.raises(type(failure)):
        plan_type(CUSTOMER, 0, client=Account([], refuses=failure))

    class Denied(Account):
        def query(self, statement: str, *, limit: int = 1000, offset: int = 0) -> Page:
            raise failure

    with pytest.raises(type(failure)):
        plan_type(CUSTOMER, 0, client=Denied(range(5000)))


def test_a_plan_has_the_dependencies_first_and_counts_what_it_will_cost() -> None:
    names = chosen_types(CATALOG, ["sales_order"], with_dependencies=True)
    told: list[str] = []
    plan = make_plan(
        CATALOG, names, client=Account(range(2500)), wave_size=4, batch_sizes={"customer": 500}, workers=4,
        on_planned=lambda planned: told.append(planned.record_type),
    )  # fmt: skip

    assert sorted(told) == sorted(names)
    assert [t.level for t in plan.types] == sorted(t.level for t in plan.types)
    assert plan.records == 2500 * len(names)
    assert plan.batches == 3 * (len(names) - 1) + 5
    assert plan.requests == plan.batches + len(names)
    assert {(r.record_type, r.number) for w in plan.waves for r in w.ranges} == {
        (t.record_type, r.number) for t in plan.types for r in t.ranges
    }
    assert plan.estimate(slots=1, seconds_per_request=2.0) == 2.0 * plan.batches
    assert plan.estimate(slots=10**6, seconds_per_request=2.0) == 2.0 * (1 + max(t.level for t in plan.types))


def test_a_request_without_dependencies_is_one_level() -> None:
    names = chosen_types(CATALOG, ["sales_order", "customer", "customer"], with_dependencies=False)
    assert names == ["customer", "sales_order"]
    plan = make_plan(CATALOG, ["subsidiary"], client=Account([5]), wave_size=300, batch_sizes={}, workers=9)
    assert [t.level for t in plan.types] == [0]
    with pytest.raises(ConfigurationError, match="nonsense"):
        chosen_types(CATALOG, ["nonsense"], with_dependencies=False)


TYPES = st.dictionaries(st.sampled_from("abcdef"), st.tuples(st.integers(0, 3), st.integers(0, 40)), max_size=6)


@given(TYPES, st.integers(1, 50), st.integers(1, 100))
def test_waves_never_mix_levels_or_exceed_their_size(types: dict[str, tuple[int, int]], size: int, first: int) -> None:
    ranges = [r for name, (_, n) in types.items() if n for r in key_ranges(name, 0, n, range(1, n), n, 1)]
    waves = plan_waves(ranges, {name: level for name, (level, _) in types.items()}, size, first)

    assert [wave.number for wave in waves] == list(range(first, first + len(waves)))
    assert [wave.level for wave in waves] == sorted(wave.level for wave in waves)
    assert all(1 <= len(wave.ranges) <= size for wave in waves)
    assert all(types[r.record_type][0] == wave.level for wave in waves for r in wave.ranges)
    assert sorted((r.record_type, r.number) for w in waves for r in w.ranges) == sorted(
        (r.record_type, r.number) for r in ranges
    )
    by_level = {level: sum(w.level == level for w in waves) for level in {w.level for w in waves}}
    for level, count in by_level.items():
        batches = sum(n for own, n in types.values() if own == level)
        assert count == -(-batches // size), "no wave is left half empty but the level's last"


@given(TYPES, st.integers(1, 40), st.data())
def test_runs_are_adjacent_partitions_of_one_record_type(
    types: dict[str, tuple[int, int]], slots: int, data: st.DataObject
) -> None:
    ranges = [r for name, (_, n) in types.items() if n for r in key_ranges(name, 0, n, range(1, n), n, 1)]
    chosen = data.draw(st.sets(st.sampled_from(ranges))) if ranges else set()
    runs = plan_runs(3, 1, chosen, slots)

    assert [run.number for run in runs] == list(range(1, len(runs) + 1))
    assert [len(run.partition_keys) for run in runs] == sorted((len(r.partition_keys) for r in runs), reverse=True)
    assert sorted((run.record_type, key) for run in runs for key in run.partition_keys) == sorted(
        (r.record_type, r.partition_key) for r in chosen
    )
    for run in runs:
        offsets = [int(key) for key in run.partition_keys]
        assert offsets == list(range(offsets[0], offsets[0] + len(offsets)))
    assert plan_runs(3, 1, sorted(chosen, key=lambda r: (-r.number, r.record_type)), slots) == runs


# ---------------------------------------------------------------- derived record types

LINES = CATALOG["transaction_line"]


class Lines:
    """A NetSuite account that has nothing but lines: parent and key of each."""

    def __init__(self, lines: Sequence[tuple[int, int]], numbers: bool) -> None:
        self.lines = sorted(lines)
        self.numbers = numbers

    def count(self, record_type: RecordType, low: int | None = None, high: int | None = None) -> KeyCount:
        parents = [parent for parent, _ in self.lines]
        return KeyCount(len(parents), min(parents), max(parents)) if parents else KeyCount(0, None, None)

    def query(self, statement: str, *, limit: int = 1000, offset: int = 0) -> Page:
        after = re.search(r"t\.transaction = (\d+) AND t\.uniquekey > (\d+)", statement)
        low = re.search(r"AND t\.transaction > (-?\d+) AND", f"AND {statement.partition('WHERE ')[2]}")
        lines = self.lines
        if after is not None:
            lines = [line for line in lines if line > (int(after[1]), int(after[2]))]
        elif low is not None:
            lines = [line for line in lines if line[0] > int(low[1])]
        if "ROW_NUMBER" not in statement:
            items = [{"transaction": str(parent), "uniquekey": str(key)} for parent, key in lines]
        elif not self.numbers:
            raise PermanentError("ROW_NUMBER is not supported")
        else:
            size = int(re.search(r"MOD\(b\.place, (\d+)\)", statement)[1])  # type: ignore[index]
            places = range(size, len(lines) + 1, size)
            items = [{"last_key": str(lines[place - 1][0]), "place": str(place)} for place in places]
        return Page(items[:limit], len(items))


@given(st.dictionaries(st.integers(1, 200), st.integers(1, 40), max_size=60), st.integers(1, 30), st.booleans())
def test_every_parent_is_in_exactly_one_range_with_all_its_lines(
    parents: dict[int, int], size: int, numbers: bool
) -> None:
    lines = [(parent, 1000 - parent + n * 300) for parent, count in parents.items() for n in range(count)]
    planned = plan_type(LINES, 0, client=Lines(lines, numbers), batch_size=size)
    assert planned.records == len(lines) == sum(r.expected for r in planned.ranges)
    assert all(sum(r.low < parent <= r.high for r in planned.ranges) == 1 for parent in parents)
    assert all(before.high == after.low for before, after in pairwise(planned.ranges))
    offsets = [int(r.partition_key) for r in planned.ranges]
    assert offsets == sorted(set(offsets))
    # A range takes along the rest of its last parent, and no more.
    for r in planned.ranges:
        held = sum(count for parent, count in parents.items() if r.low < parent <= r.high)
        assert held < max(1, round(size * 0.9)) + parents[max(p for p in parents if p <= r.high)]
