"""What is known of the nodes that one may call: bounded, for names cost an attacker nothing."""

from __future__ import annotations

from dataclasses import dataclass

from meshcore.protocol.delivery.channel import Channel

PEERS_MAX = 32_768  # beyond it, the dead one that was learnt of first is forgotten

_LOST_TEXTS = {
    "gone": "its process has ended",
    "silent": "it fell silent",
    "left": "it left the mesh",
    "removed": "it was silent for too long",
    "restarted": "it was started again",
    "unreachable": "every way to it is lost",
}


@dataclass(frozen=True, slots=True)
class Peer:
    """What is known of a node: `dead` is "" or why it is ("gone", "silent", "left", …)."""

    life: int
    reachable: bool
    dead: str = ""


class Peers:
    """Nodes by id."""

    def __init__(self) -> None:
        self._peers: dict[str, Peer] = {}

    def __contains__(self, node_id: str) -> bool:
        return node_id in self._peers

    def get(self, node_id: str) -> Peer | None:
        return self._peers.get(node_id)

    def learn(self, node_id: str, peer: Peer) -> Peer | None:
        """Returns what was known before."""
        before = self._peers.get(node_id)
        self._peers[node_id] = peer
        if before is None and len(self._peers) > PEERS_MAX:
            dead = (each for each, known in self._peers.items() if known.dead and each != node_id)
            self._peers.pop(next(dead, node_id))
        return before

    def forget(self, node_id: str) -> None:
        self._peers.pop(node_id, None)


def ended_life(before: Peer | None, now: Peer) -> int:
    """The life that is over, now that this is known of a node; 0: none."""
    return before.life if before is not None and before.life != now.life else 0


def lost_text(channel: Channel, why: str) -> str:
    return f"{channel.address} was lost: {_LOST_TEXTS.get(why, why)}"
