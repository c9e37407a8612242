"""What becomes of a call: the whole table of what may be known of its recipient, and of endings."""

from __future__ import annotations

import pytest

from meshcore.errors import Code, UnknownNodeError, UnreachableError
from meshcore.protocol.delivery.bodies import Fed
from meshcore.protocol.delivery.outputs import NO_PAYLOAD
from meshcore.protocol.wire import packet
from tests.unit.protocol.delivery_world import DELAY, Call, End, World, opened, pair

DEAD_FOR_GOOD = ["gone", "silent", "left", "removed"]


def in_flight(alpha: End, world: World, *, ttl: float | None = 30.0) -> Call:
    """A call that runs at beta and is not answered."""
    call = alpha.call("beta", "t:later", ttl=ttl)
    world.run(0.2)
    assert not call.ended
    return call


# -- a new call ---------------------------------------------------------------------------------


def test_a_recipient_nobody_has_heard_of_is_unknown_two_seconds_after_the_first_link() -> None:
    world, alpha, _ = pair(known=False)
    early = alpha.call("nobody", "t:echo", ttl=None)
    world.run(10.0)
    assert not early.ended
    alpha.delivery.on_first_link(world.now)
    late = alpha.call("nobody", "t:echo", ttl=None)
    assert world.run_until(lambda: early.ended == 1) == pytest.approx(2.0)
    for call in (early, late):
        call.assert_failed(Code.UNREACHABLE, may_have_run=False)
        assert call.failure is not None
        assert call.failure.unknown_node
    with pytest.raises(UnknownNodeError) as refused:
        alpha.call("nobody", "t:echo")
    assert refused.value.may_have_run is False


def test_a_recipient_that_becomes_known_in_time_gets_the_call() -> None:
    world, alpha, beta = pair(known=False)
    alpha.delivery.on_first_link(world.now)
    call = alpha.call("beta", "t:echo", 1)
    world.run(1.9)
    assert not call.ended
    alpha.peer("beta", beta.life)
    world.run(0.2)
    assert call.value == 1
    world.run(5.0)
    assert alpha.call("beta", "t:echo", 2)


def test_a_call_to_an_unreachable_node_that_is_not_dead_is_held_until_its_deadline() -> None:
    world, alpha, beta = opened()
    alpha.route("beta", None)
    alpha.peer("beta", beta.life, reachable=False)
    call = alpha.call("beta", "t:echo", ttl=3.0)
    assert world.run_until(lambda: call.ended == 1) == pytest.approx(3.0, abs=0.2)
    call.assert_failed(Code.DEADLINE, may_have_run=False)
    alpha.route("beta", "beta")
    world.run(2.0)
    assert len(beta.ran) == 1, "what was taken back must never run"


def test_calls_that_were_taken_back_while_there_is_no_route_leave_nothing_in_the_queue() -> None:
    world, alpha, _ = opened()
    alpha.route("beta", None)
    for _ in range(300):
        alpha.call("beta", "t:echo", bytes(100), ttl=1.0)
        world.run(0.1)
    world.run(1.5)
    assert alpha.delivery.stats()["backlog_bytes"] == 0


def test_a_call_over_a_whole_link_to_a_node_that_is_not_reachable_is_held_but_not_for_ever() -> (
    None
):
    world, alpha, beta = opened()
    call = in_flight(alpha, world, ttl=None)
    with_ttl = in_flight(alpha, world, ttl=90.0)
    alpha.peer("beta", beta.life, reachable=False)  # quiet: the link stands
    world.run(20.0)
    alpha.peer("beta", beta.life)
    alpha.peer("beta", beta.life, reachable=False)  # it was heard meanwhile: counted anew
    world.run(25.0)
    assert not call.ended
    world.run(36.0)
    call.assert_failed(Code.UNREACHABLE, may_have_run=True)
    assert not with_ttl.ended


def test_a_call_without_a_deadline_is_held_for_the_request_timeout() -> None:
    world, alpha, beta = opened()
    alpha.route("beta", None)
    call = alpha.call("beta", "t:echo", ttl=None)
    assert world.run_until(lambda: call.ended == 1, within=100.0) == pytest.approx(30.0, abs=0.5)
    call.assert_failed(Code.UNREACHABLE, may_have_run=False)
    alpha.route("beta", "beta")
    world.run(2.0)
    assert len(beta.ran) == 1, "what was taken back must never run"


@pytest.mark.parametrize("dead", [*DEAD_FOR_GOOD, "unreachable"])
@pytest.mark.parametrize("is_open", [False, True])
def test_a_call_to_a_dead_node_is_refused_at_once(dead: str, is_open: bool) -> None:
    _, alpha, beta = opened() if is_open else pair()
    alpha.peer("beta", beta.life, reachable=False, dead=dead)
    with pytest.raises(UnreachableError) as refused:
        alpha.call("beta", "t:echo")
    assert refused.value.may_have_run is False
    assert not isinstance(refused.value, UnknownNodeError)


@pytest.mark.parametrize("dead", [*DEAD_FOR_GOOD, "unreachable"])
def test_a_node_that_was_dead_and_is_back_with_the_same_life_is_called_again(dead: str) -> None:
    world, alpha, beta = opened()
    alpha.peer("beta", beta.life, reachable=False, dead=dead)
    alpha.peer("beta", beta.life)
    call = alpha.call("beta", "t:echo", 7)
    world.run(1.0)
    assert call.value == 7


@pytest.mark.parametrize("dead", [*DEAD_FOR_GOOD, "unreachable"])
@pytest.mark.parametrize("is_open", [False, True])
def test_a_held_call_ends_as_unreachable_and_unrun_when_its_recipient_dies(
    dead: str, is_open: bool
) -> None:
    world, alpha, beta = opened() if is_open else pair()
    alpha.route("beta", None)
    call = alpha.call("beta", "t:echo", ttl=None)
    alpha.peer("beta", beta.life, reachable=False, dead=dead)
    call.assert_failed(Code.UNREACHABLE, may_have_run=False)
    alpha.route("beta", "beta")
    alpha.peer("beta", beta.life)
    world.run(3.0)
    assert len(beta.ran) == is_open, "only the call that opened the channel"


def test_a_call_made_before_the_news_of_a_restart_goes_to_the_new_life() -> None:
    world, alpha, _ = pair()
    beta = world.restart("beta", told=False)
    call = alpha.call("beta", "t:echo", 3)
    world.run(1.0)
    assert call.value == 3
    assert list(beta.ran.values()) == [1]
    alpha.peer("beta", beta.life)  # the news
    call = alpha.call("beta", "t:echo", 4)
    world.run(1.0)
    assert call.value == 4


def test_old_news_do_not_end_a_channel_to_a_later_life() -> None:
    world, alpha, beta = pair()
    old_life = beta.life
    beta = world.restart("beta", told=False)
    call = in_flight(alpha, world)
    alpha.peer("beta", old_life, reachable=False)
    alpha.peer("beta", old_life, reachable=False, dead="gone")
    assert not call.ended
    alpha.peer("beta", beta.life)
    beta.answer()
    world.run(1.0)
    assert call.value == "late"


# -- work in flight -----------------------------------------------------------------------------


@pytest.mark.parametrize("dead", DEAD_FOR_GOOD)
def test_work_in_flight_is_lost_at_once_when_its_recipient_is_dead(dead: str) -> None:
    world, alpha, beta = opened()
    call = in_flight(alpha, world)
    alpha.peer("beta", beta.life, reachable=False, dead=dead)
    call.assert_failed(Code.PEER_LOST, may_have_run=True)


def test_work_in_flight_goes_on_where_it_was_after_a_time_without_a_route() -> None:
    world, alpha, beta = opened()
    call = alpha.call("beta", "t:items", 20_000, ttl=None)
    world.run(0.0035)
    got = len(call.values)
    assert 0 < got < 20_000
    for end, other in ((alpha, "beta"), (beta, "alpha")):
        end.route(other, None)
        end.peer(other, world[other].life, reachable=False)
    world.wire = lambda frame: ()
    world.run(20.0)
    world.wire = lambda frame: (DELAY,)
    for end, other in ((alpha, "beta"), (beta, "alpha")):
        end.route(other, other)
    world.run(10.0)
    assert call.values == [*range(20_000), NO_PAYLOAD]
    assert max(beta.ran.values()) == 1


def test_work_at_a_dead_unreachable_node_goes_on_until_its_deadline_or_the_removal() -> None:
    world, alpha, beta = opened()
    limited, unlimited = in_flight(alpha, world, ttl=6.0), in_flight(alpha, world, ttl=None)
    alpha.route("beta", None)
    alpha.peer("beta", beta.life, reachable=False, dead="unreachable")
    world.run(5.0)
    assert not limited.ended
    world.run(1.0)
    limited.assert_failed(Code.DEADLINE, may_have_run=True)
    alpha.peer("beta", beta.life, reachable=False, dead="removed")
    unlimited.assert_failed(Code.PEER_LOST, may_have_run=True)


def test_work_at_a_dead_unreachable_node_that_comes_back_is_answered() -> None:
    world, alpha, beta = opened()
    call = in_flight(alpha, world, ttl=None)
    alpha.route("beta", None)
    alpha.peer("beta", beta.life, reachable=False, dead="unreachable")
    world.run(2.0)
    alpha.route("beta", "beta")
    alpha.peer("beta", beta.life)
    beta.answer()
    world.run(1.0)
    assert call.value == "late"


def test_news_of_a_restart_end_the_work_in_flight_and_new_calls_go_to_the_new_life() -> None:
    world, alpha, _ = opened()
    call = in_flight(alpha, world)
    beta = world.restart("beta")
    call.assert_failed(Code.PEER_LOST, may_have_run=True)
    fresh = alpha.call("beta", "t:echo", 5)
    world.run(1.0)
    assert fresh.value == 5
    assert list(beta.ran.values()) == [1]


def test_a_restart_shows_by_reset_where_the_news_are_late() -> None:
    world, alpha, _ = opened()
    call = in_flight(alpha, world)
    world.restart("beta", told=False)
    unlucky = alpha.call("beta", "t:echo", 1)
    world.run(0.1)
    call.assert_failed(Code.PEER_LOST, may_have_run=True)
    unlucky.assert_failed(Code.PEER_LOST, may_have_run=True)
    fresh = alpha.call("beta", "t:echo", 2)
    world.run(1.0)
    assert fresh.value == 2


# -- the channel is forgotten, the lives are the same ---------------------------------------------


def forget(end: End) -> None:
    """As the recipient does with an idle channel when others want its place."""
    responder = end.delivery._responder
    for channel in list(responder._channels.values()):
        assert channel.is_idle()
        responder._close(channel, Code.PEER_LOST)


def test_calls_on_a_channel_that_was_idle_when_it_was_forgotten_run_once() -> None:
    world, alpha, beta = opened()
    forget(beta)
    calls = [alpha.call("beta", "t:echo", n, flush=False) for n in range(10)]
    alpha.settle()
    world.run(1.0)
    assert [call.value for call in calls] == list(range(10))
    assert set(beta.ran.values()) == {1}
    assert len(beta.ran) == 11


def test_a_body_sent_on_a_forgotten_channel_is_sent_again_whole() -> None:
    world, alpha, beta = opened()
    forget(beta)
    payload = bytes(2_000_000) + b"end"  # more than the first credit, which is spent by then
    call = alpha.call("beta", "t:echo", payload)
    world.run(2.0)
    assert call.value == payload
    assert set(beta.ran.values()) == {1}


def test_a_fed_payload_on_a_forgotten_channel_fails_as_unrun_only_once_it_has_begun() -> None:
    world, alpha, beta = opened()
    forget(beta)
    begun = alpha.call("beta", "t:echo", Fed(0, None), ttl=None)
    alpha.feed(begun, b"x" * 100_000)
    world.run(1.0)
    assert begun.ended == 1
    assert begun.failure is not None
    after = alpha.call("beta", "t:echo", 1)
    world.run(1.0)
    assert after.value == 1
    assert set(beta.ran.values()) == {1}
    assert not beta._bodies, "nothing waits for a payload that will not come"


def test_deadlines_hold_for_calls_that_moved_to_another_channel() -> None:
    world, alpha, beta = opened()
    forget(beta)
    call = alpha.call("beta", "t:later", ttl=2.0)
    world.run(1.0)
    assert len(beta.streams) == 1
    assert world.run_until(lambda: call.ended == 1) == pytest.approx(1.0, abs=0.2)
    call.assert_failed(Code.DEADLINE, may_have_run=True)


def test_a_recipient_that_gave_the_work_up_never_runs_it_again() -> None:
    world, alpha, beta = opened()
    running = in_flight(alpha, world, ttl=None)
    beta.peer("alpha", alpha.life, reachable=False, dead="removed")
    assert [code for _, code in beta.cancelled] == [Code.PEER_LOST]
    beta.peer("alpha", alpha.life)
    never_received = alpha.call("beta", "t:echo", "new")
    world.run(2.0)
    running.assert_failed(Code.PEER_LOST, may_have_run=True)
    assert never_received.value == "new"
    assert set(beta.ran.values()) == {1}


def test_a_recipient_that_gave_the_work_up_tells_so_on_the_next_change_of_the_path() -> None:
    world, alpha, beta = opened()
    call = in_flight(alpha, world, ttl=None)
    beta.peer("alpha", alpha.life, reachable=False, dead="removed")
    alpha.route("beta", None)
    alpha.route("beta", "beta")
    world.run(1.0)
    call.assert_failed(Code.PEER_LOST, may_have_run=True)


def test_a_recipient_that_gave_the_work_up_tells_so_in_the_end_without_any_change() -> None:
    world, alpha, beta = opened()
    call = in_flight(alpha, world, ttl=None)
    beta.peer("alpha", alpha.life, reachable=False, dead="removed")
    world.run_until(lambda: call.ended == 1, within=61.0)
    call.assert_failed(Code.PEER_LOST, may_have_run=True)


def test_work_whose_caller_has_given_it_up_is_cancelled_and_nothing_is_resent_for_ever() -> None:
    world, alpha, beta = opened()
    call = in_flight(alpha, world, ttl=None)
    alpha.peer("beta", beta.life, reachable=False, dead="silent")
    call.assert_failed(Code.PEER_LOST, may_have_run=True)
    alpha.peer("beta", beta.life)
    beta.answer()
    world.run(5.0)
    assert beta.in_flight == 0
    quiet = len(world.sent)
    world.run(50.0)
    assert len(world.sent) == quiet


def test_work_without_a_word_is_cancelled_when_its_caller_has_forgotten_it() -> None:
    world, alpha, beta = opened()
    in_flight(alpha, world, ttl=None)
    alpha.peer("beta", beta.life, reachable=False, dead="silent")
    alpha.peer("beta", beta.life)
    world.run_until(lambda: not beta.streams, within=61.0)
    assert beta.cancelled[-1][1] == Code.PEER_LOST


def test_a_late_init_of_a_channel_that_was_given_up_does_not_end_the_one_after_it() -> None:
    world, alpha, beta = pair()
    alpha.call("beta", "t:echo")
    world.run(0.5)
    stale = world.frames(packet.INIT)[0]
    alpha.peer("beta", beta.life, reachable=False, dead="silent")
    alpha.peer("beta", beta.life)
    call = in_flight(alpha, world)
    beta.on_frames(stale.frames)
    world.run(1.0)
    assert not beta.cancelled
    beta.answer()
    world.run(1.0)
    assert call.value == "late"
    assert set(beta.ran.values()) == {1}


def test_packets_for_an_earlier_life_do_not_reset_the_channel_to_the_present_one() -> None:
    """Both lives count their cookies from 1."""
    world, alpha, _ = opened()
    call = alpha.call("beta", "t:echo", 1)
    old = world.frames(packet.CALL)[-1]
    world.run(0.5)
    assert call.value == 1
    beta = world.restart("beta")
    running = in_flight(alpha, world)
    beta.on_frames(old.frames)
    world.run(1.0)
    assert not running.ended
    beta.answer()
    world.run(1.0)
    assert running.value == "late"
    assert set(beta.ran.values()) == {1}


# -- deadlines and cancelling ---------------------------------------------------------------------


def test_a_deadline_ends_a_call_at_both_ends() -> None:
    world, alpha, beta = opened()
    call = alpha.call("beta", "t:later", ttl=2.0)
    assert world.run_until(lambda: call.ended == 1) == pytest.approx(2.0, abs=0.2)
    call.assert_failed(Code.DEADLINE, may_have_run=True)
    world.run(0.5)
    assert [code for _, code in beta.cancelled] == [Code.DEADLINE]
    beta.answer()
    world.run(1.0)
    assert call.ended == 1


def test_a_recipient_keeps_the_deadline_by_itself() -> None:
    world, alpha, beta = opened()
    alpha.call("beta", "t:later", ttl=2.0)
    world.run(0.5)
    world.wire = lambda frame: ()
    world.run(2.0)
    assert [code for _, code in beta.cancelled] == [Code.DEADLINE]


def test_a_call_that_is_cancelled_before_it_is_sent_never_runs() -> None:
    world, alpha, beta = opened()
    call = alpha.call("beta", "t:echo", flush=False)
    other = alpha.call("beta", "t:echo", 2, flush=False)
    assert alpha.cancel(call)
    call.assert_failed(Code.CANCELLED, may_have_run=False)
    world.run(1.0)
    assert other.value == 2
    assert len(beta.ran) == 2
    assert not beta.cancelled


def test_a_traced_call_that_is_cancelled_before_it_is_sent_never_runs() -> None:
    world, alpha, beta = pair()
    call = alpha.call("beta", "t:echo", trace=True)
    assert alpha.cancel(call)
    call.assert_failed(Code.CANCELLED, may_have_run=False)
    world.run(1.0)
    assert not beta.ran


def test_cancel_reaches_the_running_work_and_its_late_answer_is_ignored() -> None:
    world, alpha, beta = opened()
    call = in_flight(alpha, world)
    assert alpha.cancel(call)
    call.assert_failed(Code.CANCELLED, may_have_run=True)
    world.run(0.1)
    assert [code for _, code in beta.cancelled] == [Code.CANCELLED]
    assert not alpha.cancel(call)
    assert beta.delivery.stats()["calls_in"] == 0


def test_cancel_and_answer_may_cross() -> None:
    world, alpha, beta = opened()
    call = in_flight(alpha, world)
    beta.answer()
    alpha.cancel(call)
    world.run(1.0)
    call.assert_failed(Code.CANCELLED, may_have_run=True)
    assert alpha.in_flight == beta.in_flight == 0


def test_cancel_after_the_answer_does_nothing() -> None:
    world, alpha, beta = opened()
    call = alpha.call("beta", "t:echo", 1)
    world.run(1.0)
    assert not alpha.cancel(call)
    assert call.value == 1
    assert not beta.cancelled


def test_cancelling_a_payload_on_its_way_stops_it() -> None:
    world, alpha, beta = opened()
    call = alpha.call("beta", "t:echo", bytes(50_000_000))
    world.run(0.01)
    alpha.cancel(call)
    world.run(0.5)
    assert sum(len(frame.frames[-1]) for frame in world.frames()) < 5_000_000
    assert not beta._bodies
    assert alpha.call("beta", "t:echo", 1)
    world.run(0.5)
    assert alpha.calls[-1].value == 1


def test_cancelling_a_large_response_stops_it() -> None:
    world, alpha, _ = opened()
    call = alpha.call("beta", "t:fed", 50_000_000)
    world.run(0.05)
    assert call.body
    alpha.cancel(call)
    world.run(0.5)
    assert sum(len(frame.frames[-1]) for frame in world.frames()) < 20_000_000


def test_thousands_of_calls_in_a_backlog_are_cancelled_in_any_order_and_none_runs() -> None:
    world, alpha, beta = opened()
    world.wire = lambda frame: ()
    calls = [alpha.call("beta", "t:echo", n, flush=False) for n in range(50_000)]
    alpha.settle()
    sent = sum(len(frame.kinds) for frame in world.frames(packet.CALL))
    assert sent == 256 * 64
    for call in calls[::-2]:
        alpha.delivery.cancel(call.stream, 6, "x", world.now)
    alpha.settle()
    world.wire = lambda frame: (DELAY,)
    world.run(60.0)
    assert all(call.ended == 1 for call in calls)
    assert [call.failure is None for call in calls] == [True, False] * 25_000
    # What had left may run, or not; of the rest, exactly what was not cancelled.
    assert len(beta.ran) == sent + (50_000 - sent) // 2 + 1
    assert alpha.delivery.stats()["backlog_bytes"] == 0


def test_a_node_that_stops_ends_its_calls_and_tells_those_who_work_for_it() -> None:
    world, alpha, beta = opened()
    calls = [in_flight(alpha, world) for _ in range(3)]
    alpha.delivery.close_calls("bye", world.now)
    alpha.settle()
    for call in calls:
        call.assert_failed(Code.CANCELLED, may_have_run=True)
    world.run(0.5)
    assert len(beta.cancelled) == 3
    assert alpha.delivery.is_settled()


# -- the other end --------------------------------------------------------------------------------


@pytest.mark.parametrize("dead", DEAD_FOR_GOOD)
def test_the_work_of_a_dead_sender_is_cancelled(dead: str) -> None:
    world, alpha, beta = opened()
    in_flight(alpha, world)
    beta.peer("alpha", alpha.life, reachable=False, dead=dead)
    assert [code for _, code in beta.cancelled] == [Code.PEER_LOST]


def test_the_work_of_a_sender_that_was_started_again_is_cancelled() -> None:
    world, alpha, beta = opened()
    in_flight(alpha, world)
    fresh = world.restart("alpha")
    assert [code for _, code in beta.cancelled] == [Code.PEER_LOST]
    call = fresh.call("beta", "t:echo", 1)
    world.run(1.0)
    assert call.value == 1


def test_old_news_of_a_sender_do_not_end_the_work_of_its_later_life() -> None:
    world, alpha, beta = opened()
    fresh = World.restart(world, "alpha", told=False)
    call = in_flight(fresh, world)
    beta.peer("alpha", alpha.life, reachable=False)
    assert not beta.cancelled
    beta.peer("alpha", fresh.life)
    assert not beta.cancelled
    beta.answer()
    world.run(1.0)
    assert call.value == "late"


def client_of(world: World, node: str) -> End:
    """An ephemeral client, whose packets lead over its node."""
    client = world[node]
    client.delivery.set_address(f"{node}~c1")
    return client


def test_the_work_of_a_client_ends_with_the_client_its_node_or_its_nodes_life() -> None:
    for end in ("hint", "dead", "restart"):
        world, _, beta = pair()
        client = client_of(world, "alpha")
        in_flight(client, world)
        if end == "hint":
            beta.delivery.on_client_gone("alpha~c1")
            beta.settle()
        elif end == "dead":
            beta.peer("alpha", client.life, reachable=False, dead="gone")
        else:
            beta.peer("alpha", client.life + 1)
        assert [code for _, code in beta.cancelled] == [Code.PEER_LOST], end


def test_only_the_node_of_a_client_can_tell_that_it_is_gone() -> None:
    world, _, beta = pair()
    client = client_of(world, "alpha")
    in_flight(client, world)
    for relay, address, cancelled in (
        ("mallory", "alpha~c1", 0),
        ("alpha", "alpha", 0),
        ("alpha", "alpha~c1", 1),
    ):
        about = packet.make_key(packet.FROM_RESPONDER, "beta", beta.life, address, client.life)
        hint = packet.make_hint(relay, 5, about, packet.HINT_CLIENT_GONE)
        beta.delivery.on_hint(hint, packet.key_of(hint), world.now)
        beta.settle()
        assert len(beta.cancelled) == cancelled
