"""The gate: whatever is thrown at the queue, in whatever order, only what may start is let in."""

from collections import defaultdict
from dataclasses import dataclass, field, replace
from math import floor
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nsimport_pipeline.imports.gate import GateRun, admit


def run(run_id: str, *, group: str = "i", wave: int = 1, batches: int = 10, **more: object) -> GateRun:
    values: dict[str, object] = {"tenant": "acme", "level": 0, "done": 0, "phase": "shut", "wave_size": 100} | more
    return GateRun(run_id, group=group, wave=wave, batches=batches, **values)  # type: ignore[arg-type]


def let_in(*runs: GateRun) -> list[str]:
    return admit(runs)[0]


def reason(run_id: str, *runs: GateRun) -> str:
    return next(held.reason for held in admit(runs)[1] if held.run_id == run_id)


def test_thirty_waves_at_once_start_one_after_the_other() -> None:
    runs = [run(f"w{n}", wave=n, batches=100) for n in range(30, 0, -1)]

    for n in range(1, 31):
        place = 30 - n
        assert let_in(*runs) == [f"w{n}"]
        runs[place] = replace(runs[place], phase="open", done=89)
        assert let_in(*runs) == []
        runs[place] = replace(runs[place], done=90)
        if n > 1:
            # Beside a wave runs the tail of the one before; not those of two.
            assert let_in(*runs) == []
            runs[place + 1] = replace(runs[place + 1], phase="ended", done=100)


def test_thirty_waves_that_arrive_last_first_while_the_gate_is_asked_run_one_at_a_time() -> None:
    waiting = list(range(30, 0, -1))
    runs = [run(f"w{waiting.pop(0)}", wave=30, batches=10)]
    assert let_in(*runs) == ["w30"]
    runs[0] = replace(runs[0], phase="open")
    while waiting:
        wave = waiting.pop(0)
        runs.append(run(f"w{wave}", wave=wave, batches=10))
        assert let_in(*runs) == [], "a wave is active already"

    for active in (0, *range(29, 0, -1)):
        runs[active] = replace(runs[active], phase="open")
        assert let_in(*runs) == []
        runs[active] = replace(runs[active], phase="ended", done=10)
        expected = {0: ["w1"], 1: []}.get(active, [f"w{30 - active + 1}"])
        assert let_in(*runs) == expected


def test_an_earlier_wave_waits_only_for_what_was_let_in_of_a_later_one() -> None:
    ahead = run("ahead", wave=2, phase="open")
    behind, first = run("behind", wave=2), run("first", wave=1)

    assert let_in(ahead, behind, first) == []
    assert let_in(replace(ahead, phase="ended", done=10), behind, first) == ["first"]


def test_a_level_waits_while_the_last_five_per_cent_of_the_one_below_run() -> None:
    below = run("below", batches=100, phase="open", done=95)
    above = run("above", level=1, wave=2)

    assert let_in(below, above) == []
    assert reason("above", below, above) == "level 0 has 5 batches to finish"
    assert let_in(replace(below, done=100), above) == ["above"]


def test_small_record_types_of_one_wave_run_side_by_side() -> None:
    assert let_in(*(run(f"r{n}", batches=3) for n in range(20))) == [f"r{n}" for n in range(20)]


def test_a_run_that_died_holds_back_until_it_is_folded_and_given_to_another() -> None:
    dead = run("dead", batches=10, phase="ended", done=2)
    later, above = run("later", wave=2), run("above", level=1, wave=3)

    assert let_in(dead, later, above) == []
    assert let_in(replace(dead, hold="level"), later, above) == ["later"]
    assert let_in(replace(dead, hold="none"), above) == ["above"]


def test_a_run_larger_than_the_room_starts_alone_and_lets_nobody_overtake_it_while_it_waits() -> None:
    small = run("small", group="a", batches=5, phase="open")
    huge, late = run("huge", group="b", batches=500), run("late", group="c", batches=1)

    assert let_in(small, huge, late) == []
    done = replace(small, phase="ended", done=5)
    assert let_in(done, huge, late) == ["huge"]
    assert let_in(done, replace(huge, phase="open", done=390), late) == []
    assert let_in(done, replace(huge, phase="open", done=391), late) == ["late"]


def test_a_run_held_for_its_wave_lets_another_import_pass() -> None:
    first = run("first", group="a", batches=50, phase="open")
    second, other = run("second", group="a", wave=2), run("other", group="b")
    assert let_in(first, second, other) == ["other"]


def test_a_full_tenant_holds_back_no_other() -> None:
    runs = [run("mine", batches=110, phase="open"), run("more"), run("theirs", tenant="globex", group="g")]
    assert let_in(*runs) == ["theirs"]


@pytest.mark.parametrize(("threshold", "room"), [(100, 100), (90, 110), (89.5, 110), (1, 199)])
def test_the_room_is_a_wave_and_the_tail_of_the_one_before(threshold: float, room: int) -> None:
    taken = run("taken", group="a", batches=50, phase="open", threshold=threshold)
    assert let_in(taken, run("fits", group="b", batches=room - 50, threshold=threshold)) == ["fits"]
    assert let_in(taken, run("more", group="b", batches=room - 49, threshold=threshold)) == []


# ---------------------------------------------------------------- tenants take turns


def test_a_tenant_alone_has_all_places_and_another_one_soon_has_half_of_them() -> None:
    many = [run(f"a{n}", batches=1) for n in range(20)]
    assert admit(many, 6)[0] == [f"a{n}" for n in range(6)]

    inside = [replace(one, phase="open", let_in_at=n + 1.0) for n, one in enumerate(many[:6])]
    late = [run(f"b{n}", tenant="globex", group="g", batches=1) for n in range(20)]
    assert admit([*inside, *many[6:], *late], 0)[0] == []
    assert admit([*inside, *many[6:], *late], 3)[0] == ["b0", "b1", "b2"]
    assert admit([*inside[:3], *many[6:], *late], 3)[0] == ["b0", "b1", "b2"]
    assert admit([*many, *late], 4)[0] == ["a0", "b0", "a1", "b1"]


def test_who_was_not_let_in_for_the_longest_time_is_first_although_others_queued_before() -> None:
    over = run("a0", batches=1, phase="ended", done=1, let_in_at=7.0)
    others = [run("a1", batches=1), run("b0", tenant="globex", group="g", batches=1)]
    assert admit([over, *others], 1)[0] == ["b0"]
    assert "tenants take turns" in {held.run_id: held.reason for held in admit([over, *others], 1)[1]}["a1"]


def test_a_tenant_has_not_many_more_runs_in_than_slots() -> None:
    runs = [run(f"r{n}", batches=1, slots=3) for n in range(20)]
    assert let_in(*runs) == [f"r{n}" for n in range(5)]
    assert reason("r5", *runs) == "0 runs are let in, and the slots are theirs"
    assert let_in(*(replace(one, phase="open") for one in runs[:4]), *runs[4:]) == ["r4"]


def test_what_plans_is_let_in_first() -> None:
    assert admit([run("r1", batches=3), run("plans", batches=0)], 1)[0] == ["plans"]


@st.composite
def crowds(draw: st.DrawFn) -> list[GateRun]:
    """Runs of some tenants: each may start as far as its own tenant is concerned."""
    runs = [
        run(
            f"{tenant}{n}", tenant=tenant, group=tenant, batches=1, wave_size=1000, slots=draw(st.integers(1, 4)),
            phase=draw(st.sampled_from(["shut", "shut", "open", "ended"])), let_in_at=float(draw(st.integers(0, 9))),
        )
        for tenant in "abcde"
        for n in range(draw(st.integers(0, 8)))
    ]  # fmt: skip
    return draw(st.permutations([replace(one, done=int(one.phase == "ended")) for one in runs]))


def test_tenants_that_have_runs_in_leave_the_last_places_to_those_that_have_none() -> None:
    waits = [run(f"{tenant}{n}", tenant=tenant, group=tenant, batches=1) for tenant in "abc" for n in range(3)]
    assert admit(waits, 9, 2)[0] == ["a0", "b0", "c0", "a1", "b1", "c1", "a2"]
    assert admit(waits, 4, 2)[0] == ["a0", "b0", "c0"]
    assert admit(waits, 2, 2)[0] == ["a0", "b0"]

    dead = [replace(one, phase="open") if one.tenant != "c" else one for one in waits[:6]]
    more = [run(f"more-{tenant}", tenant=tenant, group=tenant, batches=1) for tenant in "ab"]
    assert admit([*dead, *more], 2, 2)[0] == []
    assert admit([*dead, *more, *waits[6:]], 2, 2)[0] == ["c0"]


@given(crowds(), st.integers(0, 12), st.integers(0, 4))
def test_places_are_never_exceeded_never_left_empty_and_shared_evenly(
    runs: list[GateRun], places: int, kept: int
) -> None:
    everybody, _ = admit(runs)
    admitted, held = admit(runs, places, kept)
    at_work = {r.tenant for r in runs if r.phase == "open"}
    firsts = len({run_id[0] for run_id in everybody} - at_work)
    assert len(admitted) == min(places, len(everybody), max(firsts, places - kept))
    assert len({run_id[0] for run_id in admitted} - at_work) == min(places, firsts)
    assert {*admitted, *(each.run_id for each in held)} == {each.run_id for each in runs if each.phase == "shut"}
    inside = {tenant: sum(r.phase == "open" for r in runs if r.tenant == tenant) for tenant in "abcde"}
    for tenant in "abcde":
        could, does = ([i for i in ids if i.startswith(tenant)] for ids in (everybody, admitted))
        assert does == could[: len(does)], "places change nothing about a tenant's own order"
        if len(does) < len(could):
            others = [inside[i[0]] + sum(j.startswith(i[0]) for j in admitted) for i in admitted]
            assert all(had <= inside[tenant] + len(does) + 1 for had in others)


@given(st.integers(1, 4), st.integers(2, 6), st.randoms(use_true_random=False))
def test_nobody_who_waits_is_passed_over_twice_by_another(places: int, tenants: int, random: Random) -> None:
    runs = [run(f"{t}.{n}", tenant=str(t), group=str(t), batches=1) for t in range(tenants) for n in range(12)]
    passed: dict[tuple[str, str], int] = defaultdict(int)
    """By who waits with none of its runs let in, and who was let in meanwhile."""
    for now in range(1, 100):
        inside = [r for r in runs if r.phase == "open"]
        for one in (r for r in inside if random.random() < 0.5):
            runs[runs.index(one)] = replace(one, phase="ended", done=1)
        inside = [r for r in runs if r.phase == "open"]
        admitted, _ = admit(runs, places - len(inside))
        for run_id in admitted:
            (place,) = (i for i, r in enumerate(runs) if r.run_id == run_id)
            runs[place] = replace(runs[place], phase="open", let_in_at=float(now))
        for waits in {r.tenant for r in runs if r.phase == "shut"}:
            own = any(r.phase == "open" for r in runs if r.tenant == waits)
            for other in range(tenants):
                count = sum(run_id.startswith(f"{other}.") for run_id in admitted)
                passed[waits, str(other)] = 0 if own else passed[waits, str(other)] + count
                assert passed[waits, str(other)] <= 1


# ---------------------------------------------------------------- a little world


@dataclass
class Entry:
    """A run of the world: what the gate is told, and what is really so."""

    run: GateRun
    handed_over: int = 0
    """Batches that the sensor gave to another run, or settled for good."""

    @property
    def left(self) -> int:
        return self.run.batches - self.run.done - self.handed_over


@dataclass
class World:
    """Runs in the order they were queued, those still to be queued, and the sensor that folds the dead."""

    random: Random
    wave_size: int
    threshold: float
    planned: list[GateRun]
    queued: list[Entry] = field(default_factory=list)
    promised: dict[str, tuple[str, int, int]] = field(default_factory=dict)
    """Runs that are to take over from a dead one: its id, by theirs, with level and batches."""
    names: int = 0

    def submit(self) -> None:
        if self.planned:
            self.queued.append(Entry(self.planned.pop(self.random.randrange(len(self.planned)))))
            dead, _, _ = self.promised.pop(self.queued[-1].run.run_id, ("", 0, 0))
            for entry in self.queued:
                if entry.run.run_id == dead:
                    entry.run = replace(entry.run, hold="none")

    def some(self, phase: str) -> Entry | None:
        entries = [e for e in self.queued if e.run.phase == phase]
        return self.random.choice(entries) if entries else None

    def progress(self) -> None:
        entry = self.some("open")
        if entry is not None and entry.left:
            entry.run = replace(entry.run, done=entry.run.done + self.random.randint(1, entry.left))

    def finish(self) -> None:
        entry = self.some("open")
        if entry is not None:
            entry.run = replace(entry.run, done=entry.run.batches, phase="ended")

    def die(self) -> None:
        """A run ends, running or still in the queue, with whatever it has done."""
        entry = self.some(self.random.choice(["open", "open", "shut"]))
        if entry is not None:
            entry.run = replace(entry.run, phase="ended")

    def fold(self) -> None:
        """As the sensor does: what a dead run left goes to a run of a later wave, or is failed for good."""
        for entry in self.queued:
            dead = entry.run
            if dead.phase != "ended" or dead.hold != "wave":
                continue
            left, entry.handed_over = entry.left, entry.handed_over + entry.left
            if not left or dead.wave == 0 or self.random.random() < 0.3:
                entry.run = replace(dead, hold="none")
                continue
            wave = 1 + max(e.wave for e in [*(q.run for q in self.queued), *self.planned] if e.group == dead.group)
            self.names += 1
            heir = replace(
                dead, run_id=f"heir-{self.names}", wave=wave, batches=left, done=0, phase="shut", hold="wave"
            )
            entry.run = replace(dead, hold="level")
            self.planned.append(heir)
            self.promised[heir.run_id] = (dead.run_id, dead.level, left)

    def ask_gate(self) -> None:
        runs = [entry.run for entry in self.queued]
        admitted, held = admit(runs)
        assert admit(runs) == (admitted, held)
        assert {*admitted, *(h.run_id for h in held)} == {r.run_id for r in runs if r.phase == "shut"}
        for tenant in {r.tenant for r in runs}:
            own = [r for r in runs if r.tenant == tenant]
            assert admit(own)[0] == [run_id for run_id in admitted if run_id in {r.run_id for r in own}]
        places = self.random.choice([None, 1, 2])
        for run_id in admit(runs, places)[0]:
            entry = next(e for e in self.queued if e.run.run_id == run_id)
            self.check_level(entry.run)
            self.check_waves(entry.run)
            entry.run = replace(entry.run, phase="open")
            self.check_size(entry.run.tenant)
        assert places or admit([entry.run for entry in self.queued])[0] == []

    def check_level(self, admitted: GateRun) -> None:
        group = [e for e in self.queued if e.run.group == admitted.group and e.run.level < admitted.level]
        assert not [e for e in group if e.left], f"{admitted} overtakes a lower level"
        gone = {e.run.run_id for e in group}
        assert not [1 for dead, _, _ in self.promised.values() if dead in gone], "a retry of a lower level is to come"

    def check_waves(self, admitted: GateRun) -> None:
        waves: dict[int, list[Entry]] = defaultdict(list)
        for entry in self.queued:
            place = (entry.run.group, entry.run.level)
            if place == (admitted.group, admitted.level) and entry.run.wave < admitted.wave:
                waves[entry.run.wave].append(entry)
        for entries in waves.values():
            total = sum(e.run.batches for e in entries)
            assert (total - sum(e.left for e in entries)) * 100 >= self.threshold * total

    def check_size(self, tenant: str) -> None:
        busy = [e.left for e in self.queued if e.run.tenant == tenant and e.run.phase == "open" and e.left]
        room = self.wave_size + floor(self.wave_size * (100 - self.threshold) / 100)
        assert sum(busy) <= room or len(busy) == 1


@st.composite
def worlds(draw: st.DrawFn) -> World:
    random = draw(st.randoms(use_true_random=False))
    wave_size = draw(st.integers(1, 12))
    threshold = draw(st.sampled_from([1.0, 50.0, 89.5, 90.0, 100.0]))
    planned: list[GateRun] = []
    for number in range(draw(st.integers(1, 4))):
        tenant = draw(st.sampled_from(["acme", "globex"]))
        wave = 0
        for level in range(draw(st.integers(1, 3))):
            for _ in range(draw(st.sampled_from([1, 1, 2, 3, 30 if number == 0 else 2]))):
                wave += 1
                for _ in range(draw(st.integers(1, 3))):
                    # Now and then larger than a wave, as a backfill or somebody's hand may be.
                    batches = draw(st.integers(1, wave_size * 2 if random.random() < 0.1 else wave_size))
                    planned.append(
                        GateRun(
                            f"r{len(planned)}", tenant, f"{tenant}-{number}", level, wave, batches, 0, "shut",
                            threshold=threshold, wave_size=wave_size,
                        )
                    )  # fmt: skip
    for number in range(draw(st.integers(0, 4))):
        tenant = draw(st.sampled_from(["acme", "globex"]))
        planned.append(
            GateRun(
                f"hand-{number}", tenant, f"hand-{number}", draw(st.integers(0, 2)), 0,
                draw(st.integers(1, 3 * wave_size)), 0, "shut", threshold=threshold, wave_size=wave_size,
            )
        )  # fmt: skip
    return World(random, wave_size, threshold, planned)


STEPS = ["submit", "submit", "submit", "progress", "progress", "finish", "die", "fold", "ask_gate", "ask_gate"]


@settings(max_examples=150, deadline=None)
@given(worlds(), st.lists(st.sampled_from(STEPS), max_size=80))
def test_whatever_happens_the_rules_hold_and_nobody_starves(world: World, steps: list[str]) -> None:
    for step in steps:
        getattr(world, step)()
    # Then nothing goes wrong any more: everything that was asked for must get its turn.
    rounds = 0
    while world.planned or any(e.run.phase != "ended" for e in world.queued):
        world.submit()
        world.fold()
        world.ask_gate()
        world.progress()
        world.finish()
        rounds += 1
        assert rounds < 2000, "somebody starves"


def test_of_three_hundred_waves_in_the_queue_only_the_first_starts() -> None:
    runs = [run(f"r{n}", wave=n // 10 + 1, batches=10) for n in range(3000)]
    assert let_in(*runs) == [f"r{n}" for n in range(10)]
