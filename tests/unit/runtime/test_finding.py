"""What is found by discovery or on disk becomes a hint for the core, and nothing else."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from meshcore import Config, ConfigError, Node
from meshcore.discovery import Announcement
from meshcore.protocol.membership.targets import Target
from meshcore.runtime import finding
from meshcore.runtime.address_book import FILE_NAME, AddressBook
from meshcore.runtime.finding import Finding
from tests.integration.nodes import eventually

URL = "tcp://127.0.0.1:7"


class FakeDiscovery:
    """Keeps what it is told to announce."""

    def __init__(self) -> None:
        self.found: Callable[[Announcement], None] = lambda _: None
        self.lost: Callable[[Announcement], None] = lambda _: None
        self.dropped: Callable[[str], None] = lambda _: None
        self.announced: list[Announcement] = []
        self.closed = 0

    async def start(self, own: Announcement) -> None:
        self.announced.append(own)

    async def announce(self, own: Announcement) -> None:
        self.announced.append(own)

    async def close(self) -> None:
        self.closed += 1


class FakeMesh:
    """Notes hints as the core would get them."""

    class identity:
        node_id = "alpha"

    def __init__(self) -> None:
        self.hints: list[tuple[str, tuple[str, ...]]] = []
        self.forgotten: list[str] = []
        self.degrees: list[int] = []
        self.known: list[Any] = []
        self.gathering = self
        self.links = self
        self.peers: list[str] = []

    def dials(self, now: float) -> list[Any]:
        return [SimpleNamespace(url=url, configured=True) for url in self.peers]

    def set_dial_allow(self, allowed: Callable[[str], bool]) -> None:
        self.allowed = allowed

    def set_auto_connect(self, degree: int, now: float) -> None:
        self.degrees.append(degree)

    def on_hint(self, node_id: str, urls: tuple[str, ...], now: float) -> None:
        self.hints.append((node_id, urls))

    def forget_hint(self, node_id: str) -> None:
        self.forgotten.append(node_id)

    def addresses(self, most: int, now: float) -> list[Any]:
        return self.known


class FakeDriver:
    def __init__(self) -> None:
        self.mesh = FakeMesh()
        self.counters: list[str] = []
        self.tasks: list[asyncio.Task[Any]] = []

    def now(self) -> float:
        return 1.0

    def count(self, reason: str) -> None:
        self.counters.append(reason)

    def flush(self) -> None:
        pass

    def spawn(self, work: Any) -> asyncio.Task[Any]:
        self.tasks.append(asyncio.get_running_loop().create_task(work))
        return self.tasks[-1]


def make(**settings: Any) -> tuple[Finding, FakeDriver, FakeDiscovery]:
    driver, discovery = FakeDriver(), FakeDiscovery()
    found: Any = Finding(
        driver,  # type: ignore[arg-type]
        Config(node_id="alpha", **settings),
        open_with=lambda: discovery,
    )
    return found, driver, discovery


def test_what_is_found_is_a_hint_and_other_meshes_are_counted() -> None:
    async def scenario() -> None:
        one, driver, discovery = make(discovery=True)
        one.tell_endpoints(["ipc:///x", URL])
        await one.start()
        assert discovery.announced == [Announcement("alpha", "mesh", (URL,))]
        discovery.found(Announcement("beta", "mesh", (URL,)))
        discovery.found(Announcement("gamma", "another", (URL,)))
        assert driver.mesh.hints == [("beta", (URL,))]
        discovery.lost(Announcement("beta", "mesh", (URL,)))
        discovery.lost(Announcement("gamma", "another", (URL,)))
        assert driver.mesh.forgotten == ["beta"]
        discovery.dropped("discovery: bad announcement")
        assert driver.counters == ["discovery: another mesh", "discovery: bad announcement"]
        await one.close()
        await one.close()
        assert discovery.closed == 1

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("settings", "degree"),
    [
        ({}, 0),
        ({"auto_connect": 3}, 3),
        ({"discovery": True}, 1),
        ({"discovery": True, "auto_connect": 3}, 3),
    ],
)
def test_with_discovery_one_link_is_looked_for_at_least(
    settings: dict[str, Any], degree: int
) -> None:
    async def scenario() -> None:
        one, driver, _ = make(**settings)
        await one.start()
        assert driver.mesh.degrees == [degree]
        await one.close()
        for task in driver.tasks:
            task.cancel()

    asyncio.run(scenario())


def test_peers_that_are_named_while_it_runs_may_be_learnt_from(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(finding, "SAVE_FIRST", 0.001)
    monkeypatch.setattr(finding, "SAVE_INTERVAL", 0.001)
    monkeypatch.setattr(finding, "NETWORKS_INTERVAL", 0.001)

    async def scenario() -> None:
        one, driver, _ = make(auto_connect=1)
        await one.start()
        url = "tcp://198.51.100.7:1"
        assert not driver.mesh.allowed(url)
        driver.mesh.peers.append("tcp://198.51.100.7:9")
        await eventually(lambda: driver.mesh.allowed(url))
        await one.close()
        await asyncio.gather(*driver.tasks, return_exceptions=True)

    asyncio.run(scenario())


def test_later_addresses_are_announced_as_well() -> None:
    async def scenario() -> None:
        one, driver, discovery = make(discovery=True)
        await one.start()
        one.tell_endpoints([URL])
        await asyncio.gather(*driver.tasks)
        assert [own.urls for own in discovery.announced] == [(), (URL,)]
        await one.close()

    asyncio.run(scenario())


def test_a_client_is_not_announced() -> None:
    async def scenario() -> None:
        one, _, discovery = make(discovery=True, ephemeral=True)
        await one.start()
        assert discovery.announced == []
        await one.close()

    asyncio.run(scenario())


def test_kept_addresses_are_hints_at_the_start_and_written_at_the_end(tmp_path: Path) -> None:
    async def scenario() -> None:
        one, driver, _ = make(auto_connect=2, data_dir=tmp_path)
        await one.start()
        assert driver.mesh.hints == []
        driver.mesh.known = [Target("beta", (URL,), 1, True)]
        await one.close()
        [kept] = json.loads((tmp_path / FILE_NAME).read_text())["addresses"]
        assert (kept["node_id"], kept["urls"]) == ("beta", [URL])
        again, second, _ = make(auto_connect=2, data_dir=tmp_path)
        await again.start()
        assert second.mesh.hints == [("beta", (URL,))]
        await again.close()

    asyncio.run(scenario())


def test_they_are_written_while_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finding, "SAVE_FIRST", 0.001)
    monkeypatch.setattr(finding, "SAVE_INTERVAL", 0.001)

    async def scenario() -> None:
        one, driver, _ = make(auto_connect=2, data_dir=tmp_path)
        await one.start()
        driver.mesh.known = [Target("beta", (URL,), 1, True)]
        loop, written = asyncio.get_running_loop(), asyncio.Event()
        write = AddressBook.write

        def writing(book: AddressBook, content: bytes) -> None:
            write(book, content)
            loop.call_soon_threadsafe(written.set)

        monkeypatch.setattr(AddressBook, "write", writing)
        async with asyncio.timeout(20):
            await written.wait()
        assert "beta" in (tmp_path / FILE_NAME).read_text()
        driver.tasks[0].cancel()
        await asyncio.gather(*driver.tasks, return_exceptions=True)
        await one.close()

    asyncio.run(scenario())


def test_without_auto_connect_nothing_is_read_or_written(tmp_path: Path) -> None:
    async def scenario() -> None:
        row = {"node_id": "beta", "urls": [URL], "heard_at": 4e9}
        (tmp_path / FILE_NAME).write_text(
            json.dumps({"format": 1, "mesh": "mesh", "addresses": [row]})
        )
        one, driver, _ = make(data_dir=tmp_path)
        await one.start()
        driver.mesh.known = [Target("gamma", (URL,), 1, True)]
        assert driver.mesh.hints == []
        one.set_auto_connect(2)
        assert driver.mesh.hints == [("beta", (URL,))], "from now on it is used"
        one.set_auto_connect(0)
        await one.close()
        assert "gamma" not in (tmp_path / FILE_NAME).read_text()

    asyncio.run(scenario())


def test_a_node_whose_discovery_cannot_be_had_does_not_start_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails() -> Any:
        raise ConfigError("discovery needs a package that is not installed")

    monkeypatch.setattr("meshcore.runtime.finding.open_discovery", fails)

    async def scenario() -> None:
        node = Node(Config(node_id="alpha", discovery=True, data_dir=tmp_path))
        with pytest.raises(ConfigError, match="not installed"):
            await node.start()
        async with Node(Config(node_id="alpha", data_dir=tmp_path)):
            pass  # the lock on the directory was given back

    asyncio.run(scenario())
