"""Where learnt addresses may lead: a peer that names addresses must not send us anywhere it likes.

Addresses are compared, names are not resolved: a name is allowed only where it was configured.
"""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Callable, Iterable

from meshcore import host
from meshcore.config import Config
from meshcore.errors import ConfigError
from meshcore.urls import is_wildcard, parse_url

REMEMBERED = 4096  # answers


def dial_allow(config: Config, peers: Iterable[str] = ()) -> Callable[[str], bool]:
    """By the setting `dial_allow`, or by the machine's networks as they are now.

    `peers`: those that were named while the node runs, beside the configured ones.
    """
    if config.dial_allow:
        return allowing(config.dial_allow, ())
    named = [parse_url(url).host for url in (*config.peers, *peers)]
    return allowing(host.networks(), ["localhost", *(name for name in named if name)])


def allowing(networks: Iterable[str], hosts: Iterable[str]) -> Callable[[str], bool]:
    """Whether a URL leads to an address in one of these networks, or to one of these hosts."""
    within = [ipaddress.ip_network(text, strict=False) for text in networks]
    named = frozenset(hosts)

    @functools.lru_cache(maxsize=REMEMBERED)
    def allowed(url: str) -> bool:
        try:
            parsed = parse_url(url)
        except ConfigError:
            return False
        if parsed.scheme != "tcp" or parsed.port == 0 or is_wildcard(parsed):
            return False
        if parsed.host in named:
            return True
        try:
            address = ipaddress.ip_address(parsed.host)
        except ValueError:
            return False
        if address.is_multicast or address.is_unspecified:
            return False
        mapped = getattr(address, "ipv4_mapped", None)  # ::ffff:10.0.0.1 is 10.0.0.1
        return any((mapped or address) in network for network in within)

    return allowed
