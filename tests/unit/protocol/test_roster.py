"""The roster: table tests with hand-picked times."""

from __future__ import annotations

import pytest

from meshcore.protocol.membership.events import (
    Added,
    Lost,
    NeighbourStatus,
    PeerState,
    Reason,
    Removed,
    Restarted,
    StatusChanged,
)
from meshcore.protocol.membership.known import LEFT_MAX, VIEW_REMOVED, view_entry_of
from meshcore.protocol.membership.roster import Roster
from meshcore.protocol.membership.timings import Timings
from meshcore.protocol.view import NodeStatus, Reach

ALIVE, SLOW, WARNING, DEAD = NodeStatus
T0 = 100.0
LIFE = 11


def make():
    return Roster("alpha", incarnation=1, life=1, timings=Timings())


def make_with_gamma():
    """Gamma is reached over beta since T0."""
    roster = make()
    reach(roster, T0)
    return roster


def reach(
    roster,
    now,
    node_id="gamma",
    *,
    reachable=True,
    incarnation=1,
    life=LIFE,
    silent_for=0.0,
    **fields,
):
    """Routing tells of one node; `silent_for`: the smallest silence of its reporters, by now."""
    if fields.get("gone") or fields.get("silent"):
        fields["silent_since"] = now - silent_for
    if reachable:
        fields = {"hops": 2, "cost": 500, "next_hop": "beta", **fields}
    entry = Reach(node_id, incarnation, life, reachable, **fields)
    events = roster.on_reach({node_id: entry}, now)
    roster.check_invariants()
    return events


def lose(roster, now, **fields):
    return reach(roster, now, reachable=False, **fields)


def neighbour(roster, now, old, new, node_id="gamma", *, incarnation=1, life=LIFE, **fields):
    """The detector tells of a linked node."""
    news = NeighbourStatus(node_id, incarnation, life, old, new, **fields)
    events = roster.on_neighbour(news, now)
    roster.check_invariants()
    return events


def run(roster, until):
    """Tick at every deadline up to `until`: (seconds since T0, event)."""
    seen = []
    while (now := roster.next_deadline()) is not None and now <= until:
        seen += [(round(now - T0, 6), event) for event in roster.on_tick(now)]
        roster.check_invariants()
        after = roster.next_deadline()
        assert after is None or after > now
    return seen


def changed(old, new, reachable, reason=""):
    return StatusChanged("gamma", old, new, reachable, Reason(reason))


def state(reachable, dead_reason=None, life=LIFE):
    return PeerState("gamma", life, reachable, dead_reason)


# -- becoming known -------------------------------------------------------------------------------


def test_the_own_node_is_known_alive_at_no_distance():
    (own,) = make().nodes()
    assert (own.node_id, own.status, own.reachable, own.hops) == ("alpha", ALIVE, True, 0)
    assert make().get("alpha") == own
    assert "alpha" in make()
    assert len(make()) == 1


def test_the_first_path_adds_a_node():
    roster = make()
    assert reach(roster, T0) == [Added("gamma", 1, LIFE), state(True)]
    entry = roster.get("gamma")
    assert (entry.status, entry.hops, entry.cost, entry.next_hop) == (ALIVE, 2, 500, "beta")
    assert roster.next_deadline() is None


def test_a_record_of_a_node_that_was_never_reachable_adds_nobody():
    roster = make()
    assert lose(roster, T0, silent=1, silent_for=1.0) == []
    assert "gamma" not in roster


def test_a_beat_adds_a_neighbour_before_its_record_came():
    roster = make()
    assert neighbour(roster, T0, DEAD, ALIVE) == [Added("gamma", 1, LIFE), state(False)]
    assert roster.get("gamma").hops == 1
    assert reach(roster, T0, hops=1, next_hop="gamma") == [state(True)]


def test_news_of_a_lost_neighbour_that_nobody_knew_adds_nobody():
    assert neighbour(make(), T0, ALIVE, DEAD) == []


def test_news_about_ourselves_is_ignored():
    roster = make()
    assert reach(roster, T0, "alpha") == []
    assert reach(roster, T0, "alpha", incarnation=9, left=True, reachable=False) == []
    assert neighbour(roster, T0, DEAD, ALIVE, "alpha") == []


def test_a_path_whose_edges_all_warn_is_a_warning_and_still_a_path():
    roster = make_with_gamma()
    assert reach(roster, T0, warn=True) == [changed(ALIVE, WARNING, True)]
    assert reach(roster, T0, warn=False) == [changed(WARNING, ALIVE, True)]


def test_another_path_to_the_same_status_is_no_event():
    roster = make_with_gamma()
    assert reach(roster, T0, hops=3, cost=900, next_hop="delta") == []
    assert roster.get("gamma").next_hop == "delta"


# -- losing the path ------------------------------------------------------------------------------


def test_a_lost_path_is_a_warning_at_once_then_dead_then_removed():
    roster = make_with_gamma()
    assert lose(roster, T0) == [changed(ALIVE, WARNING, False, "unreachable"), state(False)]
    assert run(roster, T0 + 30) == [
        (5.0, changed(WARNING, DEAD, False, "unreachable")),
        (5.0, state(False, Reason.UNREACHABLE)),
        (10.0, Removed("gamma", Reason.UNREACHABLE)),
        (10.0, state(False, Reason.REMOVED)),
    ]
    assert roster.get("gamma") is None
    assert roster.next_deadline() is None


def test_one_late_tick_reports_every_threshold_in_order():
    roster = make_with_gamma()
    lose(roster, T0)
    assert roster.on_tick(T0 + 60) == [
        changed(WARNING, DEAD, False, "unreachable"),
        Removed("gamma", Reason.UNREACHABLE),
        state(False, Reason.REMOVED),
    ]


@pytest.mark.parametrize("silence", [0.0, 0.3, 3.0])
def test_dead_and_remove_count_from_the_silence_that_a_reporter_tells(silence):
    roster = make_with_gamma()
    assert lose(roster, T0, silent=1, silent_for=silence)[0] == changed(
        ALIVE, WARNING, False, "silent"
    )
    assert run(roster, T0 + 30) == [
        (5.0 - silence, changed(WARNING, DEAD, False, "silent")),
        (5.0 - silence, state(False, Reason.SILENT)),
        (10.0 - silence, Removed("gamma", Reason.SILENT)),
    ]


@pytest.mark.parametrize("silence", [5.0, 4.9995, 7.0])
def test_a_silence_of_dead_is_dead_at_once_but_never_without_the_warning(silence):
    roster = make_with_gamma()
    assert lose(roster, T0, silent=1, silent_for=silence) == [
        changed(ALIVE, WARNING, False, "silent"),
        changed(WARNING, DEAD, False, "silent"),
        state(False, Reason.SILENT),
    ]
    assert run(roster, T0 + 30)[-1] == (10.0 - silence, Removed("gamma", Reason.SILENT))


def test_a_silence_of_remove_is_removed_at_once():
    roster = make_with_gamma()
    assert lose(roster, T0, silent=1, silent_for=11.0) == [
        changed(ALIVE, WARNING, False, "silent"),
        changed(WARNING, DEAD, False, "silent"),
        Removed("gamma", Reason.SILENT),
        state(False, Reason.SILENT),
    ]


def test_all_reporters_saying_gone_is_dead_at_once():
    roster = make_with_gamma()
    assert lose(roster, T0, gone=2, silent_for=0.1) == [
        changed(ALIVE, WARNING, False, "gone"),
        changed(WARNING, DEAD, False, "gone"),
        state(False, Reason.GONE),
    ]
    assert run(roster, T0 + 30) == [(9.9, Removed("gamma", Reason.GONE))]


def test_silent_and_then_gone_is_dead_when_the_probe_has_answered():
    roster = make_with_gamma()
    lose(roster, T0, silent=1, silent_for=0.1)
    assert lose(roster, T0 + 0.2, gone=1, silent_for=0.3) == [
        changed(WARNING, DEAD, False, "gone"),
        state(False, Reason.GONE),
    ]
    assert run(roster, T0 + 30) == [(9.9, Removed("gamma", Reason.GONE))]  # the age is not renewed


def test_a_majority_saying_gone_is_dead_after_a_second():
    roster = make_with_gamma()
    assert lose(roster, T0, gone=2, silent=1)[-1] == state(False)
    assert run(roster, T0 + 2) == [
        (1.0, changed(WARNING, DEAD, False, "gone")),
        (1.0, state(False, Reason.GONE)),
    ]


def test_a_majority_that_comes_after_the_second_is_dead_at_once():
    roster = make_with_gamma()
    lose(roster, T0, silent=1)
    assert run(roster, T0 + 2) == []
    assert lose(roster, T0 + 2, gone=2, silent=1)[0] == changed(WARNING, DEAD, False, "gone")


@pytest.mark.parametrize(("gone", "silent"), [(1, 1), (1, 2)])
def test_no_majority_waits_for_dead(gone, silent):
    roster = make_with_gamma()
    lose(roster, T0, gone=gone, silent=silent)
    assert run(roster, T0 + 6)[0] == (5.0, changed(WARNING, DEAD, False, "silent"))


def test_a_reporter_that_heard_of_it_later_prolongs_the_wait():
    roster = make_with_gamma()
    lose(roster, T0, silent=1, silent_for=3.0)
    lose(roster, T0 + 1, silent=2, silent_for=0.5)  # heard at T0 + 0.5
    assert run(roster, T0 + 6)[0] == (5.5, changed(WARNING, DEAD, False, "silent"))


def test_the_same_report_read_again_later_does_not_prolong_the_wait():
    roster = make_with_gamma()
    lose(roster, T0, silent=1, silent_for=0.5)
    lose(roster, T0 + 2, silent=2, silent_for=2.5)
    lose(roster, T0 + 3, silent=1, silent_for=4.0)  # the fresher reporter is lost, not its word
    assert run(roster, T0 + 6)[0] == (4.5, changed(WARNING, DEAD, False, "silent"))


def test_the_first_report_replaces_the_moment_of_the_loss():
    roster = make_with_gamma()
    lose(roster, T0)
    lose(roster, T0 + 1, silent=1, silent_for=3.0)
    assert run(roster, T0 + 6)[0] == (3.0, changed(WARNING, DEAD, False, "silent"))


def test_dead_as_far_as_one_can_tell_becomes_surely_lost_when_a_reporter_speaks():
    roster = make_with_gamma()
    lose(roster, T0)
    run(roster, T0 + 6)
    assert lose(roster, T0 + 6, silent=1, silent_for=6.0) == [state(False, Reason.SILENT)]
    assert lose(roster, T0 + 7, silent=0) == []  # losing the reporter does not unsay it
    assert roster.get("gamma").reason is Reason.SILENT


# -- coming back ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("after", "was"), [(1.0, WARNING), (6.0, DEAD)])
def test_any_path_back_is_alive_at_once_and_counts_anew(after, was):
    roster = make_with_gamma()
    lose(roster, T0, silent=1)
    run(roster, T0 + after)
    assert reach(roster, T0 + after) == [changed(was, ALIVE, True), state(True)]
    assert roster.next_deadline() is None
    lose(roster, T0 + 20)
    assert run(roster, T0 + 40)[0][0] == 25.0


def test_a_removed_node_is_added_again_by_a_path_in_the_same_life():
    roster = make_with_gamma()
    lose(roster, T0)
    run(roster, T0 + 11)
    assert lose(roster, T0 + 12, silent=1) == []  # a dying reporter's word is no sign of life
    assert reach(roster, T0 + 13) == [Added("gamma", 1, LIFE), state(True)]


def test_a_removed_neighbour_is_added_again_by_its_beat():
    roster = make_with_gamma()
    lose(roster, T0)
    run(roster, T0 + 11)
    assert neighbour(roster, T0 + 12, DEAD, ALIVE) == [Added("gamma", 1, LIFE), state(False)]


# -- neighbours -----------------------------------------------------------------------------------


def test_a_neighbours_status_is_the_detectors_while_its_edge_is_not_down():
    roster = make()
    neighbour(roster, T0, DEAD, ALIVE)
    reach(roster, T0, hops=1, next_hop="gamma")
    assert neighbour(roster, T0 + 1, ALIVE, SLOW) == [changed(ALIVE, SLOW, True)]
    assert reach(roster, T0 + 1, hops=2, next_hop="beta") == []
    assert neighbour(roster, T0 + 2, SLOW, WARNING) == [changed(SLOW, WARNING, True)]
    assert reach(roster, T0 + 2, warn=True) == []
    assert neighbour(roster, T0 + 3, WARNING, ALIVE) == [changed(WARNING, ALIVE, True)]


def test_a_neighbour_that_we_hear_but_nobody_can_reach_is_alive_and_its_work_held():
    roster = make()
    neighbour(roster, T0, DEAD, ALIVE)
    reach(roster, T0)
    assert lose(roster, T0 + 1, gone=3) == [state(False)]
    assert roster.get("gamma").status is ALIVE
    assert roster.next_deadline() is None


def test_a_lost_link_with_another_path_is_alive_two_hops_away():
    roster = make()
    neighbour(roster, T0, DEAD, ALIVE)
    reach(roster, T0, hops=1, next_hop="gamma")
    neighbour(roster, T0 + 1, ALIVE, WARNING)
    assert reach(roster, T0 + 2, hops=2, next_hop="beta") == []
    assert neighbour(roster, T0 + 2, WARNING, DEAD) == [changed(WARNING, ALIVE, True)]


def test_a_lost_link_without_another_path_is_derived_like_any_other():
    roster = make()
    neighbour(roster, T0, DEAD, ALIVE)
    reach(roster, T0, hops=1, next_hop="gamma")
    assert lose(roster, T0 + 1, silent=1, silent_for=0.2) == [state(False)]
    assert neighbour(roster, T0 + 1, ALIVE, DEAD) == [changed(ALIVE, WARNING, False, "silent")]
    assert run(roster, T0 + 30)[0] == (5.8, changed(WARNING, DEAD, False, "silent"))


def test_the_path_over_the_lost_link_itself_is_not_believed_meanwhile():
    roster = make()
    neighbour(roster, T0, DEAD, ALIVE)
    reach(roster, T0, hops=1, next_hop="gamma")
    neighbour(roster, T0 + 1, ALIVE, SLOW)
    assert neighbour(roster, T0 + 2, SLOW, DEAD) == []  # not ALIVE for a moment
    assert lose(roster, T0 + 2, silent=1, silent_for=2.0) == [
        changed(SLOW, WARNING, False, "silent"),
        state(False),
    ]


def test_the_path_over_a_new_link_is_believed_when_routing_has_spoken_since():
    roster = make()
    neighbour(roster, T0, DEAD, ALIVE)
    lose(roster, T0 + 1, silent=1)
    neighbour(roster, T0 + 1, ALIVE, DEAD)
    lose(roster, T0 + 2)
    back = reach(roster, T0 + 3, hops=1, next_hop="gamma")
    assert back == [changed(WARNING, ALIVE, True), state(True)]


def test_a_neighbour_lost_before_routing_knew_it_ages_from_the_loss():
    roster = make()
    neighbour(roster, T0, DEAD, ALIVE)
    assert neighbour(roster, T0 + 1, ALIVE, DEAD) == [changed(ALIVE, WARNING, False, "unreachable")]
    assert [at for at, _ in run(roster, T0 + 30)] == [6.0, 6.0, 11.0, 11.0]


def test_stalled_is_shown_and_is_no_change_of_status():
    roster = make()
    neighbour(roster, T0, DEAD, ALIVE)
    neighbour(roster, T0, ALIVE, WARNING)
    assert neighbour(roster, T0, WARNING, WARNING, stalled=True) == []
    assert roster.get("gamma").stalled
    neighbour(roster, T0, WARNING, ALIVE)
    assert not roster.get("gamma").stalled


def test_a_lagging_neighbour_is_removed_later():
    roster = make()
    neighbour(roster, T0, DEAD, ALIVE)
    reach(roster, T0, hops=1, next_hop="gamma")
    lose(roster, T0 + 20, silent=1, silent_for=5.0)
    neighbour(roster, T0 + 20, ALIVE, DEAD, stretch=4.0)
    assert run(roster, T0 + 99) == [(40.0, Removed("gamma", Reason.SILENT))]


# -- quiet: DEAD by our timings, over a connection that is whole -----------------------------------


def make_with_quiet_gamma(**fields):
    """Gamma is a neighbour that was found DEAD by age at T0; its edge is not DOWN."""
    roster = make()
    neighbour(roster, T0 - 5, DEAD, ALIVE)
    reach(roster, T0 - 5, hops=1, next_hop="gamma", **fields)
    for old, new in ((ALIVE, SLOW), (SLOW, WARNING)):
        assert neighbour(roster, T0 - 1, old, new) == [changed(old, new, True)]
    events = neighbour(roster, T0, WARNING, DEAD, quiet=True)
    assert events == [changed(WARNING, DEAD, True, "quiet")]
    return roster


def test_a_quiet_neighbour_is_dead_and_removed_at_the_right_moments_and_its_work_goes_on():
    roster = make_with_quiet_gamma()
    assert (roster.get("gamma").status, roster.get("gamma").reachable) == (DEAD, True)
    assert run(roster, T0 + 99) == [(5.0, Removed("gamma", Reason.QUIET))]  # and no PeerState
    assert "gamma" not in roster
    assert (roster.get("gamma"), len(roster), len(roster.nodes())) == (None, 1, 1)
    assert roster.next_deadline() is None
    assert roster.holder("gamma").life == LIFE, "its id is not free for others"
    assert neighbour(roster, T0 + 99, DEAD, ALIVE) == [Added("gamma", 1, LIFE)]
    assert (roster.get("gamma").status, roster.get("gamma").reachable) == (ALIVE, True)


def test_a_quiet_neighbour_is_dead_whatever_others_say_of_it():
    roster = make_with_quiet_gamma()
    assert reach(roster, T0 + 1, hops=2, next_hop="beta") == []
    assert reach(roster, T0 + 2, warn=True) == []
    assert run(roster, T0 + 9) == [(5.0, Removed("gamma", Reason.QUIET))]
    assert reach(roster, T0 + 9, hops=3, next_hop="delta") == [], "only a beat brings it back"


def test_work_for_a_quiet_neighbour_waits_while_no_way_leads_there_listed_or_not():
    roster = make_with_quiet_gamma()
    assert lose(roster, T0 + 1, silent=1, silent_for=5.0) == [state(False)]  # held, not lost
    assert reach(roster, T0 + 2) == [state(True)]
    run(roster, T0 + 9)
    assert "gamma" not in roster
    assert lose(roster, T0 + 9, silent=1, silent_for=9.0) == [state(False)]
    assert reach(roster, T0 + 9) == [state(True)]


@pytest.mark.parametrize("removed", [False, True])
def test_a_quiet_neighbour_whose_connection_ends_is_what_the_others_say(removed):
    roster = make_with_quiet_gamma()
    now = T0 + (6 if removed else 4)
    run(roster, now)
    lose(roster, now, silent=1, silent_for=11.0)
    events = neighbour(roster, now, DEAD, DEAD)
    gone = Lost if removed else Removed
    assert events == [gone("gamma", Reason.SILENT), state(False, Reason.SILENT)]
    assert neighbour(roster, now + 1, DEAD, ALIVE)[0] == Added("gamma", 1, LIFE)


@pytest.mark.parametrize("removed", [False, True])
def test_a_quiet_neighbour_whose_connection_ends_is_alive_over_another_way(removed):
    roster = make_with_quiet_gamma()
    now = T0 + (6 if removed else 4)
    run(roster, now)
    reach(roster, now, hops=2, next_hop="beta")
    back = Added("gamma", 1, LIFE) if removed else changed(DEAD, ALIVE, True)
    assert neighbour(roster, now, DEAD, DEAD) == [back]


@pytest.mark.parametrize("removed", [False, True])
def test_a_quiet_neighbour_whose_connection_ends_is_not_believed_over_its_own_edge(removed):
    roster = make_with_quiet_gamma()
    now = T0 + (6 if removed else 4)
    run(roster, now)
    assert neighbour(roster, now, DEAD, DEAD) == []
    events = lose(roster, now, gone=1, silent_for=0.5)
    assert state(False, Reason.GONE) in events
    assert run(roster, T0 + 99) == ([] if removed else [(13.5, Removed("gamma", Reason.GONE))])


def test_a_quiet_neighbour_without_reporters_is_unreachable_when_its_connection_ends():
    roster = make_with_quiet_gamma()
    lose(roster, T0 + 1)
    assert neighbour(roster, T0 + 1, DEAD, DEAD) == [state(False, Reason.UNREACHABLE)]
    assert roster.get("gamma").reason is Reason.UNREACHABLE


@pytest.mark.parametrize("removed", [False, True])
def test_a_quiet_neighbour_that_leaves_is_lost_at_once(removed):
    roster = make_with_quiet_gamma()
    if removed:
        run(roster, T0 + 6)
    gone = Lost if removed else Removed
    left = lose(roster, T0 + 6, left=True)
    assert left == [gone("gamma", Reason.LEFT), state(False, Reason.LEFT)]
    assert neighbour(roster, T0 + 7, DEAD, ALIVE) == []


def test_a_new_life_of_a_removed_quiet_neighbour_ends_the_old_one():
    roster = make_with_quiet_gamma()
    run(roster, T0 + 6)
    assert neighbour(roster, T0 + 6, DEAD, ALIVE, life=LIFE - 1, incarnation=0) == []
    assert neighbour(roster, T0 + 7, DEAD, ALIVE, life=22, incarnation=2) == [
        Lost("gamma", Reason.REMOVED),
        state(False, Reason.REMOVED),
        Added("gamma", 2, 22),
        state(False, life=22),
    ]


def test_a_lagging_quiet_neighbour_is_removed_later():
    roster = make()
    neighbour(roster, T0 - 20, DEAD, ALIVE)
    neighbour(roster, T0, ALIVE, WARNING)
    neighbour(roster, T0, WARNING, DEAD, quiet=True, stretch=4.0)
    assert [at for at, _ in run(roster, T0 + 99)] == [20.0]


def test_new_timings_judge_a_quiet_neighbour_too():
    roster = make_with_quiet_gamma()
    assert roster.set_timings(Timings(dead=2.5, remove=3.0), T0 + 0.6) == [
        Removed("gamma", Reason.QUIET)
    ]
    roster.check_invariants()


def test_our_own_pause_ages_no_quiet_neighbour():
    roster = make_with_quiet_gamma()
    roster.on_pause(60.0, T0 + 61)
    assert run(roster, T0 + 99) == [(65.0, Removed("gamma", Reason.QUIET))]


def test_a_client_that_is_told_of_a_quiet_node_loses_it_only_when_its_node_does():
    roster = Roster("alpha~1", incarnation=0, life=5, timings=Timings(), listed=False)
    gamma = make_with_quiet_gamma().get("gamma")
    told = roster.on_view([view_entry_of(gamma)], reset=True, now=T0)
    assert told[-1] == state(True)
    assert roster.get("gamma").status is DEAD
    gone = ("gamma", 0, VIEW_REMOVED, False, "quiet", 0)
    assert roster.on_view([gone], reset=False, now=T0) == [Removed("gamma", Reason.QUIET)]
    assert roster.on_view([gone], reset=False, now=T0) == []
    lost = ("gamma", 0, VIEW_REMOVED, False, "silent", 0)
    assert roster.on_view([lost], reset=False, now=T0) == [
        Lost("gamma", Reason.SILENT),
        state(False, Reason.SILENT),
    ]
    roster.check_invariants()


def test_a_client_hears_of_a_quiet_node_again_or_loses_it_with_its_node():
    roster = Roster("alpha~1", incarnation=0, life=5, timings=Timings(), listed=False)
    gamma = view_entry_of(make_with_quiet_gamma().get("gamma"))
    gone = ("gamma", 0, VIEW_REMOVED, False, "quiet", 0)
    for again in (True, False):
        roster.on_view([gamma], reset=True, now=T0)
        roster.on_view([gone], reset=False, now=T0)
        if again:
            assert roster.on_view([gamma], reset=False, now=T0)[0] == Added("gamma", 0, LIFE)
        else:
            assert roster.on_view([], reset=True, now=T0)[0] == Lost("gamma", Reason.REMOVED)
        roster.check_invariants()


# -- lives ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("after", [0.0, 6.0])
def test_a_new_life_that_is_reachable_is_alive_at_once(after):
    roster = make_with_gamma()
    if after:
        lose(roster, T0)
    run(roster, T0 + after)
    events = reach(roster, T0 + after, incarnation=2, life=22)
    back = [changed(DEAD, ALIVE, True)] if after else []
    assert events == [Restarted("gamma", LIFE, 22, 2), *back, state(True, life=22)]


def test_a_new_life_without_a_path_yet_is_not_dead():
    roster = make_with_gamma()
    lose(roster, T0, gone=1)
    assert lose(roster, T0 + 6, incarnation=2, life=22) == [
        Restarted("gamma", LIFE, 22, 2),
        changed(DEAD, WARNING, False, "unreachable"),
        state(False, life=22),
    ]
    assert run(roster, T0 + 30)[0] == (11.0, changed(WARNING, DEAD, False, "unreachable"))


def test_a_neighbour_that_restarted_is_told_by_its_first_beat():
    roster = make()
    neighbour(roster, T0, DEAD, ALIVE)
    assert neighbour(roster, T0 + 1, DEAD, ALIVE, incarnation=2, life=22) == [
        Restarted("gamma", LIFE, 22, 2),
        state(False, life=22),
    ]


def test_news_of_an_older_life_is_ignored():
    roster = make()
    reach(roster, T0, incarnation=2, life=22)
    assert lose(roster, T0 + 1, incarnation=1) == []
    assert neighbour(roster, T0 + 1, ALIVE, DEAD, incarnation=1) == []
    assert lose(roster, T0 + 1, incarnation=1, left=True) == []
    assert roster.get("gamma").reachable


@pytest.mark.parametrize("after", [None, 1.0, 6.0])
def test_a_node_that_leaves_is_removed_at_once(after):
    roster = make_with_gamma()
    if after is not None:
        lose(roster, T0)
        run(roster, T0 + after)
    events = lose(roster, T0 + 6, left=True)
    assert events == [Removed("gamma", Reason.LEFT), state(False, Reason.LEFT)]
    assert roster.next_deadline() is None


def test_leaving_after_a_certain_death_tells_delivery_nothing_new():
    roster = make_with_gamma()
    lose(roster, T0, gone=1)
    assert lose(roster, T0 + 1, left=True) == [Removed("gamma", Reason.LEFT)]


def test_only_a_greater_incarnation_brings_back_a_node_that_left():
    roster = make()
    reach(roster, T0)
    lose(roster, T0, left=True)
    assert reach(roster, T0 + 1) == []
    assert reach(roster, T0 + 1, incarnation=0, life=9) == []
    assert neighbour(roster, T0 + 1, DEAD, ALIVE) == []
    assert reach(roster, T0 + 1, incarnation=2, life=22) == [
        Added("gamma", 2, 22),
        state(True, life=22),
    ]


def test_the_memory_of_who_left_is_bounded_and_loses_the_oldest():
    roster = make()
    for number in range(LEFT_MAX + 1):
        node_id = f"node-{number}"
        roster.on_reach({node_id: Reach(node_id, 1, 1, False, left=True)}, T0)
    roster.check_invariants()
    assert reach(roster, T0, f"node-{LEFT_MAX}", life=1) == []
    assert reach(roster, T0, "node-0", life=1) != []


# -- pauses and settings --------------------------------------------------------------------------


def test_our_own_pause_ages_no_unreachable_node():
    roster = make_with_gamma()
    lose(roster, T0, silent=1, silent_for=1.0)
    roster.on_pause(60.0, T0 + 62)
    assert roster.on_tick(T0 + 62) == []
    assert run(roster, T0 + 99)[0] == (64.0, changed(WARNING, DEAD, False, "silent"))


def test_new_timings_count_for_who_is_unreachable_now():
    roster = make_with_gamma()
    lose(roster, T0)
    assert roster.set_timings(Timings(dead=20.0, remove=30.0), T0 + 1) == []
    assert run(roster, T0 + 25)[0][0] == 20.0
    roster.check_invariants()
    assert roster.set_timings(Timings(), T0 + 25)[0] == Removed("gamma", Reason.UNREACHABLE)


def test_shorter_timings_conclude_at_once():
    roster = make_with_gamma()
    lose(roster, T0)
    hasty = Timings(slow=0.1, warn=0.2, dead=0.5, remove=60.0)
    assert roster.set_timings(hasty, T0 + 1) == [
        changed(WARNING, DEAD, False, "unreachable"),
        state(False, Reason.UNREACHABLE),
    ]


def test_the_own_identity_can_change():
    roster = make()
    roster.set_own(7, 77)
    assert (roster.get("alpha").incarnation, roster.get("alpha").life) == (7, 77)


def test_a_thousand_reachable_nodes_wait_for_nothing():
    roster = make()
    changes = {f"n{i}": Reach(f"n{i}", 1, i, True, 2, 5, "beta") for i in range(1000)}
    assert len(roster.on_reach(changes, T0)) == 2000
    assert roster.next_deadline() is None
    assert [entry.node_id for entry in roster.nodes()[:3]] == ["alpha", "n0", "n1"]
    assert len(roster) == 1001


# -- ephemeral clients ----------------------------------------------------------------------------


def client():
    return Roster("client", incarnation=1, life=1, timings=Timings(), listed=False)


def test_a_client_is_told_by_its_node_and_is_no_node_itself():
    roster = client()
    assert roster.nodes() == []
    assert roster.on_view([("gamma", LIFE, 0, True, "", 2)], reset=True, now=T0) == [
        Added("gamma", 0, LIFE),
        state(True),
    ]
    assert roster.get("gamma").hops == 2
    assert len(roster) == 1
    roster.check_invariants()


def test_a_view_passes_through_the_same_events():
    roster = client()
    roster.on_view([("gamma", LIFE, 0, True, "", 2)], reset=True, now=T0)
    assert roster.on_view([("gamma", LIFE, 2, False, "unreachable", 0)], reset=False, now=T0) == [
        changed(ALIVE, WARNING, False, "unreachable"),
        state(False),
    ]
    assert roster.on_view([("gamma", LIFE, 3, False, "gone", 0)], reset=False, now=T0) == [
        changed(WARNING, DEAD, False, "gone"),
        state(False, Reason.GONE),
    ]
    assert roster.on_view([("gamma", 22, 0, True, "", 2)], reset=False, now=T0) == [
        Restarted("gamma", LIFE, 22, 0),
        changed(DEAD, ALIVE, True),
        state(True, life=22),
    ]
    assert roster.on_view([("gamma", 22, 4, False, "left", 0)], reset=False, now=T0) == [
        Removed("gamma", Reason.LEFT),
        state(False, Reason.LEFT, life=22),
    ]


def test_a_view_that_resets_forgets_who_is_not_named():
    roster = client()
    roster.on_view(
        [("beta", 5, 0, True, "", 1), ("gamma", LIFE, 0, True, "", 2)], reset=True, now=T0
    )
    assert roster.on_view([("beta", 5, 0, True, "", 1)], reset=True, now=T0) == [
        Removed("gamma", Reason.REMOVED),
        state(False, Reason.REMOVED),
    ]


def test_what_a_view_says_in_words_that_we_do_not_know_is_taken_carefully():
    roster = client()
    roster.on_view([("gamma", LIFE, 3, False, "abducted", 0)], reset=True, now=T0)
    assert roster.get("gamma").reason is Reason.UNREACHABLE
    roster.on_view([("delta", 5, 3, False, "", 0)], reset=False, now=T0)
    assert roster.get("delta").reason is Reason.UNREACHABLE
    assert roster.on_view([("epsilon", 5, 4, False, "", 0)], reset=False, now=T0) == []


def test_a_view_carries_an_entry_from_a_node_to_its_client():
    roster, other = make_with_gamma(), client()
    lose(roster, T0, gone=1)
    other.on_view([view_entry_of(entry) for entry in roster.nodes()], reset=True, now=T0)
    assert (other.get("alpha").status, other.get("gamma").status) == (ALIVE, DEAD)
    assert other.get("gamma").reason is Reason.GONE
