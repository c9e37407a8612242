"""Binding an address: a ROUTER and its two news sockets, with errors that say what to do.

libzmq takes an ipc path away from a process that still listens on it; so the path is tried first,
and removed only when nobody answers.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass, replace

import zmq

from meshcore.errors import ConfigError
from meshcore.transport.addresses import resolve_to_bind
from meshcore.transport.hub import Hub, Socket
from meshcore.transport.link import TOPICS
from meshcore.transport.listener import Listener
from meshcore.transport.news import Publisher, Subscriber
from meshcore.transport.options import new_socket
from meshcore.urls import Url, parse_url


@dataclass(slots=True)
class Binding:
    """What `listen` made: the ports of one address, and the ipc paths to remove at the end."""

    url: Url
    listener: Listener
    publisher: Publisher | None = None
    subscriber: Subscriber | None = None
    paths: tuple[str, ...] = ()

    def close(self, linger: float) -> None:
        for port in (self.subscriber, self.publisher, self.listener):
            if port is not None:
                port.close(linger)
        for path in self.paths:
            _unlink(path)


def bind(hub: Hub, text: str, *, numbers: Iterator[int], news: bool) -> Binding:
    """Bind `text` and, where `news`, an XPUB and a SUB beside it.

    Raises:
        ConfigError: the address cannot be used; the text names it and what can be done.
    """
    wanted = parse_url(text, key="listen")
    numeric = resolve_to_bind(wanted)
    sockets: list[Socket] = []
    try:
        router, port = _bind(hub, zmq.ROUTER, numeric, "mesh", shown=wanted, sockets=sockets)
        bound = replace(wanted, port=port)
        beside: list[Url] = []
        if news:
            for kind, suffix in ((zmq.XPUB, ".xpub"), (zmq.SUB, ".sub")):
                url = replace(numeric, port=0)
                if url.scheme == "ipc":
                    url = replace(url, path=url.path + suffix)
                _, port = _bind(hub, kind, url, "news", shown=url, sockets=sockets)
                beside.append(replace(url, port=port))
    except BaseException:
        for each in sockets:
            each.close(0)
        raise
    listener = Listener(hub, router, url=str(bound), numbers=numbers)
    binding = Binding(bound, listener)
    if news:
        listener.news_urls = tuple(str(url) for url in beside)
        binding.publisher = Publisher(hub, sockets[1])
        binding.subscriber = Subscriber(hub, sockets[2])
    binding.paths = tuple(url.path for url in (bound, *beside) if url.scheme == "ipc")
    return binding


def _bind(
    hub: Hub, kind: int, url: Url, role: str, *, shown: Url, sockets: list[Socket]
) -> tuple[Socket, int]:
    """A bound socket, also appended to `sockets`, and its port (0 for ipc)."""
    made = new_socket(hub.context, kind, ipv6=":" in url.host)
    sockets.append(made)
    if kind == zmq.SUB:
        for topic in TOPICS:
            made.setsockopt(zmq.SUBSCRIBE, topic)
    if hub.secure is not None:
        hub.secure(made, role, url)
    if url.scheme == "ipc":
        _make_room(url, shown)
    try:
        made.bind(str(url))
    except zmq.ZMQError as error:
        raise ConfigError(_explain(shown, error.errno or 0)) from error
    if url.scheme == "ipc":
        os.chmod(url.path, 0o600)
        return made, 0
    endpoint = str(made.getsockopt_string(zmq.LAST_ENDPOINT))
    return made, int(endpoint.rpartition(":")[2])


def _make_room(url: Url, shown: Url) -> None:
    """Remove the socket file of a process that is gone.

    Raises:
        ConfigError: somebody listens there, or it is no socket.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as trial:
        trial.setblocking(False)
        code = trial.connect_ex(url.path)
    if code in (0, errno.EAGAIN, errno.EINPROGRESS):  # EAGAIN: alive, with a full backlog
        raise ConfigError(_explain(shown, errno.EADDRINUSE))
    if code == errno.ECONNREFUSED:
        _unlink(url.path)
    elif code != errno.ENOENT:
        raise ConfigError(_explain(shown, code))


def _explain(url: Url, code: int) -> str:
    if code == errno.EADDRINUSE:
        other = replace(url, port=0) if url.scheme == "tcp" else "ANOTHER PATH"
        return f"{url}: address in use by another process; choose --listen {other} or stop it"
    if code == errno.EADDRNOTAVAIL:
        return (
            f"{url}: this machine has no such address; choose one of its own or tcp://0.0.0.0:PORT"
        )
    if code in (errno.EACCES, errno.EPERM):
        return f"{url}: permission denied; choose a port above 1023 or a path of your own"
    if code in (errno.ENOENT, errno.ENOTDIR):
        return f"{url}: the directory does not exist; make it first"
    return f"{url}: cannot listen there: {zmq.strerror(code)}"


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return
