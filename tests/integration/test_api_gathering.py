"""Nodes that dial learnt addresses: by setting, while they run, and where they may."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from meshcore import Node
from meshcore.runtime.address_book import FILE_NAME
from tests.integration.nodes import eventually, node, run


@asynccontextmanager
async def beside_a_hub(**settings: Any) -> AsyncIterator[tuple[Node, Node]]:
    """A node with these settings and another one, which both dial a hub."""
    async with (
        node("hub") as hub,
        node("other", peers=[hub.endpoints[0]]) as other,
        node("alpha", peers=[hub.endpoints[0]], **settings) as alpha,
    ):
        await eventually(lambda: "other" in alpha.connectivity.nodes)
        yield alpha, other


def linked(one: Node) -> set[str]:
    return {link.node_id for link in one.links if link.state == "up"}


def test_a_node_dials_whom_it_learns_of_until_it_has_its_links() -> None:
    async def scenario() -> None:
        async with beside_a_hub(auto_connect=2) as (alpha, other):
            await eventually(lambda: linked(alpha) == {"hub", "other"}, 10.0)
            await eventually(lambda: linked(other) == {"hub", "alpha"}, 10.0)
            dials = {dial.url: dial for dial in alpha._mesh.links.dials(0.0)}
            assert not dials[other.endpoints[0]].configured

    run(scenario)


def test_the_number_of_links_can_change_while_it_runs() -> None:
    async def scenario() -> None:
        async with beside_a_hub() as (alpha, _):
            assert alpha._mesh.gathering.next_deadline() is None
            alpha.set_auto_connect(2)
            assert alpha.config.auto_connect == 2
            await eventually(lambda: linked(alpha) == {"hub", "other"}, 10.0)
            alpha.set_auto_connect(0)
            learnt = [dial for dial in alpha._mesh.links.dials(0.0) if not dial.configured]
            assert learnt == []
            assert linked(alpha) == {"hub", "other"}, "what is linked stays"

    run(scenario)


def test_what_is_not_allowed_is_not_dialled_but_counted() -> None:
    async def scenario() -> None:
        settings = {"auto_connect": 2, "dial_allow": ["192.0.2.0/24"]}
        async with beside_a_hub(**settings) as (alpha, _):
            driver = alpha._driver
            assert driver is not None
            await eventually(lambda: driver.counters.get("learnt address not allowed"), 10.0)
            assert linked(alpha) == {"hub"}, "the configured peer is dialled all the same"

    run(scenario)


def test_addresses_are_kept_when_a_node_stops(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with beside_a_hub(auto_connect=2, data_dir=tmp_path):
            pass
        assert "other" in (tmp_path / FILE_NAME).read_text()

    run(scenario)
