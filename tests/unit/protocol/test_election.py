"""Who is master: ages on a shared scale, and the choice that every node computes for itself."""

from __future__ import annotations

import itertools
import random

import pytest

from meshcore.protocol.election.election import HOLD, Candidate, Contested, Election, MasterChanged
from meshcore.protocol.election.scale import PROVISIONAL, Scale

OLD, MIDDLE, YOUNG = Candidate(1, 0.0), Candidate(1, 5.0), Candidate(1, 9.0)


def settled(**candidates: Candidate) -> Election:
    """An election of node `me` whose answer has held."""
    election = Election("me")
    for node_id, candidate in candidates.items():
        election.update(node_id, candidate, 0.0)
    election.on_tick(HOLD)
    election.check_invariants()
    return election


def after(election: Election, now: float) -> str | None:
    """The master once what is known by now has held."""
    election.on_tick(now + HOLD)
    election.check_invariants()
    return election.master


def test_nobody_is_master_before_the_answer_has_held() -> None:
    election = Election("me")
    assert election.update("me", OLD, 0.0) == []
    assert election.master is None
    assert election.next_deadline() == HOLD
    assert election.on_tick(HOLD - 0.01) == []
    assert election.on_tick(HOLD) == [MasterChanged(None, "me")]
    assert election.next_deadline() is None


def test_the_oldest_is_master_and_equals_go_by_id() -> None:
    assert settled(me=MIDDLE, a=YOUNG, b=OLD).master == "b"
    assert settled(me=MIDDLE, b=MIDDLE, a=MIDDLE).master == "a"
    assert settled(me=Candidate(1, 0.0), a=Candidate(PROVISIONAL | 1, -9.0)).master == "me"


def test_a_change_that_does_not_hold_changes_nothing() -> None:
    election = settled(me=MIDDLE, a=OLD)
    election.update("a", None, 10.0)
    assert election.next_deadline() == 10.0 + HOLD
    assert election.on_tick(10.4) == []
    election.update("a", OLD, 10.5)
    assert election.next_deadline() is None
    assert election.on_tick(20.0) == []
    assert election.master == "a"


def test_every_other_answer_has_to_hold_anew() -> None:
    election = settled(me=YOUNG, a=OLD, b=MIDDLE)
    election.update("a", None, 10.0)
    election.update("b", None, 10.5)
    assert election.on_tick(10.0 + HOLD) == []
    assert election.on_tick(10.5 + HOLD) == [MasterChanged("a", "me")]


def test_who_returns_younger_does_not_take_over_again() -> None:
    election = settled(me=MIDDLE, a=OLD)
    election.update("a", None, 10.0)
    assert after(election, 10.0) == "me"
    election.update("a", Candidate(1, 12.0), 12.0)
    assert after(election, 12.0) == "me"


def test_one_forced_on_is_master_and_released_it_is_not() -> None:
    election = settled(me=MIDDLE, a=OLD, b=YOUNG)
    election.update("b", YOUNG._replace(forced=True), 10.0)
    assert after(election, 10.0) == "b"
    election.update("b", YOUNG, 20.0)
    assert after(election, 20.0) == "a"


def test_of_several_forced_on_the_oldest_is_master_and_there_is_a_warning() -> None:
    election = settled(me=MIDDLE, a=OLD, b=YOUNG)
    election.update("b", YOUNG._replace(forced=True), 10.0)
    election.update("me", MIDDLE._replace(forced=True), 10.0)
    assert election.on_tick(11.0) == [MasterChanged("a", "me"), Contested(("me", "b"))]
    election.update("b", None, 20.0)
    assert election.on_tick(21.0) == [Contested(())]
    assert election.master == "me"


def test_where_everybody_is_forced_off_there_is_no_master() -> None:
    election = settled(me=MIDDLE, a=OLD)
    election.update("me", MIDDLE._replace(forced=False), 10.0)
    election.update("a", OLD._replace(forced=False), 10.0)
    assert after(election, 10.0) is None
    election.update("me", MIDDLE, 20.0)
    assert after(election, 20.0) == "me"


def test_the_own_setter_acts_at_once() -> None:
    election = settled(me=MIDDLE, a=OLD)
    forced = MIDDLE._replace(forced=True)
    assert election.update("me", forced, 10.0, at_once=True) == [MasterChanged("a", "me")]
    assert election.next_deadline() is None


@pytest.mark.parametrize("will", list(itertools.product([None, True, False], repeat=3)))
def test_every_combination_gives_the_same_answer_in_whatever_order_it_is_heard(
    will: tuple[bool | None, ...],
) -> None:
    candidates = {
        name: Candidate(1, born, forced)
        for (name, born), forced in zip((("a", 3.0), ("b", 1.0), ("c", 2.0)), will, strict=True)
    }
    answers = set()
    for order in itertools.permutations(candidates):
        election = Election("x")
        for node_id in order:
            election.update(node_id, Candidate(1, 0.0), 0.0)
        for node_id in order:
            election.update(node_id, candidates[node_id], 1.0)
        after(election, 1.0)
        answers.add((election.master, election.contested))
    on = sorted((c.born, n) for n, c in candidates.items() if c.forced)
    neutral = sorted((c.born, n) for n, c in candidates.items() if c.forced is None)
    master = next((name for _, name in on or neutral), None)
    assert answers == {(master, tuple(name for _, name in on) if len(on) > 1 else ())}


def test_what_random_changes_lead_to_is_what_a_look_at_all_gives() -> None:
    rng = random.Random(5)
    election, known = Election("n0"), {}
    for step in range(3000):
        node_id = f"n{rng.randrange(12)}"
        candidate = None
        if rng.random() < 0.7:
            candidate = Candidate(
                rng.randrange(2), rng.randrange(5), rng.choice([None, None, 1, 0])
            )
        known[node_id] = candidate
        election.update(node_id, candidate, step * 0.1)
        election.on_tick(step * 0.1)
        election.check_invariants()
    alive = {n: c for n, c in known.items() if c is not None}
    on = {n: c for n, c in alive.items() if c.forced}
    pool = on or {n: c for n, c in alive.items() if c.forced is None}
    assert after(election, 400.0) == min(pool, key=lambda n: (pool[n].scale, pool[n].born, n))


# -- the scale of ages --------------------------------------------------------------------------


class Fixed(random.Random):
    def __init__(self, bits: int) -> None:
        self._bits = bits

    def getrandbits(self, count: int) -> int:
        return self._bits


def scale(bits: int, started_at: float = 0.0) -> Scale:
    return Scale(Fixed(bits), started_at)


def exchange(one: Scale, other: Scale, now: float) -> None:
    """Each hears what the other said before."""
    said = [(each.name, each.position(now)) for each in (one, other)]
    other.meet(*said[0], now)
    one.meet(*said[1], now)


def test_a_node_that_joins_is_born_where_the_mesh_is() -> None:
    mesh, other, joiner = scale(900, 0.0), scale(950, 0.0), scale(1, 100.0)
    exchange(mesh, other, 1.0)
    exchange(mesh, joiner, 103.0)
    assert mesh.name == other.name == joiner.name == 900
    assert joiner.born == pytest.approx(100.0)
    assert (mesh.born, other.born) == (0.0, pytest.approx(0.0))


def test_of_two_new_nodes_the_smaller_scale_counts_and_both_settle() -> None:
    one, other = scale(5, 10.0), scale(3, 12.0)
    exchange(one, other, 13.0)
    assert one.name == other.name == 3
    assert one.born == pytest.approx(-2.0)
    assert other.born == 0.0


def test_two_meshes_that_meet_take_the_smaller_scale_and_keep_their_ages() -> None:
    rng = random.Random(4)
    starts = [rng.uniform(0, 50) for _ in range(8)]
    nodes = [scale(rng.getrandbits(63), at) for at in starts]
    for half in (nodes[:4], nodes[4:]):
        for one, other in itertools.pairwise(half):
            exchange(one, other, 60.0)
    for _ in range(8):
        for one, other in itertools.pairwise(nodes):
            exchange(one, other, 70.0)
    assert len({node.name for node in nodes}) == 1
    ages = [node.born - nodes[0].born for node in nodes]
    assert ages == pytest.approx([at - starts[0] for at in starts])


def test_meeting_the_own_scale_again_changes_nothing() -> None:
    one, other = scale(5), scale(3)
    exchange(one, other, 1.0)
    assert not one.meet(other.name, other.position(5.0) + 0.3, 5.0)
    assert not one.meet(PROVISIONAL | 1, 0.0, 5.0)


def test_a_beat_that_waited_makes_nobody_old_for_long() -> None:
    mesh, other, joiner = scale(900, 0.0), scale(950, 0.0), scale(1, 100.0)
    exchange(mesh, other, 1.0)
    late = (mesh.name, mesh.position(103.0))
    assert joiner.meet(*late, 110.0)  # its process stood still for seven seconds
    assert joiner.born == pytest.approx(93.0)
    assert joiner.meet(mesh.name, mesh.position(110.1), 110.1)
    assert joiner.born == pytest.approx(100.0)
    assert not joiner.meet(*late, 111.0)  # an older word makes nobody older
    assert joiner.born == pytest.approx(100.0)


def test_clocks_that_run_apart_make_nobody_younger() -> None:
    mesh, other, joiner = scale(900, 0.0), scale(950, 0.0), scale(1, 100.0)
    exchange(mesh, other, 1.0)
    exchange(mesh, joiner, 103.0)
    born = joiner.born
    for beat in range(
        1000
    ):  # the clock of the mesh runs one percent faster than that of the joiner
        now = 103.0 + beat
        assert not joiner.meet(mesh.name, mesh.position(103.0) + 1.01 * beat, now)
    assert joiner.born == born
