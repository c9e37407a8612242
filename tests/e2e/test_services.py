"""Services of real processes: named by flag and file, lost with their node, refused where wrong."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from meshcore import GroupResult
from tests.e2e.mesh_processes import World, eventually

DESK = """
import os
from meshcore import Service, service

class Desk(Service):
    @service
    async def pid(self):
        return os.getpid()
"""


def _write(world: World) -> None:
    Path(world.directory, "desk_of_test.py").write_text(DESK)
    paths = world.environment["PYTHONPATH"]
    world.environment["PYTHONPATH"] = f"{paths}:{world.directory}"


def test_a_group_of_processes_loses_a_member_with_its_node_and_gets_it_back() -> None:
    async def scenario() -> None:
        async with World() as world:
            _write(world)
            alpha = await world.start("alpha", "--service", "desk=desk_of_test:Desk")
            config = world.directory / "beta.toml"
            config.write_text('[services.desk]\nclass = "desk_of_test:Desk"\nhang_after = 1.5\n')
            beta = await world.start("beta", "--config", str(config), peers=[alpha])
            async with world.client(alpha) as client:
                group = client.group("desk")

                async def pids() -> GroupResult | None:
                    result: GroupResult = await group.pid()
                    return result if len(result.ok) + len(result.failed) == 2 else None

                both = await eventually(pids, 10, "both serve it")
                assert both == GroupResult(ok={"alpha": alpha.pid, "beta": beta.pid})

                watched = group.watch()
                assert await anext(watched) == ("alpha", "beta")
                killed_at = time.monotonic()
                await beta.kill()
                async with asyncio.timeout(10):
                    assert await anext(watched) == ("alpha",)
                assert time.monotonic() - killed_at < 9.0
                assert (await group.pid()).ok == {"alpha": alpha.pid}
                await beta.start_again()
                async with asyncio.timeout(10):
                    assert await anext(watched) == ("alpha", "beta")
                await watched.aclose()
            assert (await beta.stop())[0] == 0
            assert (await alpha.stop())[0] == 0

    asyncio.run(scenario())


def test_a_service_that_cannot_be_is_a_configuration_error() -> None:
    async def scenario() -> None:
        async with World() as world:
            _write(world)
            for flag, text in (
                ("desk=desk_of_test:Dusk", "desk_of_test has no Dusk"),
                ("desk=desk_of_test:Desk,replicas=x", "replicas = 'x' must be of type int"),
                ("desk=desk_of_test:Desk,replication=active,replicas=3", "needs get_checkpoint"),
            ):
                result = await world.meshctl("run", "--id", "alpha", "--service", flag)
                assert result.code == 2, (result.out, result.err)
                assert text in result.err + result.out
                assert "Traceback" not in result.err

    asyncio.run(scenario())
