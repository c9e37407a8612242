"""What a group needs of its node: who serves what, and how to ask them.

A member of the mesh knows from the announced details. A program that is attached to a node asks
that node, and believes what it was told for a second; it watches a group by asking again and again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from typing import Any

from meshcore.errors import BusyError, MeshError, RPCConnectionError, RPCError
from meshcore.router import Router
from meshcore.services.calling import Request
from meshcore.services.directory import Directory, Members, Offer, OnChange, offer_of, tell
from meshcore.services.replicated.carrier import Post
from meshcore.services.replicated.client import ReplicatedClient

_LOG = logging.getLogger("meshcore.services")
GROUPS = "mesh:groups"
SET = "mesh:service_set"
PRIMARY = "mesh:set_primary"
FRESH = 1.0  # seconds
ASK_TIMEOUT = 3.0
POLL = 1.0  # seconds between two questions of an attached program that watches a group
FOLLOWING_MAX = 1024


class Registry:
    """Of a member of the mesh."""

    def __init__(
        self, directory: Directory, request: Request, post: Post, *, node_id: str, router: Router
    ) -> None:
        self._directory = directory
        self.request = request
        self._post = post
        self.node_id = node_id
        self._router = router
        self._clients: dict[str, ReplicatedClient] = {}

    async def refresh(self, group: str, *, now: bool = False) -> None:
        """Know who serves that group; `now`: what is known has turned out wrong."""

    def groups(self) -> list[str]:
        return self._directory.groups()

    def offers(self, group: str) -> tuple[Offer, ...]:
        return self._directory.offers(group)

    def members(self, group: str) -> Members:
        return tuple(offer.node for offer in self.offers(group) if offer.is_member)

    def subscribe(self, group: str, on_change: OnChange) -> Callable[[], None]:
        return self._directory.subscribe(group, on_change)

    def client(self, group: str) -> ReplicatedClient:
        """Calls a replicated group: one for all who call it here, it has sessions there."""
        client = self._clients.get(group)
        if client is None:
            client = self._clients[group] = ReplicatedClient(
                group,
                client=self.node_id,
                post=self._post,
                offers=lambda: self.offers(group),
                refresh=lambda: self.refresh(group, now=True),
            )
        return client

    def is_reachable(self, node: str) -> bool:
        """Whether there is a way to that node now, as far as is known here."""
        return node == self.node_id or self._router.next_hop(node) is not None

    async def set(self, group: str, node: str, settings: dict[str, Any]) -> Any:
        """Change settings of a service while it runs."""
        return await self.request(node, SET, [group, settings], timeout=ASK_TIMEOUT)

    async def close(self) -> None:
        """Tell of no more changes."""

    async def set_primary(self, group: str, node: str) -> None:
        """Have the replica on that node lead."""
        await self.refresh(group, now=True)
        leads = [offer for offer in self.offers(group) if offer.role == "primary"]
        if not leads:
            raise RPCConnectionError(f"{group} has no primary now", may_have_run=False)
        primary = max(leads, key=lambda offer: offer.term).node
        try:
            await self.request(primary, PRIMARY, [group, node], timeout=ASK_TIMEOUT)
        except MeshError as error:
            raise RPCError(str(error), node_id=primary) from error


class AttachedRegistry(Registry):
    """Of a program that is attached to a node."""

    def __init__(
        self, directory: Directory, request: Request, post: Post, *, node_id: str, router: Router
    ) -> None:
        super().__init__(directory, request, post, node_id=node_id, router=router)
        self._known: dict[str, tuple[Offer, ...]] = {}
        self._asked_at = float("-inf")
        self._following: set[asyncio.Task[None]] = set()

    async def refresh(self, group: str, *, now: bool = False) -> None:
        if not now and time.monotonic() < self._asked_at + FRESH:
            return
        via = self._router.attached_to
        if via is None:
            raise RPCConnectionError("not attached to a node yet", may_have_run=False)
        answer = await self.request(via, GROUPS, None, timeout=ASK_TIMEOUT)
        self._known = offers_of(answer)
        self._asked_at = time.monotonic()

    def is_reachable(self, node: str) -> bool:
        return self._router.attached_to is not None

    def groups(self) -> list[str]:
        return sorted(self._known)

    def offers(self, group: str) -> tuple[Offer, ...]:
        return self._known.get(group, ())

    def subscribe(self, group: str, on_change: OnChange) -> Callable[[], None]:
        if len(self._following) >= FOLLOWING_MAX:
            raise BusyError(f"{FOLLOWING_MAX} groups are watched here", may_have_run=False)
        task = asyncio.get_running_loop().create_task(self._follow(group, on_change))
        self._following.add(task)
        task.add_done_callback(self._following.discard)

        def end() -> None:
            task.cancel()

        return end

    async def _follow(self, group: str, on_change: OnChange) -> None:
        told: Members | None = None
        while True:
            try:
                await self.refresh(group, now=True)
            except MeshError as error:  # the node is away: what was known holds until it is back
                _LOG.debug("who serves %s is not known now: %s", group, error)
            else:
                members = self.members(group)
                if members != told:
                    told = members
                    tell(group, on_change, members)
            await asyncio.sleep(POLL)

    async def close(self) -> None:
        for task in list(self._following):
            task.cancel()
        await asyncio.gather(*self._following, return_exceptions=True)


def plain_offers(offers: Iterable[Offer]) -> dict[str, Any]:
    """Offers of one group by node, as `mesh:groups` tells them."""
    return {offer.node: {**offer.plain(), "alive": offer.alive} for offer in offers}


def offers_of(answer: Any) -> dict[str, tuple[Offer, ...]]:
    """What `mesh:groups` answered; what makes no sense is left out."""
    known: dict[str, list[Offer]] = {}
    if isinstance(answer, dict):
        for group, nodes in answer.items():
            for node, plain in nodes.items() if isinstance(nodes, dict) else ():
                offer = offer_of(str(node), str(group), plain)
                if offer is not None:
                    known.setdefault(str(group), []).append(offer)
    return {group: tuple(offers) for group, offers in known.items()}
