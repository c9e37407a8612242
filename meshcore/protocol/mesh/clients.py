"""The ephemeral clients that are attached to this node, and what they are told.

A client is no node: it has an address `node~nonce` and learns from its node whom there is (View):
everybody when it attaches, then only what changes, gathered per turn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from meshcore.protocol.machine import Send
from meshcore.protocol.membership.events import Reason
from meshcore.protocol.membership.known import view_entry_of
from meshcore.protocol.membership.roster import Roster
from meshcore.protocol.wire.control import View

ENTRIES_MAX = 2000  # in one View message
REMOVED = 4  # the status of an entry that is no longer known


class Clients:
    def __init__(self, roster: Roster, emit: Callable[[Any], None]) -> None:
        self._roster, self._emit = roster, emit
        self._addresses: dict[int, str] = {}  # by link
        self.changed: dict[str, str] = {}  # to be told: node id -> why, if it was removed
        self._master, self._told_master = "", ""

    def __len__(self) -> int:
        return len(self._addresses)

    def __contains__(self, link: int) -> bool:
        return link in self._addresses

    def address_of(self, link: int) -> str:
        return self._addresses[link]

    def attach(self, link: int, address: str) -> None:
        """A new client: it is told of everybody."""
        self._addresses[link] = address
        entries = [view_entry_of(entry) for entry in self._roster.nodes()]
        self._send(link, entries, reset=True)

    def detach(self, link: int) -> str | None:
        """The address of the client whose link is gone; None where it was a node's."""
        return self._addresses.pop(link, None)

    def note(self, node_ids: Iterable[str], removed: str = "") -> None:
        """These nodes have changed; `removed`: why they are no longer known."""
        for node_id in node_ids:
            if removed or node_id not in self.changed:  # a reason of this turn stands
                self.changed[node_id] = removed

    def set_master(self, master: str | None) -> None:
        """Another node is master: it is told with what changes in this turn."""
        self._master = master or ""

    @property
    def is_due(self) -> bool:
        """Whether there is something to tell."""
        return bool(self.changed) or self._master != self._told_master

    def tell(self) -> None:
        """The end of a turn: tell what has changed."""
        if not self.is_due:
            return
        changed, self.changed = self.changed, {}
        self._told_master = self._master
        if not self._addresses:
            return
        entries = []
        for node_id, removed in changed.items():
            entry = self._roster.get(node_id)
            if entry is None:
                if self._roster.holder(node_id) is not None:  # its way has changed, no more
                    removed = Reason.QUIET.value
                entries.append((node_id, 0, REMOVED, False, removed, 0))
            else:
                entries.append(view_entry_of(entry))
        for link in self._addresses:
            self._send(link, entries, reset=False)

    def _send(self, link: int, entries: list[Any], *, reset: bool) -> None:
        for start in range(0, max(1, len(entries)), ENTRIES_MAX):
            part = tuple(entries[start : start + ENTRIES_MAX])
            self._emit(Send(link, View(reset and start == 0, part, self._master)))
