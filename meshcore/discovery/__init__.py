"""Discovery: nodes on one local network find each other without a configured peer.

What is announced is an id, a mesh and addresses; what is found is a hint whom to try, never a sign
of life, and may be a lie. How it is done is behind one small interface:

`announcement`   what is said, and what is believed of what others say
`multicast`      by multicast DNS (the extra `discovery`, package zeroconf)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from meshcore.discovery.announcement import Announcement
from meshcore.errors import ConfigError

__all__ = ["Announcement", "Discovery", "open_discovery"]


class Discovery(Protocol):
    """One way to find others. Both callbacks are called on the loop.

    `found` may be called again for a node that was found before.
    """

    found: Callable[[Announcement], None]
    lost: Callable[[Announcement], None]
    dropped: Callable[[str], None]

    async def start(self, own: Announcement) -> None:
        """Announce ourselves, where there is an address, and look for others."""

    async def announce(self, own: Announcement) -> None:
        """Our addresses have changed."""

    async def close(self) -> None:
        """Take the announcement back; twice is harmless."""


def open_discovery() -> Discovery:
    """By multicast DNS.

    Raises:
        ConfigError: the extra is not installed.
    """
    try:
        import zeroconf  # noqa: F401
    except ImportError:
        raise ConfigError(
            "discovery needs a package that is not installed:"
            " pip install meshcore-runtime[discovery]"
        ) from None
    from meshcore.discovery.multicast import MulticastDns

    return MulticastDns()
