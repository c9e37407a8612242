"""`meshctl run` around a node that exists on paper: what it prints, how signals reach it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import meshcore
from meshcore import NodeStatus
from meshcore.config import Config
from meshcore.flows import Loaded, Problem
from meshcore.paths import DataDir, socket_path
from meshcore.protocol.catalogue.records import Flow


class FakeFlows:
    """Finds in a source what its name says: `2` flows, `2-1` flows and problems."""

    def __init__(self, sources: list[str]) -> None:
        self.sources = sources
        self.loads: list[list[str]] = []
        self.loaded = self._found()

    def _found(self) -> Loaded:
        flows, problems = [], []
        for source in self.sources:
            good, _, bad = source.removesuffix(".toml").rpartition("/")[2].partition("-")
            flows += [Flow(f"x://{source}{n}") for n in range(int(good))]
            problems += [
                Problem(source, f"flows[{n}]", "url is missing") for n in range(int(bad or 0))
            ]
        return Loaded(flows, problems)

    async def load(self, sources: Any) -> Loaded:
        self.sources = list(sources)
        self.loads.append(self.sources)
        self.loaded = self._found()
        return self.loaded


class FakeNode:
    """Runs the app on a loop of its own and does `script` meanwhile."""

    script: list[Callable[[FakeNode], None]] = []  # noqa: RUF012 (one for each test)
    made: list[FakeNode] = []  # noqa: RUF012

    def __init__(self, config: Config) -> None:
        self.config = config
        self.node_id = config.node_id
        self.endpoints = [url.replace(":0", ":4711") for url in config.listen]
        self.http_url = config.http and f"http://{config.http}"
        self.peers = list(config.peers)
        self.timings: dict[str, float] = {}
        self.flows = FakeFlows(list(config.flows))
        self.registries = list(config.registries)
        self.catalogue = SimpleNamespace(set_registries=self._set_registries)
        self.told: Callable[[Any], None] | None = None
        self.changed: Callable[[Any], None] | None = None
        self.stepped: Callable[[Any], None] | None = None
        self.connectivity = SimpleNamespace(
            on_link=self._on_link,
            on_change=lambda callback: setattr(self, "changed", callback),
            on_status=lambda callback: setattr(self, "stepped", callback),
            set_timings=self._set_timings,
        )
        FakeNode.made.append(self)

    def _on_link(self, callback: Callable[[Any], None]) -> None:
        self.told = callback

    def _set_timings(self, **timings: float) -> None:
        self.timings = timings

    def _set_registries(self, urls: Any) -> None:
        self.registries = list(urls)

    def add_peer(self, url: str) -> None:
        self.peers.append(url)

    def remove_peer(self, url: str) -> None:
        self.peers.remove(url)

    def set_auto_connect(self, degree: int) -> None:
        self.auto_connect = degree

    def link(self, node_id: str, *, up: bool, reason: str = "", url: str = "") -> None:
        assert self.told is not None
        self.told(SimpleNamespace(node_id=node_id, up=up, reason=reason, url=url))

    def run(self, app: Callable[[], Any]) -> None:
        asyncio.run(self._run(app))

    async def _run(self, app: Callable[[], Any]) -> None:
        running = asyncio.ensure_future(app())
        await asyncio.sleep(0)
        for step in self.script:
            step(self)
            await asyncio.sleep(0.01)
        await asyncio.wait_for(running, 10)


def send_signal(number: int) -> Callable[[FakeNode], None]:
    return lambda node: os.kill(os.getpid(), number)


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> list[Callable[[FakeNode], None]]:
    steps: list[Callable[[FakeNode], None]] = []
    monkeypatch.setattr(FakeNode, "script", steps)
    monkeypatch.setattr(FakeNode, "made", [])
    monkeypatch.setitem(vars(meshcore), "Node", FakeNode)
    return steps


def events(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_line_says_ready_and_a_signal_leaves_with_0(
    number: int, script: Any, run: Any
) -> None:
    script.append(send_signal(number))
    done = run("run", "--id", "alpha", "--listen", "tcp://127.0.0.1:0", "--json")
    assert (done.code, done.err) == (0, "")
    ready, left = events(done.out)
    assert ready == {
        "event": "ready",
        "node_id": "alpha",
        "listen": ["tcp://127.0.0.1:4711"],
        "http": None,
        "socket": f"ipc://{socket_path('alpha')}",
        "pid": os.getpid(),
    }
    assert left == {"event": "left"}


def test_flags_reach_the_node_with_its_local_socket(script: Any, run: Any) -> None:
    script.append(send_signal(signal.SIGTERM))
    flags = ("--id", "beta", "--peer", "127.0.0.1", "--plugin", "demo", "--organization", "lab")
    assert run("run", *flags, "--max-workers", "3", "--mesh", "blue").code == 0
    config = FakeNode.made[0].config
    assert list(config.listen) == [f"ipc://{socket_path('beta')}"]
    assert list(config.peers) == ["tcp://127.0.0.1:7323"]
    assert (config.max_workers, config.mesh, config.organization) == (3, "blue", "lab")
    assert list(config.plugins) == ["demo"]
    assert (config.auto_connect, config.discovery) == (0, False)


def test_a_node_is_told_to_gather_and_to_discover(script: Any, run: Any) -> None:
    script.append(send_signal(signal.SIGTERM))
    done = run("run", "--id", "beta", "--auto-connect", "6", "--discovery")
    assert (done.code, done.err) == (0, "")
    config = FakeNode.made[0].config
    assert (config.auto_connect, config.discovery) == (6, True)
    assert run("run", "--id", "beta", "--auto-connect", "65").code == 2
    assert config.data_dir is not None
    assert config.data_dir.name == "beta"


def test_a_person_is_told_where_it_listens_and_how_to_join(script: Any, run: Any) -> None:
    script.append(send_signal(signal.SIGTERM))
    out = run("run", "--id", "alpha").out
    assert "alpha is up" in out
    assert "listens on  tcp://127.0.0.1:7323" in out
    assert "meshctl run --peer tcp://127.0.0.1:7323" in out
    assert out.endswith("alpha has left the mesh\n")


def test_links_that_come_and_go_have_a_line_with_the_reason(script: Any, run: Any) -> None:
    script.append(lambda node: node.link("beta", up=True, url="tcp://127.0.0.1:9"))
    script.append(lambda node: node.link("beta", up=False, reason="no beat for 5 s"))
    script.append(send_signal(signal.SIGTERM))
    lines = run("run", "--id", "alpha").out.splitlines()
    assert [line[10:] for line in lines if "link to" in line] == [
        "link to beta up (tcp://127.0.0.1:9)",
        "link to beta down: no beat for 5 s",
    ]
    found = events(run("run", "--id", "alpha", "--json").out)
    told_at = datetime.fromisoformat(found[2].pop("time"))
    assert abs((datetime.now(UTC) - told_at).total_seconds()) < 60
    assert found[2] == {
        "event": "link",
        "node_id": "beta",
        "up": False,
        "reason": "no beat for 5 s",
        "url": "",
    }


def test_programs_are_told_of_nodes_and_every_step_of_theirs_people_are_not(
    script: Any, run: Any
) -> None:
    step = SimpleNamespace(
        node_id="beta", old=NodeStatus.WARNING, new=NodeStatus.DEAD, reachable=False, reason="gone"
    )

    def happen(node: FakeNode) -> None:
        if node.changed is not None and node.stepped is not None:
            node.changed(SimpleNamespace(added=("beta", "gamma"), removed=()))
            node.stepped(step)
            node.changed(SimpleNamespace(added=(), removed=("beta",)))

    script.extend([happen, send_signal(signal.SIGTERM)])
    found = events(run("run", "--id", "alpha", "--json").out)[1:-1]
    assert all(datetime.fromisoformat(event.pop("time")).tzinfo for event in found)
    assert found == [
        {"event": "added", "node_id": "beta"},
        {"event": "added", "node_id": "gamma"},
        {
            "event": "status",
            "node_id": "beta",
            "old": "WARNING",
            "new": "DEAD",
            "reachable": False,
            "reason": "gone",
        },
        {"event": "removed", "node_id": "beta"},
    ]
    assert "beta" not in run("run", "--id", "alpha").out


def test_a_link_that_is_quicker_than_the_ready_line_is_told_after_it(
    script: Any, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def quick(node: FakeNode, app: Callable[[], Any]) -> None:
        node.link("beta", up=True)
        await node._run(app)

    monkeypatch.setattr(FakeNode, "run", lambda node, app: asyncio.run(quick(node, app)))
    script.append(send_signal(signal.SIGTERM))
    found = events(run("run", "--id", "alpha", "--json").out)
    assert [each["event"] for each in found] == ["ready", "link", "left"]


def test_sighup_applies_what_can_change_and_names_what_cannot(
    script: Any, run: Any, tmp_path: Path
) -> None:
    file = tmp_path / "a.toml"
    file.write_text('peers = ["tcp://127.0.0.1:1"]\nmax_workers = 5\n')

    def edit(node: FakeNode) -> None:
        file.write_text(
            'peers = ["tcp://127.0.0.1:2"]\nmax_workers = 6\nauto_connect = 4\n'
            "[timings]\nwarn = 3.0\n"
        )
        os.kill(os.getpid(), signal.SIGHUP)

    script.extend([edit, send_signal(signal.SIGHUP), send_signal(signal.SIGTERM)])
    done = run("run", "--id", "alpha", "--config", str(file), "--json")
    assert done.code == 0
    first, second = [each for each in events(done.out) if each["event"] == "configuration"]
    assert sorted(first["applied"]) == ["auto_connect", "peers", "timings.warn"]
    assert first["cannot_change"] == ["max_workers"]
    assert (second["applied"], second["cannot_change"]) == ([], ["max_workers"])
    node = FakeNode.made[0]
    assert node.peers == ["tcp://127.0.0.1:2"]
    assert node.timings["warn"] == 3.0
    assert node.auto_connect == 4


def test_sighup_with_a_broken_file_changes_nothing_and_says_why(
    script: Any, run: Any, tmp_path: Path
) -> None:
    file = tmp_path / "a.toml"
    file.write_text('peers = ["tcp://127.0.0.1:1"]\n')

    def edit(node: FakeNode) -> None:
        file.write_text("peers = 5\n")
        os.kill(os.getpid(), signal.SIGHUP)

    script.extend([edit, send_signal(signal.SIGTERM)])
    done = run("run", "--id", "alpha", "--config", str(file))
    assert done.code == 0
    assert "configuration not applied" in done.out
    assert "configuration not applied" in done.err
    assert FakeNode.made[0].peers == ["tcp://127.0.0.1:1"]


def test_a_second_node_of_one_id_is_refused(script: Any, run: Any) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(socket_path("alpha")))
        listener.listen()
        done = run("run", "--id", "alpha", "--json")
    assert done.code == 2
    assert "a node 'alpha' runs here already" in json.loads(done.out)["error"]["message"]
    assert FakeNode.made == []


def test_a_setting_without_effect_is_named(
    script: Any, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MESHCORE_DURABLE_TTL", "60")
    script.append(send_signal(signal.SIGTERM))
    done = run("run", "--id", "alpha")
    assert done.code == 0
    assert "durable_ttl has no effect in this version yet" in done.err


# -- the catalogue ---------------------------------------------------------------------------------


def test_the_flags_of_the_catalogue_reach_the_node(script: Any, run: Any) -> None:
    script.append(send_signal(signal.SIGTERM))
    flags = ("--registry", "--no-feed", "--exchange", "https://b.example", "--flows", "1.toml")
    assert run("run", "--id", "alpha", *flags, "--flows", "2.toml").code == 0
    assert run("run", "--id", "alpha", "--registry", "--feed").code == 0
    assert run("run", "--id", "alpha").code == 0
    first, second, third = [node.config for node in FakeNode.made]
    assert (first.registry, first.feed, second.feed) == (True, False, True)
    assert list(first.registries) == ["https://b.example"]
    assert list(first.flows) == ["1.toml", "2.toml"]
    assert (third.registry, third.feed, third.registries) == (False, None, ())


def test_flags_that_nobody_gave_leave_the_file_its_say(
    script: Any, run: Any, tmp_path: Path
) -> None:
    file = tmp_path / "a.toml"
    file.write_text("registry = true\nfeed = false\ndiscovery = true\ninsecure = true\n")
    script.append(send_signal(signal.SIGTERM))
    assert run("run", "--id", "alpha", "--config", str(file)).code == 0
    config = FakeNode.made[0].config
    assert (config.registry, config.feed, config.discovery, config.insecure) == (
        True,
        False,
        True,
        True,
    )


def test_feed_without_registry_cannot_be(script: Any, run: Any) -> None:
    done = run("run", "--id", "alpha", "--no-feed")
    assert done.code == 2
    assert "feed is for a node that is a registry" in done.err


def test_a_token_on_the_command_line_is_refused_with_the_way_to_give_it(
    script: Any, run: Any
) -> None:
    done = run("run", "--id", "alpha", "--http-token", "s3cret")
    assert (done.code, FakeNode.made) == (2, [])
    assert "MESHCORE_HTTP_TOKEN" in done.err
    assert "s3cret" not in done.err
    assert "--http-token" not in run("run", "--help").out


def test_the_flows_that_were_loaded_are_told_at_the_start(script: Any, run: Any) -> None:
    script.append(send_signal(signal.SIGTERM))
    done = run("run", "--id", "alpha", "--flows", "2.toml", "--flows", "1-1.toml", "--json")
    found = [each for each in events(done.out) if each["event"] == "flows"]
    assert datetime.fromisoformat(found[0].pop("time")).tzinfo
    problem = {"source": "1-1.toml", "where": "flows[0]", "reason": "url is missing"}
    assert found == [{"event": "flows", "loaded": 3, "problems": [problem]}]
    out = run("run", "--id", "alpha", "--flows", "2.toml", "--flows", "1-1.toml").out
    assert "3 flows loaded, 1 problem (see the log)\n" in out
    assert "1 flow loaded\n" in run("run", "--id", "alpha", "--flows", "1.toml").out
    assert "flow" not in run("run", "--id", "alpha").out


def test_sighup_reads_the_sources_again_also_where_the_setting_is_the_same(
    script: Any, run: Any, tmp_path: Path
) -> None:
    file = tmp_path / "a.toml"
    file.write_text('flows = ["2.toml"]\n')

    def edit(text: str) -> Callable[[FakeNode], None]:
        def change(node: FakeNode) -> None:
            file.write_text(text)
            os.kill(os.getpid(), signal.SIGHUP)

        return change

    script.extend(
        [
            send_signal(signal.SIGHUP),
            edit('flows = ["3-2.toml"]\n'),
            edit("flows = 5\n"),
            edit(""),
            send_signal(signal.SIGHUP),
            send_signal(signal.SIGTERM),
        ]
    )
    done = run("run", "--id", "alpha", "--config", str(file), "--json")
    assert done.code == 0
    told = events(done.out)
    loaded = [(e["loaded"], len(e["problems"])) for e in told if e["event"] == "flows"]
    assert loaded == [(2, 0), (2, 0), (3, 2), (0, 0)]
    here = str(tmp_path)
    assert FakeNode.made[0].flows.loads == [[f"{here}/2.toml"], [f"{here}/3-2.toml"], []]
    applied = [e["applied"] for e in told if e["event"] == "configuration"]
    assert applied == [[], ["flows"], [], ["flows"], []]


def test_sighup_changes_the_registries_to_exchange_with(
    script: Any, run: Any, tmp_path: Path
) -> None:
    file = tmp_path / "a.toml"
    file.write_text('registry = true\nregistries = ["https://b.example"]\n')

    def edit(node: FakeNode) -> None:
        assert node.registries == ["https://b.example"]
        file.write_text('registry = true\nregistries = ["https://c.example/"]\n')
        os.kill(os.getpid(), signal.SIGHUP)

    script.extend([edit, send_signal(signal.SIGTERM)])
    done = run("run", "--id", "alpha", "--config", str(file), "--json")
    [told] = [each for each in events(done.out) if each["event"] == "configuration"]
    assert (told["applied"], told["cannot_change"]) == (["registries"], [])
    assert FakeNode.made[0].registries == ["https://c.example"]


def test_reset_removes_the_catalogue_and_nothing_else(
    script: Any, run: Any, tmp_path: Path
) -> None:
    script.append(send_signal(signal.SIGTERM))
    names = ["catalogue.db", "catalogue.db-wal", "catalogue.db-shm", "catalogue.db-journal"]
    for name in [*names, "incarnation", "addresses.json"]:
        (tmp_path / name).write_text("5")
    flags = ("run", "--id", "alpha", "--data-dir", str(tmp_path), "--registry")
    assert run(*flags).code == 0
    assert (tmp_path / "catalogue.db").exists()
    assert run(*flags, "--reset").code == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "addresses.json",
        "incarnation",
        "lock",
    ]
    assert run(*flags, "--reset").code == 0


def test_reset_leaves_the_catalogue_of_a_running_node_alone(
    script: Any, run: Any, tmp_path: Path
) -> None:
    (tmp_path / "catalogue.db").write_text("5")
    with DataDir(tmp_path):
        done = run("run", "--id", "alpha", "--data-dir", str(tmp_path), "--registry", "--reset")
    assert done.code == 2
    assert "in use by pid" in done.err
    assert (tmp_path / "catalogue.db").exists()
    assert FakeNode.made == []


def test_a_catalogue_that_cannot_be_removed_is_named(script: Any, run: Any, tmp_path: Path) -> None:
    (tmp_path / "catalogue.db").mkdir()
    done = run("run", "--id", "alpha", "--data-dir", str(tmp_path), "--reset")
    assert done.code == 2
    assert str(tmp_path / "catalogue.db") in done.err
