"""Master, time and events as applications have them, with real nodes on real sockets."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from meshcore import Config, ConfigError, Controller, Node, NodeStatus, UnknownNodeError
from meshcore.events import WATCHED_MAX, Change, LinkEvent, MasterEvent, Overflow, StatusEvent
from tests.integration.nodes import eventually, node, pair, run


@asynccontextmanager
async def chain() -> AsyncIterator[tuple[Controller, Node, Node]]:
    """oscar, beta and gamma in a chain, oscar the oldest."""
    async with (
        Controller(Config(node_id="oscar", listen=("tcp://127.0.0.1:0",))) as oscar,
        node("beta", peers=oscar.endpoints) as beta,
    ):
        # Ages are as exact as the way of a beat is short: who is older must not depend on it.
        await asyncio.sleep(0.2)
        async with node("gamma", peers=beta.endpoints) as gamma:
            await oscar.wait_for("gamma")
            yield oscar, beta, gamma


def agreed(nodes: tuple[Node, ...], node_id: str | None) -> Callable[[], bool]:
    def they_agree() -> bool:
        seen = [one.connectivity.master for one in nodes]
        return {None if info is None else info.id for info in seen} == {node_id}

    return they_agree


def wills(seen_from: Node) -> list[bool | None]:
    """What the three nodes are forced to be."""
    nodes = seen_from.connectivity.nodes
    return [nodes[name].is_master_forced for name in ("oscar", "beta", "gamma")]


def test_the_oldest_is_master_and_every_node_sees_the_same() -> None:
    async def scenario() -> None:
        async with chain() as nodes:
            await eventually(agreed(nodes, "oscar"))
            assert [one.connectivity.is_master for one in nodes] == [True, False, False]
            info = nodes[2].connectivity.nodes["oscar"]
            assert (info.is_master, info.is_master_forced) == (True, None)

    run(scenario)


def test_a_node_forces_itself_and_releases_itself() -> None:
    async def scenario() -> None:
        async with chain() as nodes:
            oscar, _, gamma = nodes
            await eventually(agreed(nodes, "oscar"))
            gamma.connectivity.is_master = True
            assert gamma.connectivity.is_master  # for itself at once
            await eventually(agreed(nodes, "gamma"))
            assert oscar.connectivity.nodes["gamma"].is_master_forced is True
            gamma.connectivity.is_master = False
            assert not gamma.connectivity.is_master
            await eventually(agreed(nodes, "oscar"))
            oscar.connectivity.is_master = False
            await eventually(agreed(nodes, "beta"))
            oscar.connectivity.is_master = None
            gamma.connectivity.is_master = None
            await eventually(agreed(nodes, "oscar"))

    run(scenario)


def test_where_nobody_is_left_there_is_no_master_and_no_exception() -> None:
    async def scenario() -> None:
        async with pair() as (oscar, alpha):
            await eventually(agreed((oscar, alpha), "alpha"))
            for one in (oscar, alpha):
                one.connectivity.is_master = False
            await eventually(agreed((oscar, alpha), None))
            assert oscar.connectivity.master is None
            assert not oscar.connectivity.is_master

    run(scenario)


def test_several_that_are_forced_give_one_answer_and_a_warning() -> None:
    async def scenario() -> None:
        async with chain() as nodes:
            await eventually(agreed(nodes, "oscar"))
            told: list[MasterEvent] = []
            nodes[0].connectivity.on_master(told.append)
            for one in nodes[1:]:
                one.connectivity.is_master = True
            await eventually(agreed(nodes, "beta"))  # the older of the two
            await eventually(lambda: any(event.contested == ("beta", "gamma") for event in told))
            nodes[1].connectivity.is_master = None
            await eventually(agreed(nodes, "gamma"))
            await eventually(lambda: told[-1].contested == ())

    run(scenario)


def test_set_master_forces_one_on_and_releases_all_others() -> None:
    async def scenario() -> None:
        async with chain() as nodes:
            oscar, beta, gamma = nodes
            beta.connectivity.is_master = False
            gamma.connectivity.is_master = True
            await eventually(agreed(nodes, "gamma"))
            await oscar.set_master("beta")
            await eventually(agreed(nodes, "beta"))
            await eventually(lambda: wills(oscar) == [None, True, None])
            await oscar.set_master(None)
            await eventually(agreed(nodes, "oscar"))
            with pytest.raises(UnknownNodeError, match="did you mean gamma"):
                await oscar.set_master("gama")

    run(scenario)


def test_an_ephemeral_controller_sees_the_master_of_its_node_and_sets_it() -> None:
    async def scenario() -> None:
        async with (
            chain() as nodes,
            Controller(Config(ephemeral=True, peers=nodes[1].endpoints)) as client,
        ):
            await client.wait_attached()
            await eventually(agreed((*nodes, client), "oscar"))
            await client.set_master("gamma")
            await eventually(agreed((*nodes, client), "gamma"))
            with pytest.raises(ConfigError, match="ephemeral"):
                client.connectivity.is_master = True

    run(scenario)


def test_all_nodes_have_the_time_of_the_master_within_the_error_that_they_report() -> None:
    async def scenario() -> None:
        async with chain() as nodes:
            oscar = nodes[0]
            await eventually(agreed(nodes, "oscar"))
            for ahead in (0.0, 3600.0, -7200.0):
                oscar.connectivity.sync_time(time.time() + ahead, 0.0)
                assert abs(oscar.connectivity.now() - time.time() - ahead) < 0.5
                # Backward it is slewed, and honest about it.
                sure = 0.5 if ahead >= 0.0 else float("inf")
                await eventually(lambda sure=sure: close_to(oscar, nodes, sure), timeout=15.0)
                for _ in range(20):
                    await asyncio.sleep(0.05)
                    assert close_to(oscar, nodes, float("inf"))

    run(scenario)


def close_to(master: Node, nodes: tuple[Node, ...], within: float) -> bool:
    """Whether every node has a time that is as sure as it should be, and as near as it says."""
    for one in nodes:
        before, ours, after = (
            master.connectivity.now(),
            one.connectivity.now(),
            master.connectivity.now(),
        )
        error = one.connectivity.now_error
        if error is None or error > within or not before - error <= ours <= after + error:
            return False
    return True


@pytest.mark.parametrize("ahead", [1.0, -1.0])
def test_sync_time_has_the_right_sign(ahead: float) -> None:
    alone = Node(Config(node_id="alone"))
    reference = time.time() + ahead
    alone.connectivity.sync_time(reference - 0.2, 0.2)
    error = alone.connectivity.now_error
    assert error is not None
    off = alone.connectivity.now() - (time.time() + ahead)
    assert abs(off) <= error <= 0.25


@pytest.mark.parametrize(
    ("timestamp", "delay", "text"),
    [
        (float("nan"), 0.0, "timestamp = nan must be a number"),
        ("now", 0.0, "timestamp = 'now'"),
        (1.0, -0.1, "delay = -0.1"),
        (1e300, 0.0, "timestamp = 1e"),
    ],
)
def test_a_time_that_cannot_be_is_refused(timestamp: Any, delay: float, text: str) -> None:
    alone = Node(Config(node_id="alone"))
    before = alone.connectivity.now()
    with pytest.raises(ConfigError, match=text):
        alone.connectivity.sync_time(timestamp, delay)
    assert 0.0 <= alone.connectivity.now() - before < 5.0


def test_node_infos_tell_ages_ways_and_since_when() -> None:
    async def scenario() -> None:
        began = time.time()
        async with chain() as nodes:
            oscar, _, gamma = nodes
            await eventually(agreed(nodes, "oscar"))
            await eventually(lambda: oscar.connectivity.nodes["beta"].latency is not None)
            seen = gamma.connectivity.nodes
            assert seen["oscar"].up_time == pytest.approx(oscar.connectivity.up_time, abs=2.0)
            assert seen["oscar"].up_time > gamma.connectivity.up_time  # type: ignore[operator]
            assert began <= seen["oscar"].connected_since <= time.time()
            assert 0 <= time.time() - seen["beta"].timestamp < 5.0
            assert seen["gamma"].latency == 0.0
            beta = oscar.connectivity.nodes["beta"]
            assert 0 < beta.latency < 1.0  # type: ignore[operator]
            assert oscar.connectivity.get("beta").hops == 1
            with pytest.raises(UnknownNodeError, match="did you mean beta"):
                oscar.connectivity.get_status("beto")

    run(scenario)


def test_watch_tells_everything_in_order_and_ends_with_the_node() -> None:
    async def scenario() -> None:
        oscar = Controller(Config(node_id="oscar"))
        seen: list[Any] = []

        async def watching() -> None:
            async for event in oscar.connectivity.watch():
                seen.append(event)

        async with node("alpha") as alpha:
            task = asyncio.create_task(watching())
            await asyncio.sleep(0)
            async with oscar:
                oscar.add_peer(alpha.endpoints[0])
                await eventually(agreed((oscar,), "alpha"))
                await alpha.stop()
                await eventually(lambda: Change((), ("alpha",)) in seen)
            await task  # the node has stopped: nothing more will come
        links = [event for event in seen if isinstance(event, LinkEvent)]
        assert [(event.node_id, event.up) for event in links] == [("alpha", True), ("alpha", False)]
        changes = [event for event in seen if isinstance(event, Change)]
        assert changes == [Change(("alpha",), ()), Change((), ("alpha",))]
        assert any(isinstance(event, MasterEvent) and event.new == "alpha" for event in seen)

    run(scenario)


def test_a_slow_reader_gets_one_overflow_with_everything_as_it_is() -> None:
    async def scenario() -> None:
        async with pair() as (oscar, _):
            async with oscar.connectivity.watch() as watch:
                event = StatusEvent("alpha", NodeStatus.ALIVE, NodeStatus.SLOW, True, "")
                for _ in range(WATCHED_MAX + 5):
                    watch.put(event)
                overflow = await anext(watch)
                assert isinstance(overflow, Overflow)
                assert overflow.dropped == WATCHED_MAX + 5
                assert set(overflow.nodes) == {"oscar", "alpha"}
                watch.put(event)
                assert await anext(watch) == event
            with pytest.raises(StopAsyncIteration):
                await anext(watch)

    run(scenario)


def test_a_watch_that_nobody_reads_any_more_is_forgotten() -> None:
    async def scenario() -> None:
        async with pair() as (oscar, alpha):
            event = StatusEvent("alpha", NodeStatus.ALIVE, NodeStatus.SLOW, True, "")

            async def first() -> object:
                watch = oscar.connectivity.watch()
                watch.put(event)
                async for each in watch:
                    return each  # breaks off without a word
                return None

            assert await first() == event
            gc.collect()
            assert len(oscar.connectivity._watches) == 0
            watch = oscar.connectivity.watch()
            await alpha.stop()
            while await anext(watch) != Change((), ("alpha",)):
                pass

    run(scenario)
