"""What the simulated network is made of: wires with two ends, and the conditions on them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from meshcore.sim.process import Process


@dataclass(frozen=True, slots=True)
class Conditions:
    """How the network behaves; times in seconds, shares from 0 to 1.

    `delay` and `jitter`: one way, each direction of a wire draws its own delay between half and all
    of it. `duplicate_after`: a doubled packet comes again within this time. `bytes_per_second` of
    each lane; 0 = as fast as can be. `has_news`: False where a firewall hides the PUB/SUB ports.
    """

    delay: float = 0.001
    jitter: float = 0.0005
    news_loss: float = 0.0
    news_reorder: float = 0.0
    packet_loss: float = 0.0
    duplication: float = 0.0
    duplicate_after: float = 0.3
    bytes_per_second: float = 0.0
    has_news: bool = True
    same_machine: bool = False


class End:
    """One end of a wire."""

    __slots__ = (
        "arrives_at",
        "free_at",
        "is_open",
        "link",
        "process",
        "queued",
        "share",
        "special",
        "waiting",
    )

    def __init__(self, process: Process, link: int, share: float) -> None:
        self.process, self.link = process, link
        self.share = share  # of the network's delay
        self.special: Conditions | None = None  # where the link has conditions of its own
        self.is_open = True
        self.arrives_at = [0.0, 0.0]  # of the last frame that this end sent, by lane
        self.free_at = [0.0, 0.0]
        self.waiting: list[tuple[int, list[Any]]] = []  # behind a cut
        self.queued = 0  # bytes of it


class Wire:
    """The connections of one link, between two processes."""

    __slots__ = ("ends", "is_subscribed", "sound_since")

    def __init__(self, dialler: End, listener: End, now: float) -> None:
        self.ends = (dialler, listener)
        self.is_subscribed = False  # the news connections stand
        self.sound_since = now  # nothing has been cut since

    def end_of(self, process: Process) -> End:
        return self.ends[0] if self.ends[0].process is process else self.ends[1]

    def other(self, end: End) -> End:
        return self.ends[1] if self.ends[0] is end else self.ends[0]
