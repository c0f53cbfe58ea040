"""Limit, offset, links and the cap at 100,000 results."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nsimport_pipeline.simulator.paging import CAP, Page, PagingError, envelope, parse_page

ADDRESS = "http://host/suiteql"


def rels(document: dict[str, object]) -> list[str]:
    links = document["links"]
    assert isinstance(links, list)
    return [link["rel"] for link in links]


def items(count: int) -> list[dict[str, object]]:
    return [{"links": []} for _ in range(count)]


def test_without_parameters_a_page_has_1000_rows() -> None:
    assert parse_page("") == Page(1000, 0, asked=False)


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=ten", "limit"),
        ("limit=-5", "limit"),
        ("limit=", "limit"),
        ("offset=-1", "offset"),
        ("limit=10&offset=15", "offset"),
        ("offset=500", "offset"),
    ],
)
def test_wrong_limits_and_offsets_are_refused(query: str, parameter: str) -> None:
    with pytest.raises(PagingError) as caught:
        parse_page(query)
    assert caught.value.parameter == parameter


def test_oracles_own_sample() -> None:
    document = envelope(ADDRESS, parse_page("limit=5&offset=10"), items(5), 61)
    assert rels(document) == ["previous", "first", "next", "last", "self"]
    assert [link["href"] for link in document["links"]] == [
        f"{ADDRESS}?limit=5&offset={offset}" for offset in (5, 0, 15, 60, 10)
    ]
    assert {key: document[key] for key in ("count", "hasMore", "offset", "totalResults")} == {
        "count": 5,
        "hasMore": True,
        "offset": 10,
        "totalResults": 61,
    }


def test_first_and_last_and_only_page() -> None:
    assert rels(envelope(ADDRESS, parse_page("limit=5"), items(5), 7)) == ["next", "last", "self"]
    assert rels(envelope(ADDRESS, parse_page("limit=5&offset=5"), items(2), 7)) == ["previous", "first", "self"]
    assert envelope(ADDRESS, parse_page(""), items(2), 2)["links"] == [{"rel": "self", "href": ADDRESS}]


def test_past_100000_it_stops_silently_with_the_true_total() -> None:
    last = parse_page("offset=99000")
    document = envelope(ADDRESS, last, items(1000), 150_000)
    assert (document["hasMore"], document["totalResults"]) == (False, 150_000)
    assert "next" not in rels(document)
    beyond = parse_page("offset=100000")
    assert beyond.wanted == 0
    assert envelope(ADDRESS, beyond, [], 150_000)["hasMore"] is False


def test_past_100000_it_can_refuse_instead() -> None:
    with pytest.raises(PagingError):
        parse_page("offset=100000", refuse_past_cap=True)


def test_a_small_limit_reaches_1000_pages_only() -> None:
    page = parse_page("limit=10&offset=9990")
    assert page.wanted == 10
    assert envelope(ADDRESS, page, items(10), 50_000)["hasMore"] is False


@given(st.integers(1, 1000), st.integers(0, 250_000))
def test_following_has_more_visits_every_reachable_row_once(limit: int, total: int) -> None:
    offset = seen = pages = 0
    while True:
        page = parse_page(f"limit={limit}&offset={offset}")
        count = max(0, min(page.wanted, total - offset))
        seen, pages = seen + count, pages + 1
        if not envelope(ADDRESS, page, items(count), total)["hasMore"]:
            break
        offset += limit
    assert seen == min(total, CAP, limit * 1000)
    assert pages <= 1000
