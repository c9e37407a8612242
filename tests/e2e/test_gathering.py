"""Nodes that dial learnt addresses: a dead hub, a restart without peers, and a local network."""

from __future__ import annotations

import asyncio
import json
import secrets
from pathlib import Path
from typing import Any

import pytest

from meshcore.runtime.address_book import FILE_NAME
from tests.e2e.mesh_processes import NodeProcess, World, eventually

pytestmark = pytest.mark.timeout(120)

LEAVES = ("beta", "gamma", "delta", "epsilon")


async def star(world: World, *arguments: str) -> tuple[NodeProcess, list[NodeProcess]]:
    """A hub that everybody dials, and the leaves, which listen too."""
    hub = await world.start("hub", *arguments)
    leaves = [await world.start(name, *arguments, peers=[hub]) for name in LEAVES]
    return hub, leaves


async def links_of(node: NodeProcess) -> set[str]:
    status = await node.status()
    return {link["node_id"] for link in status["links"] if link["state"] == "up"}


async def have_links(nodes: list[NodeProcess], count: int, besides: str = "") -> bool:
    found = await asyncio.gather(*(links_of(node) for node in nodes))
    return all(len(links - {besides}) >= count for links in found)


async def all_reach_all(nodes: list[NodeProcess]) -> bool:
    for node in nodes:
        for other in nodes:
            if node is not other and not await reaches(node, other):
                return False
    return True


async def reaches(node: NodeProcess, other: NodeProcess) -> bool:
    async with node._world.client(node) as client:
        rows = await client.call(node.node_id, "mesh:nodes", timeout=5)
    statuses = {row["node_id"]: row["status"] for row in rows}
    return bool(statuses.get(other.node_id) == "ALIVE")


def run(scenario: Any) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(100), World() as world:
            await scenario(world)

    asyncio.run(bounded())


def test_a_star_whose_hub_is_killed_finds_itself_again_by_learnt_addresses() -> None:
    async def scenario(world: World) -> None:
        hub, leaves = await star(world, "--auto-connect", "2")
        await eventually(lambda: have_links(leaves, 2), 20.0, "links beside the hub")
        await hub.kill()
        await eventually(lambda: have_links(leaves, 2, besides="hub"), 20.0, "two links each")
        await eventually(lambda: all_reach_all(leaves), 20.0, "a whole mesh")
        for one in leaves:
            async with world.client(one) as client:
                for other in leaves:
                    assert (await client.ping(other.node_id)).node_id == other.node_id
        dialling = [each for node in leaves for each in (await node.status())["dialling"]]
        assert {each["learnt"] for each in dialling} == {False, True}
        shown = await world.meshctl("status", "--via", leaves[0].node_id)
        assert hub.url in shown.out, "the hub is still dialled, as configured"

    run(scenario)


def kept_addresses(world: World, node_id: str) -> set[str]:
    path: Path = world.directory / "state" / "meshcore" / node_id / FILE_NAME
    if not path.exists():
        return set()
    return {row["node_id"] for row in json.loads(path.read_text())["addresses"]}


def test_a_node_whose_only_peer_is_gone_finds_its_mesh_after_a_restart() -> None:
    async def scenario(world: World) -> None:
        # Nobody else dials learnt addresses, so only what beta has kept can bring it back.
        hub = await world.start("hub")
        gamma = await world.start("gamma", peers=[hub])
        delta = await world.start("delta", peers=[hub, gamma])
        beta = await world.start("beta", "--auto-connect", "3", peers=[hub])
        await eventually(lambda: kept_addresses(world, "beta") == {"hub", "gamma", "delta"}, 30.0)
        await beta.kill()
        await hub.kill()
        await beta.start_again()
        await eventually(lambda: have_links([beta], 2, besides="hub"), 20.0, "links")
        await eventually(lambda: all_reach_all([beta, gamma, delta]), 20.0, "a whole mesh")

    run(scenario)


def test_without_auto_connect_nothing_is_learnt_or_kept() -> None:
    async def scenario(world: World) -> None:
        _, leaves = await star(world)
        await eventually(lambda: all_reach_all(leaves), 20.0)
        assert [await links_of(leaf) for leaf in leaves] == [{"hub"}] * 4
        assert kept_addresses(world, "beta") == set()
        code, _ = await leaves[0].stop()
        assert code == 0
        assert kept_addresses(world, "beta") == set()

    run(scenario)


def test_nodes_on_one_network_find_each_other_without_a_peer() -> None:
    async def scenario(world: World) -> None:
        # They listen on loopback alone, so that is where they announce themselves. Others may run
        # this test on this machine at the same time: ids and mesh are never used twice.
        once = secrets.token_hex(4)
        ours = ("--discovery", "--mesh", f"mesh-{once}")
        alpha = await world.start(f"alpha-{once}", *ours)
        beta = await world.start(f"beta-{once}", *ours)
        stranger = await world.start(f"gamma-{once}", "--discovery", "--mesh", f"other-{once}")
        await eventually(lambda: have_links([alpha, beta], 1), 30.0, "a link")
        assert await links_of(alpha) == {beta.node_id}
        pong = await world.meshctl("ping", beta.node_id, "--via", alpha.node_id, "--count", "1")
        assert pong.code == 0, pong.err
        await eventually(lambda: counted(stranger, "discovery: another mesh"), 20.0)
        assert await links_of(stranger) == set()
        for node in (alpha, beta, stranger):
            code, seconds = await node.stop()
            assert code == 0
            assert seconds < 5.0

    run(scenario)


async def counted(node: NodeProcess, counter: str) -> bool:
    return bool((await node.status())["counters"].get(counter))


def test_without_the_extra_discovery_is_an_error_that_names_it() -> None:
    async def scenario(world: World) -> None:
        blocked = world.directory / "blocked"
        blocked.mkdir()
        (blocked / "zeroconf.py").write_text("raise ImportError('not installed')\n")
        path = world.environment["PYTHONPATH"]
        world.environment["PYTHONPATH"] = f"{blocked}:{path}"
        done = await world.meshctl("run", "--id", "alpha", "--discovery")
        assert done.code == 2
        assert done.err.count("\n") == 1
        assert "pip install meshcore-runtime[discovery]" in done.err
        world.environment["PYTHONPATH"] = path
        assert (await (await world.start("alpha")).stop())[0] == 0, "nothing was left behind"

    run(scenario)
