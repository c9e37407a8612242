"""Which node a command talks to, and the session with it.

`find` answers the first question (`--via NODE|URL`, else the one node that runs here, else
tcp://127.0.0.1:7323). `session` attaches there as an ephemeral client, which no node lists, and
asks the node about itself and its mesh: `await session.ask("mesh:nodes")`.

A node that runs on this machine has the socket `<id>.sock` in the user's runtime directory. One
that was killed leaves its socket behind; nobody accepts there, and a plain connect() tells.
"""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from meshcore.cli.options import Options
from meshcore.errors import (
    ActionError,
    ConfigError,
    DeadlineExceededError,
    UnknownNodeError,
    UnreachableError,
)
from meshcore.identity import is_node_id
from meshcore.urls import Url, parse_url

if TYPE_CHECKING:
    from meshcore import Controller

ATTACH_TIMEOUT = 5.0  # seconds
_PROBE_TIMEOUT = 0.5  # seconds; for sockets on this machine
_DEFAULT_URL = "tcp://127.0.0.1"
NOBODY_HERE = "no node runs here; start one with 'meshctl run' or name one with --via"


@dataclass(frozen=True, slots=True)
class Target:
    """The node to attach to: its URL, and how the user knows it."""

    url: str
    name: str


class Session:
    """A client that hangs on the node `node_id`."""

    def __init__(self, controller: Controller, options: Options) -> None:
        self.controller = controller
        self.node_id: str = controller.attached_to or ""
        self.options = options

    async def ask(self, directive: str, payload: Any = None) -> Any:
        """What the node answers to a directive of the namespace `mesh`.

        Raises:
            UnknownNodeError: the node that `payload` names is not in its mesh.
            DeadlineExceededError: no answer within --timeout.
        """
        timeout = self.options.timeout or ATTACH_TIMEOUT
        try:
            return await self.controller.call(self.node_id, directive, payload, timeout=timeout)
        except ActionError as error:
            if error.remote_type == UnknownNodeError.__name__:
                raise UnknownNodeError(error.message, node_id=error.node_id) from error
            raise


@asynccontextmanager
async def session(options: Options, *, timeout: float | None = None) -> AsyncIterator[Session]:
    """Attach as the options say; leaving the block detaches.

    Args:
        options: `via` and `timeout` of the command.
        timeout: seconds to attach in; default is the command's own, at most ATTACH_TIMEOUT.

    Raises:
        ConfigError: --via is no node and no URL, or several nodes run here.
        UnreachableError: nobody answers there.
    """
    if timeout is None:
        timeout = min(options.timeout or ATTACH_TIMEOUT, ATTACH_TIMEOUT)
    target = await _find_in_background(options.via, timeout)
    async with session_at(target, options, timeout=timeout) as client:
        yield client


@asynccontextmanager
async def session_at(target: Target, options: Options, *, timeout: float) -> AsyncIterator[Session]:
    """Attach to `target`; raises UnreachableError where it does not answer in `timeout` seconds."""
    controller = new_controller(target.url)
    async with controller:
        try:
            await controller.wait_attached(timeout)
        except (TimeoutError, DeadlineExceededError) as error:
            raise UnreachableError(
                f"{target.name}: {str(error) or f'no answer in {timeout:g} s'}", may_have_run=False
            ) from error
        yield Session(controller, options)


async def _find_in_background(via: str | None, timeout: float) -> Target:
    """`find`, so that an interrupt is heard meanwhile, and a slow name server bounded.

    A daemon thread: nothing can wake it out of a look-up, and nobody should wait for it.
    """
    loop = asyncio.get_running_loop()
    found: asyncio.Future[Target] = loop.create_future()

    def settle(target: Target | None, error: Exception | None) -> None:
        if found.done():
            return
        if target is not None:
            found.set_result(target)
        elif error is not None:
            found.set_exception(error)

    def look() -> None:
        target, failure = None, None
        try:
            target = find(via, timeout=timeout)
        except Exception as error:  # whatever it is, it is the waiting command's
            failure = error
        with suppress(RuntimeError):  # the command has ended
            loop.call_soon_threadsafe(settle, target, failure)

    threading.Thread(target=look, name="find", daemon=True).start()
    try:
        return await asyncio.wait_for(found, timeout + _PROBE_TIMEOUT)
    except TimeoutError:
        raise UnreachableError(
            f"{via}: no answer in {timeout:g} s, not even where it is", may_have_run=False
        ) from None


def new_controller(url: str) -> Controller:
    """A controller that will attach to `url`; not started."""
    from meshcore import Config, Controller

    return Controller(Config(ephemeral=True, peers=(url,)))


def find(via: str | None, *, timeout: float = _PROBE_TIMEOUT) -> Target:
    """The node that `via` names, or without it the one that runs here; somebody listens there.

    Raises:
        ConfigError: `via` is no node and no URL, or several nodes run here.
        UnreachableError: nobody listens.
    """
    if via is not None:
        return _named(via, timeout)
    here = live_nodes()
    if len(here) > 1:
        raise ConfigError(f"{len(here)} nodes run here: {_some(here)}; choose one with --via")
    if here:
        return Target(str(Url("ipc", path=str(_socket_of(here[0])))), here[0])
    url = parse_url(_DEFAULT_URL)
    if _why_not(url, _PROBE_TIMEOUT) is not None:
        raise UnreachableError(NOBODY_HERE, may_have_run=False)
    return Target(str(url), str(url))


def live_nodes() -> list[str]:
    """The ids of the nodes that run on this machine under this user, sorted."""
    return [name for name, path in _sockets() if is_live(path)]


def is_live(path: Path) -> bool:
    """Whether somebody listens on the local socket `path`."""
    return _why_not(Url("ipc", path=str(path)), _PROBE_TIMEOUT) is None


def _named(via: str, timeout: float) -> Target:
    if is_node_id(via) and (path := _socket_of(via)).exists():
        url = Url("ipc", path=str(path))
        if (reason := _why_not(url, _PROBE_TIMEOUT)) is not None:
            raise UnreachableError(
                f"{via} does not run here any more: its socket {path}: {reason}",
                node_id=via,
                may_have_run=False,
            )
        return Target(str(url), via)
    url = parse_url(via, key="--via")
    if (reason := _why_not(url, timeout)) is not None:
        short = "/" not in via and ":" not in via
        first = f"no node '{via}' runs here{_others()}, and " if short else ""
        raise UnreachableError(f"{first}{url}: {reason}", may_have_run=False)
    return Target(str(url), via)


def _others() -> str:
    here = live_nodes()
    return f" (only {_some(here)})" if here else ""


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:8])
    return shown if len(names) <= 8 else f"{shown} and {len(names) - 8} more"


def _socket_of(node_id: str) -> Path:
    from meshcore.paths import socket_path

    return socket_path(node_id)


def _sockets() -> Iterator[tuple[str, Path]]:
    from meshcore.paths import runtime_dir

    for path in sorted(runtime_dir().glob("*.sock")):
        if is_node_id(path.stem) and path.is_socket():
            yield path.stem, path


def _why_not(url: Url, timeout: float) -> str | None:
    """None if somebody accepts connections there, else the reason. Waits at most `timeout`."""
    try:
        with _connected(url, timeout):
            return None
    except TimeoutError:
        return f"no answer in {timeout:g} s"
    except socket.gaierror:
        return "no such host"
    except OSError as error:
        return (error.strerror or str(error)).lower()


@contextmanager
def _connected(url: Url, timeout: float) -> Iterator[None]:
    if url.scheme == "tcp":
        host = "127.0.0.1" if url.host == "*" else url.host
        with socket.create_connection((host, url.port), timeout):
            yield
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(timeout)
        probe.connect(url.path)
        yield


class Patience:
    """A deadline that several waits share."""

    def __init__(self, seconds: float) -> None:
        self._until = time.monotonic() + seconds

    @property
    def left(self) -> float:
        """Seconds, 0 when it is over."""
        return max(0.0, self._until - time.monotonic())
