"""Record types in dependency order."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nsimport_pipeline.errors import ConfigurationError
from nsimport_pipeline.record_types.criteria import Catalog, RecordType, parse_criteria
from nsimport_pipeline.record_types.graph import check_graph, closure, dependents, generations, levels


def catalog(edges: dict[str, list[str]], derived: dict[str, list[str]] | None = None) -> Catalog:
    def one(name: str) -> RecordType:
        document = {"record_type": name, "family": "lists", "table": name, "description": ".", "source": {"from": name}}
        more = {"dependencies": edges[name], "derived_from": (derived or {}).get(name, []), "fields": []}
        return parse_criteria(document | more, name)

    return Catalog({name: one(name) for name in edges})


DIAMOND = catalog({"a": [], "b": ["a"], "c": ["a"], "d": ["b", "c"], "e": [], "f": []}, derived={"f": ["d"]})


def test_each_generation_needs_only_those_before_it() -> None:
    assert generations(DIAMOND) == [["a", "e"], ["b", "c"], ["d"], ["f"]]


def test_derived_record_types_come_after_all_others() -> None:
    types = catalog({"a": [], "b": ["a"], "lines": [], "parts": ["lines"]}, derived={"lines": ["a"], "parts": ["a"]})
    assert generations(types) == [["a"], ["b"], ["lines"], ["parts"]]
    assert generations(types, ["lines"]) == [["lines"]]


def test_only_edges_inside_the_request_count() -> None:
    assert generations(DIAMOND, ["d", "a"]) == [["a", "d"]]
    assert levels(DIAMOND, ["b", "d", "e"]) == {"b": 0, "d": 1, "e": 0}


def test_the_closure_follows_dependencies_and_parents() -> None:
    assert closure(DIAMOND, ["f"]) == ["a", "b", "c", "d", "f"]
    assert closure(DIAMOND, []) == []
    with pytest.raises(ConfigurationError, match="unknown record type 'z'"):
        closure(DIAMOND, ["z"])


def test_dependents_are_found_at_any_distance() -> None:
    assert dependents(DIAMOND, "a") == {"b", "c", "d", "f"}
    assert dependents(DIAMOND, "f") == set()


def test_depending_on_oneself_is_a_cycle_that_is_named() -> None:
    with pytest.raises(ConfigurationError, match=r"^x\.json: dependencies: cycle x -> x$"):
        check_graph(catalog({"x": ["x"]}), {"x": "x.json"})


@st.composite
def acyclic(draw: st.DrawFn) -> dict[str, list[str]]:
    names = [f"n{number}" for number in range(draw(st.integers(1, 12)))]
    return {
        name: draw(st.lists(st.sampled_from(names[:place]), unique=True, max_size=4)) if place else []
        for place, name in enumerate(names)
    }


@given(acyclic())
def test_any_graph_without_cycle_has_tight_levels(edges: dict[str, list[str]]) -> None:
    level = levels(catalog(edges))
    for name, needs in edges.items():
        assert level[name] == max((level[other] + 1 for other in needs), default=0)
