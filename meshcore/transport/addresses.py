"""From an address that people write to those that sockets take: numbers, never names.

libzmq resolves names in the thread that serves every connection of the node; one slow name
server would freeze them all, and of several answers it takes the first. So names are resolved here.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Iterable
from dataclasses import replace

from meshcore.errors import ConfigError
from meshcore.urls import Url, is_wildcard


def is_numeric(url: Url) -> bool:
    """Whether no name has to be looked up to use it."""
    if url.scheme == "ipc" or is_wildcard(url):
        return True
    try:
        ipaddress.ip_address(url.host.partition("%")[0])
    except ValueError:
        return False
    return True


async def resolve(url: Url) -> tuple[Url, ...]:
    """Every numeric address of `url`, the preferred one first.

    Raises:
        OSError: the name does not resolve.
    """
    if is_numeric(url):
        return (url,)
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(url.host, url.port, type=socket.SOCK_STREAM)
    return _numeric(url, (str(entry[4][0]) for entry in found))


def resolve_to_bind(url: Url) -> Url:
    """The numeric address to bind for `url`; waits for the resolver, so only before serving.

    Raises:
        ConfigError: the name does not resolve.
    """
    if url.scheme == "tcp" and url.host == "*":
        return replace(url, host="0.0.0.0")
    if is_numeric(url):
        return url
    try:
        found = socket.getaddrinfo(url.host, url.port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise ConfigError(f"{url}: the name {url.host!r} does not resolve ({error})") from error
    numeric = _numeric(url, (str(entry[4][0]) for entry in found))
    # `localhost` is ::1 first on many machines, while peers are told 127.0.0.1 by habit.
    return next((each for each in numeric if ":" not in each.host), numeric[0])


def _numeric(url: Url, hosts: Iterable[str]) -> tuple[Url, ...]:
    return tuple(replace(url, host=host) for host in dict.fromkeys(hosts))
