"""Node and Controller from start to stop: addresses, peers, background work, plugins, errors."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading
import types
from pathlib import Path

import pytest

from meshcore import (
    BadPayloadError,
    ClosedError,
    Config,
    ConfigError,
    Controller,
    DeadlineExceededError,
    Node,
    UnknownDirectiveError,
    UnknownNodeError,
    UnreachableError,
)
from tests.integration.nodes import TCP, eventually, node, pair, run


def test_a_node_starts_once_stops_twice_and_is_closed_afterwards() -> None:
    async def scenario() -> None:
        alpha = node("alpha")
        await alpha.start()
        closed = asyncio.create_task(alpha.wait_closed())
        with pytest.raises(ClosedError):
            await alpha.start()
        assert alpha.endpoints[0].startswith("tcp://127.0.0.1:")
        assert not alpha.endpoints[0].endswith(":0")
        await asyncio.gather(alpha.stop(), alpha.stop())
        await alpha.stop()
        await closed
        with pytest.raises(ClosedError):
            await alpha.start()

    run(scenario)


def test_a_node_that_was_never_started_can_be_stopped_but_not_used() -> None:
    async def scenario() -> None:
        oscar = Controller(Config(node_id="oscar"))
        await oscar.stop()
        with pytest.raises(ClosedError):
            await oscar.call("alpha", "demo:echo")
        with pytest.raises(ClosedError):
            await oscar.wait_closed()

    run(scenario)


def test_a_default_node_listens_nowhere_writes_nothing_and_has_a_name(home: Path) -> None:
    async def scenario() -> None:
        async with Node() as lone:
            assert lone.endpoints == []
            assert lone.node_id == lone.config.node_id
            assert lone.router.get_nodes() == [lone.node_id]
            assert lone.router.get_edges() == []
            assert lone.links == []
            assert lone.connectivity.connected is False

    run(scenario)
    assert [path for path in home.rglob("*") if path.is_file()] == []


def test_links_follow_add_peer_and_remove_peer() -> None:
    async def scenario() -> None:
        async with node("alpha") as alpha, node("beta") as beta:
            url = alpha.endpoints[0]
            heard = []
            end = beta.connectivity.on_link(heard.append)
            beta.add_peer(url)
            await eventually(lambda: [link.node_id for link in beta.links] == ["alpha"])
            await eventually(lambda: alpha.router.get_nodes() == ["alpha", "beta"])
            assert beta.links[0].dialled is True
            assert alpha.links[0].dialled is False
            beta.remove_peer(url)
            await eventually(lambda: beta.links == [] and alpha.links == [])
            assert [(event.node_id, event.up) for event in heard] == [
                ("alpha", True),
                ("alpha", False),
            ]
            assert heard[1].reason
            end()
            beta.add_peer(url)
            await eventually(lambda: beta.links != [])
            assert len(heard) == 2, "the subscription has ended"

    run(scenario)


def test_servers_can_be_enabled_before_and_after_the_start() -> None:
    async def scenario() -> None:
        alpha = node("alpha", listen=())
        alpha.enable_server([TCP])
        assert alpha.endpoints == []
        async with alpha:
            assert len(alpha.endpoints) == 1
            alpha.enable_server([TCP])
            assert len(alpha.endpoints) == 2
            for url in alpha.endpoints:
                async with Controller(Config(peers=[url])) as oscar:
                    await oscar.wait_for("alpha")
            with pytest.raises(ConfigError, match="in use"):
                alpha.enable_server([alpha.endpoints[0]])
            with pytest.raises(ConfigError, match="insecure"):
                alpha.enable_server(["tcp://0.0.0.0:0"])

    run(scenario)


@pytest.mark.parametrize("kind", ["ipv6", "ipc"])
def test_other_kinds_of_addresses_carry_work(kind: str, home: Path) -> None:
    if kind == "ipv6" and not _has_ipv6():
        pytest.skip("this machine has no IPv6")
    listen = {"ipv6": "tcp://[::1]:0", "ipc": f"ipc://{home}/alpha.sock"}[kind]

    async def scenario() -> None:
        async with pair(listen=[listen]) as (oscar, alpha):
            assert alpha.endpoints[0].startswith(listen.removesuffix("0"))
            body = os.urandom(300_000)
            assert await oscar.call("alpha", "demo:echo", body) == body

    run(scenario)
    assert list(home.glob("*.sock")) == []


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


def test_an_occupied_port_is_a_configuration_error_and_leaves_nothing_open() -> None:
    async def scenario() -> None:
        async with node("alpha") as alpha:
            with pytest.raises(ConfigError, match="address in use"):
                await node("beta", listen=[alpha.endpoints[0]]).start()

    run(scenario)


@pytest.mark.parametrize(
    "settings",
    [
        {"listen": ["rnp://127.0.0.1:1"]},
        {"peers": ["tcp://127.0.0.1:0"]},
        {"listen": ["tcp://0.0.0.0:0"]},
        {"node_id": "two words"},
        {"max_workers": 0},
        {"ephemeral": True, "listen": [TCP]},
    ],
    ids=lambda settings: " ".join(settings),
)
def test_settings_that_cannot_be_used_are_refused_when_they_are_made(settings: dict) -> None:  # type: ignore[type-arg]
    with pytest.raises(ConfigError):
        Config(**settings)


def test_a_plugin_that_does_not_exist_is_a_configuration_error() -> None:
    with pytest.raises(ConfigError, match=r"no\.such\.plugin"):
        Node(Config(plugins=["no.such.plugin"]))


def test_a_data_directory_serves_one_node_at_a_time(home: Path) -> None:
    async def scenario() -> None:
        async with node("alpha", data_dir=home / "data"):
            with pytest.raises(ConfigError, match="data"):
                await node("beta", data_dir=home / "data").start()
        async with node("gamma", data_dir=home / "data"):
            pass

    run(scenario)


def test_background_work_lives_from_start_to_stop() -> None:
    async def scenario() -> None:
        seen = []

        async def relay_work() -> None:
            seen.append("started")
            try:
                await asyncio.Event().wait()
            finally:
                seen.append("ended")

        alpha = node("alpha")
        alpha.create_task(relay_work)
        alpha.create_task(relay_work())
        assert seen == []
        async with alpha:
            await eventually(lambda: seen == ["started"] * 2)
            alpha.create_task(relay_work)
            await eventually(lambda: len(seen) == 3)
        assert seen == ["started"] * 3 + ["ended"] * 3

    run(scenario)


def test_background_work_that_raises_is_raised_by_run_and_async_with() -> None:
    async def broken() -> None:
        raise LookupError("relay is broken")

    async def scenario() -> None:
        async with node("alpha") as alpha:
            alpha.create_task(broken)
            await asyncio.sleep(0)

    with pytest.raises(LookupError, match="relay is broken"):
        run(scenario)
    alpha = node("alpha")
    alpha.create_task(broken)
    with pytest.raises(LookupError, match="relay is broken"):
        alpha.run()


def test_run_ends_with_the_value_of_the_app_or_what_it_raises() -> None:
    async def app() -> int:
        return 42

    async def failing() -> None:
        raise LookupError("app")

    assert node("alpha").run(app) == 42
    with pytest.raises(LookupError, match="app"):
        node("alpha").run(failing)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_run_without_an_app_ends_in_good_order_on_a_signal(number: signal.Signals) -> None:
    alpha = node("alpha")

    async def ready() -> None:
        threading.Thread(target=os.kill, args=(os.getpid(), number)).start()

    alpha.create_task(ready)
    assert alpha.run() is None


GREETINGS = """
from meshcore import action

@action
def greet(payload):
    return f"hello {payload}"
"""


def test_actions_can_be_added_as_functions_and_modules() -> None:
    async def scenario() -> None:
        async with pair() as (oscar, alpha):

            @alpha.action("tools:double", description="Twice as much")
            async def double(payload: int) -> int:
                return payload * 2

            module = types.ModuleType("extra")
            exec(GREETINGS, vars(module))
            alpha.add_plugin(module, namespace="more")
            assert await oscar.call("alpha", "tools:double", 21) == 42
            assert await oscar.call("alpha", "more:greet", "you") == "hello you"
            assert await double(4) == 8, "it stays an ordinary function"
            known = oscar.router.node_capabilities
            await eventually(lambda: "tools:double" in known()["alpha"]["actions"])
            about = known()["alpha"]
            assert about["actions"]["tools:double"]["description"] == "Twice as much"
            assert about["max_workers"] == alpha.config.max_workers
            with pytest.raises(ConfigError):
                alpha.action("mesh:mine")(double)

    run(scenario)


def test_a_node_without_links_reaches_itself_and_nobody_else() -> None:
    async def scenario() -> None:
        async with Controller(Config(node_id="oscar")) as oscar:
            oscar.add_plugin("demo=meshcore.plugins.demo")
            assert await oscar.call("oscar", "demo:echo", [1, None, "x"]) == [1, None, "x"]
            async with oscar.stream("oscar", "demo:count", 100) as responses:
                assert [value async for value in responses.values()] == list(range(100))
            body = os.urandom(3_000_000)
            assert await oscar.call("oscar", "demo:echo", body) == body
            assert (await oscar.ping("oscar")).round_trip < 1
            with pytest.raises((DeadlineExceededError, UnreachableError)) as raised:
                await oscar.call("alpha", "demo:echo", timeout=0.2)
            assert raised.value.may_have_run is False
            with pytest.raises(DeadlineExceededError):
                await oscar.wait_for("alpha", timeout=0.1)
            with pytest.raises(UnknownNodeError):
                oscar.connectivity.get_status("alpha")

    run(scenario)


def test_errors_say_what_is_close_and_whether_anything_may_have_run() -> None:
    async def scenario() -> None:
        async with pair() as (oscar, _):
            with pytest.raises(UnknownDirectiveError, match="did you mean demo:echo") as directive:
                await oscar.call("alpha", "demo:eko")
            assert directive.value.may_have_run is False
            with pytest.raises(UnknownNodeError, match=r"2 nodes\); did you mean alpha") as unknown:
                await oscar.call("alpa", "demo:echo")
            assert unknown.value.may_have_run is False
            with pytest.raises(BadPayloadError):
                await oscar.call("alpha", "no directive")
            with pytest.raises(BadPayloadError) as payload:
                await oscar.call("alpha", "demo:echo", object())
            assert payload.value.may_have_run is False

    run(scenario)
