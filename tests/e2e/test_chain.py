"""Three nodes in a chain, started by flags alone, as a person with three terminals does it."""

from __future__ import annotations

import asyncio
import itertools
import socket

import pytest

from tests.e2e.mesh_processes import NodeProcess, World, eventually

pytestmark = pytest.mark.timeout(120)


def free_port() -> int:
    """A port that was free a moment ago: nodes that start in any order must know it before."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def chain_nodes(world: World) -> dict[str, NodeProcess]:
    alpha, beta = (f"tcp://127.0.0.1:{free_port()}" for _ in range(2))
    return {
        "alpha": world.node("alpha", listen=[alpha]),
        "beta": world.node("beta", listen=[beta], peers=[alpha]),
        "gamma": world.node("gamma", listen=[], peers=[beta]),
    }


async def all_hops(world: World) -> dict[str, int] | None:
    result = await world.meshctl("nodes", "--json", "--via", "alpha")
    assert result.code == 0, result
    hops = {row["node_id"]: row["hops"] for row in result.json}
    return hops if len(hops) == 3 else None


@pytest.mark.parametrize("order", [*itertools.permutations(["alpha", "beta", "gamma"])])
def test_three_nodes_find_each_other_in_whatever_order_they_start(order: tuple[str, ...]) -> None:
    async def scenario() -> None:
        async with World() as world:
            nodes = chain_nodes(world)
            for node_id in order:
                await nodes[node_id].launch()
                await nodes[node_id].ready()
            assert (await world.meshctl("wait", "gamma", "--via", "alpha")).code == 0
            assert await all_hops(world) == {"alpha": 0, "beta": 1, "gamma": 2}

    asyncio.run(scenario())


def test_a_chain_does_its_main_job_through_the_command_line() -> None:
    async def scenario() -> None:
        async with World() as world:
            nodes = chain_nodes(world)
            for node in nodes.values():
                await node.launch()
            for node in nodes.values():
                await node.ready()
            assert (await world.meshctl("wait", "gamma", "--via", "alpha")).code == 0
            await ping_shows_the_way(world)
            await a_thousand_responses_arrive_in_order(world)
            await failures_have_their_exit_codes(world)
            await nothing_is_left_behind(world, nodes)

    asyncio.run(scenario())


async def ping_shows_the_way(world: World) -> None:
    result = await world.meshctl("ping", "gamma", "--trace", "--count", "2", "--via", "alpha")
    assert result.code == 0, result
    assert "beta" in result.out
    assert "min" in result.out
    result = await world.meshctl(
        "ping", "gamma", "--trace", "--count", "3", "--interval", "0.05", "--json", "--via", "alpha"
    )
    told = result.json
    assert (told["node_id"], told["sent"], told["received"]) == ("gamma", 3, 3)
    assert all(0 < milliseconds < 1000 for milliseconds in told["round_trips_ms"])
    way = [hop["node_id"] if isinstance(hop, dict) else hop[0] for hop in told["hops"]]
    assert way[-2:] == ["beta", "gamma"]


async def a_thousand_responses_arrive_in_order(world: World) -> None:
    result = await world.meshctl("send", "gamma", "demo:count", "1000", "--json", "--via", "alpha")
    assert result.code == 0, result.err
    *values, last = result.lines
    assert [line["payload"] for line in values] == list(range(1000))
    assert [line["serial"] for line in values] == list(range(1, 1001))
    assert not any(line["eof"] for line in values)
    assert (last["eof"], last["code"], last["payload"], last["error"]) == (True, 0, None, None)
    result = await world.meshctl("send", "gamma", "demo:count", "1000", "--via", "alpha")
    assert result.out.split() == [str(number) for number in range(1000)]


async def failures_have_their_exit_codes(world: World) -> None:
    result = await world.meshctl("send", "gamma", "demo:fail", "boom", "--via", "alpha")
    assert result.code == 1
    assert "ValueError on gamma in demo:fail: boom" in result.err
    result = await world.meshctl("send", "gamma", "demo:fail", "boom", "--json", "--via", "alpha")
    assert (result.code, result.lines[-1]["error"]["message"]) == (1, "boom")
    assert "ValueError" in str(result.lines[-1])
    result = await world.meshctl("send", "gamma", "demo:eko", "--via", "alpha")
    assert result.code == 1
    assert "did you mean demo:echo" in result.err
    assert result.seconds < 2
    result = await world.meshctl("send", "gama", "demo:echo", "--via", "alpha")
    assert result.code == 3
    assert "no node 'gama' in the mesh of alpha (3 nodes); did you mean gamma?" in result.err
    assert result.seconds < 2
    result = await world.meshctl("ping", "gama", "--via", "alpha")
    assert (result.code, result.seconds < 2) == (3, True)


async def nothing_is_left_behind(world: World, nodes: dict[str, NodeProcess]) -> None:
    commands = [
        ("nodes",),
        ("edges",),
        ("route", "gamma"),
        ("actions", "gamma"),
        ("ping", "gamma", "--count", "1"),
        ("send", "gamma", "demo:echo", "1"),
        ("send", "gamma", "demo:count", "5"),
        ("send", "gamma", "demo:sleep", "30", "--timeout", "0.3"),
        ("status",),
        ("wait", "gamma"),
    ]
    for command in commands:
        result = await world.meshctl(*command, "--via", "alpha")
        assert result.code == (4 if "demo:sleep" in command else 0), result

    for node_id, node in nodes.items():

        async def empty(node: NodeProcess = node) -> bool:
            status = await node.status()
            # This very question: one client (where it is asked), one stream, one channel.
            return (
                status["clients"] == 1
                and status["streams"] <= 1
                and not status["work"]["active"]
                and status["work"]["queued"] == 0
                and not any(status["queues"].values())
            )

        await eventually(empty, 5, lambda node_id=node_id: node_id)
        assert (await node.status())["channels"] <= 16
