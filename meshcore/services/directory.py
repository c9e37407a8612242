"""Which nodes serve which group, as the mesh says.

Every node announces what it serves in its details, so each member of the mesh knows all groups
without asking. A node that is dead or cannot be reached serves nothing; a service that does not
answer is announced as such, and is no member until it does. Whoever subscribes gets the present
members first, then every change.
"""

from __future__ import annotations

import difflib
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from meshcore.protocol.membership import events
from meshcore.protocol.mesh import DetailsChanged, Mesh
from meshcore.protocol.view import NodeStatus

_LOG = logging.getLogger("meshcore.services")
_NODE_EVENTS = (
    events.Added, events.Removed, events.Lost, events.StatusChanged, events.Restarted,
    DetailsChanged,
)  # fmt: skip

Members = tuple[str, ...]
OnChange = Callable[[Members], None]


@dataclass(frozen=True, slots=True)
class Offer:
    """What one node announces of one group.

    `replication` is none, active or passive; `replica`, `gid`, `role`, `term` and `state` are those
    of its replica, where it has one. `alive`: its node is there.
    """

    node: str
    group: str
    kind: str
    replication: str
    replicas: int
    answering: bool
    state: str
    role: str
    term: int
    replica: str | None
    gid: str | None
    readonly: tuple[str, ...]
    methods: tuple[str, ...] = ()
    alive: bool = True

    @property
    def is_member(self) -> bool:
        """Whether it can be called."""
        return self.alive and self.answering

    def plain(self) -> dict[str, Any]:
        """As it is announced, and told to clients."""
        return {
            "class": self.kind,
            "replication": self.replication,
            "replicas": self.replicas,
            "answering": self.answering,
            "state": self.state,
            "role": self.role,
            "term": self.term,
            "replica": self.replica,
            "gid": self.gid,
            "readonly": list(self.readonly),
            "methods": list(self.methods),
        }


def offer_of(node: str, group: str, plain: Any, *, alive: bool = True) -> Offer | None:
    """The offer that somebody announces; None where it is none."""
    if not isinstance(plain, dict):
        return None
    try:
        return Offer(
            node, group, str(plain["class"]), str(plain["replication"]), int(plain["replicas"]),
            plain["answering"] is True, str(plain["state"]), str(plain["role"]),
            int(plain["term"]), _text(plain["replica"]), _text(plain["gid"]),
            tuple(str(name) for name in plain["readonly"]),
            tuple(sorted(str(name) for name in plain.get("methods") or ())), alive,
        )  # fmt: skip
    except (KeyError, TypeError, ValueError, OverflowError):
        return None


def added(node: str, group: str) -> Offer:
    """What is known of a member that somebody added by hand."""
    return Offer(node, group, "", "none", 1, True, "added", "member", 0, None, None, ())


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


class Directory:
    """Of the node whose core this is."""

    def __init__(self, mesh: Mesh) -> None:
        self._mesh = mesh
        self._by_node: dict[str, dict[str, Offer]] = {}
        self._subscribers: dict[str, dict[int, OnChange]] = {}
        self._number = 0
        self._offers: dict[str, tuple[Offer, ...]] = {}  # by group, as long as nothing changes
        self.on_offers: Callable[[Iterable[str]], None] = lambda groups: None
        self.on_gone: Callable[[str], None] = lambda node: None

    def dispatch(self, event: Any) -> None:
        """Follow the mesh."""
        if isinstance(event, _NODE_EVENTS):
            self.look(event.node_id)

    def look(self, node: str) -> None:
        """See what a node serves now."""
        entry = self._mesh.roster.get(node)
        alive = entry is not None and entry.status is not NodeStatus.DEAD
        own = node == self._mesh.identity.node_id
        details = self._mesh.own.details if own else None
        if not own:
            held = self._mesh.details_of.get(node)
            details = None if held is None else held.content
        announced = (details or {}).get("services")
        found: dict[str, Offer] = {}
        if (alive or own) and isinstance(announced, dict):
            for group, plain in announced.items():
                offer = offer_of(node, str(group), plain)
                if offer is not None:
                    found[offer.group] = offer
        before = self._by_node.get(node, {})
        if found == before:
            return
        changed = sorted({g for g in (*before, *found) if before.get(g) != found.get(g)})
        members = {group: self.members(group) for group in changed}
        for group in changed:
            self._offers.pop(group, None)
        if found:
            self._by_node[node] = found
        else:
            self._by_node.pop(node, None)
            self.on_gone(node)
        self.on_offers(changed)
        for group in changed:
            now = self.members(group)
            if now != members[group]:
                self._tell(group, now)

    def groups(self) -> list[str]:
        """The names of all groups that anybody serves."""
        return sorted({group for offers in self._by_node.values() for group in offers})

    def offers(self, group: str) -> tuple[Offer, ...]:
        """Who serves that group, whether it answers or not, by node."""
        offers = self._offers.get(group)
        if offers is None:
            found = [offers[group] for offers in self._by_node.values() if group in offers]
            offers = tuple(sorted(found, key=lambda offer: offer.node))
            if found:
                self._offers[group] = offers
        return offers

    def members(self, group: str) -> Members:
        """The nodes that can be called."""
        return tuple(offer.node for offer in self.offers(group) if offer.is_member)

    def subscribe(self, group: str, on_change: OnChange) -> Callable[[], None]:
        """Tell the present members, then every change; returns what ends that."""
        self._number += 1
        number = self._number
        self._subscribers.setdefault(group, {})[number] = on_change
        on_change(self.members(group))

        def end() -> None:
            subscribers = self._subscribers.get(group, {})
            subscribers.pop(number, None)
            if not subscribers:
                self._subscribers.pop(group, None)

        return end

    def _tell(self, group: str, members: Members) -> None:
        for on_change in list(self._subscribers.get(group, {}).values()):
            tell(group, on_change, members)


def tell(group: str, on_change: OnChange, members: Members) -> None:
    """Call a subscriber; whatever it raises is logged."""
    try:
        on_change(members)
    except Exception:
        _LOG.exception("a subscriber of group %s failed", group)


def close_to(group: str, groups: Iterable[str]) -> str:
    """`; did you mean …?`, where a group has a name like that."""
    close = difflib.get_close_matches(group, list(groups), n=1)
    return f"; did you mean {close[0]}?" if close else ""
