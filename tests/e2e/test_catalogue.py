"""Registries as real processes: every topology, nodes that come and go, kill -9 at any moment."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from itertools import combinations
from typing import Any

import pytest

from tests.e2e.mesh_processes import NodeProcess, World, eventually

TOPOLOGIES = {
    "chain": [(1, 0), (2, 1), (3, 2)],
    "star": [(1, 0), (2, 0), (3, 0)],
    "ring": [(1, 0), (2, 1), (3, 2), (0, 3)],
    "full": [(other, one) for one, other in combinations(range(4), 2)],
}
SOON = 10.0  # seconds for what takes a fraction of one on a machine that has nothing else to do
COLUMNS = ("node", "url", "name", "description", "status", "organization")


async def ask(world: World, node: NodeProcess, directive: str, payload: Any = None) -> Any:
    async with world.client(node) as client:
        return await client.call(node.node_id, directive, payload, timeout=10)


async def listing(world: World, registry: NodeProcess, q: str = 'kind == "flow"') -> list[Any]:
    """Everything that a registry lists, but for its own times."""
    page = await ask(world, registry, "mesh:flows", {"q": q, "pp": 1000, "by": "node,url"})
    assert page["registry"] == registry.node_id
    return [tuple(item[column] for column in COLUMNS) for item in page["items"]]


async def add(world: World, node: NodeProcess, name: str, description: str = "") -> None:
    about = {"url": f"http://{name}/", "name": name, "description": description}
    await ask(world, node, "mesh:flows_add", about)


async def all_list(world: World, registries: list[NodeProcess], wanted: dict[str, str]) -> float:
    """Wait until every registry lists exactly these (url to status); the seconds that it took."""
    start = time.monotonic()
    seen: list[list[Any]] = []

    async def same() -> bool:
        seen[:] = await asyncio.gather(*(listing(world, each) for each in registries))
        told = [{row[1]: row[4] for row in rows} for rows in seen]
        return all(each == wanted for each in told) and all(rows == seen[0] for rows in seen)

    await eventually(same, SOON, lambda: f"{wanted}; they list {seen}")
    return time.monotonic() - start


async def requests(nodes: list[NodeProcess]) -> list[int]:
    stats = [(await node.status())["catalogue"] for node in nodes]
    return [each["requests_sent"] + each["requests_received"] for each in stats]


@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_registries_in_any_topology_list_the_same_and_then_say_nothing(topology: str) -> None:
    async def scenario() -> None:
        async with World() as world:
            rng = random.Random(topology)
            registries = [
                world.node(f"r{n}", "--registry", "--organization", "acme") for n in range(4)
            ]
            for number in rng.sample(range(4), 4):
                await registries[number].launch()
            for registry in registries:
                await registry.ready()
            for one, other in TOPOLOGIES[topology]:
                await ask_to_peer(world, registries[one], registries[other])
            nodes = [await world.start(f"n{n}", peers=[registries[n]]) for n in range(4)]
            both = await world.start("both", peers=[registries[0], registries[3]])
            for number, node in enumerate([*nodes, both]):
                await add(world, node, f"f{number}")
            everything = {f"http://f{number}/": "online" for number in range(5)}
            await all_list(world, registries, everything)

            everybody = [*registries, *nodes, both]
            await eventually(lambda: _quiet(everybody), SOON, "nothing is under way")
            before = await requests(everybody)
            await asyncio.sleep(1.0)  # nothing to wait for: nothing may be said
            assert await requests(everybody) == before

            await nodes[1].stop()
            await all_list(world, registries, {**everything, "http://f1/": "offline"})
            await nodes[1].start_again()
            await add(world, nodes[1], "other")
            del everything["http://f1/"]
            everything["http://other/"] = "online"
            await all_list(world, registries, everything)

            await registries[3].stop()  # a leaf of the star, an end of the chain; n3 hangs on it
            there = {**everything, "http://f3/": "offline"}
            await all_list(world, registries[:3], there)
            await registries[3].start_again()
            await all_list(world, registries, everything)

    asyncio.run(scenario())


def test_a_mesh_that_is_cut_and_heals_lists_the_same_on_both_sides() -> None:
    async def scenario() -> None:
        async with World() as world:
            one = await world.start("r0", "--registry", plugins=())
            other = await world.start("r1", "--registry", plugins=())
            bridge = await world.start("bridge", peers=[one, other], plugins=())
            left = await world.start("left", peers=[one], plugins=())
            right = await world.start("right", peers=[other], plugins=())
            await add(world, left, "l")
            await add(world, right, "r")
            both = {"http://l/": "online", "http://r/": "online"}
            await all_list(world, [one, other], both)
            await bridge.kill()
            await all_list(world, [one], {**both, "http://r/": "offline"})
            await all_list(world, [other], {**both, "http://l/": "offline"})
            await add(world, left, "l2")
            await ask(world, right, "mesh:flows_remove", "http://r/")
            await add(world, right, "r2")
            await all_list(world, [one], {**both, "http://r/": "offline", "http://l2/": "online"})
            await bridge.start_again()
            healed = {f"http://{name}/": "online" for name in ("l", "l2", "r2")}
            await all_list(world, [one, other], healed)

    asyncio.run(scenario())


async def _quiet(nodes: list[NodeProcess]) -> bool:
    return all([(await node.status())["catalogue"]["idle"] for node in nodes])


async def ask_to_peer(world: World, node: NodeProcess, other: NodeProcess) -> None:
    """Registries are joined after they have started, in any order: over a node between them."""
    name = f"l{node.node_id[1:]}{other.node_id[1:]}"
    await world.start(name, peers=[node, other], plugins=())


def test_a_registry_killed_at_any_moment_comes_back_with_all_that_it_had() -> None:
    async def scenario() -> None:
        async with World() as world:
            rng = random.Random(5)
            registry = await world.start(
                "reg", "--registry", "--data-dir", str(world.directory / "d")
            )
            node = await world.start("n1", peers=[registry])
            gone = await world.start("gone", peers=[registry])
            await add(world, gone, "old")
            await all_list(world, [registry], {"http://old/": "online"})
            await gone.kill()
            await all_list(world, [registry], {"http://old/": "offline"})
            created = await times(world, registry, "created")
            known = {"http://old/": "offline"}
            for turn in range(4):
                for number in range(20):
                    await add(world, node, f"f{number}", f"turn {turn}")
                    known[f"http://f{number}/"] = "online"
                await asyncio.sleep(rng.uniform(0.0, 0.05))  # any moment
                await registry.kill()
                await registry.start_again()
                await all_list(world, [registry], known)
                now = await times(world, registry, "created")
                assert created.items() <= now.items()
                created = now
            rows = await listing(world, registry, 'description == "turn 3"')
            assert len(rows) == 20

    asyncio.run(scenario())


async def times(world: World, registry: NodeProcess, column: str) -> dict[str, float]:
    page = await ask(world, registry, "mesh:flows", {"q": 'kind == "flow"', "pp": 1000})
    return {item["url"]: item[column] for item in page["items"]}


@pytest.mark.parametrize("topology", ["chain", "ring"])
def test_registries_of_different_meshes_exchange_over_http(topology: str) -> None:
    """Each in a mesh of its own, joined by SIGHUP in any order."""

    async def scenario() -> None:
        async with World() as world:
            rng = random.Random(topology)
            registries = []
            for number in range(4):
                config = world.directory / f"r{number}.toml"
                config.write_text(config_of(number, []))
                arguments = ("--config", str(config))
                registries.append(
                    await world.start(f"r{number}", *arguments, listen=(), plugins=())
                )
            urls = [registry.lines[0]["http"] for registry in registries]
            for number, registry in enumerate(registries):
                await add(world, registry, f"f{number}")
            for number in rng.sample(range(4), 4):
                told = [urls[to] for who, to in TOPOLOGIES[topology] if who == number]
                config = world.directory / f"r{number}.toml"
                config.write_text(config_of(number, [*told, "http://127.0.0.1:1"][: len(told) + 1]))
                registries[number].signal(signal.SIGHUP)
            everything = {f"http://f{number}/": "online" for number in range(4)}
            took = await all_list(world, registries, everything)
            assert took < SOON
            await registries[3].stop()  # the end of the chain: its flows are offline everywhere
            if topology == "chain":
                gone = {**everything, "http://f3/": "offline"}
                await all_list(world, registries[:3], gone)

    asyncio.run(scenario())


def config_of(number: int, registries: list[str]) -> str:
    told = ", ".join(f'"{url}"' for url in registries)
    return (
        f'mesh = "m{number}"\nregistry = true\nhttp = "127.0.0.1:0"\n'
        f'listen = ["tcp://127.0.0.1:0"]\nregistries = [{told}]\n'
    )
