"""The short set of ``make test``: some hours around each change of the clocks, with an import every hour.

``python -m nsimport_pipeline_tests.life`` follows a whole week.
"""

from datetime import timedelta
from itertools import pairwise
from pathlib import Path

from nsimport_pipeline.simulator.process import SimulatorProcess
from nsimport_pipeline.warehouse.engine import make_engine
from nsimport_pipeline_tests.life.course import Course, options
from nsimport_pipeline_tests.life.events import AUTUMN, BULK, FAULTS, SPRING, WEIGHTS, draw

SEED = 9
"""All kinds of events, a type to be swept, requests refused: in eleven imports."""
HOUR = timedelta(hours=1)
OVERLAP = timedelta(hours=3)


def test_hours_of_a_company_s_life_arrive_exactly(mysql_url: str, tmp_path: Path) -> None:
    life = draw(SEED, 0.2, every=HOUR, overlap=OVERLAP, looks=6 * HOUR)
    said: list[str] = []
    with SimulatorProcess(options(credentials=tmp_path)) as simulator:
        story = Course(life, simulator, make_engine(mysql_url, pool_size=3), overlap=OVERLAP, say=said.append).run()
    print(*said, sep="\n")
    assert story.problems == []
    assert story.looks == 4
    assert story.rows_written > BULK
    assert story.deleted
    assert story.sweeps == 3
    assert set(story.statuses) > {"200"}


def test_a_seed_always_draws_the_same() -> None:
    assert draw(5, 2) == draw(5, 2) != draw(6, 2)


def test_a_week_has_everything_in_it_and_ends_quietly() -> None:
    life = draw(1)
    steps, events = life.steps, list(life.events)
    assert {event.kind for event in events} == {"bulk", *WEIGHTS}
    assert sum(event.count == BULK and event.kind == "bulk" for event in events) >= 3
    assert any(event.late and event.kind == "insert" for event in events)
    assert {kind for kind in FAULTS if any(step.faults.startswith(kind) for step in steps)} == set(FAULTS)
    for change in (SPRING, AUTUMN):
        around = {event.at - change for event in events}
        assert {timedelta(seconds=n) for n in (-1, 0, 1)} <= around
    # Eight midnights, after the months with little, and at both ends.
    assert [step.look for step in steps if step.sweep] == [True] * 11
    gaps = [later.at - one.at for one, later in pairwise(steps)]
    assert len(steps) >= 672
    assert [gap for gap in gaps if gap != timedelta(minutes=15)] == [max(gaps)]
    ends = (steps[gaps.index(max(gaps))], steps[-1])
    assert all(step.look and not step.meanwhile for step in ends)


def test_what_was_written_down_is_seen_before_the_import_that_must_have_it() -> None:
    overlap = timedelta(hours=6)
    for seed in range(20):
        life = draw(seed, 1, overlap=overlap)
        before = life.begins
        for step in life.steps:
            assert all(before < event.seen <= step.at for event in step.before)
            assert all(event.at <= event.seen < event.at + overlap for event in step.before if step.at - before < HOUR)
            assert all(event.seen >= step.at for event in step.meanwhile)
            before = step.at
