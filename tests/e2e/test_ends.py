"""How a node ends, leaving nothing, and why one does not begin, in one clear line."""

from __future__ import annotations

import asyncio
import signal
import socket
import time
from pathlib import Path

import psutil
import pytest

from meshcore import (
    Config,
    Controller,
    MeshError,
    PeerLostError,
    UnreachableError,
    WorkCancelledError,
)
from tests.e2e.mesh_processes import NodeProcess, Result, World, eventually

pytestmark = pytest.mark.timeout(120)


async def running(controller: Controller, node_id: str, count: int) -> bool:
    return len((await controller.ping(node_id)).active_work) >= count


def listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def is_socket(path: Path) -> bool:
    return path.is_socket()


def test_sigterm_cancels_what_takes_too_long_and_finishes_what_does_not() -> None:
    async def scenario() -> None:
        async with World() as world:
            alpha, beta = await world.chain("alpha", "beta")
            async with Controller(Config(node_id="oscar", peers=[alpha.url])) as oscar:
                await oscar.wait_for("beta")
                short = asyncio.create_task(oscar.call("beta", "demo:sleep", 1))
                long = asyncio.create_task(oscar.call("beta", "demo:sleep", 60, timeout=60))
                thread = asyncio.create_task(oscar.call("beta", "demo:burn", 60, timeout=60))
                await eventually(lambda: running(oscar, "beta", 3), 5)
                code, seconds = await beta.stop()
                assert code == 0
                assert await short == 1.0, "it ended within the grace period"
                for work in (long, thread):
                    with pytest.raises((WorkCancelledError, PeerLostError)) as raised:
                        await work
                    assert raised.value.may_have_run is True
                assert 5 <= seconds < 8, "the grace period is 5 s"
                assert beta.lines[-1] == {"event": "left"}

    asyncio.run(scenario())


def test_an_idle_node_leaves_at_once_and_nothing_stays_behind() -> None:
    async def scenario() -> None:
        async with World() as world:
            alpha, beta = await world.chain("alpha", "beta")
            port, local = beta.port, Path(beta.socket.removeprefix("ipc://"))
            assert is_socket(local)
            async with Controller(Config(node_id="oscar", peers=[alpha.url])) as oscar:
                await oscar.wait_for("beta")
                left = asyncio.Event()
                oscar.connectivity.on_change(
                    lambda change: left.set() if "beta" in change.removed else None
                )
                start = time.monotonic()
                beta.signal(signal.SIGTERM)
                async with asyncio.timeout(5):
                    await left.wait()
                heard = time.monotonic() - start
                assert await beta.ended() == 0
                assert heard < 0.5
                assert time.monotonic() - start < 2
                with pytest.raises(UnreachableError):
                    await oscar.call("beta", "demo:echo", 1)
            down = await alpha.line(
                lambda line: (
                    line["event"] == "link" and line["node_id"] == "beta" and not line["up"]
                ),
                2,
            )
            assert "leav" in down["reason"], down
            assert not listening(port)
            assert not is_socket(local)
            assert (await alpha.stop())[0] == 0
            assert list(world.sockets.rglob("*.sock")) == []
            assert list((world.directory / "tmp").iterdir()) == []
            nothing_logged(alpha, beta)

    asyncio.run(scenario())


def nothing_logged(*nodes: NodeProcess) -> None:
    for node in nodes:
        assert node.log.read_text() == ""


CRUNCH = """
import os, time
from meshcore import action

@action(executor="process")
def crunch(payload):
    time.sleep(payload)
    return os.getpid()
"""


@pytest.mark.parametrize("how", ["SIGTERM", "SIGKILL"])
def test_processes_of_process_actions_end_with_their_node(how: str) -> None:
    async def scenario() -> None:
        async with World() as world:
            (world.directory / "slow.py").write_text(CRUNCH)
            world.environment["PYTHONPATH"] += f":{world.directory}"
            node = await world.start("alpha", plugins=["slow"])
            async with world.client(node) as client:
                assert await client.call("alpha", "slow:crunch", 0) != node.pid
                work = asyncio.create_task(client.call("alpha", "slow:crunch", 60, timeout=60))
                await eventually(lambda: running(client, "alpha", 1), 5)
                children = psutil.Process(node.pid).children(recursive=True)
                assert children
                node.signal(signal.Signals[how])
                assert await node.ended() == (0 if how == "SIGTERM" else -signal.SIGKILL)
                with pytest.raises(MeshError):
                    await work
            await eventually(lambda: not any(map(is_alive, children)), 5, "workers live on")

    asyncio.run(scenario())


def is_alive(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def test_a_second_signal_ends_a_node_at_once() -> None:
    async def scenario() -> None:
        async with World() as world:
            node = await world.start("alpha")
            async with world.client(node) as client:
                work = asyncio.create_task(client.call("alpha", "demo:sleep", 60, timeout=60))
                await eventually(lambda: running(client, "alpha", 1), 5)
                start = time.monotonic()
                node.signal(signal.SIGINT)
                await asyncio.sleep(0.3)  # two signals at once are one to the kernel
                node.signal(signal.SIGINT)
                assert await node.ended() != 0
                assert time.monotonic() - start < 3
                with pytest.raises(MeshError):
                    await work

    asyncio.run(scenario())


def one_line_exit_2(result: Result, *parts: str) -> None:
    assert result.code == 2, result
    assert result.err.count("\n") == 1, result.err
    for part in parts:
        assert part in result.err, result.err


def test_a_node_that_cannot_start_says_why_in_one_line() -> None:
    async def scenario() -> None:
        async with World() as world:
            alpha = await world.start("alpha", "--data-dir", str(world.directory / "data"))
            run = world.meshctl
            occupied = f"tcp://127.0.0.1:{alpha.port}"
            one_line_exit_2(await run("run", "--id", "x", "--listen", occupied),
                            occupied, "in use")  # fmt: skip
            one_line_exit_2(await run("run", "--listen", "rnp://127.0.0.1:1"), "rnp", "tcp://")
            one_line_exit_2(await run("run", "--listen", "tcp://127.0.0.1:99999"), "99999")
            one_line_exit_2(await run("run", "--listen", "tcp://0.0.0.0:0"), "insecure")
            one_line_exit_2(await run("run", "--plugin", "no.such.module"), "no.such.module")
            one_line_exit_2(await run("run", "--id", "not an id"), "not an id")
            one_line_exit_2(
                await run("run", "--id", "y", "--data-dir", str(world.directory / "data")),
                str(world.directory / "data"),
            )
            one_line_exit_2(await run("run", "--id", "alpha"), "alpha", "runs here already")
            file = world.directory / "bad.toml"
            file.write_text("lisen = []\n")
            one_line_exit_2(await run("run", "--config", str(file)), "bad.toml", "lisen", "listen")
            file.write_text("[timings]\nwarn = 0.5\n")
            one_line_exit_2(await run("run", "--config", str(file)), "bad.toml: timings.warn = 0.5",
                            "greater than timings.slow = 1.0")  # fmt: skip
            # The node that is there did not suffer.
            assert (await run("send", "alpha", "demo:echo", "1")).code == 0

    asyncio.run(scenario())


def test_a_second_node_of_the_same_id_is_refused_by_the_mesh() -> None:
    async def scenario() -> None:
        async with World() as world, World() as elsewhere:
            alpha, beta = await world.chain("alpha", "beta")
            twin = elsewhere.node("alpha", peers=[beta])
            await twin.launch()
            assert await twin.ended() == 2
            said = twin.log.read_text()
            assert "node id 'alpha' is taken by" in said, said
            assert str(alpha.pid) in said, said
            assert (
                await world.meshctl("send", "beta", "demo:echo", "1", "--via", "alpha")
            ).code == 0
            assert alpha.is_running

    asyncio.run(scenario())
