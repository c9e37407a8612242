"""Split graphs, nodes that leave, nodes alone: routing stays sane and errors are explicit."""

from __future__ import annotations

import asyncio
import time

import pytest

from meshcore import (
    Config,
    Controller,
    NodeStatus,
    PeerLostError,
    UnknownNodeError,
    UnreachableError,
)
from tests.e2e.mesh_processes import World, eventually

pytestmark = pytest.mark.timeout(120)


def test_a_split_graph_fails_explicitly_and_heals_by_itself() -> None:
    async def scenario() -> None:
        async with World() as world:
            alpha, beta, _gamma, _delta = await world.chain("alpha", "beta", "gamma", "delta")
            async with Controller(Config(node_id="oscar", peers=[alpha.url])) as oscar:
                await oscar.wait_for("delta")
                across = asyncio.create_task(oscar.call("delta", "demo:sleep", 3))
                await eventually(lambda: _busy(oscar, "delta"), 5)
                await beta.kill()
                # Behind the cut nobody is known to be dead: work in flight may still be answered.
                await eventually(lambda: oscar.connectivity.nodes["delta"].reachable is False, 2)
                assert oscar.router.route("delta") == []
                assert oscar.router.next_hop("gamma") is None
                assert [edge[:2] for edge in oscar.router.get_edges()] == [("alpha", "oscar")]
                with pytest.raises((PeerLostError, UnreachableError)):
                    await oscar.call("beta", "demo:echo", 1, timeout=2)
                assert await oscar.call("alpha", "demo:echo", 1) == 1
                await beta.start_again()
                await oscar.wait_for("delta", timeout=5)
                assert await oscar.call("delta", "demo:echo", 2) == 2
                assert await across == 3.0, "the work went on behind the cut"

    asyncio.run(scenario())


async def _busy(controller: Controller, node_id: str) -> bool:
    return bool((await controller.ping(node_id)).active_work)


def test_a_removed_node_is_unknown_and_takes_its_edges_along() -> None:
    async def scenario() -> None:
        async with World() as world:
            alpha, beta = await world.chain("alpha", "beta")
            async with Controller(Config(node_id="oscar", peers=[alpha.url])) as oscar:
                await oscar.wait_for("beta")
                removed = asyncio.Event()
                oscar.connectivity.on_change(
                    lambda change: removed.set() if "beta" in change.removed else None
                )
                start = time.monotonic()
                await beta.stop()
                async with asyncio.timeout(2):
                    await removed.wait()
                assert time.monotonic() - start < 2
                assert oscar.router.get_nodes() == ["alpha", "oscar"]
                assert [edge[:2] for edge in oscar.router.get_edges()] == [("alpha", "oscar")]
                with pytest.raises(UnreachableError):
                    await oscar.call("beta", "demo:echo", 1, timeout=5)
                with pytest.raises(UnknownNodeError):
                    oscar.connectivity.get_status("beta")
                assert (await world.meshctl("edges", "--via", "alpha", "--json")).code == 0
                result = await world.meshctl("ping", "beta", "--via", "alpha")
                assert (result.code, "beta" in result.err) == (3, True)

    asyncio.run(scenario())


def test_a_killed_node_is_dead_at_once_and_forgotten_later() -> None:
    async def scenario() -> None:
        async with World() as world:
            timings = Config.from_dict({"timings": {"dead": 2.5, "remove": 4.0}}).timings
            alpha, beta = await world.chain("alpha", "beta")
            config = Config(node_id="oscar", peers=[alpha.url], timings=timings)
            async with Controller(config) as oscar:
                await oscar.wait_for("beta")
                await beta.kill()
                await eventually(
                    lambda: oscar.connectivity.nodes["beta"].status is NodeStatus.DEAD, 2
                )
                with pytest.raises(UnreachableError) as raised:
                    await oscar.call("beta", "demo:echo", 1)
                assert not isinstance(raised.value, PeerLostError)
                assert raised.value.may_have_run is False
                await eventually(lambda: "beta" not in oscar.router.get_nodes(), 8)

    asyncio.run(scenario())


def test_a_node_without_links_works_alone() -> None:
    async def scenario() -> None:
        async with World() as world:
            await world.start("alpha")
            assert (await world.meshctl("nodes", "--json")).json[0]["node_id"] == "alpha"
            assert (await world.meshctl("edges", "--json")).json == []
            assert (await world.meshctl("send", "alpha", "demo:echo", "7")).out.strip() == "7"
            result = await world.meshctl("send", "beta", "demo:echo", "7")
            assert result.code == 3
            assert "no node 'beta' in the mesh of alpha (1 node)" in result.err
            result = await world.meshctl("route", "beta")
            assert (result.code, "beta" in result.err) == (3, True)
            status = await world.meshctl("status")
            assert "not connected" in status.out

    asyncio.run(scenario())
