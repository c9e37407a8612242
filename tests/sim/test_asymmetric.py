"""One end has given the other up, and the other has not: both learn it, and nothing runs twice."""

from __future__ import annotations

import pytest

from meshcore.errors import Code
from meshcore.protocol.membership.timings import Timings
from meshcore.sim import checkers, topology
from meshcore.sim.work import Call
from meshcore.sim.world import World

HASTY = Timings(dead=3.0, remove=4.0)


def split(world: World, call: Call, hasty: str) -> None:
    """Cut the chain in the middle until the hasty end has removed the other one, then heal it."""
    patient = "b" if hasty == "a" else "a"
    world.cut("x", "r")
    world.run_until(lambda: world.node(hasty).mesh.roster.get(patient) is None, within=15.0)
    assert world.node(patient).mesh.roster.get(hasty) is not None
    world.heal("x", "r")
    world.run_until(lambda: not checkers.agreement(world), within=3.0)


def chain(seed: int, hasty: str) -> World:
    world = World(seed=seed, check_every=3)
    world.build(topology.chain(["a", "x", "r", "b"]))
    world.run(3.0)
    process = world.node(hasty)
    process.input(process.mesh.set_timings, HASTY)
    return world


@pytest.mark.parametrize("ttl", [60.0, None])
def test_a_recipient_that_gave_its_caller_up_does_not_run_the_call_again(ttl: float | None) -> None:
    world = chain(1, hasty="b")
    call = world.call("a", "b", "test:hang", ttl=ttl)
    world.run(0.5)
    split(world, call, hasty="b")
    assert not world.node("b").work.active
    after = world.call("a", "b", "test:echo", "after")
    world.run_until(lambda: after.ended, within=3.0)
    assert after.succeeded
    assert (call.code, call.may_have_run) == (Code.PEER_LOST, True)
    assert checkers.work(world) == []


@pytest.mark.parametrize("ttl", [60.0, None])
def test_a_call_whose_recipient_gave_it_up_ends_without_another_call(ttl: float | None) -> None:
    world = chain(2, hasty="b")
    call = world.call("a", "b", "test:hang", ttl=ttl)
    world.run(0.5)
    split(world, call, hasty="b")
    world.run_until(lambda: call.ended, within=5.0)
    assert (call.code, call.may_have_run) == (Code.PEER_LOST, True)


@pytest.mark.parametrize(("directive", "payload"), [("test:later", 9.0), ("test:hang", None)])
def test_work_whose_caller_gave_it_up_ends_and_nothing_is_resent_for_ever(
    directive: str, payload: float | None
) -> None:
    world = chain(3, hasty="a")
    call = world.call("a", "b", directive, payload, ttl=None)
    world.run(0.5)
    split(world, call, hasty="a")
    assert call.code == Code.PEER_LOST
    recipient = world.node("b")
    world.run_until(
        lambda: not recipient.work.active and recipient.mesh.delivery.is_settled(), within=10.0
    )
    packets = world.network.sent["packets"]
    world.run(5.0)
    assert world.network.sent["packets"] == packets
    assert checkers.work(world) == []
