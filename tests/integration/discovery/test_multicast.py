"""Multicast DNS for real, on loopback: nothing leaves this machine."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable

import pytest

from meshcore.discovery import Announcement
from meshcore.discovery.multicast import SERVICE, MulticastDns
from tests.integration.nodes import eventually, run

pytestmark = pytest.mark.timeout(60)
WITHIN = 15.0


def url(port: int) -> str:
    return f"tcp://127.0.0.1:{port}"


class Seen:
    """What one of them has found and lost.

    Others may run these tests on this machine at the same time: the ids are never used twice.
    """

    def __init__(self, name: str, mesh: str) -> None:
        self.own = Announcement(f"{name}-{secrets.token_hex(6)}", mesh, (url(7401),))
        self.id = self.own.node_id
        self.dns = MulticastDns()
        self.found: dict[str, Announcement] = {}
        self.dropped: list[str] = []
        self.dns.found = lambda one: self.found.update({one.node_id: one})
        self.dns.lost = lambda one: self.found.pop(one.node_id, None)
        self.dns.dropped = self.dropped.append


def two(scenario: Callable[[Seen, Seen], object]) -> None:
    async def bounded() -> None:
        alpha, beta = Seen("alpha.1", "test-a"), Seen("beta", "test-b")
        try:
            await alpha.dns.start(alpha.own)
            await beta.dns.start(beta.own)
            await scenario(alpha, beta)  # type: ignore[misc]
        finally:
            await alpha.dns.close()
            await beta.dns.close()
            await beta.dns.close()

    run(bounded)


def test_two_find_each_other_never_themselves_and_notice_the_end() -> None:
    async def scenario(alpha: Seen, beta: Seen) -> None:
        await eventually(lambda: beta.id in alpha.found and alpha.id in beta.found, WITHIN)
        assert alpha.found[beta.id] == beta.own, "its mesh is told, too"
        assert alpha.id not in alpha.found
        await alpha.dns.close()
        await eventually(lambda: alpha.id not in beta.found, WITHIN)

    two(scenario)


def test_addresses_that_change_are_announced_again() -> None:
    async def scenario(alpha: Seen, beta: Seen) -> None:
        await eventually(lambda: alpha.id in beta.found, WITHIN)
        await alpha.dns.announce(Announcement(alpha.id, "test-a", (url(7402),)))
        await eventually(lambda: beta.found[alpha.id].urls == (url(7402),), WITHIN)

    two(scenario)


def test_a_service_of_the_same_type_that_is_none_of_ours_is_dropped() -> None:
    from zeroconf.asyncio import AsyncServiceInfo

    async def scenario(alpha: Seen, beta: Seen) -> None:
        assert alpha.dns._dns is not None
        odd = AsyncServiceInfo(
            SERVICE,
            f"printer-{secrets.token_hex(6)}.{SERVICE}",
            port=1,
            properties={"v": "1", "id": b"\xff\xfe", "mesh": "x y"},
            server="printer.local.",
            parsed_addresses=["127.0.0.1"],
        )
        await (await alpha.dns._dns.async_register_service(odd))
        await eventually(lambda: "discovery: bad announcement" in beta.dropped, WITHIN)
        await eventually(lambda: alpha.id in beta.found, WITHIN)

    two(scenario)


def test_a_flood_of_names_is_bounded() -> None:
    from zeroconf import ServiceStateChange

    async def scenario() -> None:
        one = Seen("alpha", "test-a")
        for number in range(400):
            one.dns._on_change(None, SERVICE, f"n{number}.{SERVICE}", ServiceStateChange.Added)
        assert one.dropped.count("discovery: too many announcements") == 400 - 256
        await asyncio.sleep(0)

    run(scenario)
