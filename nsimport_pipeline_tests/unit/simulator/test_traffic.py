"""Slots of the account, and the record of requests."""

from hypothesis import given
from hypothesis import strategies as st

from nsimport_pipeline.simulator.traffic import Ticket, Traffic


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_one_request_more_than_slots_is_refused_at_once_and_recorded() -> None:
    traffic = Traffic(2, Clock())
    tickets = [traffic.enter("suiteql") for _ in range(3)]
    assert [ticket is not None for ticket in tickets] == [True, True, False]
    assert traffic.statistics()["statuses"] == {"429": 1}
    assert tickets[0] is not None
    traffic.leave(tickets[0], 200)
    assert traffic.enter("suiteql") is not None


def test_other_users_take_from_the_same_slots_but_are_not_counted_as_ours() -> None:
    traffic = Traffic(2, Clock())
    assert traffic.take_noise()
    assert traffic.enter("suiteql") is not None
    assert traffic.enter("suiteql") is None
    assert not traffic.take_noise()
    assert traffic.max_in_flight == 1
    traffic.give_noise()
    assert traffic.enter("suiteql") is not None


def test_the_record_tells_begin_end_kind_and_status() -> None:
    clock = Clock()
    traffic = Traffic(5, clock)
    clock.now = 1.0
    ticket = traffic.enter("metadata")
    assert ticket is not None
    clock.now = 3.5
    traffic.leave(ticket, 500)
    assert traffic.statistics()["log"] == [{"kind": "metadata", "start": 1.0, "end": 3.5, "status": 500}]
    traffic.reset()
    assert traffic.statistics()["requests"] == 0


@given(st.integers(1, 6), st.lists(st.booleans(), max_size=60))
def test_never_more_in_flight_than_slots_whatever_comes_and_goes(slots: int, moves: list[bool]) -> None:
    traffic = Traffic(slots, Clock())
    inside: list[Ticket] = []
    for arrives in moves:
        if arrives:
            ticket = traffic.enter("suiteql")
            assert (ticket is None) == (len(inside) >= slots)
            inside += [ticket] if ticket else []
        elif inside:
            traffic.leave(inside.pop(), 200)
        assert traffic.in_flight == len(inside) <= slots
    assert traffic.max_in_flight <= slots
