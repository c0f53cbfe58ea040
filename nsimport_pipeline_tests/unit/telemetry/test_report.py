"""The report: one page that needs nothing beside it, says what the facts say, and runs nothing a record says."""

import re
from html.parser import HTMLParser

import pytest

from nsimport_pipeline.telemetry.facts import ErrorFact, RejectFact
from nsimport_pipeline.telemetry.report import duration, report
from nsimport_pipeline_tests.unit.telemetry.facts_of import at, batch, facts

HOSTILE = "<script>alert('x')</script>\"'&"


@pytest.fixture(scope="module")
def page() -> str:
    imported = facts(
        batch(0, 0, 2),
        batch(1, 1, 3, rows_rejected=4, rows_upserted=996, retries=7),
        batch(2, 1, 4, state="failed", attempts=3, category="timeout", rows_upserted=0),
        batch(0, 5, 9, record_type="invoice", level=1),
        state="completed_with_failures",
        reason=HOSTILE,
        errors=(ErrorFact("timeout", "customer", None, 5, 1, HOSTILE),),
        rejects=(RejectFact("customer", HOSTILE, "text too long", 4),),
    )
    return report(imported, at(100), slots=2)


class Seen(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.texts: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("href", "src", "xlink:href", "srcset")]

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_the_page_needs_nothing_beside_it_and_runs_nothing(page: str) -> None:
    seen = Seen()
    seen.feed(page)
    assert {"script", "link", "img", "iframe", "object"}.isdisjoint(seen.tags)
    assert seen.links == []
    assert not re.search(r"url\(|@import", page)
    assert "".join(seen.texts).count(HOSTILE) == 3
    assert len(page) < 400_000


def test_every_chart_is_there_for_a_wide_and_a_narrow_page(page: str) -> None:
    titles = re.findall(r'<svg [^>]*aria-label="([^"]+)" viewBox="0 0 \d', page)
    assert len(titles) == 10
    assert {titles.count(title) for title in titles} == {2}
    widths = [int(width) for width in re.findall(r'viewBox="0 0 (\d+)', page)]
    assert sorted(set(widths)) == [340, 1000]


def test_the_page_says_what_the_facts_say(page: str) -> None:
    text = re.sub(r"\s+", " ", re.sub(r"<style.*?</style>|<[^>]+>", " ", page, flags=re.S))
    for said in (
        "2,996 of 4,000 records imported",
        "333 records per second",
        "1 of 4 batches failed",
        "4 records rejected",
        "7 of them sent again",
        "customer 2000 (timeout)",
        "nsimport retry acme-20260301120000-0001",
        "completed with failures",
    ):
        assert said in text, said


def test_an_import_that_has_not_begun_has_a_page_without_charts() -> None:
    page = report(facts(state="planning", started_at=None, finished_at=None), at(1), slots=5)
    assert "<svg" not in page
    assert "No batch is completed yet." in page


@pytest.mark.parametrize(
    ("seconds", "said"), [(0, "0.0 s"), (59.94, "59.9 s"), (185, "3 min 05 s"), (7440, "2 h 04 min")]
)
def test_durations_are_said_as_people_say_them(seconds: float, said: str) -> None:
    assert duration(seconds) == said
