"""How a node finds others beside its configured peers: what it kept on disk, and discovery.

Both only give hints to the core, which decides whom to dial and when (`protocol.membership.
gathering`). With discovery a node looks for one link at least, else for `auto_connect` of them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from meshcore.config import Config
from meshcore.discovery import Announcement, Discovery, open_discovery
from meshcore.runtime.address_book import ADDRESSES_MAX, FILE_NAME, AddressBook
from meshcore.runtime.allowed import dial_allow
from meshcore.runtime.driver import Driver

SAVE_FIRST, SAVE_INTERVAL = 2.0, 10.0  # seconds
NETWORKS_INTERVAL = 60.0  # in which the networks of the machine are looked at again


class Finding:
    """Of one node, from its start to its stop.

    Args:
        driver: of the node's core.
        config: the node's.
        open_with: how discovery is opened, where the configuration asks for it; None: as it is.
    """

    def __init__(
        self,
        driver: Driver,
        config: Config,
        *,
        open_with: Callable[[], Discovery] | None = None,
    ) -> None:
        self._driver, self._config = driver, config
        self._open_with = open_with
        self._discovery: Discovery | None = None
        self._book: AddressBook | None = None
        if config.data_dir is not None:
            self._book = AddressBook(config.data_dir / FILE_NAME, mesh=config.mesh)
        self._degree = config.auto_connect
        self._own = Announcement(driver.mesh.identity.node_id, config.mesh, ())
        self._keeping: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def degree(self) -> int:
        """Links that the core is meant to look for."""
        return max(self._degree, 1 if self._discovery is not None else 0)

    async def start(self) -> None:
        """Give the core what is known of old, and begin to look for others.

        Raises:
            ConfigError: discovery is asked for, and cannot be had here.
        """
        driver, config = self._driver, self._config
        if config.discovery and not config.ephemeral:
            self._discovery = (self._open_with or open_discovery)()
            self._discovery.found = self._on_found
            self._discovery.lost = self._on_lost
            self._discovery.dropped = driver.count
            await self._discovery.start(self._own)
        if self.degree:  # a command, and a node that dials nobody by itself, need not know
            self._look_at_networks()
        driver.mesh.set_auto_connect(self.degree, driver.now())
        if self._degree:
            self._keep()

    def set_auto_connect(self, degree: int) -> None:
        """Look for so many links from now on."""
        self._degree = degree
        if self.degree:
            self._look_at_networks()
        if degree and self._keeping is None:
            self._keep()
        self._driver.mesh.set_auto_connect(self.degree, self._driver.now())
        self._driver.flush()

    def tell_endpoints(self, endpoints: Sequence[str]) -> None:
        """Where this node can be dialled, now or from now on."""
        urls = tuple(url for url in endpoints if url.startswith("tcp://"))
        self._own = replace(self._own, urls=urls)
        if self._discovery is not None:
            self._driver.spawn(self._discovery.announce(self._own))

    async def close(self) -> None:
        """Keep what is known, take the announcement back; twice is harmless."""
        if self._closed:
            return
        self._closed = True
        if self._keeping is not None:
            self._keeping.cancel()
            await self._save()
        if self._discovery is not None:
            await self._discovery.close()

    # Discovery -------------------------------------------------------------------------------

    def _on_found(self, announcement: Announcement) -> None:
        driver = self._driver
        if announcement.mesh != self._config.mesh:
            driver.count("discovery: another mesh")
            return
        driver.mesh.on_hint(announcement.node_id, announcement.urls, driver.now())
        driver.flush()

    def _on_lost(self, announcement: Announcement) -> None:
        if announcement.mesh == self._config.mesh:
            self._driver.mesh.gathering.forget_hint(announcement.node_id)

    # Addresses that are kept -----------------------------------------------------------------

    def _keep(self) -> None:
        if self._book is not None:
            for entry in self._book.load(time.time()):
                self._driver.mesh.on_hint(entry.node_id, entry.urls, self._driver.now())
        self._keeping = self._driver.spawn(self._run())

    async def _run(self) -> None:
        looked_at = time.monotonic()
        await asyncio.sleep(SAVE_FIRST)
        while True:
            await self._save()
            await asyncio.sleep(SAVE_INTERVAL)
            if time.monotonic() - looked_at >= NETWORKS_INTERVAL:
                looked_at = time.monotonic()
                self._look_at_networks()

    def _look_at_networks(self) -> None:
        """Where learnt addresses may lead; machines move, and peers are named at run time."""
        mesh = self._driver.mesh
        dials = mesh.links.dials(self._driver.now())
        peers = [dial.url for dial in dials if dial.configured]
        mesh.set_dial_allow(dial_allow(self._config, peers))

    async def _save(self) -> None:
        if self._book is None or not self._degree:
            return
        known = self._driver.mesh.gathering.addresses(ADDRESSES_MAX, self._driver.now())
        content = self._book.update(known, time.time())
        if content is not None:  # to wait for the disk would hold up the loop
            await asyncio.to_thread(self._book.write, content)
