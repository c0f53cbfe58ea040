"""The simulated account's own clock."""

from datetime import UTC, datetime

import pytest

from nsimport_pipeline.errors import ConfigurationError
from nsimport_pipeline.simulator.clock import AccountClock, parse_moment

MOMENT = datetime(2031, 3, 9, 10, 0, 5, 600_000, tzinfo=UTC)


def test_once_set_it_stands_still_in_whole_seconds_until_it_is_let_go() -> None:
    clock = AccountClock()
    real = clock()
    clock.set(MOMENT)
    assert clock() == clock() == MOMENT.replace(microsecond=0).timestamp()
    clock.set(None)
    assert real <= clock() < real + 3600


@pytest.mark.parametrize(
    "text", ["2031-03-09T10:00:05.600Z", "2031-03-09T10:00:05.600", "2031-03-09T02:00:05.600-08:00"]
)
def test_a_moment_is_utc_unless_it_says_otherwise(text: str) -> None:
    assert parse_moment(text) == MOMENT


def test_what_is_no_moment_is_refused() -> None:
    assert parse_moment(None) is None
    with pytest.raises(ConfigurationError, match="'soon' is no moment"):
        parse_moment("soon")
