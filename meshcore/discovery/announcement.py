"""What a node announces on the local network, as the properties of a DNS-SD service.

    v=1  id=<node id>  mesh=<name>  u0=<URL>  u1=<URL> …  u7=<URL>

A property has at most 255 bytes, key and `=` included; a longer URL is left out. What others say
is checked in every part: an announcement is either whole and in order, or none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from meshcore.errors import ConfigError
from meshcore.identity import is_node_id
from meshcore.urls import is_loopback, parse_url

VERSION = "1"
URLS_MAX = 8
PROPERTY_BYTES_MAX = 255


@dataclass(frozen=True, slots=True)
class Announcement:
    """A node, its mesh, and where it can be dialled (tcp only)."""

    node_id: str
    mesh: str
    urls: tuple[str, ...]

    @property
    def is_of_this_machine(self) -> bool:
        """Whether nobody beyond this machine could do anything with it."""
        return bool(self.urls) and all(is_loopback(parse_url(url)) for url in self.urls)


def properties_of(announcement: Announcement) -> dict[str, str]:
    """As they are published."""
    properties = {"v": VERSION, "id": announcement.node_id, "mesh": announcement.mesh}
    tcp = [url for url in announcement.urls if url.startswith("tcp://")]
    fitting = [url for url in tcp if len(url.encode()) + len("u0=") <= PROPERTY_BYTES_MAX]
    properties.update({f"u{at}": url for at, url in enumerate(fitting[:URLS_MAX])})
    return properties


def read(properties: Mapping[str, str | None]) -> Announcement | None:
    """What these properties announce; None where they are none of ours, or not in order."""
    node_id, mesh = properties.get("id") or "", properties.get("mesh") or ""
    if properties.get("v") != VERSION or not is_node_id(node_id) or not is_node_id(mesh):
        return None
    urls: list[str] = []
    for at in range(URLS_MAX):
        text = properties.get(f"u{at}")
        if text is None:
            break
        try:
            url = parse_url(text)
        except ConfigError:
            return None
        if url.scheme != "tcp" or url.port == 0:
            return None
        urls.append(str(url))
    return Announcement(node_id, mesh, tuple(dict.fromkeys(urls))) if urls else None
