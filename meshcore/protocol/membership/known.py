"""What is remembered of one node, and the arithmetic of its silence: no decisions, no events.

The roster keeps one `KnownNode` for each node; the functions beside it answer what its record
means now. Silence counts from `silent_since`: the last sign of life that a reporter knows of, or
else the moment in which the last path was lost.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from meshcore.protocol.membership.events import NodeEntry, Reason
from meshcore.protocol.membership.timings import Timings
from meshcore.protocol.view import NodeStatus, Reach

MAJORITY_WAIT = 1.0  # seconds from the lost path until most reporters are enough
AGE_SLACK = 0.001  # ages travel rounded to milliseconds
SURELY_LOST = (Reason.GONE, Reason.SILENT)

ViewEntry: TypeAlias = tuple[str, int, int, bool, str, int]
VIEW_REMOVED = 4  # in place of a status
LEFT_MAX = 4096  # lives remembered to have left, the latest of them


@dataclass(slots=True)
class KnownNode:
    """`told` is the (life, case) of the last PeerState. `lost_at` is None while a path leads to it
    or our detector hears it; of a quiet one it is the moment in which it was found DEAD."""

    node_id: str
    incarnation: int
    life: int
    status: NodeStatus = NodeStatus.ALIVE
    reachable: bool = False
    reason: Reason = Reason.NONE
    stalled: bool = False
    stretch: float = 1.0
    reach: Reach | None = None
    own: NodeStatus | None = None  # the detector's word; DEAD: quiet; None where there is none
    direct_lost: bool = False  # the detector said DEAD, and routing has not spoken since
    told: tuple[int, str] | None = None
    lost_at: float | None = None
    silent_since: float = 0.0
    reported: bool = False  # reporters have told of its last sign of life
    view_hops: int = 0  # only for a client; otherwise the reach says it

    def forget_life(self) -> None:
        """Drop what was heard about the life that is over."""
        self.reach = self.own = self.lost_at = None
        self.reported = self.stalled = self.direct_lost = False
        self.stretch = 1.0


class LeftLives:
    """The lives that have left, so that late news of them bring nobody back."""

    def __init__(self) -> None:
        self._lives: dict[str, tuple[int, int]] = {}  # (incarnation, life)

    def __len__(self) -> int:
        return len(self._lives)

    def add(self, node_id: str, incarnation: int, life: int) -> None:
        before = self._lives.pop(node_id, (0, 0))
        self._lives[node_id] = max(before, (incarnation, life))
        if len(self._lives) > LEFT_MAX:
            del self._lives[next(iter(self._lives))]

    def is_over(self, node_id: str, incarnation: int, life: int) -> bool:
        return self._lives.get(node_id) == (incarnation, life)

    def is_older(self, node_id: str, incarnation: int) -> bool:
        """Whether a later life than this has left."""
        return incarnation < self._lives.get(node_id, (0, 0))[0]


def reason_of(node: KnownNode) -> Reason:
    """What the reporters' majority says; a tie is SILENT, the weaker claim. Our own ears first."""
    reach = node.reach
    if node.own is NodeStatus.DEAD:
        return Reason.QUIET
    if reach is None or not reach.gone + reach.silent:
        return Reason.UNREACHABLE
    return Reason.GONE if reach.gone > reach.silent else Reason.SILENT


def is_dead(node: KnownNode, timings: Timings, now: float) -> bool:
    """Whether a node without a path is DEAD: by its reporters' word, or by its silence."""
    reach = node.reach
    if reach is not None and reach.gone and not reach.silent:
        return True
    return now >= _majority_at(node) or now + AGE_SLACK >= _dead_at(node, timings)


def is_over(node: KnownNode, timings: Timings, now: float) -> bool:
    """Whether a node without a path has been silent for `remove`."""
    return now + AGE_SLACK >= _remove_at(node, timings)


def next_step_at(node: KnownNode, timings: Timings) -> float:
    """When time alone takes a node without a path one step further."""
    at = _remove_at(node, timings)
    if node.status is not NodeStatus.DEAD:
        at = min(at, _dead_at(node, timings), _majority_at(node))
    return at


def case(node: KnownNode) -> str:
    """Which case of PeerState a known node is. A quiet one may answer yet, so its work waits."""
    if node.reachable:
        return "reachable"
    if node.status is not NodeStatus.DEAD or node.reason is Reason.QUIET:
        return "held"
    return "lost" if node.reason in SURELY_LOST else "unreachable"


def entry_of(node: KnownNode) -> NodeEntry:
    """The node as applications may see it."""
    reach = node.reach if node.reach is not None and node.reach.reachable else None
    linked = 1 if node.own is not None else 0
    return NodeEntry(
        node_id=node.node_id,
        incarnation=node.incarnation,
        life=node.life,
        status=node.status,
        reachable=node.reachable,
        reason=node.reason,
        stalled=node.stalled,
        hops=reach.hops if reach is not None else node.view_hops or linked,
        cost=reach.cost if reach is not None else 0,
        next_hop=reach.next_hop if reach is not None else None,
        silent_since=node.silent_since if node.lost_at is not None and node.own is None else None,
    )


def view_entry_of(entry: NodeEntry) -> ViewEntry:
    """The entry as a View message tells it to a client."""
    status, reason = int(entry.status), str(entry.reason)
    return (entry.node_id, entry.life, status, entry.reachable, reason, entry.hops)


def parse_reason(text: str) -> Reason:
    """The reason that a View names; UNREACHABLE for a name that only a newer version knows."""
    try:
        return Reason(text)
    except ValueError:
        return Reason.UNREACHABLE


def _dead_at(node: KnownNode, timings: Timings) -> float:
    return node.silent_since + timings.dead


def _remove_at(node: KnownNode, timings: Timings) -> float:
    return _dead_at(node, timings) + (timings.remove - timings.dead) * node.stretch


def _majority_at(node: KnownNode) -> float:
    """When the reporters' majority is enough; never, while it does not say GONE."""
    if node.lost_at is None or reason_of(node) is not Reason.GONE:
        return float("inf")
    return node.lost_at + MAJORITY_WAIT
