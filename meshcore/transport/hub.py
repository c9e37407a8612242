"""What the parts of one transport share: loop, context, sink, counters, and the list of ports.

It decides nothing; `Transport` makes it and hands it to listeners, links and the guard.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import zmq

from meshcore.urls import Url

if TYPE_CHECKING:
    from meshcore.transport.link import Link
    from meshcore.transport.port import Port

Buffer: TypeAlias = bytes | bytearray | memoryview
Context: TypeAlias = "zmq.Context[zmq.Socket[bytes]]"
Socket: TypeAlias = "zmq.Socket[bytes]"

Secure: TypeAlias = Callable[[Socket, str, Url], None]
"""`secure(socket, role, url)` before bind or connect; role: "mesh", "news" (bound) or "client"."""


class Sink(Protocol):
    """Who is told what the sockets bring: on the loop, never from inside a call to the transport.

    Each number given to `dial` ends in exactly one of `on_dial_failed` and `on_closed`; each
    accepted link in `on_closed`. Once `Transport.close` has begun the ends of links are not told,
    and once it has returned nothing is.
    """

    def on_frames(
        self, link: int, lane: int, frame: bytes | memoryview, body: bytes | memoryview | None
    ) -> None:
        """One message: its first frame and, where there is one, its second (a large body).

        From 64 KiB on they are views of libzmq's memory, which lives as long as they do.
        """

    def on_news(self, link: int, data: bytes) -> None:
        """What the neighbour published, as it was given to `publish`; some of it may be missing."""

    def on_accepted(self, link: int) -> None:
        """A peer has dialled; `link` is even."""

    def on_connected(self, link: int) -> None:
        """A dialled link stands on both lanes."""

    def on_dial_failed(self, link: int, reason: str) -> None:
        """A dialled link did not come to stand; `reason` names the address."""

    def on_closed(self, link: int, reason: str) -> None:
        """A link is over; what it had brought was handed over before."""

    def on_drained(self) -> None:
        """What was readable has been handed over: time to send answers."""


@dataclass(slots=True)
class Knobs:
    """Bounds and durations; the defaults are the protocol's, tests shorten them."""

    queue_bytes_max: int = 4 * 1024 * 1024
    """Our own queue per lane, behind libzmq's; above it `send` says False."""
    links_max: int = 1024
    """Accepted links; a peer above it is cut."""
    connections_max: int = 4096
    """Connections per bound socket, with those that have not said who they are."""
    dial_timeout: float = 5.0
    introduction_timeout: float = 5.0
    """Seconds for an accepted connection to say to which link it belongs."""
    close_timeout: float = 0.5
    """Seconds that a link being closed has to hand over what was queued."""
    guard_interval: float = 0.25
    undelivered_bytes_max: int = 16 * 1024 * 1024
    """Received by the kernel but not as messages: more is one endless message. The kernel itself
    holds 6 MiB of a sound connection at most."""


@dataclass(slots=True)
class Hub:
    loop: asyncio.AbstractEventLoop
    context: Context
    sink: Sink
    knobs: Knobs
    secure: Secure | None = None
    drops: dict[str, int] = field(default_factory=dict)
    ports: dict[Port, None] = field(default_factory=dict)
    links: dict[int, Link] = field(default_factory=dict)
    """Links that may be used: dialled ones from `dial` on, accepted ones from their first lane."""
    accepted: dict[bytes, Link] = field(default_factory=dict)
    """Accepted links by their key."""
    closing: dict[Link, None] = field(default_factory=dict)
    """Links that are over for the sink but still hand over what was queued."""
    tasks: dict[asyncio.Task[None], None] = field(default_factory=dict)
    is_closed: bool = False
    drain_is_over: bool = False
    """The sink wants to send and to work before it takes more."""

    def drop(self, reason: str) -> None:
        """Count something that was dropped or cut; the reasons are a small fixed set of texts."""
        self.drops[reason] = self.drops.get(reason, 0) + 1

    def run(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run a piece of work that `Transport.close` cancels."""
        task = self.loop.create_task(work)
        self.tasks[task] = None
        task.add_done_callback(lambda done: self.tasks.pop(done, None))
        return task
