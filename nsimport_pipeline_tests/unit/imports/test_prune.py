"""Which imports may be forgotten."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from nsimport_pipeline.imports.prune import Finished, prunable

NOW = datetime(2026, 6, 1, tzinfo=UTC)
IMPORTS = st.lists(
    st.tuples(st.integers(0, 200), st.frozensets(st.sampled_from("abcd")), st.booleans()), max_size=12
).map(lambda drawn: [Finished(f"i{n}", NOW - timedelta(days=age), *rest) for n, (age, *rest) in enumerate(drawn)])


def finished(name: str, days_ago: int, *record_types: str, whole: bool = True) -> Finished:
    return Finished(name, NOW - timedelta(days=days_ago), frozenset(record_types), whole)


def test_old_imports_go_and_the_last_of_each_record_type_stays() -> None:
    imports = [
        finished("recent", 5, "customer"),
        finished("old", 100, "customer"),
        finished("last of item", 150, "item", "customer"),
        finished("older", 200, "item"),
        finished("failed", 140, "item", whole=False),
        finished("planned nothing", 120),
    ]
    assert prunable(imports, NOW - timedelta(days=90)) == ["older", "failed", "planned nothing", "old"]


@given(IMPORTS, st.integers(0, 200))
def test_nothing_younger_goes_and_each_record_type_keeps_its_newest(imports: list[Finished], days: int) -> None:
    before = NOW - timedelta(days=days)
    gone = set(prunable(imports, before))
    left = [i for i in imports if i.import_id not in gone]
    assert all(i.finished_at < before for i in imports if i.import_id in gone)
    for record_type in "abcd":
        of_type = [i for i in imports if i.whole and record_type in i.record_types]
        if of_type:
            assert max(i.finished_at for i in of_type) == max(
                i.finished_at for i in left if i.whole and record_type in i.record_types
            )


@given(IMPORTS, st.integers(0, 200))
def test_pruning_again_finds_nothing(imports: list[Finished], days: int) -> None:
    before = NOW - timedelta(days=days)
    gone = set(prunable(imports, before))
    assert prunable([i for i in imports if i.import_id not in gone], before) == []
