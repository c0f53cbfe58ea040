"""The circuit as a state machine: what opens it, who probes and how often, what closes it."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from nsimport_pipeline.netsuite.circuit import (
    PROBE_LEASE,
    Circuit,
    CircuitState,
    after_answer,
    after_failed_probe,
    after_failed_request,
    probe_delay,
    probing,
    verdict,
)
from nsimport_pipeline.retry_settings import CircuitSettings

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
RULES = CircuitSettings(failures=3, probe_delay=5, longest_probe_delay=60)
chances = st.floats(0, 1, exclude_max=True)


def later(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def opened() -> Circuit:
    circuit = Circuit()
    for _ in range(RULES.failures):
        circuit = after_failed_request(circuit, NOON, RULES)
    return circuit


def test_failures_in_a_row_open_it_and_an_answer_between_them_does_not() -> None:
    circuit = Circuit()
    for _ in range(2):
        circuit = after_failed_request(circuit, NOON, RULES)
    assert (circuit.closed, circuit.failures) == (True, 2)
    circuit = after_answer(circuit, NOON)
    for _ in range(2):
        circuit = after_failed_request(circuit, NOON, RULES)
    assert circuit.closed
    circuit = after_failed_request(circuit, NOON, RULES)
    assert (circuit.state, circuit.opened_at, circuit.next_probe_at) == (CircuitState.OPEN, NOON, NOON)
    assert not circuit.confirmed
    assert str(circuit) == "NetSuite is answering"  # as long as a neutral question has not failed too
    circuit = after_failed_probe(probing(circuit, NOON), NOON, RULES, 1.0)
    assert circuit.confirmed
    assert str(circuit) == "NetSuite is not answering since 12:00 UTC; next probe at 12:00:05"


def test_requests_that_were_on_their_way_change_nothing() -> None:
    assert after_failed_request(opened(), later(3), RULES) == opened()


def test_nobody_asks_until_the_probe_is_due_and_then_one() -> None:
    assert verdict(opened(), NOON) == "probe"  # it may be the requests' own fault
    circuit = after_failed_probe(probing(opened(), NOON), NOON, RULES, 1.0)
    assert [verdict(circuit, later(s)) for s in (0, 4.9, 5, 500)] == ["wait", "wait", "probe", "probe"]
    half_open = probing(circuit, later(5))
    assert half_open.state is CircuitState.HALF_OPEN
    assert verdict(half_open, later(6)) == "wait"
    assert str(half_open).endswith("is being probed")
    assert verdict(half_open, later(5) + PROBE_LEASE) == "probe"  # the prober died


def test_a_failed_probe_confirms_the_outage_and_delays_grow_to_a_cap() -> None:
    circuit, now, delays = opened(), NOON, []
    for _ in range(7):
        assert circuit.next_probe_at is not None
        delays.append((circuit.next_probe_at - now).total_seconds())
        now = circuit.next_probe_at
        circuit = after_failed_probe(probing(circuit, now), now, RULES, 1.0)
    assert delays == [0, 5, 10, 20, 40, 60, 60]
    assert (circuit.confirmed, circuit.opened_at, circuit.probes) == (True, NOON, 7)


def test_an_answer_closes_it_whoever_got_it() -> None:
    for circuit in (opened(), probing(opened(), later(5)), after_failed_probe(opened(), later(5), RULES, 0.5)):
        assert after_answer(circuit, later(9)) == Circuit(changed_at=later(9))
    closed = after_answer(opened(), later(9))
    assert after_failed_probe(closed, later(10), RULES, 0.5) == closed


@given(st.integers(1, 10_000), chances)
def test_a_delay_is_spread_over_the_upper_half_and_never_beyond_the_cap(probes: int, chance: float) -> None:
    seconds = probe_delay(probes, RULES, chance).total_seconds()
    full = probe_delay(probes, RULES, 1.0).total_seconds()
    assert full / 2 <= seconds <= full <= RULES.longest_probe_delay


@given(st.lists(st.tuples(st.sampled_from(["fail", "answer", "ask", "probe fails"]), st.floats(0, 90), chances)))
def test_whatever_happens_there_is_a_way_to_go_on(steps: list[tuple[str, float, float]]) -> None:
    """Never open without a next probe, never open on fewer failures than it takes, one probe at a time."""
    circuit, now, in_a_row = Circuit(), NOON, 0
    for step, seconds, chance in steps:
        now += timedelta(seconds=seconds)
        was = circuit
        if step == "fail":
            in_a_row += was.closed
            circuit = after_failed_request(circuit, now, RULES)
        elif step == "answer":
            in_a_row = 0
            circuit = after_answer(circuit, now)
        elif verdict(circuit, now) == "probe":
            circuit = probing(circuit, now)
            assert verdict(circuit, now) == "wait"
        elif step == "probe fails":
            circuit = after_failed_probe(circuit, now, RULES, chance)
        assert circuit.closed == (in_a_row < RULES.failures)
        if not circuit.closed:
            assert circuit.next_probe_at is not None
            assert circuit.next_probe_at - now <= max(PROBE_LEASE, timedelta(seconds=RULES.longest_probe_delay))
            assert verdict(circuit, circuit.next_probe_at) == "probe"
