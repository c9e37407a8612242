"""Leases of a real etcd: who has it leads, and without it nobody does."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from meshcore import Config, ConfigError, Controller, MeshError, Node, RPCError
from meshcore.leases.etcd import EtcdGrant
from tests.e2e.topologies import free_ports
from tests.etcd import NEEDS_ETCD, Server
from tests.integration.nodes import eventually, node, run
from tests.integration.test_replicated import Counter

pytestmark = [NEEDS_ETCD, pytest.mark.timeout(90)]


@pytest.fixture
def etcd(tmp_path: Path) -> Iterator[Server]:
    (tmp_path / "etcd").mkdir()
    server = Server(tmp_path / "etcd")
    server.start()
    yield server
    server.stop()


def test_one_has_the_lease_and_later_ones_have_greater_terms(etcd: Server) -> None:
    one, two = (EtcdGrant([etcd.url], key="k", owner=name, ttl=2) for name in "ab")
    first = one.acquire()
    assert first is not None
    assert two.acquire() is None
    assert one.renew()
    one.release()
    second = two.acquire()
    assert second is not None
    assert second > first
    assert not one.renew()
    end = time.monotonic() + 15
    while one.acquire() is None:  # it ends by itself when nobody renews it
        assert time.monotonic() < end
        time.sleep(0.1)
    one.close()
    two.close()


def test_a_lease_that_ended_while_we_stood_still_is_not_taken_for_ours(
    etcd: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two leaders with one term would be the end of the log."""
    slow = EtcdGrant([etcd.url], key="still", owner="slow")
    other = EtcdGrant([etcd.url], key="still", owner="other")
    client: Any = slow._clients[0]
    create, terms = client.create, []

    def create_and_stand_still(*args: Any, **kwargs: Any) -> Any:
        created = create(*args, **kwargs)
        client.delete("still")  # as if the lease had ended
        terms.append(other.acquire())
        return created

    monkeypatch.setattr(client, "create", create_and_stand_still)
    try:
        assert slow.acquire() is None
        assert terms[0] is not None
        assert other.renew()
    finally:
        for grant in (slow, other):
            grant.release()
            grant.close()


def test_servers_are_asked_in_turn_and_named_where_none_answers(etcd: Server) -> None:
    dead = f"http://127.0.0.1:{free_ports(1)[0]}"
    grant = EtcdGrant([dead, etcd.url], key="k", owner="a")
    assert grant.acquire() is not None
    etcd.stop()
    with pytest.raises(MeshError, match=dead):
        grant.renew()
    grant.close()


def test_settings_that_cannot_be_are_named() -> None:
    async def scenario() -> None:
        async with node("a") as one:
            for settings, text in (
                ({"leadership": "zookeeper"}, "leadership = 'zookeeper' must be"),
                ({"leadership": "etcd"}, "needs the setting etcd"),
            ):
                with pytest.raises(ConfigError, match=text):
                    await one.serve(Counter(), group="x", replication="active", **settings)

    run(scenario)


def test_who_has_the_lease_leads_and_without_it_nobody_answers(etcd: Server) -> None:
    async def scenario() -> None:
        async with AsyncExitStack() as stack:
            oscar = await stack.enter_async_context(
                Controller(Config(node_id="oscar", listen=["tcp://127.0.0.1:0"]))
            )
            nodes: dict[str, Node] = {}
            for number in range(3):
                one = Node(
                    Config(node_id=f"n{number}", peers=[oscar.endpoints[0]], etcd=[etcd.url])
                )
                counter = Counter()
                await one.serve(
                    counter, group="count", replication="passive", replicas=3, leadership="etcd"
                )
                await stack.enter_async_context(one)
                nodes[one.node_id] = one
            group = oscar.group("count", timeout=15.0)
            await eventually(lambda: len(group.members) == 3, 10)
            assert await group.add(1) == 1
            before = await eventually(lambda: _primary(oscar))
            assert await asyncio.to_thread(_holder, etcd) == before.node
            await nodes.pop(before.node).stop()
            assert await group.add(1) == 2
            after = await eventually(lambda: _primary(oscar))
            assert after.node != before.node
            assert after.term > before.term
            await asyncio.to_thread(etcd.stop)
            short = oscar.group("count", timeout=1.0)

            async def silent() -> bool:
                try:
                    await short.add(0)
                except RPCError:
                    return True
                return False

            await eventually(silent, 15)  # its lease is over
            await asyncio.to_thread(etcd.start)
            assert await group.get() == 2

    run(scenario, timeout=60.0)


def _primary(controller: Controller) -> Any:
    leads = [
        offer
        for offer in controller.services.directory.offers("count")
        if offer.role == "primary" and offer.alive
    ]
    return max(leads, key=lambda offer: offer.term) if leads else None


def _holder(etcd: Server) -> str:
    from etcd3gw import Etcd3Client

    client = Etcd3Client(port=int(etcd.url.rpartition(":")[2]), timeout=2)
    (value,) = client.get("meshcore/mesh/count")
    client.session.close()
    return str(value.decode())
