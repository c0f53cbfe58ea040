"""Where an import's time went: the bottleneck named is the one that was built in."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nsimport_pipeline.telemetry.performance import WORDS, measure
from nsimport_pipeline_tests.unit.telemetry.facts_of import at, batch, facts

SLOTS = 2


def spent(fetch: float = 0.1, wait: float = 0.0, transform: float = 0.1, write: float = 0.1, gap: float = 0.0):
    """Ten batches on two slots, one second each, with so many seconds in each part, and a gap after each pair."""
    return facts(
        *(
            batch(
                n, n // 2 * (1 + gap), n // 2 * (1 + gap) + 1,
                fetch_seconds=fetch, slot_wait_seconds=wait, transform_seconds=transform, write_seconds=write,
            )
            for n in range(10)
        )
    )  # fmt: skip


@pytest.mark.parametrize(
    ("imported", "bottleneck", "advice"),
    [
        (spent(fetch=0.95), "netsuite", "More slots would help, if"),
        (spent(fetch=0.6), "netsuite", "help little"),
        (spent(fetch=0.2, wait=0.7), "slot_wait", "would not help: NetSuite refused"),
        (spent(write=0.9), "database", "would not help: the database"),
        (spent(transform=0.9), "transform", "would not help: the processor"),
        (spent(fetch=0.3, gap=3), "dagster", "stood idle"),
    ],
)
def test_the_bottleneck_is_named_and_the_advice_fits(imported, bottleneck: str, advice: str) -> None:
    found = measure(imported, at(99), slots=SLOTS)
    assert found.bottleneck == bottleneck
    assert advice in found.advice[0]
    assert WORDS[found.bottleneck] in found.line
    assert found.document()["bottleneck"] == bottleneck


def test_idle_time_is_when_no_batch_was_worked_on() -> None:
    found = measure(facts(batch(0, 2, 4), batch(1, 3, 6), batch(2, 9, 10)), at(99), slots=SLOTS)
    assert (found.wall, found.dagster) == (10, 5)
    assert found.queued == 2 + 3 + 9


def test_an_open_import_is_measured_up_to_now() -> None:
    running = facts(batch(0, 0, 2), batch(1, 4, 4, state="processing", finished_at=None), state="running")
    found = measure(running, at(10), slots=SLOTS)
    assert (found.wall, found.dagster, found.batches) == (10, 2, 1)
    assert found.bottleneck is None
    assert "too little" in found.line


def test_an_import_that_has_not_started_takes_no_time() -> None:
    found = measure(facts(started_at=None, state="pending", finished_at=None), at(5), slots=SLOTS)
    assert (found.wall, found.records_per_second, found.bottleneck, found.slot_use) == (0, 0, None, None)


seconds = st.floats(0, 1e4)


@given(st.lists(st.tuples(seconds, seconds, seconds, seconds, seconds), max_size=12), st.integers(1, 20), seconds)
def test_shares_stay_within_what_there_was(spans, slots: int, until: float) -> None:
    batches = [
        batch(n, begin, begin + took, fetch_seconds=f, transform_seconds=t, write_seconds=w)
        for n, (begin, took, f, t, w) in enumerate(spans)
    ]
    found = measure(facts(*batches), at(until), slots=slots)
    assert 0 <= found.dagster <= found.wall + 1e-6
    assert found.slot_use is None or 0 <= found.slot_use <= 1
    assert (found.bottleneck is not None) == (len(batches) >= 3 and found.wall > 0)
    assert bool(found.advice) >= (found.bottleneck is not None)
