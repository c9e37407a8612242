"""A mesh that exists on paper only, and a way to run one command line in it."""

from __future__ import annotations

import asyncio
import io
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from meshcore.cli import attach
from meshcore.cli.main import run_cli
from meshcore.errors import MeshError, UnknownNodeError
from meshcore.payload import Payload

NODES = [
    {
        "node_id": node_id,
        "status": "ALIVE",
        "hops": hops,
        "latency_ms": hops * 0.5,
        "uptime_s": 75.0,
        "is_master": node_id == "alpha",
        "host": "box",
        "organization": None,
        "active_work": 0,
        "actions": ["demo:echo"],
    }
    for hops, node_id in enumerate(("alpha", "beta", "gamma"))
]


@dataclass
class FakeMesh:
    """What the nodes answer. An exception as an answer is raised; a function is called."""

    answers: dict[str, Any] = field(default_factory=dict)
    pongs: list[Any] = field(default_factory=list)  # one for each ping, the last one for ever
    messages: list[Any] = field(default_factory=list)
    reachable: set[str] = field(default_factory=set)
    asked: list[tuple[str, str, Any]] = field(default_factory=list)
    on_ping: Callable[[], None] | None = None
    attached: int = 0
    detached: int = 0
    values: list[Any] = field(default_factory=list)

    def answer(self, directive: str, payload: Any) -> Any:
        found = self.answers[directive]
        if callable(found) and not isinstance(found, BaseException):
            found = found(payload)
        if isinstance(found, BaseException):
            raise found
        return found


class FakeController:
    """The part of a Controller that commands use."""

    attached_to = "alpha"

    def __init__(self, mesh: FakeMesh) -> None:
        self.mesh = mesh

    async def __aenter__(self) -> FakeController:
        self.mesh.attached += 1
        return self

    async def __aexit__(self, *what: object) -> None:
        self.mesh.detached += 1

    async def wait_attached(self, timeout: float) -> None:
        if "attach" in self.mesh.answers:
            self.mesh.answer("attach", timeout)

    async def call(self, recipient: str, directive: str, payload: Any, *, timeout: float) -> Any:
        self.mesh.asked.append((recipient, directive, payload))
        return self.mesh.answer(directive, payload)

    async def ping(self, node_id: str, *, timeout: float, trace: bool = False) -> Any:
        pong = self.mesh.pongs.pop(0) if len(self.mesh.pongs) > 1 else self.mesh.pongs[0]
        if self.mesh.on_ping is not None:
            self.mesh.on_ping()
        if isinstance(pong, asyncio.Event):
            await pong.wait()
        if isinstance(pong, BaseException):
            raise pong
        return pong

    async def wait_for(self, node_id: str, *, timeout: float) -> None:
        if node_id not in self.mesh.reachable:
            raise TimeoutError(node_id)

    @asynccontextmanager
    async def stream(
        self, recipient: str, directive: str, payload: Any, *, timeout: float | None
    ) -> AsyncIterator[Any]:
        if hasattr(payload, "__aiter__"):
            payload = [chunk async for chunk in payload]
        self.mesh.asked.append((recipient, directive, payload))
        if "stream" in self.mesh.answers:
            self.mesh.answer("stream", payload)
        yield self._messages()

    async def _messages(self) -> AsyncIterator[Any]:
        for message in self.mesh.messages:
            yield message


def pong(node_id: str = "gamma", *, seconds: float = 0.00084, hops: Any = ()) -> Any:
    return SimpleNamespace(
        node_id=node_id, round_trip=seconds, active_work=[], hops=list(hops), status="ALIVE"
    )


def message(value: Any = None, *, serial: int = 0, eof: bool = False, empty: bool = False) -> Any:
    return SimpleNamespace(
        header=SimpleNamespace(
            serial=serial, code=0, eof=eof, sender="gamma", directive="demo:count"
        ),
        error=None,
        payload=Payload() if empty else Payload.of(value),
    )


def failed(error: MeshError) -> Any:
    found = message(serial=1, eof=True, empty=True)
    found.header.code = error.code
    found.error = error
    return found


@dataclass
class Result:
    code: int
    out: str
    err: str


Run = Callable[..., Result]


@pytest.fixture
def run(capsysbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run one command line: its exit code and what it printed."""

    def call(*argv: str, stdin: bytes = b"") -> Result:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        code = run_cli(argv)
        captured = capsysbinary.readouterr()
        return Result(code, captured.out.decode(), captured.err.decode())

    return call


@pytest.fixture
def mesh(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeMesh]:
    """A chain alpha, beta, gamma; commands attach to alpha, and detach whatever happens."""

    def route(payload: Any) -> Any:
        ids = [row["node_id"] for row in NODES]
        if payload not in ids:
            return UnknownNodeError(f"no node '{payload}' in the mesh of alpha (3 nodes)")
        return {"path": ids[: ids.index(payload) + 1], "cost": 300.0}

    fake = FakeMesh(answers={"mesh:nodes": NODES, "mesh:route": route}, pongs=[pong()])
    monkeypatch.setattr(attach, "find", lambda via, timeout=0.5: attach.Target("ipc:///x", "alpha"))
    monkeypatch.setattr(attach, "new_controller", lambda url: FakeController(fake))
    yield fake
    assert fake.attached == fake.detached


@pytest.fixture
def make() -> SimpleNamespace:
    """Makers of what nodes answer: `pong`, `message`, `failed`."""
    return SimpleNamespace(pong=pong, message=message, failed=failed)
