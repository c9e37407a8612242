"""Everything that touches ZeroMQ, behind a few calls: the thin shell's way to the neighbours.

A link has a number: odd ones are chosen by the caller of `dial`, accepted ones are even. It has
two lanes, 0 for control and interactive work and 1 for bulk, which keep their order each and carry
messages of one or two frames; and news, which may be lost. What arrives goes to the `Sink`.

All calls are made on the loop's thread, none blocks, and none calls the sink before it returns.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterable, Sequence

from meshcore.errors import ConfigError
from meshcore.transport.binding import Binding, bind
from meshcore.transport.dialler import DialledLink
from meshcore.transport.guard import Guard
from meshcore.transport.hub import Buffer, Hub, Knobs, Secure, Sink
from meshcore.transport.link import Link
from meshcore.transport.listener import AcceptedLink
from meshcore.transport.options import new_context
from meshcore.transport.probe import all_refuse
from meshcore.urls import parse_url

DRAIN_BUDGET = 1024  # messages per socket in `drain`: bounded, should a peer flood us
CLOSE_POLL = 0.005


class Transport:
    """The sockets of one node; made and used on the thread of `loop`.

    Args:
        loop: asyncio's or uvloop's; it must be able to watch descriptors.
        sink: who is told; see its contract.
        knobs: bounds and durations.
        secure: called with each socket before it binds or connects, to set keys on it.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sink: Sink,
        *,
        knobs: Knobs | None = None,
        secure: Secure | None = None,
    ) -> None:
        self._hub = Hub(loop, new_context(), sink, knobs or Knobs(), secure)
        self._links = self._hub.links
        self._bindings: list[Binding] = []
        self._numbers = itertools.count(2, 2)
        self._guard = Guard(self._hub)
        self._guard.start()

    # Addresses.

    def listen(self, url: str, *, news: bool = True) -> str:
        """Bind `url`; returns it with the port that it has.

        Raises:
            ConfigError: it cannot be bound; the text says why and what can be done.
        """
        binding = bind(self._hub, url, numbers=self._numbers, news=news)
        self._bindings.append(binding)
        return str(binding.url)

    @property
    def news_urls(self) -> tuple[str, ...]:
        """XPUB and SUB of the first address that has them; empty where there are none."""
        return next((b.listener.news_urls for b in self._bindings if b.listener.news_urls), ())

    def news_urls_for(self, link: int) -> tuple[str, ...]:
        """XPUB and SUB beside the address that `link` came in on: what to tell that neighbour."""
        accepted = self._links.get(link)
        return accepted.listener.news_urls if isinstance(accepted, AcceptedLink) else ()

    # Links.

    def is_local(self, link: int) -> bool:
        """Whether an accepted link comes from this very machine."""
        accepted = self._links.get(link)
        connection = None if accepted is None else accepted.lanes[0].connection
        connection = connection or (None if accepted is None else accepted.lanes[1].connection)
        return connection is not None and connection.is_local()

    def dial(self, link: int, url: str) -> None:
        """Open the lanes of a new link; the sink hears how it went.

        Raises:
            ValueError: the number is even, or in use.
        """
        if link % 2 == 0 or link in self._links:
            raise ValueError(f"link {link}: dialled links have odd numbers, each used once")
        try:
            parsed = parse_url(url)
        except ConfigError as error:
            self._hub.loop.call_soon(self._hub.sink.on_dial_failed, link, str(error))
            return
        dialled = self._links[link] = DialledLink(self._hub, link, parsed)
        dialled.start()

    def connect_news(self, link: int, urls: Sequence[str]) -> None:
        """Open the news connections of a dialled link to the XPUB and the SUB that the peer told.

        Whatever host it named, they go to the one that was dialled; what cannot be used is counted.
        """
        found = self._links.get(link)
        if found is not None:
            found.connect_news(urls)

    def close_link(self, link: int, reason: str) -> None:
        """Close a link once what was queued on it is handed over; unknown ones are ignored."""
        found = self._links.pop(link, None)
        if found is not None:
            self._hub.closing[found] = None
            self._hub.loop.call_soon(found.close, reason)

    # Messages.

    def send(self, link: int, lane: int, frames: Sequence[Buffer]) -> bool:
        """Send one message of one or two frames; see `Lane.send`.

        Returns:
            False: not sent and not queued: the link is unknown or over, or its queue is full.
        """
        found = self._links.get(link)
        return found is not None and found.lanes[lane].send(frames)

    def publish(self, data: bytes) -> None:
        """Tell all neighbours, as far as they listen; `data` begins with its topic `h` or `n`."""
        for binding in self._bindings:
            if binding.publisher is not None:
                binding.publisher.publish(data)
        for link in self._links.values():
            link.publish(data)

    def links_without_news(self) -> tuple[int, ...]:
        """Links that `publish` does not reach, yet or for good: send them news on lane 0."""
        return tuple(n for n, link in self._links.items() if link.is_up and not link.is_news_ready)

    def end_drain(self) -> None:
        """Called from within `on_frames`: `on_drained` follows, and the rest comes next turn."""
        self._hub.drain_is_over = True

    def drain(self) -> None:
        """Hand over what is readable now: before the time is looked at."""
        for port in list(self._hub.ports):
            port.drain_if_readable(DRAIN_BUDGET)

    async def probe(self, urls: Iterable[str]) -> bool:
        """Whether nobody listens at any of `urls`: each refused one plain connect() within 1 s."""
        return await all_refuse(urls)

    def stats(self) -> dict[str, object]:
        """Counters for people and metrics: per link, and what was dropped by reason."""
        return {
            "links": {number: link.stats() for number, link in self._links.items()},
            "drops": dict(self._hub.drops),
            "sockets": len(self._hub.ports),
        }

    # The end.

    async def close(self, linger: float = 0.5) -> None:
        """Free every socket; at most `linger` seconds to hand over what is queued. Idempotent."""
        hub = self._hub
        if hub.is_closed:
            return
        hub.is_closed = True
        self._guard.stop()
        deadline = hub.loop.time() + linger
        while hub.loop.time() < deadline and any(  # noqa: ASYNC110 (many queues, no one event)
            link.has_queued() for link in (*self._links.values(), *hub.closing)
        ):
            await asyncio.sleep(CLOSE_POLL)
        links: list[Link] = [*self._links.values(), *hub.closing]
        for task in list(hub.tasks):
            task.cancel()
        await asyncio.gather(*hub.tasks, return_exceptions=True)
        for port in list(hub.ports):
            port.is_silent = True
            port.close(linger)
        for binding in self._bindings:
            binding.close(linger)
        for link in links:
            link.force_close()
        self._links.clear()
        # Waits until libzmq has sent, or given up, what it holds: not on the loop.
        await hub.loop.run_in_executor(None, hub.context.term)
