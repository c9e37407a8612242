"""Discovery by multicast DNS: the service `_meshcore._tcp` on the local link (RFC 6762, RFC 6763).

The name of an instance is made of our id and mesh and of random letters, so that two processes
never claim one. Whoever listens on loopback alone announces itself on loopback alone: others could
not reach it, and nothing leaves the machine.

Names that turn up are looked up one after the other by one task, from a queue with a bound, so
that a flood of announcements costs a bounded amount of our time.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Callable
from typing import Any

from zeroconf import InterfaceChoice, IPVersion, NonUniqueNameException, ServiceStateChange
from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

from meshcore.discovery.announcement import Announcement, properties_of, read
from meshcore.errors import ConfigError
from meshcore.urls import parse_url

_LOG = logging.getLogger("meshcore.discovery")
SERVICE = "_meshcore._tcp.local."
LOOPBACK = "127.0.0.1"
LOOKUP_MS = 3000
WAITING_MAX = 256  # names to look up
KNOWN_MAX = 256  # names that were found


class MulticastDns:
    """See `meshcore.discovery.Discovery`."""

    def __init__(self) -> None:
        self.found: Callable[[Announcement], None] = lambda _: None
        self.lost: Callable[[Announcement], None] = lambda _: None
        self.dropped: Callable[[str], None] = lambda _: None
        self._instance = ""
        self._dns: AsyncZeroconf | None = None
        self._browser: AsyncServiceBrowser | None = None
        self._info: AsyncServiceInfo | None = None
        self._own: Announcement | None = None
        self._names: asyncio.Queue[str] = asyncio.Queue(WAITING_MAX)
        self._known: dict[str, Announcement] = {}
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self, own: Announcement) -> None:
        self._own = own
        self._instance = f"{own.node_id[:40].replace('.', '-')}-{secrets.token_hex(6)}"
        interfaces: Any = [LOOPBACK] if own.is_of_this_machine else InterfaceChoice.All
        try:
            self._dns = AsyncZeroconf(interfaces=interfaces, ip_version=IPVersion.V4Only)
        except OSError as error:
            raise ConfigError(f"discovery: no multicast DNS here: {error.strerror}") from error
        self._browser = AsyncServiceBrowser(self._dns.zeroconf, SERVICE, handlers=[self._on_change])
        loop = asyncio.get_running_loop()
        # To claim a name takes most of a second, and the node need not wait for that.
        self._tasks = [loop.create_task(self._look_up()), loop.create_task(self._register())]

    async def announce(self, own: Announcement) -> None:
        if self._dns is None or own == self._own:
            return
        self._own = own
        await self._tasks[1]  # the first announcement is out
        if self._info is None:
            self._tasks[1] = asyncio.get_running_loop().create_task(self._register())
            return
        self._info = self._service(own)
        await (await self._dns.async_update_service(self._info))

    async def close(self) -> None:
        dns, self._dns = self._dns, None
        if dns is None:
            return
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._browser is not None:
            await self._browser.async_cancel()
        with contextlib.suppress(OSError):  # the network may be gone before us
            await dns.async_close()  # which says goodbye

    # Ourselves -------------------------------------------------------------------------------

    async def _register(self) -> None:
        assert self._dns is not None
        assert self._own is not None
        if not self._own.urls:
            return  # a node that listens nowhere finds others, and cannot be dialled
        info = self._service(self._own)
        try:
            await (await self._dns.async_register_service(info))
            self._info = info
        except (OSError, NonUniqueNameException) as error:
            _LOG.warning("this node could not be announced: %r", error)

    def _service(self, own: Announcement) -> AsyncServiceInfo:
        return AsyncServiceInfo(
            SERVICE,
            f"{self._instance}.{SERVICE}",
            port=parse_url(own.urls[0]).port,
            properties=properties_of(own),
            server=f"{self._instance}.local.",
            parsed_addresses=[LOOPBACK] if own.is_of_this_machine else None,
        )

    # Others ----------------------------------------------------------------------------------

    def _on_change(
        self, zeroconf: Any, service_type: str, name: str, state_change: ServiceStateChange
    ) -> None:
        if name.startswith(f"{self._instance}."):
            return
        if state_change is ServiceStateChange.Removed:
            gone = self._known.pop(name, None)
            if gone is not None:
                self.lost(gone)
            return
        try:
            self._names.put_nowait(name)
        except asyncio.QueueFull:
            self.dropped("discovery: too many announcements")

    async def _look_up(self) -> None:
        while True:
            name = await self._names.get()
            assert self._dns is not None
            try:
                info = AsyncServiceInfo(SERVICE, name)
                answered = await info.async_request(self._dns.zeroconf, LOOKUP_MS)
                properties = info.decoded_properties if answered else {}
            except (OSError, ValueError, UnicodeError) as error:  # odd names and bytes of strangers
                _LOG.debug("announcement %r: %r", name, error)
                properties = {}
            announcement = read(properties)
            if announcement is None:
                self.dropped("discovery: bad announcement")
                continue
            self._known.pop(name, None)
            self._known[name] = announcement
            if len(self._known) > KNOWN_MAX:
                del self._known[next(iter(self._known))]
            self.found(announcement)
