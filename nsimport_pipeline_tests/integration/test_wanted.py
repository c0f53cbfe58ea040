"""Waits that end with the import they are for."""

from collections.abc import Callable, Iterator

import pytest

from nsimport_pipeline.imports.wanted import LOOK_SECONDS, Interrupted, while_wanted
from nsimport_pipeline.warehouse.engine import make_engine
from nsimport_pipeline.warehouse.migrate import ensure_control_tables
from nsimport_pipeline_tests.integration.imports_world import World


@pytest.fixture
def world(warehouse_url: str) -> Iterator[World]:
    engine = make_engine(warehouse_url, pool_size=2)
    ensure_control_tables(engine)
    yield World(engine, [("currency", 0, 2)]).plan()
    engine.dispose()


class Clock:
    """Time passes only by sleeping; what happens meanwhile, each time."""

    def __init__(self, meanwhile: Callable[[float], None] = lambda now: None) -> None:
        self.slept: list[float] = []
        self._meanwhile = meanwhile

    def now(self) -> float:
        return sum(self.slept)

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self._meanwhile(self.now())


@pytest.mark.parametrize("seconds", [0.0, 0.5, 12.25])
def test_a_wait_takes_its_time_while_the_import_goes_on(world: World, seconds: float) -> None:
    clock = Clock()
    while_wanted(world.engine, world.id, clock.sleep, clock.now)(seconds)
    assert clock.now() == pytest.approx(seconds)
    assert max(clock.slept, default=0) <= LOOK_SECONDS


def test_a_wait_ends_with_the_next_look_after_the_import_was_cancelled(world: World) -> None:
    clock = Clock(lambda now: world.cancel() if now == 3 * LOOK_SECONDS else None)
    wait = while_wanted(world.engine, world.id, clock.sleep, clock.now)
    with pytest.raises(Interrupted):
        wait(1800)
    assert clock.now() == 3 * LOOK_SECONDS
    with pytest.raises(Interrupted):
        wait(0)
    assert clock.now() == 3 * LOOK_SECONDS


def test_a_database_that_is_gone_ends_no_wait() -> None:
    clock = Clock()
    while_wanted(make_engine("sqlite:////no/where.db", pool_size=1), "acme-1", clock.sleep, clock.now)(5)
    assert clock.now() == 5
