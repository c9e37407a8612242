"""One link per pair: the links between this node and one life of a peer, and which of them stays.

Intuition: both ends may dial at once, and one end may dial again before the other has noticed that
the old connection is dead. Both ends rank all links of the pair alike, from what both know: whose
dial it was and its nonce. Each end moves to the best link on which it has heard a beat, and gives
up a worse one only after a beat on the better that is *younger* than the worse one's handshake. So
no end gives up its last working link for one that is already dead, and both end on the same one.

Rank: the dial of the smaller node id; of two dials by one node, the greater nonce.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum

from meshcore.protocol.wire.control import Hello, Welcome


class LinkState(Enum):
    """The life of a link; it is forgotten when it is closed."""

    CONNECTING = "connecting"  # dialled, no connection yet
    GREETING = "greeting"  # dialled: HELLO sent
    SILENT = "silent"  # accepted, no HELLO yet
    ASKING = "asking"  # the peer presented itself; we ask whether its id lives elsewhere
    GREETED = "greeted"  # HELLO and WELCOME have passed
    UP = "up"  # and a beat was heard


_NEXT = {
    LinkState.CONNECTING: (LinkState.GREETING,),
    LinkState.GREETING: (LinkState.ASKING, LinkState.GREETED),
    LinkState.SILENT: (LinkState.ASKING, LinkState.GREETED),
    LinkState.ASKING: (LinkState.GREETED,),
    LinkState.GREETED: (LinkState.UP,),
    LinkState.UP: (),
}


@dataclass(slots=True)
class Link:
    """One connection bundle. Turns number the inputs of the machine, finer than any clock."""

    number: int
    dialled: bool
    url: str | None
    state: LinkState
    since: float
    hello_nonce: int = 0  # of the dialler: both ends know it
    own_nonce: int = 0
    peer: Hello | Welcome | None = None
    client_address: str | None = None
    greeted_turn: int = 0
    beat_turn: int = 0  # of the youngest beat; 0 = none was heard

    def become(self, state: LinkState) -> None:
        assert state in _NEXT[self.state], f"link {self.number}: {self.state} to {state}"
        self.state = state

    @property
    def is_client(self) -> bool:
        """Whether an ephemeral client is at the other end."""
        return self.client_address is not None and not self.dialled

    @property
    def is_admitted(self) -> bool:
        """Whether the handshake has passed, so that other messages may come."""
        return self.state in (LinkState.GREETED, LinkState.UP)


@dataclass(slots=True)
class Pair:
    """The admitted links to one life of a peer; `current` is the one that serves."""

    node_id: str
    life: int
    smaller_dials: bool  # whether our own id is the smaller, so that our own dials win
    links: dict[int, Link] = field(default_factory=dict)
    current: Link | None = None

    @property
    def incarnation(self) -> int:
        """The greatest that this life has presented itself with."""
        peers = (link.peer for link in self.links.values())
        return max(peer.incarnation for peer in peers if peer is not None)

    def rank(self, link: Link) -> tuple[bool, int]:
        return (link.dialled == self.smaller_dials, link.hello_nonce)

    def best_heard(self) -> Link | None:
        return self._best(lambda link: link.state is LinkState.UP)

    def best(self) -> Link | None:
        return self._best(lambda _link: True)

    def losers(self, winner: Link) -> list[Link]:
        """What `winner` makes superfluous: worse, and greeted before its youngest beat."""
        return [
            link
            for link in self.links.values()
            if self.rank(link) < self.rank(winner) and link.greeted_turn < winner.beat_turn
        ]

    def has_nonce(self, link: Link) -> bool:
        """Whether another link of the pair has this rank: nonces are never used twice."""
        return any(
            other is not link and self.rank(other) == self.rank(link)
            for other in self.links.values()
        )

    def _best(self, eligible: Callable[[Link], bool]) -> Link | None:
        return max(filter(eligible, self.links.values()), key=self.rank, default=None)
