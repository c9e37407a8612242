"""A node with nothing to do wakes up for its beats and looks, and for nothing else."""

from __future__ import annotations

import asyncio

import pytest

from meshcore import Config, Controller
from meshcore.runtime.driver import Driver
from tests.integration.nodes import eventually, node, run


def test_each_deadline_of_an_idle_node_fires_its_timer_about_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fired: list[float] = []
    on_timer = Driver._on_timer

    def counted(driver: Driver) -> None:
        fired.append(driver.now())
        on_timer(driver)

    monkeypatch.setattr(Driver, "_on_timer", counted)

    async def scenario() -> None:
        async with node("alpha") as alpha:
            driver = alpha._started()
            peer = Controller(Config(node_id="oscar", peers=alpha.endpoints))
            async with peer:
                await peer.wait_for("alpha")
                await eventually(lambda: driver.control_sent.get("beat", 0) > 2)
                fired.clear()
                beats = driver.control_sent["beat"]
                await eventually(lambda: driver.control_sent["beat"] >= beats + 4, 10.0)
                # Both nodes count: of each 2 beats, 4 looks at ages and some echoes a second.
                # Where timers fired too early, they fired tenfold.
                assert len(fired) <= 12 * 4, len(fired)
                assert driver.control_sent["beat"] > beats

    run(scenario)


def test_an_idle_mesh_says_beats_and_echoes_alone() -> None:
    async def scenario() -> None:
        async with node("alpha") as alpha, node("beta", peers=alpha.endpoints) as beta:
            await eventually(lambda: "beta" in alpha.connectivity.nodes)
            await asyncio.sleep(1.0)
            drivers = [alpha._started(), beta._started()]

            def said() -> list[dict[str, int]]:
                counts = [driver.control_sent for driver in drivers]
                counts += [each._mesh.control_received for each in (alpha, beta)]
                return [
                    {
                        kind: n
                        for kind, n in each.items()
                        if kind not in ("beat", "echo", "echo_reply")
                    }
                    for each in counts
                ]

            before = said()
            beats = drivers[0].control_sent["beat"]
            await eventually(lambda: drivers[0].control_sent["beat"] >= beats + 4, 10.0)
            assert said() == before
            assert before[0]["welcome"] == 1, "those are counted"
            assert before[2]["hello"] == 1

    run(scenario)
