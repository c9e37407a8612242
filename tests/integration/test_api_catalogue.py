"""The catalogue of real nodes: offered here, listed there, kept over restarts."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from meshcore import Config, Controller, Node
from meshcore.errors import BadPayloadError, BusyError, ClosedError, MeshError
from meshcore.protocol.catalogue.records import Flow
from meshcore.storage.disk import RegistryFile
from tests.integration.nodes import TCP, eventually, run

FAST = {"dead": 1.5, "remove": 2.0, "warn": 1.0, "slow": 0.5, "send_alive_interval": 0.1}


def flow(name: str, **more: Any) -> Flow:
    return Flow(f"http://{name}/", name, **more)


def new_node(node_id: str, *, peers: Any = (), registry: bool = False, **settings: Any) -> Node:
    return Node(Config(node_id=node_id, listen=[TCP], peers=peers, registry=registry, **settings))


async def listed(node: Node, q: str = "") -> dict[tuple[str, str], dict[str, Any]]:
    """What a node lists: (node, url) -> item."""
    page = await node.catalogue.flows(q, pp=1000)
    assert page["filtered"] == len(page["items"])
    return {(item["node"], item["url"]): item for item in page["items"]}


async def names(node: Node) -> list[str]:
    return sorted(item["name"] for item in (await listed(node)).values())


def test_a_registry_lists_what_the_nodes_offer_and_when_it_saw_it() -> None:
    async def scenario() -> None:
        async with AsyncExitStack() as stack:
            registry = new_node("reg", registry=True, organization="acme")
            await stack.enter_async_context(registry)
            node = new_node("n1", peers=registry.endpoints, organization="other")
            node.catalogue.add(flow("a", description="what", author="me", tags=("x",)))
            await stack.enter_async_context(node)

            @node.action("tools:resize", description="Makes it small", tags=["image"])
            def resize(payload: Any) -> Any:
                return payload

            async def both() -> Any:
                return len(await listed(registry)) == 2

            await eventually(both)
            found = await listed(registry)
            item = found["n1", "http://a/"]
            assert item["created"] == item["modified"] <= item["heartbeat"]
            assert (item["name"], item["organization"]) == ("a", "other")
            assert (item["registry"], item["status"], item["kind"]) == ("reg", "online", "flow")
            action = found["n1", "mesh://n1/tools:resize"]
            assert (action["kind"], action["tags"]) == ("action", ["image"])
            assert action["description"] == "Makes it small"
            own = await listed(node)  # a plain node knows no times
            assert own.keys() == found.keys()
            assert {each["created"] for each in own.values()} == {None}
            assert {each["heartbeat"] for each in own.values()} == {None}
            counts = await registry.catalogue.counts()
            assert counts["total"] == 2
            assert counts["node"] == {"n1": 2}
            assert counts["organization"] == {"other": 2}
            assert counts["tags"] == {"image": 1, "x": 1}
            assert registry.catalogue.idle
            assert node.catalogue.idle
            about = node.catalogue.about()
            assert about["connection"].keys() == {"reg"}
            assert abs(about["connection"]["reg"] - about["now"]) < 10
            assert registry.catalogue.map()["providers"] == ["n1"]

    run(scenario)


def test_a_change_is_listed_everywhere_and_then_nothing_is_said() -> None:
    async def scenario() -> None:
        async with AsyncExitStack() as stack:
            one = await stack.enter_async_context(new_node("r1", registry=True))
            two = new_node("r2", peers=one.endpoints, registry=True)
            await stack.enter_async_context(two)
            node = await stack.enter_async_context(new_node("n1", peers=two.endpoints))
            node.catalogue.add(flow("a"))
            node.catalogue.add(flow("b"))
            for registry in (one, two):
                await eventually(lambda registry=registry: _equals(registry, ["a", "b"]))
            node.catalogue.remove("http://a/")
            for registry in (one, two):
                await eventually(lambda registry=registry: _equals(registry, ["b"]))
            for each in (one, two, node):
                await each.catalogue.quiesce()
            told = [each.catalogue.stats()["requests_received"] for each in (one, two)]
            await asyncio.sleep(1.5)  # nothing to wait for: nothing may come
            assert [each.catalogue.stats()["requests_received"] for each in (one, two)] == told
            node.catalogue.add(flow("c"))
            for registry in (one, two):
                await eventually(lambda registry=registry: _equals(registry, ["b", "c"]))
            now = [each.catalogue.stats()["requests_received"] for each in (one, two)]
            assert now == [count + 1 for count in told]

    run(scenario)


async def _equals(registry: Node, wanted: list[str]) -> bool:
    return await names(registry) == wanted


def test_a_node_that_stops_right_after_a_change_has_told_it() -> None:
    async def scenario() -> None:
        async with AsyncExitStack() as stack:
            registry = await stack.enter_async_context(new_node("reg", registry=True))
            async with new_node("n1", peers=registry.endpoints) as node:
                await eventually(lambda: "reg" in node.catalogue.about()["connection"])
                await node.catalogue.quiesce()
                node.catalogue.add(flow("late"))
            assert await names(registry) == ["late"]

    run(scenario)


def test_a_dead_node_is_offline_and_then_forgotten() -> None:
    async def scenario() -> None:
        async with AsyncExitStack() as stack:
            registry = new_node("reg", registry=True, flow_expiry=1.0)
            await stack.enter_async_context(registry)
            node = new_node("n1", peers=registry.endpoints)
            node.catalogue.add(flow("a"))
            await node.start()
            await eventually(lambda: _equals(registry, ["a"]))
            await node.stop()

            async def offline() -> bool:
                found = await listed(registry)
                return [each["status"] for each in found.values()] == ["offline"]

            await eventually(offline)
            await eventually(lambda: _equals(registry, []))

    run(scenario)


def test_the_heartbeat_of_those_who_are_there_moves_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("meshcore.catalogue.keeper.HEARTBEAT_INTERVAL", 0.2)

    async def scenario() -> None:
        async with AsyncExitStack() as stack:
            registry = await stack.enter_async_context(new_node("reg", registry=True))
            node = new_node("n1", peers=registry.endpoints)
            node.catalogue.add(flow("a"))
            await stack.enter_async_context(node)
            await eventually(lambda: _equals(registry, ["a"]))
            first = (await listed(registry))["n1", "http://a/"]

            async def moved() -> Any:
                now = (await listed(registry))["n1", "http://a/"]
                return now["heartbeat"] > first["heartbeat"] and now

            now = await eventually(moved)
            assert {**now, "heartbeat": 0} == {**first, "heartbeat": 0}

    run(scenario)


def test_restarts_keep_created_and_only_the_node_s_own_moves_modified(tmp_path: Path) -> None:
    async def scenario() -> None:
        registry = new_node("reg", registry=True, data_dir=tmp_path / "reg")
        await registry.start()
        url = registry.endpoints[0]
        node = new_node("n1", peers=[url], data_dir=tmp_path / "n1")
        node.catalogue.add(flow("a"))
        await node.start()
        await eventually(lambda: _equals(registry, ["a"]))
        first = (await listed(registry))["n1", "http://a/"]

        await node.stop()
        node = new_node("n1", peers=[url], data_dir=tmp_path / "n1")
        node.catalogue.add(flow("a"))
        await node.start()

        async def modified() -> Any:
            return (await listed(registry))["n1", "http://a/"]["modified"] > first["modified"]

        await eventually(modified)
        second = (await listed(registry))["n1", "http://a/"]
        assert second["created"] == first["created"]
        await registry.catalogue.quiesce()

        await registry.stop()
        registry = Node(
            Config(node_id="reg", listen=[url], registry=True, data_dir=tmp_path / "reg")
        )
        await registry.start()
        kept = (await listed(registry))["n1", "http://a/"]
        assert kept["status"] in ("stale", "online")

        async def online() -> Any:
            return (await listed(registry))["n1", "http://a/"]["status"] == "online"

        await eventually(online)
        await registry.catalogue.quiesce()
        third = (await listed(registry))["n1", "http://a/"]
        assert (third["created"], third["modified"]) == (second["created"], second["modified"])
        await node.stop()
        await registry.stop()

    run(scenario)


def test_a_disk_that_refuses_ends_no_registry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        async with new_node("reg", registry=True, data_dir=tmp_path) as registry:
            await registry.catalogue.quiesce()

            def refuse(self: RegistryFile, batch: Any) -> None:
                raise sqlite3.OperationalError("database or disk is full")

            with monkeypatch.context() as patch:
                patch.setattr(RegistryFile, "write", refuse)
                registry.catalogue.add(flow("a"))
                await eventually(lambda: "disk is full" in caplog.text)
                with pytest.raises(MeshError, match="not on disk"):
                    await registry.catalogue.quiesce()
                assert await names(registry) == ["a"]  # in memory it goes on

            async def written() -> bool:
                with suppress(MeshError):
                    await registry.catalogue.quiesce()
                    return True
                return False

            await eventually(written, 10)

    run(scenario)


def test_an_offline_node_s_records_stay_through_a_registry_s_restart(tmp_path: Path) -> None:
    async def scenario() -> None:
        registry = new_node("reg", registry=True, data_dir=tmp_path)
        await registry.start()
        node = new_node("n1", peers=registry.endpoints)
        node.catalogue.add(flow("a"))
        await node.start()
        await eventually(lambda: _equals(registry, ["a"]))
        await node.stop()

        async def offline(of: Node) -> bool:
            found = await listed(of)
            return [each["status"] for each in found.values()] == ["offline"]

        await eventually(lambda: offline(registry))
        await registry.catalogue.quiesce()
        await registry.stop()
        async with new_node("reg", registry=True, data_dir=tmp_path) as registry:
            assert await offline(registry)

    run(scenario)


def test_whoever_is_attached_to_a_plain_node_gets_the_answer_of_a_registry() -> None:
    async def scenario() -> None:
        async with AsyncExitStack() as stack:
            registry = await stack.enter_async_context(new_node("reg", registry=True))
            node = await stack.enter_async_context(new_node("n1", peers=registry.endpoints))
            other = await stack.enter_async_context(new_node("n2", peers=registry.endpoints))
            other.catalogue.add(flow("a"))
            await eventually(lambda: _equals(registry, ["a"]))
            await eventually(lambda: "reg" in node.catalogue.about()["connection"])
            client = Controller(Config(node_id="c", ephemeral=True, peers=node.endpoints))
            await stack.enter_async_context(client)
            await client.wait_for("n1")
            answer = await client.call("n1", "mesh:flows", {"q": "", "pp": 5})
            assert [item["name"] for item in answer["items"]] == ["a"]
            assert (answer["registry"], answer["pp"]) == ("reg", 5)
            assert (await client.call("n1", "mesh:counts"))["total"] == 1
            with pytest.raises(BadPayloadError, match="collumn"):
                await client.call("n1", "mesh:flows", {"by": "collumn"})
            with pytest.raises(BadPayloadError, match="takes q, by, p, pp"):
                await client.call("n1", "mesh:flows", {"query": ""})
            await client.call("n1", "mesh:flows_add", {"url": "http://b/", "name": "b"})
            await eventually(lambda: _equals(registry, ["a", "b"]))
            removed = await client.call("n1", "mesh:flows_remove", "http://b/")
            assert removed["removed"] is True
            await eventually(lambda: _equals(registry, ["a"]))
            with pytest.raises(BadPayloadError, match="no node of this mesh"):
                await client.call("reg", "mesh:catalogue", {})

    run(scenario)


def test_a_plain_node_tells_nothing_of_others() -> None:
    async def scenario() -> None:
        async with AsyncExitStack() as stack:
            registry = await stack.enter_async_context(new_node("reg", registry=True))
            node = await stack.enter_async_context(new_node("n1", peers=registry.endpoints))
            await eventually(lambda: "reg" in node.catalogue.about()["connection"])
            told = {"url": "http://x/", "name": "x", "author": "", "description": "", "tags": [],
                    "version": 1, "deleted": False}  # fmt: skip
            entry = {"mesh": "mesh", "node": "other", "organization": "", "incarnation": 1,
                     "version": 1, "complete": True, "alive": True, "age": 0, "since": 0,
                     "flows": [told]}  # fmt: skip
            message = {"url": "", "mesh": "mesh", "life": 1, "organization": "", "feed": True,
                       "nodes": [entry]}  # fmt: skip
            with pytest.raises(BadPayloadError, match="n1 is no registry that is known here"):
                await node.request("reg", "mesh:catalogue", message, timeout=5)
            assert await names(registry) == []
            entry["node"] = "n1"  # of itself it may
            entry["incarnation"] = 2**52
            await node.request("reg", "mesh:catalogue", message, timeout=5)
            assert await names(registry) == ["x"]

    run(scenario)


def test_a_program_registers_and_is_known_when_it_comes_again() -> None:
    async def scenario() -> None:
        async with new_node("reg", registry=True) as registry:
            catalogue = registry.catalogue
            outcome = catalogue.register("http://p/", "acme", [flow("a")], ttl=60)
            assert outcome == (True, None)
            outcome = catalogue.register("http://p/", "acme", [flow("a"), flow("b")], ttl=60)
            assert outcome.first_visit is False
            assert outcome.seen is not None
            assert await names(registry) == ["a", "b"]
            found = await listed(registry)
            assert {each["organization"] for each in found.values()} == {"acme"}

    run(scenario)


def test_registries_of_two_meshes_exchange_what_they_hold() -> None:
    """The carrier is the test's: it hands messages over without HTTP."""

    async def scenario() -> None:
        async with AsyncExitStack() as stack:
            one = new_node("r1", registry=True, mesh="m1", registries=["http://two"])
            two = new_node("r2", registry=True, mesh="m2")
            by_url = {"http://one": one, "http://two": two}

            async def carry(url: str, kind: str, message: dict[str, Any]) -> dict[str, Any]:
                await asyncio.sleep(0)
                return by_url[url].catalogue.exchange(kind, message)

            for url, registry in by_url.items():
                registry.catalogue.use_http(url, carry)
                registry.catalogue.add(flow(registry.node_id))
                await stack.enter_async_context(registry)
            node = new_node("n1", mesh="m2", peers=two.endpoints)
            node.catalogue.add(flow("a"))
            await stack.enter_async_context(node)
            for registry in (one, two):
                await eventually(lambda registry=registry: _equals(registry, ["a", "r1", "r2"]))
            item = (await listed(one))["n1", "http://a/"]
            assert (item["mesh"], item["registry"], item["status"]) == (
                "m2",
                "http://two",
                "online",
            )
            await node.stop()

            async def offline() -> Any:
                return (await listed(one))["n1", "http://a/"]["status"] == "offline"

            await eventually(offline)

    run(scenario)


def test_a_way_out_that_breaks_is_tried_again_and_a_goodbye_counts_at_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def scenario() -> None:
        one = new_node("r1", registry=True, mesh="m1", registries=["http://two"])
        two = new_node("r2", registry=True, mesh="m2", registries=["http://one"])
        by_url = {"http://one": one, "http://two": two}
        broken = ["http://two", "http://one"]

        async def carry(url: str, kind: str, message: dict[str, Any]) -> dict[str, Any]:
            await asyncio.sleep(0)
            if url in broken:
                broken.remove(url)
                raise KeyError("nobody thought of this")
            return by_url[url].catalogue.exchange(kind, message)

        async with one:
            for url, registry in by_url.items():
                registry.catalogue.use_http(url, carry)
                registry.catalogue.add(flow(registry.node_id))
            await two.start()
            await eventually(lambda: _equals(one, ["r1", "r2"]))
            await eventually(lambda: _equals(two, ["r1", "r2"]))
            assert caplog.text.count("nobody thought of this") >= 2
            await two.stop()
            found = await listed(one)
            assert found["r2", "http://r2/"]["status"] == "offline"  # it said that it goes
            assert "http://two" in one.catalogue.about()["connection"]  # and is asked again

    run(scenario)


def test_a_registry_that_is_full_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        async with new_node("reg", registry=True) as registry:
            catalogue = registry.catalogue
            monkeypatch.setattr("meshcore.protocol.catalogue.shelf.ORIGINS_MAX", 2)
            catalogue.register("http://p/", "", [flow("a")], ttl=60)
            with pytest.raises(BusyError, match="as many nodes as it can"):
                catalogue.register("http://q/", "", [flow("b")], ttl=60)
            catalogue.register("http://p/", "", [flow("c")], ttl=60)  # known: no other one
            assert await names(registry) == ["c"]
            monkeypatch.setattr("meshcore.protocol.catalogue.exchange.PEERS_MAX", 1)
            message = {"mesh": "m", "life": 1, "organization": "", "feed": True, "nodes": []}
            catalogue.exchange("connect", {**message, "url": "http://x"})
            with pytest.raises(BusyError, match="too many others"):
                catalogue.exchange("connect", {**message, "url": "http://y"})
            catalogue.exchange("disconnect", {**message, "url": "http://x"})
            catalogue.exchange("connect", {**message, "url": "http://y"})

    run(scenario)


def test_a_plain_node_is_no_registry_and_a_stopped_one_answers_nothing() -> None:
    async def scenario() -> None:
        node = new_node("n1")
        with pytest.raises(ClosedError):
            await node.catalogue.flows()
        async with node:
            with pytest.raises(BadPayloadError, match="this node is no registry"):
                node.catalogue.register("http://p/", "", [], ttl=60)
            with pytest.raises(BadPayloadError, match="this node is no registry"):
                node.catalogue.exchange("connect", {})
            assert (await node.catalogue.flows())["total"] == 0
        with pytest.raises(ClosedError):
            await node.catalogue.flows()

    run(scenario)
