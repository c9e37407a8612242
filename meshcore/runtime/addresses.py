"""Where others can dial this node: the bound addresses as the rest of the mesh must know them."""

from __future__ import annotations

from collections.abc import Sequence

from meshcore import host
from meshcore.protocol.wire.limits import ENDPOINTS_MAX
from meshcore.urls import is_wildcard, parse_url


def advertised(endpoints: Sequence[str]) -> list[str]:
    """The bound URLs as others can dial them: wildcards replaced by the machine's addresses.

    Sockets of this machine's file system are told only where there is nothing else.
    """
    found: list[str] = []
    for url in endpoints:
        parsed = parse_url(url)
        if parsed.scheme != "tcp":
            continue
        if is_wildcard(parsed):
            found += [f"tcp://{address}:{parsed.port}" for address in host.dialable_addresses()]
        else:
            found.append(url)
    return found[:ENDPOINTS_MAX] or list(endpoints)[:ENDPOINTS_MAX]
