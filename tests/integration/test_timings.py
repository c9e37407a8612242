"""Timings as a user sets them, on real nodes: obeyed here, and nobody else's business."""

from __future__ import annotations

import asyncio
import time

import pytest

from meshcore import Config, ConfigError, Controller, NodeStatus
from tests.integration.nodes import eventually, node, run

ALIVE, SLOW, WARNING, DEAD = NodeStatus
TIGHT = {"slow": 0.5, "warn": 1.0, "dead": 2.0, "remove": 3.0}
PATIENT = {"slow": 12.0, "warn": 13.0, "dead": 14.0, "remove": 15.0}
LATE = 1.0  # seconds; a check comes every 0.25, the rest is for a busy machine


class Events:
    """What a node's application is told of one node, or (None) of all, with the time."""

    def __init__(self, watcher: Controller, node_id: str | None = None) -> None:
        self.seen: list[tuple[float, str]] = []
        self._node_id = node_id
        watcher.connectivity.on_status(
            lambda event: self._note(event.node_id, f"{event.old.name} {event.new.name}")
        )
        watcher.connectivity.on_change(self._on_change)

    def _on_change(self, change: object) -> None:
        for node_id in change.added:  # type: ignore[attr-defined]
            self._note(node_id, "added")
        for node_id in change.removed:  # type: ignore[attr-defined]
            self._note(node_id, "removed")

    def _note(self, node_id: str, text: str) -> None:
        if self._node_id in (None, node_id):
            self.seen.append((time.monotonic(), text))


STEPS = ["ALIVE SLOW", "SLOW WARNING", "WARNING DEAD", "removed", "added"]
DUE = [0.5, 1.0, 2.0, 3.0]


def test_a_slow_beat_watched_closely_is_seen_step_by_step_by_the_watcher_alone() -> None:
    """lazy beats every 5 s; watcher dials it, behind is behind it, other is linked to both."""

    async def scenario() -> None:
        lazy = node("lazy")
        async with lazy:
            url = lazy.endpoints[0]
            other = Controller(Config(node_id="other", peers=[url], listen=["tcp://127.0.0.1:0"]))
            behind = node("behind", peers=[url])
            async with other, behind:
                peers = [url, other.endpoints[0]]
                watcher = Controller(Config(node_id="watcher", peers=peers))
                async with watcher:
                    for name in ("lazy", "behind", "other"):
                        await watcher.wait_for(name)
                        await other.wait_for("watcher")
                    client = Controller(Config(ephemeral=True, peers=[other.endpoints[0]]))
                    async with client:
                        await client.wait_attached(5)
                        await observed(watcher, lazy, other, behind, client)

    async def observed(watcher, lazy, other, behind, client) -> None:  # type: ignore[no-untyped-def]
        for patient in (other, behind):
            patient.connectivity.set_timings(send_alive_interval=0.2, **PATIENT)
        lazy.connectivity.set_timings(send_alive_interval=5.0, **PATIENT)
        watcher.connectivity.set_timings(**TIGHT)
        await asyncio.sleep(0.3)  # beats that were on their way, and the first echoes
        told = Events(watcher, "lazy")
        others = [Events(each) for each in (lazy, other, behind, client)]
        # Each is heard of at the call's start and end alone: while it runs lazy says nothing.
        work = [
            asyncio.create_task(watcher.call("lazy", "demo:sleep", 4.3)),
            asyncio.create_task(watcher.call("behind", "demo:sleep", 4.3)),
            asyncio.create_task(client.call("lazy", "demo:sleep", 4.3)),
            asyncio.create_task(other.call("lazy", "demo:sleep", 4.3)),
        ]
        await eventually(lambda: len(told.seen) >= 5 and told.seen[4][1] == "added", 12.0)
        assert await asyncio.gather(*work) == [4.3] * 4
        assert [text for _, text in told.seen[:5]] == STEPS
        slow_at = told.seen[0][0]
        for (at, text), due in zip(told.seen[:4], DUE, strict=True):
            assert abs(at - slow_at - (due - DUE[0])) < LATE, (text, at - slow_at)
        assert [events.seen for events in others] == [[]] * 4

    run(scenario)


def test_the_watchers_own_clients_lose_no_work_either() -> None:
    async def scenario() -> None:
        async with (
            node("lazy") as lazy,
            node("watcher", peers=[lazy.endpoints[0]]) as watcher,
            Controller(Config(ephemeral=True, peers=[watcher.endpoints[0]])) as client,
        ):
            await client.wait_for("lazy")
            lazy.connectivity.set_timings(send_alive_interval=5.0)
            work = asyncio.create_task(client.call("lazy", "demo:sleep", 4.3))
            watcher.connectivity.set_timings(**TIGHT)
            told = Events(client, "lazy")
            await eventually(lambda: "removed" in [text for _, text in told.seen], 8.0)
            assert not work.done()
            assert await work == 4.3
            await eventually(lambda: told.seen[-1][1] == "added", 8.0)

    run(scenario)


@pytest.mark.parametrize(
    ("timings", "named"),
    [
        ({"warn": 0.5}, ("timings.warn = 0.5", "timings.slow = 1.0")),
        ({"dead": 2.0}, ("timings.dead = 2.0", "timings.warn = 2.0")),
        ({"remove": 1.0}, ("timings.remove = 1.0", "timings.dead = 5.0")),
        ({"slow": 0.0}, ("timings.slow",)),
        ({"check_interval": -1.0}, ("timings.check_interval",)),
        ({"send_alive_interval": float("nan")}, ("timings.send_alive_interval",)),
        ({"dead": float("inf")}, ("timings.dead",)),
    ],
)
def test_timings_out_of_order_are_named_and_change_nothing(
    timings: dict[str, float], named: tuple[str, ...]
) -> None:
    async def scenario() -> None:
        async with node("alpha") as alpha:
            alpha.connectivity.set_timings(**TIGHT)
            before = alpha._mesh.detector._timings
            with pytest.raises(ConfigError) as refused:
                alpha.connectivity.set_timings(**timings)
            for part in named:
                assert part in str(refused.value)
            assert alpha._mesh.detector._timings == before
            alpha.connectivity.set_timings()
            assert alpha._mesh.detector._timings.dead == 5.0

    run(scenario)
