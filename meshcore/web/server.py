"""Runs the web application in the event loop of the node, on a socket of our own.

uvicorn's own server would take over the signals of the process and wake up ten times a second; what
is used of it is its HTTP protocol, one object per connection.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import platform
import socket
from dataclasses import replace

import uvicorn
from uvicorn.server import ServerState

from meshcore.errors import ConfigError
from meshcore.urls import Url, is_wildcard, parse_url
from meshcore.web.access import Access
from meshcore.web.app import make_app
from meshcore.web.connections import HEAD_BYTES_MAX, IDLE_TIMEOUT, Connection
from meshcore.web.interface import Site
from meshcore.web.partners import Partners

_LOG = logging.getLogger("meshcore.web")
BACKLOG = 128
TURNS_MAX = 100
CLOSE_TIMEOUT = 2.0  # seconds for answers that are under way when the node stops


class WebServer:
    """The web server of one node; `url` is where it is reached from this machine, once started."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._state = ServerState()
        self._server: asyncio.Server | None = None
        self.url: str | None = None

    async def start(self) -> None:
        """Serving when it returns; the catalogue knows by then where, and how to reach others.

        Raises:
            ConfigError: the address cannot be used.
        """
        settings = self._site.config
        if settings.http is None:
            raise ConfigError("http: no address is set")
        wanted = parse_url(settings.http, key="http")
        listening = _bind(wanted)
        bound = replace(wanted, port=listening.getsockname()[1])
        loop = asyncio.get_running_loop()
        try:
            config = uvicorn.Config(
                make_app(self._site, Access(settings, bound)),
                http=Connection,
                ws="none",
                lifespan="off",
                interface="asgi3",
                log_config=None,
                proxy_headers=False,
                server_header=False,
                workers=1,  # not what WEB_CONCURRENCY says to other programs
                timeout_keep_alive=IDLE_TIMEOUT,
                h11_max_incomplete_event_size=HEAD_BYTES_MAX,
            )
            config.load()
            self._server = await loop.create_server(
                lambda: Connection(config, self._state, {}), sock=listening, backlog=BACKLOG
            )
        except BaseException:
            listening.close()
            raise
        self.url = _http(replace(bound, host="127.0.0.1") if is_wildcard(bound) else bound)
        told = settings.http_url
        if told is None:
            told = _http(replace(bound, host=platform.node()) if is_wildcard(bound) else bound)
        self._site.catalogue.use_http(told, Partners(settings.http_token).carry)

    async def stop(self) -> None:
        """Answer what is under way, within a bound, and close everything; twice is harmless."""
        server, self._server = self._server, None
        if server is None:
            return
        server.close()
        connections, tasks = self._state.connections, self._state.tasks
        for connection in list(connections):
            connection.shutdown()
        if tasks:
            await asyncio.wait(list(tasks), timeout=CLOSE_TIMEOUT)
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for connection in list(connections):
            connection.transport.abort()
        for _ in range(TURNS_MAX):  # aborting takes one turn of the loop
            if not connections:
                break
            await asyncio.sleep(0)
        await server.wait_closed()


def _http(url: Url) -> str:
    return str(url).replace("tcp://", "http://", 1)


def _bind(wanted: Url) -> socket.socket:
    """A bound socket.

    Raises:
        ConfigError: the address cannot be used; the text names it and what can be done.
    """
    host = "0.0.0.0" if wanted.host == "*" else wanted.host
    try:
        found = socket.getaddrinfo(
            host, wanted.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except OSError as error:
        text = f"{_http(wanted)}: the name {host!r} does not resolve ({error})"
        raise ConfigError(text) from error
    # `localhost` is ::1 first on many machines, while others use 127.0.0.1 by habit.
    family, kind, protocol, _, address = min(found, key=lambda each: each[0] != socket.AF_INET)
    listening = socket.socket(family, kind, protocol)
    try:
        listening.setblocking(False)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, host != "::")
        listening.bind(address)
        listening.listen(BACKLOG)  # now, so that an address in use is told here
    except OSError as error:
        listening.close()
        raise ConfigError(_explain(wanted, error.errno or 0)) from error
    return listening


def _explain(wanted: Url, code: int) -> str:
    url, address = _http(wanted), str(wanted).removeprefix("tcp://")
    if code == errno.EADDRINUSE:
        other = str(replace(wanted, port=0)).removeprefix("tcp://")
        return f"{url}: address in use by another process; choose --http {other} or stop it"
    if code == errno.EADDRNOTAVAIL:
        return f"{url}: this machine has no such address; choose one of its own"
    if code in (errno.EACCES, errno.EPERM):
        return f"{url}: permission denied; choose a port above 1023"
    return f"{url}: cannot listen at {address}: {os.strerror(code)}"
