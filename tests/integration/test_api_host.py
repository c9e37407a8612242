"""What the others see of a node's machine, and that seeing it costs an idle mesh nothing."""

from __future__ import annotations

import asyncio

from meshcore import host
from meshcore.protocol.wire.records import DETAILS
from tests.integration.nodes import eventually, pair, run


def test_the_host_of_another_node_is_told_in_full() -> None:
    async def scenario() -> None:
        async with pair(organization="acme") as (oscar, alpha):
            await eventually(lambda: oscar.connectivity.nodes["alpha"].host)
            seen = oscar.connectivity.nodes["alpha"]
            assert seen.host["cores"] >= 1
            assert seen.host["cpu"].keys() == {"model", "speed", "usage"}
            assert 0 < seen.host["ram"]["free"] <= seen.host["ram"]["total"]
            assert (seen.env, seen.organization, seen.pid) == ("python", "acme", host.pid())
            assert "demo" in seen.plugins
            assert oscar.connectivity.get_all_hosts() == [seen.host["name"]]
            assert alpha.connectivity.info.host.keys() == seen.host.keys()

    run(scenario)


def test_a_ping_and_an_identification_bring_the_load_of_now() -> None:
    async def scenario() -> None:
        async with pair() as (oscar, _):
            for directive in ("mesh:ping", "mesh:identify"):
                answer = await oscar.call("alpha", directive)
                assert 0 <= answer["host"]["cpu"]["usage"] <= 100
                assert answer["host"]["ram"]["free"] > 0
                assert 0 <= answer["host"]["ram"]["used_perc"] <= 100

    run(scenario)


def test_what_has_not_changed_is_not_told_again() -> None:
    async def scenario() -> None:
        async with pair() as (oscar, alpha):
            await eventually(lambda: "alpha" in oscar._mesh.details_of)
            before = alpha._mesh.database.get("alpha", DETAILS)
            alpha._tell_details()
            await asyncio.sleep(0)
            assert alpha._mesh.database.get("alpha", DETAILS) is before
            alpha.action("tools:new")(lambda payload: payload)
            await eventually(
                lambda: "tools:new" in oscar.router.node_capabilities()["alpha"]["actions"]
            )

    run(scenario)
