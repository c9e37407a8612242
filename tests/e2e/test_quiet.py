"""Rings, double links, restarts, late messages: nobody is resurrected, and quiet returns."""

from __future__ import annotations

import asyncio
import signal
from typing import Any

import pytest

from tests.e2e.detection import Mesh, at_of
from tests.e2e.mesh_processes import NodeProcess, World, eventually

QUIET_WITHIN = 5.0  # seconds after the last change
WATCHED = 2.0  # seconds in which then no news may come
SETTLED = ("beat", "echo", "echo_reply")
CLIENTS = ("hello", "welcome", "bye", "view")  # the asking itself

pytestmark = pytest.mark.timeout(120)


async def said(nodes: list[NodeProcess]) -> dict[str, int]:
    """Control messages that change something, sent and received by all of them until now."""
    total: dict[str, int] = {}
    for node in nodes:
        counted = (await node.status())["control"]
        for way, kinds in counted.items():
            for kind, count in kinds.items():
                if kind not in SETTLED + CLIENTS:
                    total[f"{way} {kind}"] = total.get(f"{way} {kind}", 0) + count
    return total


async def quiet(nodes: list[NodeProcess]) -> None:
    """Fails unless no news, repair or the like is said any more."""
    await asyncio.sleep(QUIET_WITHIN)
    before = await said(nodes)
    await asyncio.sleep(WATCHED)
    after = await said(nodes)
    more = {kind: after[kind] - before.get(kind, 0) for kind in after}
    assert not any(more.values()), {kind: count for kind, count in more.items() if count}


async def links(node: NodeProcess) -> list[str]:
    status = await node.status()
    return sorted(link["node_id"] for link in status["links"] if link["state"] == "up")


async def linked(node: NodeProcess, *others: str) -> None:
    async def as_wanted() -> bool:
        return await links(node) == sorted(others)

    await eventually(as_wanted, 10.0, f"{node.node_id} is not linked to {others}")


async def dial(world: World, node: NodeProcess, *urls: str) -> None:
    """Have a running node dial these as well: SIGHUP reads its file again."""
    file = world.directory / f"{node.node_id}.toml"
    file.write_text("peers = [" + ", ".join(f'"{url}"' for url in urls) + "]\n")
    node.signal(signal.SIGHUP)
    await node.line(lambda line: line.get("applied") == ["peers"], 10.0)


async def start(world: World, node_id: str, **more: Any) -> NodeProcess:
    """A node whose peers can be changed while it runs."""
    file = world.directory / f"{node_id}.toml"
    file.write_text("peers = []\n")
    return await world.start(node_id, "--config", str(file), **more)


def test_a_ring_dialled_from_both_ends_by_several_urls_has_one_link_a_pair_and_grows_quiet() -> (
    None
):
    async def scenario() -> None:
        async with World() as world:
            names = ["alpha", "beta", "gamma", "delta"]
            ring = [
                await start(world, name, listen=("tcp://127.0.0.1:0", "tcp://127.0.0.1:0"))
                for name in names
            ]
            for here, node in enumerate(ring):  # each dials both neighbours at both addresses
                nexts = [ring[(here + 1) % 4], ring[(here - 1) % 4]]
                await dial(world, node, *(url for each in nexts for url in each.listen))
            for here, node in enumerate(ring):
                await linked(node, names[(here + 1) % 4], names[(here - 1) % 4])
            await quiet(ring)
            for here, node in enumerate(ring):
                await linked(node, names[(here + 1) % 4], names[(here - 1) % 4])
                links_down = [line for line in node.lines if line.get("up") is False]
                assert all("beat" not in line["reason"] for line in links_down), links_down

    asyncio.run(scenario())


@pytest.mark.parametrize("removed_before", [False, True], ids=["within remove", "beyond remove"])
def test_a_restart_is_one_new_life_and_the_old_one_never_comes_back(removed_before: bool) -> None:
    async def scenario() -> None:
        async with World() as world:
            (world.directory / "fast.toml").write_text(
                "[timings]\ndead = 2.5\nremove = 4.0\n" if removed_before else ""
            )
            config = ("--config", str(world.directory / "fast.toml"))
            alpha = await world.start("alpha", *config)
            beta = await world.start("beta", *config, peers=[alpha])
            gamma = await world.start("gamma", *config, peers=[alpha, beta])
            mesh = Mesh(world, {"alpha": alpha, "beta": beta, "gamma": gamma})
            await mesh.settle()
            # Else the news of the join are still under way, and those of the death behind them:
            # the new life may then come first, and nobody was ever not ALIVE.
            await quiet([alpha, beta, gamma])
            mesh.mark()
            await gamma.kill()
            others = ["alpha", "beta"]
            if removed_before:
                await mesh.when(lambda line: line["event"] == "removed", by=others, since=0.0)
            mesh_before = {name: len(mesh.told(name)) for name in others}
            await gamma.start_again()

            def alive(line: dict[str, Any]) -> bool:
                kind = "added" if removed_before else "status"
                return (
                    line["event"] == kind
                    and line["node_id"] == "gamma"
                    and line.get("new", "ALIVE") == "ALIVE"
                )

            await mesh.when(alive, by=others, since=0.0)
            for node in (alpha, beta):
                await linked(node, "gamma", "beta" if node is alpha else "alpha")
            await quiet([alpha, beta, gamma])
            for name in others:
                after = [
                    line
                    for line in mesh.told(name)[mesh_before[name] :]
                    if line["event"] in ("status", "removed", "added")
                ]
                back = next(number for number, line in enumerate(after) if alive(line))
                assert after[back + 1 :] == [], f"gamma came back once, and stayed: {after}"
                assert [at_of(line) for line in after] == sorted(map(at_of, after))

    asyncio.run(scenario())


def test_a_node_that_wakes_beside_its_successor_is_one_node_again_at_once() -> None:
    """Late messages of an old life: it was frozen, replaced by another process, and woken."""

    async def scenario() -> None:
        async with World() as world, World() as elsewhere:
            alpha, beta = await world.chain("alpha", "beta")
            old = await elsewhere.start("gamma", peers=[alpha])
            mesh = Mesh(world, {"alpha": alpha, "beta": beta})
            await eventually(lambda: all(gammas(node) == ["added"] for node in (alpha, beta)), 10.0)
            old.freeze()
            new = await world.start("gamma", peers=[beta], listen=())
            await linked(beta, "alpha", "gamma")
            mesh.mark()
            old.thaw()
            await eventually(lambda: not (old.is_running and new.is_running), 10.0)
            left, stays = (old, new) if new.is_running else (new, old)
            assert await left.ended() == 2
            assert "gamma" in left.log.read_text(), "it says why"
            await linked(
                beta if stays is new else alpha, "gamma", "alpha" if stays is new else "beta"
            )
            await quiet([alpha, beta, stays])
            for name in ("alpha", "beta"):
                assert gammas(mesh.nodes[name])[-1] == "added", "one of both is there"
            async with world.client(alpha) as client:
                found = await client.call("gamma", "mesh:status")
            assert found["pid"] == stays.pid

    asyncio.run(scenario())


def gammas(node: NodeProcess) -> list[str]:
    return [line["event"] for line in node.lines if line.get("node_id") == "gamma"
            and line["event"] in ("added", "removed")]  # fmt: skip
