"""What a node tells the mesh of itself: where it can be dialled, and its details.

Details are flooded to everybody, so they are told again only when something in them has changed.
What changes all the time, the load of the machine, is as it was when they were written; whoever
wants it fresh asks (`mesh:ping`).
"""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING, Any

from meshcore import host
from meshcore.runtime.addresses import advertised

if TYPE_CHECKING:
    from meshcore.config import Config
    from meshcore.runtime.driver import Driver
    from meshcore.work.registry import Registry

ENVIRONMENT = "python"


class Announcing:
    """Tells through one driver; `config` and `registry` are those of its node."""

    def __init__(self, config: Config, registry: Registry, driver: Driver) -> None:
        self._config = config
        self._registry = registry
        self._driver = driver
        self._told: dict[str, Any] | None = None

    def tell_endpoints(self, bound: list[str]) -> list[str]:
        """Where we listen, as others can dial it: as configured, or the addresses bound."""
        endpoints = list(self._config.advertise) or advertised(bound)
        news = self._driver.transport.news_urls
        self._driver.mesh.set_endpoints(tuple(endpoints), news, self._driver.now())
        return endpoints

    def tell_details(self, services: dict[str, Any]) -> None:
        """What we offer and run on; nothing is said where nothing has changed."""
        if self._config.ephemeral:
            return
        content = {**self._details(), "services": services}
        if content == self._told:
            return
        self._told = content
        fresh = {**content, "host": host.with_load(content["host"])}
        self._driver.mesh.set_details(fresh, self._driver.now())
        self._driver.kick()

    def _details(self) -> dict[str, Any]:
        from meshcore import __version__

        return {
            "actions": self._registry.capabilities(),
            "max_workers": self._config.max_workers,
            "registry": self._config.registry,
            "version": __version__,
            "env": ENVIRONMENT,
            "runtime": f"{platform.python_implementation()} {platform.python_version()}",
            "host": host.describe(),
            "pid": host.pid(),
            "plugins": sorted({name.partition(":")[0] for name in self._registry.specs}),
            "organization": self._config.organization,
        }
