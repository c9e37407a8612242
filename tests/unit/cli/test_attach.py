"""Which node a command talks to."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from meshcore.cli import attach
from meshcore.cli.interrupts import run_async
from meshcore.cli.options import Options
from meshcore.errors import ConfigError, UnreachableError
from meshcore.paths import runtime_dir, socket_path


class Sockets:
    """Local sockets that look like those of nodes."""

    def __init__(self) -> None:
        self._open: list[socket.socket] = []

    def live(self, node_id: str) -> Path:
        path = socket_path(node_id)
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(path))
        listener.listen()
        self._open.append(listener)
        return path

    def stale(self, node_id: str) -> Path:
        path = self.live(node_id)
        self._open.pop().close()
        return path

    def tcp(self) -> int:
        listener = socket.create_server(("127.0.0.1", 0))
        self._open.append(listener)
        return int(listener.getsockname()[1])

    def close(self) -> None:
        for each in self._open:
            each.close()


@pytest.fixture
def sockets() -> Iterator[Sockets]:
    made = Sockets()
    yield made
    made.close()


@pytest.fixture
def nothing_on_the_default_port(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setattr(attach, "_DEFAULT_URL", f"tcp://127.0.0.1:{free.getsockname()[1]}")


def test_the_one_node_that_runs_here_is_the_default(sockets: Sockets) -> None:
    path = sockets.live("alpha")
    assert attach.find(None) == attach.Target(f"ipc://{path}", "alpha")


def test_the_socket_of_a_killed_node_does_not_count(sockets: Sockets) -> None:
    sockets.stale("ghost")
    path = sockets.live("alpha")
    assert attach.find(None).url == f"ipc://{path}"


def test_several_nodes_here_are_named_and_one_must_be_chosen(sockets: Sockets) -> None:
    for node_id in ("gamma", "alpha", "beta"):
        sockets.live(node_id)
    with pytest.raises(ConfigError) as caught:
        attach.find(None)
    assert str(caught.value) == "3 nodes run here: alpha, beta, gamma; choose one with --via"


@pytest.mark.usefixtures("nothing_on_the_default_port")
def test_no_node_here_says_what_to_do(sockets: Sockets) -> None:
    sockets.stale("ghost")
    with pytest.raises(UnreachableError) as caught:
        attach.find(None)
    assert str(caught.value) == (
        "no node runs here; start one with 'meshctl run' or name one with --via"
    )


def test_without_a_local_socket_the_default_port_is_taken_if_somebody_listens(
    sockets: Sockets, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attach, "_DEFAULT_URL", f"tcp://127.0.0.1:{sockets.tcp()}")
    assert attach.find(None).url == attach._DEFAULT_URL


def test_an_id_leads_to_its_local_socket(sockets: Sockets) -> None:
    sockets.live("alpha")
    path = sockets.live("beta")
    assert attach.find("beta").url == f"ipc://{path}"


def test_the_id_of_a_killed_node_is_unreachable_at_once(sockets: Sockets) -> None:
    sockets.stale("beta")
    with pytest.raises(UnreachableError, match="beta does not run here any more"):
        attach.find("beta")


def test_a_url_is_taken_as_it_is(sockets: Sockets) -> None:
    port = sockets.tcp()
    assert attach.find(f"127.0.0.1:{port}").url == f"tcp://127.0.0.1:{port}"
    path = sockets.live("alpha")
    assert attach.find(f"ipc://{path}").url == f"ipc://{path}"


def test_a_url_where_nobody_listens_gives_the_reason(sockets: Sockets) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(UnreachableError, match=f"{url}: connection refused"):
        attach.find(url)


def test_a_name_that_is_neither_node_nor_host_says_so_and_names_who_is_here(
    sockets: Sockets, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_such_host(*what: object) -> socket.socket:
        raise socket.gaierror(-2, "Name or service not known")

    sockets.live("alpha")
    monkeypatch.setattr(attach.socket, "create_connection", no_such_host)
    with pytest.raises(UnreachableError) as caught:
        attach.find("gama")
    assert str(caught.value) == (
        "no node 'gama' runs here (only alpha), and tcp://gama:7323: no such host"
    )


def test_an_unknown_scheme_shows_the_right_form() -> None:
    with pytest.raises(ConfigError, match="tcp://host"):
        attach.find("rnp://host")


def test_a_name_server_that_does_not_answer_is_waited_for_as_long_as_allowed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answered, looked_up = threading.Event(), threading.Event()

    def silent(*what: object) -> socket.socket:
        answered.wait(30)
        looked_up.set()
        raise socket.gaierror(-2, "Name or service not known")

    async def attached() -> None:
        async with attach.session(Options(via="faraway", timeout=0.01)):
            raise AssertionError("nobody is there")

    monkeypatch.setattr(attach.socket, "create_connection", silent)
    monkeypatch.setattr(attach, "_PROBE_TIMEOUT", 0.01)
    with pytest.raises(UnreachableError, match="faraway: no answer in"):
        run_async(attached())
    answered.set()
    assert looked_up.wait(10)


def test_other_files_of_the_runtime_directory_are_no_nodes(sockets: Sockets) -> None:
    (runtime_dir() / "notes.sock").write_text("not a socket")
    sockets.live("alpha")
    assert attach.live_nodes() == ["alpha"]
