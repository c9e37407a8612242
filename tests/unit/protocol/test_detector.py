"""The failure detector: table tests with hand-picked times."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from meshcore.protocol.machine import Probe
from meshcore.protocol.membership.detector import Detector
from meshcore.protocol.membership.events import (
    BeatDue,
    EdgeChanged,
    EdgeRemoved,
    NeighbourStatus,
    Paused,
)
from meshcore.protocol.membership.timings import Timings
from meshcore.protocol.view import NodeStatus
from meshcore.protocol.wire.records import DownReason, EdgeState

ALIVE, SLOW, WARNING, DEAD = NodeStatus
UP, WARN, DOWN = EdgeState
NONE, GONE, SILENT = DownReason
T0 = 100.0
URLS = ("tcp://127.0.0.1:7000",)


class Middle(random.Random):
    """No jitter: every draw is the middle of its range."""

    def uniform(self, a, b):
        return (a + b) / 2


def make(timings=None, **link):
    """A detector with one neighbour, beta, whose link came up at T0."""
    detector = Detector(timings or Timings(), rng=Middle(), now=T0)
    link_up(detector, T0, **link)
    return detector


def link_up(detector, now, *, node_id="beta", incarnation=1, life=11, interval=0.5, urls=URLS):
    return detector.on_link_up(
        node_id, incarnation=incarnation, life=life, interval=interval, urls=urls, now=now
    )


def link_down(detector, now, *, orderly=False, outbound_local=False):
    return detector.on_link_down("beta", orderly=orderly, outbound_local=outbound_local, now=now)


def run(detector, until, *, beats_of=()):
    """Tick at every deadline up to `until`; all effects but our own beats, with their times.

    `beats_of`: neighbours that are heard just before every tick.
    """
    seen = []
    while (now := detector.next_deadline()) <= until:
        for node_id in beats_of:
            seen += [(now, effect) for effect in detector.on_heard(node_id, now)]
        seen += [(now, e) for e in detector.on_tick(now) if not isinstance(e, BeatDue)]
        assert detector.next_deadline() > now
        detector.check_invariants()
    return seen


def effects(seen):
    return [effect for _, effect in seen]


def edge(state, reason=NONE, age=0.0, life=11):
    return EdgeChanged("beta", state, reason, age, life)


def status(old, new, **kwargs):
    return NeighbourStatus("beta", 1, 11, old, new, **kwargs)


def steps(seen):
    """(seconds since T0, new status) of every change of beta's."""
    return [(at - T0, e.new) for at, e in seen if isinstance(e, NeighbourStatus) and e.old != e.new]


def test_a_link_that_comes_up_makes_the_neighbour_alive():
    detector = Detector(Timings(), rng=Middle(), now=T0)
    assert link_up(detector, T0) == [edge(UP), status(DEAD, ALIVE)]
    assert detector.edges() == [edge(UP)]


def test_a_whole_silent_link_passes_every_threshold_in_order():
    seen = run(make(Timings(dead=3.0)), T0 + 30)
    assert effects(seen) == [
        status(ALIVE, SLOW),
        edge(WARN),
        status(SLOW, WARNING),
        edge(DOWN, SILENT, 3.0),
        status(WARNING, DEAD, quiet=True),
        EdgeRemoved("beta"),
    ]
    assert steps(seen) == [(1.25, SLOW), (2.25, WARNING), (3.25, DEAD)]
    assert seen[-1][0] == T0 + 13.25  # `remove` after DOWN


# -- status by our timings, edge by its word too --------------------------------------------------

TIGHT = Timings(slow=0.5, warn=1.0, dead=2.0, remove=3.0)


def test_a_slow_beat_watched_closely_passes_every_status_while_its_edge_stays_up():
    detector = make(TIGHT, interval=5.0)
    for beat in range(3):
        start = T0 + 5 * beat
        seen = run(detector, start + 4.99)
        assert effects(seen) == [
            status(ALIVE, SLOW),
            status(SLOW, WARNING),
            status(WARNING, DEAD, quiet=True),
        ]
        assert [round(at - start, 2) for at, _ in seen] == [0.75, 1.25, 2.25]
        assert detector.edges() == [edge(UP)], "nobody else is concerned"
        assert detector.on_beat("beta", 5.0, 0.0, start + 5) == [status(DEAD, ALIVE)]


def test_an_edge_worsens_when_the_announced_beats_are_overdue_as_well():
    seen = run(make(TIGHT, interval=2.0), T0 + 30)
    edges = [(at - T0, effect) for at, effect in seen if isinstance(effect, EdgeChanged)]
    assert edges == [
        (4.25, edge(WARN)),  # two intervals
        (8.25, edge(DOWN, SILENT, 2.0)),  # four, and others count `dead` once
    ]
    assert seen[-1] == (T0 + 11.25, EdgeRemoved("beta"))  # `remove` after DOWN


def test_an_absurd_announcement_buys_no_more_than_four_minutes():
    detector = make(TIGHT, interval=1e300)
    downs = [
        at - T0
        for at, effect in run(detector, T0 + 300)
        if isinstance(effect, EdgeChanged) and effect.state is DOWN
    ]
    assert downs == [pytest.approx(240.0, abs=0.3)]


def test_a_beat_may_take_its_promise_back():
    detector = make(TIGHT, interval=50.0)
    run(detector, T0 + 2)
    detector.on_beat("beta", 0.5, 0.0, T0 + 2)
    assert [e.state for e in effects(run(detector, T0 + 5)) if isinstance(e, EdgeChanged)] == [
        WARN,
        DOWN,
    ]


def test_a_quiet_neighbour_whose_connection_breaks_is_down_at_once_and_quiet_no_more():
    detector = make(TIGHT, interval=5.0)
    run(detector, T0 + 3)
    assert link_down(detector, T0 + 3) == [
        edge(DOWN, SILENT, 2.0),
        status(DEAD, DEAD),
    ]
    detector.check_invariants()


def test_a_quiet_neighbour_whose_edge_is_down_is_quiet_no_more_when_its_connection_breaks():
    detector = make(TIGHT)
    run(detector, T0 + 2.5)
    assert detector.edges()[0].state is DOWN
    assert link_down(detector, T0 + 2.5) == [status(DEAD, DEAD)]
    detector.check_invariants()


def test_the_thresholds_are_exclusive():
    detector = make(Timings(check_interval=1.0))
    assert run(detector, T0 + 1.0) == []  # exactly 1.0 old is not yet slow
    assert detector.set_timings(Timings(check_interval=0.5), T0 + 1.0) == [BeatDue(0.0)]
    assert steps(run(detector, T0 + 2.0)) == [(1.5, SLOW)]  # exactly 2.0 is no warning yet


def test_a_neighbour_that_is_heard_stays_alive_without_a_single_effect():
    assert run(make(), T0 + 60, beats_of=["beta"]) == []


@pytest.mark.parametrize(
    ("silence", "was", "edge_was"),
    [(1.5, SLOW, UP), (2.5, WARNING, WARN), (3.5, DEAD, DOWN), (20.0, DEAD, None)],
)
def test_anything_heard_makes_a_neighbour_alive_at_once(silence, was, edge_was):
    detector = make(Timings(dead=3.0))
    run(detector, T0 + silence)
    listed = [edge.state for edge in detector.edges()]
    assert listed == ([] if edge_was is None else [edge_was])
    back = [] if edge_was is UP else [edge(UP)]
    assert detector.on_heard("beta", T0 + silence) == [*back, status(was, ALIVE)]
    detector.check_invariants()
    assert run(detector, T0 + silence + 1.0) == []


def test_a_check_that_passes_several_thresholds_reports_each():
    detector = make(Timings(slow=0.1, warn=0.2, dead=0.3, check_interval=1.0), interval=0.2)
    assert effects(run(detector, T0 + 1.0)) == [
        status(ALIVE, SLOW, stretch=1.0),
        edge(WARN),
        status(SLOW, WARNING),
        edge(DOWN, SILENT, 0.3),
        status(WARNING, DEAD, quiet=True),
    ]


def test_a_lost_connection_is_down_at_once_and_probed():
    detector = make()
    assert link_down(detector, T0 + 0.4) == [
        edge(DOWN, SILENT, pytest.approx(0.4)),
        status(ALIVE, DEAD),
        Probe("beta", URLS),
    ]


def test_a_probe_that_is_refused_everywhere_makes_the_edge_gone_at_the_same_age():
    detector = make()
    link_down(detector, T0 + 0.4)
    assert detector.on_probe("beta", True, T0 + 0.5) == [edge(DOWN, GONE, pytest.approx(0.4))]
    assert detector.on_probe("beta", True, T0 + 0.6) == []  # said once
    detector.check_invariants()


def test_a_probe_that_connects_changes_nothing():
    detector = make()
    link_down(detector, T0 + 0.4)
    assert detector.on_probe("beta", False, T0 + 0.5) == []
    assert detector.edges()[0].reason is SILENT


def test_a_late_probe_of_a_node_that_is_linked_again_is_ignored():
    detector = make()
    link_down(detector, T0 + 0.4)
    link_up(detector, T0 + 0.5, incarnation=2, life=12)
    assert detector.on_probe("beta", True, T0 + 0.6) == []
    assert detector.edges() == [edge(UP, life=12)]


def test_a_connection_that_was_silent_for_a_second_is_not_probed():
    detector = make()
    run(detector, T0 + 1.5)
    assert link_down(detector, T0 + 1.5) == [
        edge(DOWN, SILENT, 1.5),
        status(SLOW, DEAD),
    ]


@pytest.mark.parametrize(("silence", "reason"), [(0.4, GONE), (1.5, SILENT)])
def test_a_closed_local_link_of_an_outbound_only_peer_is_gone_if_it_was_heard(silence, reason):
    detector = make(urls=())
    run(detector, T0 + silence)
    down = link_down(detector, T0 + silence, outbound_local=True)
    assert down[0] == edge(DOWN, reason, pytest.approx(silence))
    assert not any(isinstance(effect, Probe) for effect in down)


def test_a_lost_peer_without_endpoints_is_silent():
    assert link_down(make(urls=()), T0 + 0.4) == [
        edge(DOWN, SILENT, pytest.approx(0.4)),
        status(ALIVE, DEAD),
    ]


def test_an_orderly_close_says_no_reason_and_asks_nobody():
    assert link_down(make(), T0 + 0.4, orderly=True) == [
        edge(DOWN, NONE, pytest.approx(0.4)),
        status(ALIVE, DEAD),
    ]


def test_a_second_report_of_the_same_loss_is_ignored():
    detector = make()
    link_down(detector, T0 + 0.4)
    assert link_down(detector, T0 + 0.4) == []


def test_frames_that_arrive_after_the_connection_was_lost_change_nothing():
    detector = make()
    link_down(detector, T0 + 0.4)
    assert list(detector.on_heard("beta", T0 + 0.5)) == []
    assert list(detector.on_beat("beta", 0.5, 0.0, T0 + 0.5)) == []
    assert detector.edges()[0].state is DOWN


def test_a_lost_link_is_forgotten_remove_after_it_went_down():
    detector = make()
    link_down(detector, T0 + 0.5)
    seen = run(detector, T0 + 30)
    assert seen == [(T0 + 10.5, EdgeRemoved("beta"))]
    assert detector.neighbours(T0 + 30) == []


def test_a_link_lost_after_its_edge_was_removed_is_forgotten_at_once():
    detector = make(Timings(dead=3.0))
    run(detector, T0 + 20)
    assert detector.edges() == []
    assert link_down(detector, T0 + 20) == [status(DEAD, DEAD)]
    assert detector.neighbours(T0 + 20) == []
    detector.check_invariants()


def test_a_link_that_comes_back_within_a_moment_is_down_and_up():
    detector = make()
    link_down(detector, T0 + 0.4)
    assert link_up(detector, T0 + 0.5) == [edge(UP), status(DEAD, ALIVE)]
    assert run(detector, T0 + 20, beats_of=["beta"]) == []


def test_a_new_life_on_a_link_that_never_went_down_is_told():
    detector = make()
    news = link_up(detector, T0 + 1, incarnation=2, life=22)
    assert news == [edge(UP, life=22), NeighbourStatus("beta", 2, 22, ALIVE, ALIVE)]
    assert link_up(detector, T0 + 1, incarnation=2, life=22) == []


def test_a_second_link_that_takes_over_is_no_sign_of_life():
    """The simulator's seed 701447: a dead node had dialled again a moment before it died."""
    detector = make()
    assert steps(run(detector, T0 + 2.4)) == [(1.25, SLOW), (2.25, WARNING)]
    assert link_up(detector, T0 + 2.4) == []
    run(detector, T0 + 3.0)
    assert link_down(detector, T0 + 3.0) == [edge(DOWN, SILENT, 3.0), status(WARNING, DEAD)]
    detector.check_invariants()


def test_a_second_link_on_which_something_is_heard_makes_alive():
    detector = make()
    run(detector, T0 + 2.4)
    link_up(detector, T0 + 2.4)
    assert detector.on_heard("beta", T0 + 2.5) == [edge(UP), status(WARNING, ALIVE)]


def test_a_node_that_left_is_no_neighbour_any_more():
    detector = make()
    assert detector.on_left("beta") == [EdgeRemoved("beta")]
    assert detector.on_left("beta") == []
    assert link_down(detector, T0 + 1) == []
    assert list(detector.on_heard("beta", T0 + 1)) == []
    assert detector.edges() == []


def test_inputs_about_unknown_nodes_are_ignored():
    detector = Detector(Timings(), rng=Middle(), now=T0)
    assert list(detector.on_heard("beta", T0)) == []
    assert list(detector.on_beat("beta", 0.5, 0.0, T0)) == []
    assert detector.on_probe("beta", True, T0) == []
    assert link_down(detector, T0) == []
    detector.check_invariants()


# -- stalled --------------------------------------------------------------------------------------


def test_a_stuck_loop_behind_a_whole_connection_is_stalled_until_three_times_dead():
    seen = run(make(), T0 + 40)
    assert effects(seen)[3:] == [
        status(WARNING, WARNING, stalled=True),
        edge(DOWN, SILENT, 5.0),  # so that others count `dead` once, not thrice
        status(WARNING, DEAD, quiet=True),
        EdgeRemoved("beta"),
    ]
    assert seen[3][0] == T0 + 3.75
    assert steps(seen)[-1] == (15.25, DEAD)


@pytest.mark.parametrize("offset", [0.0, 0.05, 0.1, 0.2])
def test_a_loop_that_is_stuck_for_four_seconds_is_always_seen_as_stalled(offset):
    detector = make(Timings(check_interval=0.27))
    heard_at = T0 + offset
    detector.on_heard("beta", heard_at)
    seen = run(detector, heard_at + 3.99)
    told = [at - heard_at for at, e in seen if isinstance(e, NeighbourStatus) and e.stalled]
    assert told == [pytest.approx(3.75, abs=0.01)]


def test_a_stalled_neighbour_that_is_heard_again_is_alive_and_not_stalled():
    detector = make()
    run(detector, T0 + 10)
    assert detector.on_heard("beta", T0 + 10) == [
        edge(UP),
        status(WARNING, ALIVE, stalled=False),
    ]


@pytest.mark.parametrize(("interval", "at"), [(0.5, 3.75), (1.0, 4.0), (1.1, 4.5)])
def test_stalled_needs_beats_overdue_by_three_announced_intervals(interval, at):
    seen = run(make(interval=interval), T0 + 6)
    assert [t - T0 for t, e in seen if isinstance(e, NeighbourStatus) and e.stalled] == [at]


def test_nobody_is_stalled_where_dead_is_shorter_than_the_transport_needs():
    seen = run(make(Timings(dead=3.0)), T0 + 20)
    assert steps(seen)[-1] == (3.25, DEAD)
    assert not any(e.stalled for e in effects(seen) if isinstance(e, NeighbourStatus))


def test_a_stalled_neighbour_whose_connection_breaks_is_dead_without_a_probe():
    detector = make()
    run(detector, T0 + 10)
    assert link_down(detector, T0 + 10) == [
        edge(DOWN, SILENT, 5.0),
        status(WARNING, DEAD),
    ]


# -- our own pauses and lag -----------------------------------------------------------------------


def test_our_own_pause_ages_nobody():
    detector = make()
    run(detector, T0 + 0.4, beats_of=["beta"])
    resumed = T0 + 60.0
    ticked = detector.on_tick(resumed)
    assert ticked == [Paused(59.5), BeatDue(2.0)]
    assert detector.neighbours(resumed)[0].age == pytest.approx(0.25)


def test_who_was_heard_after_our_pause_is_not_heard_in_the_future():
    detector = make()
    detector.on_heard("beta", T0 + 60)
    detector.on_tick(T0 + 60)
    seen = run(detector, T0 + 70)
    assert steps(seen)[0][1] is SLOW
    assert 61.0 < steps(seen)[0][0] <= 61.25


def test_a_lost_link_does_not_age_in_our_pause_either():
    detector = make()
    link_down(detector, T0 + 0.2)
    detector.on_tick(T0 + 60)
    assert [edge.state for edge in detector.edges()] == [DOWN]
    ((at, removed),) = run(detector, T0 + 80)
    assert (removed, at) == (EdgeRemoved("beta"), pytest.approx(T0 + 70.0, abs=0.3))


def test_a_connection_that_is_found_closed_after_our_pause_is_probed():
    detector = make()
    down = link_down(detector, T0 + 60)
    assert down[0] == edge(DOWN, SILENT, pytest.approx(0.25))
    assert down[-1] == Probe("beta", URLS)


def test_a_tick_that_is_a_little_late_still_ages():
    detector = make(Timings(check_interval=0.25))
    now = T0 + 0.25 + 0.5  # late by exactly two intervals
    assert Paused not in [type(effect) for effect in detector.on_tick(now)]
    assert detector.neighbours(now)[0].age == pytest.approx(0.75)
    assert detector.on_tick(now + 0.25 + 0.53)[0] == Paused(pytest.approx(0.53))


def test_new_timings_after_a_pause_age_nobody():
    detector = make()
    assert detector.set_timings(Timings(slow=0.5), T0 + 60) == [Paused(59.75), BeatDue(0.0)]


@pytest.mark.parametrize(
    ("lag", "dead_at"), [(0.0, 5.25), (0.25, 5.25), (0.5, 10.25), (2.0, 40.25), (99.0, 40.25)]
)
def test_an_announced_lag_stretches_dead_up_to_eight_times(lag, dead_at):
    detector = make(interval=50.0)  # never stalled
    detector.on_beat("beta", 50.0, lag, T0)
    assert steps(run(detector, T0 + 60))[-1] == (dead_at, DEAD)


def test_our_own_lag_stretches_dead():
    detector = make(interval=50.0)
    now = T0
    while detector.neighbours(now)[0].status is not DEAD:
        now = detector.next_deadline() + 0.375  # every turn of our loop is this late
        detector.on_tick(now)
    assert detector.lag == pytest.approx(0.375)
    assert 7.5 < now - T0 < 8.2  # 1.5 times `dead`


def test_our_own_lag_wears_off_after_the_longest_pause():
    detector = make()
    detector.on_tick(T0 + 3600)
    assert detector.lag == 2.0
    run(detector, T0 + 3606, beats_of=["beta"])
    assert detector.lag < 0.25


def test_the_stretch_is_told_to_who_counts_until_removal():
    detector = make(interval=50.0)
    detector.on_beat("beta", 50.0, 1.0, T0)
    told = [e for e in effects(run(detector, T0 + 30)) if isinstance(e, NeighbourStatus)]
    assert told[-1] == status(WARNING, DEAD, quiet=True, stretch=4.0)


# -- beats and settings ---------------------------------------------------------------------------


def test_beats_are_due_every_interval_also_without_neighbours():
    detector = Detector(Timings(), rng=Middle(), now=T0)
    times = []
    while (now := detector.next_deadline()) <= T0 + 2:
        times += [now - T0 for effect in detector.on_tick(now) if effect == BeatDue(0.0)]
    assert times == [0.5, 1.0, 1.5, 2.0]


def test_both_intervals_are_jittered_by_a_tenth():
    detector = Detector(Timings(), rng=random.Random(1), now=T0)
    last, gaps = T0, []
    for _ in range(200):
        now = detector.next_deadline()
        assert detector.on_tick(now) == [BeatDue(0.0)]
        gaps.append(now - last)
        last = now
    assert 0.45 <= min(gaps) < 0.47
    assert 0.53 < max(gaps) <= 0.55


def test_a_late_beat_is_not_made_up_for():
    detector = Detector(Timings(), rng=Middle(), now=T0)
    assert detector.on_tick(T0 + 30) == [BeatDue(0.0)]
    assert detector.on_tick(T0 + 30) == []


def test_a_spurious_tick_does_nothing():
    detector = make()
    assert detector.on_tick(T0 + 0.1) == []


def test_new_timings_judge_at_once_in_both_directions_and_announce_the_interval():
    detector = make(Timings(dead=3.0))
    run(detector, T0 + 6)
    assert detector.edges()[0].state is DOWN
    patient = replace(Timings(), slow=3.0, warn=5.5, dead=30.0, remove=60.0)
    assert detector.set_timings(patient, T0 + 6) == [
        edge(WARN),
        status(DEAD, WARNING, stalled=True),
        BeatDue(0.0),
    ]
    detector.check_invariants()
    hasty = Timings(slow=0.1, warn=0.2, dead=0.3, remove=0.4)
    assert detector.set_timings(hasty, T0 + 6) == [
        edge(DOWN, SILENT, 0.3),
        status(WARNING, DEAD, quiet=True),
        BeatDue(0.0),
    ]


def test_a_connection_that_was_lost_stays_dead_whatever_the_timings():
    detector = make()
    link_down(detector, T0 + 0.1)
    assert detector.set_timings(Timings(dead=50.0, remove=60.0), T0 + 0.2) == [BeatDue(0.0)]


@pytest.mark.parametrize("wrong", [{"slow": 0.0}, {"warn": 1.0}, {"dead": 10.0}, {"remove": 5.0}])
def test_timings_out_of_order_are_refused(wrong):
    with pytest.raises(ValueError, match="slow < warn"):
        replace(Timings(), **wrong)


def test_an_interval_of_nothing_is_refused():
    with pytest.raises(ValueError, match="greater than 0"):
        Timings(check_interval=0.0)


def test_a_neighbour_is_shown_with_its_age():
    detector = make(interval=0.7)
    detector.on_beat("beta", 0.7, 0.1, T0 + 0.2)
    (beta,) = detector.neighbours(T0 + 0.5)
    assert (beta.node_id, beta.status, beta.linked) == ("beta", ALIVE, True)
    assert (beta.age, beta.interval, beta.lag) == (pytest.approx(0.3), 0.7, 0.1)
