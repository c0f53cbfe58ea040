"""The grammar of faults, and whom they hit."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nsimport_pipeline.errors import ConfigurationError
from nsimport_pipeline.simulator.accounts import FEATURES
from nsimport_pipeline.simulator.faults import FAULTS_HELP, REQUEST_KINDS, FaultPlan, Faults, RequestFault, parse_faults


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def struck(spec: str, count: int, seed: int = 1) -> list[str | None]:
    faults = Faults(parse_faults(spec), seed, Clock())
    found = [faults.strike() for _ in range(count)]
    return [fault.kind if fault else None for fault in found]


def test_nothing_goes_wrong_without_faults() -> None:
    assert struck("", 50) == [None] * 50


def test_request_faults_with_probability_value_and_window() -> None:
    plan = parse_faults("429:0.5=2@3-9, slow=1.5, wrongtotal=-3, reset@2s-4s")
    assert plan.requests == (
        RequestFault("429", 0.5, 2.0, 3, 9),
        RequestFault("slow", 1.0, 1.5),
        RequestFault("wrongtotal", 1.0, -3.0),
        RequestFault("reset", 1.0, None, 2, 4, in_seconds=True),
    )


def test_a_window_counts_requests_from_one() -> None:
    assert struck("500@2-3", 5) == [None, "500", "500", None, None]
    assert struck("empty@2", 3) == [None, "empty", None]
    assert struck("empty@2-", 4) == [None, "empty", "empty", "empty"]


def test_a_window_in_seconds_counts_from_when_the_faults_were_set() -> None:
    clock = Clock()
    faults = Faults(parse_faults("401@1s-2s"), 1, clock)
    hits = []
    for _ in range(4):
        hits.append(faults.strike() is not None)
        clock.now += 0.9
    assert hits == [False, False, True, False]


def test_the_same_seed_strikes_the_same_requests() -> None:
    spec = "429:0.3,500:0.1,truncated:0.05"
    assert struck(spec, 300) == struck(spec, 300)
    assert struck(spec, 300) != struck(spec, 300, seed=2)
    assert 60 < struck(spec, 300).count("429") < 120


def test_lasting_faults() -> None:
    plan = parse_faults(
        "badcolumn:transaction.memo,removed:customer.fax,unknown:*.subsidiary,missing:currency,denied:charge,"
        "noise:3,tokenlife:5,outage:60=reset,cap400,wide,needasc"
    )
    assert plan.variant.broken == {("transaction", "memo")}
    assert plan.variant.removed == {("customer", "fax")}
    assert plan.variant.unknown == {("*", "subsidiary")}
    assert plan.variant.missing == {"currency"}
    assert plan.variant.denied == {"charge"}
    assert (plan.noise, plan.token_lifetime, plan.outage, plan.outage_kind) == (3, 5.0, 60.0, "reset")
    assert plan.switches == {"cap400", "wide", "needasc"}


def test_an_outage_ends() -> None:
    clock = Clock()
    faults = Faults(parse_faults("outage:60"), 1, clock)
    assert faults.outage() == "503"
    clock.now += 60
    assert faults.outage() is None


def test_an_account_without_a_feature() -> None:
    variant = parse_faults("without:oneworld,without:multicurrency").variant
    assert {"subsidiary", "currency", "customersubsidiaryrelationship"} <= variant.missing
    assert ("*", "subsidiary") in variant.unknown


@pytest.mark.parametrize(
    "part",
    [
        "nonsense",
        "429:2",
        "429:x",
        "429@x",
        "429@9-3",
        "429@1s-3",
        "slow=fast",
        "badcolumn:memo",
        "badcolumn",
        "missing",
        "without:oxygen",
        "outage:5=403",
        "outage:soon",
        "missing:currency@3",
        "500:nan",
        "wide:1=",
        "::",
    ],
)
def test_a_wrong_part_is_named(part: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_faults(f"500:0.1,{part}")
    assert part in str(caught.value)


@given(st.text(max_size=40))
def test_any_spec_is_read_or_refused(spec: str) -> None:
    with contextlib.suppress(ConfigurationError):
        assert isinstance(parse_faults(spec), FaultPlan)


def test_the_help_names_everything() -> None:
    for word in (*REQUEST_KINDS, *FEATURES, "outage", "badcolumn", "removed", "unknown", "missing", "denied", "noise"):
        assert word in FAULTS_HELP


def test_large_answers_take_longer_and_too_many_at_once_get_less_done() -> None:
    plain, plan = FaultPlan(), parse_faults("slowrows:4,crowd:3")
    assert plain.service_seconds(0.5, 20_000, 99) == 0.5
    assert plan.service_seconds(0.5, 0, 3) == 0.5
    assert plan.service_seconds(0.5, 20_000, 1) == 4.5
    assert plan.service_seconds(0.5, 10_000, 1) == 2.5
    assert plan.service_seconds(1.0, 0, 6) == 4.0
    done = [n / plan.service_seconds(1.0, 0, n) for n in range(1, 9)]
    assert max(done) == done[2] == 3.0
    assert done[3:] == sorted(done[3:], reverse=True)
