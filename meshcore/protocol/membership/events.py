"""What the detector and the roster say; both use these, so neither imports the other.

The detector says EdgeChanged and EdgeRemoved (what our own link state must advertise), then
NeighbourStatus (for the roster), BeatDue, Paused, and the common Probe. The roster says Added,
Removed, StatusChanged and Restarted (for the application), Lost and PeerState (for the others).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from meshcore.protocol.view import NodeStatus
from meshcore.protocol.wire.records import DownReason, EdgeState


class Reason(StrEnum):
    """Why a node is not reachable, DEAD, or removed."""

    NONE = ""
    GONE = "gone"  # its process has ended, says a last neighbour
    SILENT = "silent"  # a last neighbour hears nothing of it; it may live
    UNREACHABLE = "unreachable"  # nobody who was linked to it can be asked
    QUIET = "quiet"  # over our own connection to it, which is whole, we hear nothing; it may live
    LEFT = "left"  # it said that it leaves
    REMOVED = "removed"  # forgotten by age (only in PeerState)


@dataclass(frozen=True, slots=True)
class EdgeChanged:
    """Our end of the link to `node_id`, as it must now stand in our link state.

    `reason` and `age` (seconds of silence, at most `dead`) matter only for DOWN. The reason is
    NONE where the link was closed on purpose: nobody concludes from that. `life` is the one that
    the link leads or led to.
    """

    node_id: str
    state: EdgeState
    reason: DownReason = DownReason.NONE
    age: float = 0.0
    life: int = 0


@dataclass(frozen=True, slots=True)
class EdgeRemoved:
    """The edge has been DOWN for `remove`, or its node left: take it out of our link state."""

    node_id: str


@dataclass(frozen=True, slots=True)
class NeighbourStatus:
    """A neighbour's status by its silence; DEAD means that its connection is lost, or `quiet`.

    `old` and `new` are equal where only the rest has changed. `quiet`: DEAD by our timings alone,
    its connection is whole. `stretch` (1 to 8) is how much a lagging loop, its own or ours,
    prolonged our patience.
    """

    node_id: str
    incarnation: int
    life: int
    old: NodeStatus
    new: NodeStatus
    stalled: bool = False
    quiet: bool = False
    stretch: float = 1.0


@dataclass(frozen=True, slots=True)
class BeatDue:
    """Publish a beat now; `lag` (seconds) is what it says of our loop."""

    lag: float = 0.0


@dataclass(frozen=True, slots=True)
class Paused:
    """Our own process did not run for `duration` seconds, which must age nobody."""

    duration: float


@dataclass(frozen=True, slots=True)
class Added:
    """A node is known from now on (again, if it had been removed): ALIVE until said otherwise."""

    node_id: str
    incarnation: int
    life: int


@dataclass(frozen=True, slots=True)
class Removed:
    """A node is forgotten: it left, or was not reachable for `remove`.

    With the reason QUIET it is only not listed any more: its connection is whole, so what is
    remembered of it stays, until it is heard again (Added) or its connection ends (Lost).
    """

    node_id: str
    reason: Reason


@dataclass(frozen=True, slots=True)
class Lost:
    """A node that was removed as QUIET is forgotten for good; applications have heard of that."""

    node_id: str
    reason: Reason


@dataclass(frozen=True, slots=True)
class StatusChanged:
    """`old` and `new` differ; `reachable` and `reason` are those that go with `new`."""

    node_id: str
    old: NodeStatus
    new: NodeStatus
    reachable: bool
    reason: Reason


@dataclass(frozen=True, slots=True)
class Restarted:
    """The node came back as a new life; what was in flight to `old_life` is over."""

    node_id: str
    old_life: int
    life: int
    incarnation: int


@dataclass(frozen=True, slots=True)
class PeerState:
    """What delivery must know of a recipient, said only when one of four cases becomes another.

    Reachable; not reachable, but not DEAD or only quiet (`dead_reason` None); surely lost (GONE,
    SILENT, LEFT, REMOVED); DEAD as far as anybody can tell (UNREACHABLE). A new `life` is always
    said.
    """

    node_id: str
    life: int
    reachable: bool
    dead_reason: Reason | None = None


@dataclass(frozen=True, slots=True)
class NodeEntry:
    """A known node, frozen. `cost` is in microseconds; `hops` 0 and `next_hop` None: no path.

    `silent_since`: monotonic seconds from which `dead` and `remove` count; None while reachable,
    and of a quiet neighbour, whose age the detector knows.
    """

    node_id: str
    incarnation: int
    life: int
    status: NodeStatus
    reachable: bool
    reason: Reason = Reason.NONE
    stalled: bool = False
    hops: int = 0
    cost: int = 0
    next_hop: str | None = None
    silent_since: float | None = None
