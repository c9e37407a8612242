"""One master over real processes, and two processes of one id in two halves that meet."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.e2e.mesh_processes import NodeProcess, World, eventually

SOON = 10.0  # seconds; it takes one, on a machine that has nothing else to do


async def masters(world: World, nodes: list[NodeProcess]) -> set[str | None]:
    async def one(node: NodeProcess) -> Any:
        async with world.client(node) as client:
            return (await client.call(node.node_id, "mesh:master", timeout=5))["master"]

    return set(await asyncio.gather(*map(one, nodes)))


async def agree(world: World, nodes: list[NodeProcess], master: str | None) -> None:
    async def they_do() -> bool:
        return await masters(world, nodes) == {master}

    await eventually(they_do, SOON, f"all see {master}")


def test_the_oldest_process_is_master_until_it_dies_and_again_only_when_it_is_chosen() -> None:
    async def scenario() -> None:
        async with World() as world:
            alpha = await world.start("alpha")
            beta = await world.start("beta", peers=[alpha])
            gamma = await world.start("gamma", peers=[alpha, beta])
            everybody = [alpha, beta, gamma]
            await agree(world, everybody, "alpha")
            await alpha.kill()
            await agree(world, [beta, gamma], "beta")
            await alpha.start_again()
            await agree(world, everybody, "beta")
            done = await world.meshctl("master", "--set", "gamma", "--via", "alpha", "--json")
            assert (done.code, done.json["master"], done.json["forced"]) == (0, "gamma", ["gamma"])
            await agree(world, everybody, "gamma")
            done = await world.meshctl("master", "--clear", "--via", "gamma")
            assert done.out.startswith("beta is master, by age")
            assert (await world.meshctl("master", "--set", "gama", "--via", "beta")).code == 3

    asyncio.run(scenario())


def test_trace_edges_and_route_show_what_the_links_measured() -> None:
    async def scenario() -> None:
        async with World() as world:
            await world.chain("alpha", "beta", "gamma")
            assert (await world.meshctl("wait", "gamma", "--via", "alpha")).code == 0

            async def own_link() -> bool:
                edges = (await world.meshctl("edges", "--via", "alpha", "--json")).json
                own = [edge for edge in edges if "alpha" in (edge["from"], edge["to"])]
                return own[0]["latency_ms"] is not None

            await eventually(own_link, SOON)
            done = await world.meshctl("trace", "gamma", "--via", "alpha", "--json")
            hops = done.json["hops"]
            assert [hop["node_id"] for hop in hops] == ["alpha", "beta", "gamma"]
            assert all(hop["received"] == hop["sent"] == 3 for hop in hops)
            assert hops[1]["link_latency_ms"] > 0
            route = (await world.meshctl("route", "gamma", "--via", "alpha", "--json")).json
            assert route["path"] == ["alpha", "beta", "gamma"]
            assert route["cost"] == sum(link["cost"] for link in route["links"])

    asyncio.run(scenario())


def test_of_two_processes_of_one_id_in_two_halves_that_meet_the_older_stays() -> None:
    async def scenario() -> None:
        async with World() as here, World() as there:
            alpha, beta = await here.chain("alpha", "beta")
            gamma = await there.start("gamma")
            twin = await there.start("alpha", peers=[gamma])
            # Where they meet neither is a neighbour of the other.
            await there.start("delta", peers=[gamma, beta])
            assert await twin.ended() == 2
            assert "older process" in twin.log.read_text()
            assert alpha.is_running

            async def one_alpha() -> bool:
                done = await there.meshctl("ping", "alpha", "--via", "gamma", "--count", "1")
                return done.code == 0

            await eventually(one_alpha, SOON)

    asyncio.run(scenario())


@pytest.mark.parametrize("argument", ["--set", "--clear"])
def test_a_node_that_is_alone_obeys_either_wish(argument: str) -> None:
    async def scenario() -> None:
        async with World() as world:
            await world.start("alpha")
            wish = [argument, "alpha"] if argument == "--set" else [argument]
            done = await world.meshctl("master", *wish, "--via", "alpha", "--json")
            assert (done.code, done.json["master"]) == (0, "alpha")

    asyncio.run(scenario())
