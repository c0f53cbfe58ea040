"""Who is built on partial data: the rule as a table, and that it never says too much or too little."""

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nsimport_pipeline.imports.partial import partial_parents
from nsimport_pipeline.imports.records import TypePlan

UPSTREAM = {"order": ("customer", "item"), "line": ("order",)}


def plan(name: str, *, denied: bool = False, unavailable: bool = False) -> TypePlan:
    return TypePlan(name, 0, 1, None, unavailable="left out" if denied or unavailable else None, denied=denied)


@pytest.mark.parametrize(
    ("plans", "lacking", "expected"),
    [
        ([plan("customer"), plan("item"), plan("order"), plan("line")], set(), {}),
        ([plan("customer"), plan("order")], {"customer"}, {"order": ("customer",)}),
        ([plan("customer"), plan("item"), plan("order")], {"item", "customer"}, {"order": ("customer", "item")}),
        ([plan("customer", denied=True), plan("order")], set(), {"order": ("customer",)}),
        ([plan("customer", unavailable=True), plan("order")], set(), {}),
        ([plan("customer"), plan("order"), plan("line")], {"customer"}, {"order": ("customer",)}),
        ([plan("order")], {"customer"}, {}),
        ([plan("customer"), plan("order", denied=True)], {"customer"}, {}),
    ],
    ids=[
        "all is well", "failed or rejected", "two of them", "denied", "a feature that is off",
        "only direct parents", "a parent of another import", "one that does not go on",
    ],
)  # fmt: skip
def test_who_is_marked(plans: list[TypePlan], lacking: set[str], expected: dict[str, tuple[str, ...]]) -> None:
    assert partial_parents(plans, lacking, UPSTREAM) == expected


names = st.sampled_from("abcdef")


@given(
    plans=st.lists(st.builds(plan, names, denied=st.booleans()), unique_by=lambda one: one.record_type),
    lacking=st.sets(names),
    upstream=st.dictionaries(names, st.sets(names)),
)
def test_a_mark_names_parents_of_the_import_that_lack_something_and_all_of_them(
    plans: list[TypePlan], lacking: set[str], upstream: Mapping[str, set[str]]
) -> None:
    found = partial_parents(plans, lacking, upstream)
    by_name = {one.record_type: one for one in plans}
    for name, one in by_name.items():
        for parent in upstream.get(name, set()):
            lacks = parent in by_name and (parent in lacking or by_name[parent].denied)
            assert (parent in found.get(name, ())) == (lacks and one.unavailable is None)
    assert all(set(parents) <= upstream[name] for name, parents in found.items())
