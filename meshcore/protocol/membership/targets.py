"""Targets: whose addresses a node knows, by link states and by hints.

A link state is what an origin says of itself; a hint is what was heard elsewhere, from a file or
from the local network: an address and whom it is said to lead to, never a sign of life. A hint is
good for HINT_AGE_MAX after it was last heard, and at most HINTS_MAX nodes are hinted at; the one
that was heard of longest ago gives way.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

URLS_PER_NODE = 8
HINTS_MAX = 64
HINT_AGE_MAX = 3600.0


class Target(NamedTuple):
    """A node and where it can be dialled.

    `links`: how many its link state shows; `told_at`: when that was heard.
    """

    node_id: str
    urls: tuple[str, ...]
    links: int
    reachable: bool
    told_at: float = 0.0


class Hints:
    """Addresses that were heard of by other ways than the mesh."""

    def __init__(self) -> None:
        self._hints: dict[str, tuple[tuple[str, ...], float]] = {}  # addresses, expiry

    def __len__(self) -> int:
        return len(self._hints)

    def put(self, node_id: str, urls: Iterable[str], now: float) -> bool:
        """Replaces what was hinted of the node; False where none of it can be dialled."""
        some = _dialable(urls)
        if some:
            self._hints.pop(node_id, None)
            self._hints[node_id] = (some, now + HINT_AGE_MAX)
            if len(self._hints) > HINTS_MAX:
                del self._hints[next(iter(self._hints))]
        return bool(some)

    def forget(self, node_id: str) -> None:
        self._hints.pop(node_id, None)

    def expire(self, now: float) -> None:
        for node_id in [one for one, (_, until) in self._hints.items() if until <= now]:
            del self._hints[node_id]

    def added_to(self, known: Iterable[Target]) -> list[Target]:
        """Everybody, with at most URLS_PER_NODE addresses, those of link states first."""
        hints = dict(self._hints)
        found: list[Target] = []
        for target in known:
            more, _ = hints.pop(target.node_id, ((), 0.0))
            found.append(target._replace(urls=_dialable((*target.urls, *more))))
        found += [Target(node_id, urls, 0, False) for node_id, (urls, _) in hints.items()]
        return found

    def check_invariants(self) -> None:
        assert len(self._hints) <= HINTS_MAX
        for urls, _ in self._hints.values():
            assert 0 < len(urls) <= URLS_PER_NODE


def _dialable(urls: Iterable[str]) -> tuple[str, ...]:
    """Each once. A path on another machine names something else here: only tcp can be learnt."""
    tcp = [url for url in urls if url.startswith("tcp://")]
    return tuple(dict.fromkeys(tcp))[:URLS_PER_NODE]
