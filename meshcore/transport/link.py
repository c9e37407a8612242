"""A link: the bundle of connections with one neighbour, whoever dialled it.

Two lanes carry what must arrive; news may be lost. The loss of either lane is the end of the link
(`end`), once what the other one brought is handed over; it never comes back. Asked to close, a link
first sends what is queued (`close`), for a bounded time.
"""

from __future__ import annotations

from collections.abc import Sequence

from meshcore.transport.hub import Hub
from meshcore.transport.lane import Lane

KEY_BYTES = 16
PREAMBLE = b"MC1"  # then one byte for the lane, then the key: the first message on each lane
PREAMBLE_BYTES = len(PREAMBLE) + 1 + KEY_BYTES
CONNECTION_LOST = "connection lost"
LANE_PATIENCE = 0.1  # seconds that the second lane is lost after the first, when a peer goes
CLOSE_POLL = 0.01  # seconds between looks whether the queues of a closing link are empty

TOPIC_BEAT, TOPIC_NEWS = b"h", b"n"
TOPIC_KEY = b"z"  # subscribed to, or published, with the link's key: whose connection this is
TOPICS = (TOPIC_BEAT, TOPIC_NEWS, TOPIC_KEY)
SUBSCRIPTIONS_MAX = 8  # per connection; ours has three


def preamble(lane: int, key: bytes) -> bytes:
    return PREAMBLE + bytes((lane,)) + key


class NewsTraffic:
    """What came in on a link's news connection."""

    __slots__ = ("bytes_in", "messages_in")

    def __init__(self) -> None:
        self.bytes_in = self.messages_in = 0


class Link:
    """The part that dialled and accepted links share; subclasses own the connections."""

    def __init__(self, hub: Hub, number: int, key: bytes) -> None:
        self.hub, self.number, self.key = hub, number, key
        limit = hub.knobs.queue_bytes_max
        self.lanes = (
            Lane(number, 0, queue_bytes_max=limit),
            Lane(number, 1, queue_bytes_max=limit),
        )
        self.news_in = NewsTraffic()
        self.is_news_ready = False
        """The neighbour has subscribed to what we publish."""
        self.is_up = False
        self.is_over = False

    def publish(self, data: bytes) -> None:
        """Publish on the news connection of this link alone, where it has its own."""

    def connect_news(self, urls: Sequence[str]) -> None:
        """Open the news connections, where it was us who dialled."""

    def end(self, reason: str) -> None:
        """The link is broken: free everything now and tell the sink."""
        if self._leave(reason):
            self._release()

    def on_lane_lost(self, lane: Lane) -> None:
        """A lane's connection is over: the link is, too, once the other has had its last words."""
        lane.stop()
        if all(each.is_stopped or not each.is_open for each in self.lanes):
            self.end(CONNECTION_LOST)
        else:
            self.hub.loop.call_later(LANE_PATIENCE, self.end, CONNECTION_LOST)

    def close(self, reason: str) -> None:
        """Close in order: what is queued goes out first. The sink is told at once."""
        if self._leave(reason):
            self.hub.closing[self] = None
            self._silence()
            self._close_when_sent(self.hub.loop.time() + self.hub.knobs.close_timeout)

    def force_close(self) -> None:
        """The transport closes: no waiting, no telling."""
        self.is_over = True
        self._release()

    def stats(self) -> dict[str, object]:
        """Counters, in bytes and messages."""
        return {
            "news_ready": self.is_news_ready,
            "news_bytes_in": self.news_in.bytes_in,
            "news_messages_in": self.news_in.messages_in,
            "lanes": {
                name: {
                    "bytes_in": lane.bytes_in,
                    "messages_in": lane.messages_in,
                    "bytes_out": lane.bytes_out,
                    "messages_out": lane.messages_out,
                    "queued_bytes": lane.queued_bytes,
                }
                for name, lane in zip("cb", self.lanes, strict=True)
            },
        }

    def _leave(self, reason: str) -> bool:
        if self.is_over:
            return False
        self.is_over = True
        self.hub.links.pop(self.number, None)
        self._report_end(reason)
        return True

    def _report_end(self, reason: str) -> None:
        if not self.hub.is_closed:
            self.hub.sink.on_closed(self.number, reason)

    def _close_when_sent(self, deadline: float) -> None:
        if self not in self.hub.closing:
            return
        if self.has_queued() and self.hub.loop.time() < deadline:
            self.hub.loop.call_later(CLOSE_POLL, self._close_when_sent, deadline)
            return
        self._finish()

    def has_queued(self) -> bool:
        return any(lane.queued_bytes for lane in self.lanes if lane.is_open)

    def _silence(self) -> None:
        """From now on hand nothing over to the sink."""

    def _finish(self) -> None:
        """Our queues are empty, or it took too long: let libzmq send the rest, then release."""
        self._release()

    def _release(self) -> None:
        """Free the connections; the last thing that happens to a link."""
        self.hub.closing.pop(self, None)
        for lane in self.lanes:
            lane.stop()
