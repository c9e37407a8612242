"""What every process sends and receives, counted by what it is for.

Of published news each neighbour gets a copy: one publication to six neighbours is six messages
sent. Bytes are those of the messages, without the framing of ZeroMQ and TCP.
"""

from __future__ import annotations

from meshcore.protocol.wire import control
from meshcore.protocol.wire.packet import HINT, PACKET

BEATS, NEWS, REPAIR, ECHOES, LINKS, WORK = range(6)
CLASSES = ("beats", "news", "repair", "echoes", "links", "work")

_OF_KIND = [LINKS] * 256
for _kind in (control.Buckets, control.BucketContents, control.Want):
    _OF_KIND[_kind.KIND] = REPAIR
_OF_KIND[control.Beat.KIND] = BEATS
_OF_KIND[control.Echo.KIND] = _OF_KIND[control.EchoReply.KIND] = ECHOES
_OF_KIND[control.News.KIND] = REPAIR  # on a lane: an answer to one neighbour
_OF_KIND[PACKET] = _OF_KIND[HINT] = WORK
_PUBLISHED = _OF_KIND.copy()
_PUBLISHED[control.News.KIND] = NEWS


class Traffic:
    """Messages and bytes of one process, each way, by class."""

    __slots__ = ("received", "received_bytes", "sent", "sent_bytes")

    def __init__(self) -> None:
        self.sent, self.sent_bytes = [0] * len(CLASSES), [0] * len(CLASSES)
        self.received, self.received_bytes = [0] * len(CLASSES), [0] * len(CLASSES)

    def copy(self) -> Traffic:
        other = Traffic()
        for name in self.__slots__:
            setattr(other, name, list(getattr(self, name)))
        return other

    def since(self, before: Traffic) -> Traffic:
        """What has come since `before` was copied."""
        other = Traffic()
        for name in self.__slots__:
            pairs = zip(getattr(self, name), getattr(before, name), strict=True)
            setattr(other, name, [now - then for now, then in pairs])
        return other

    def on_sent(self, frame: bytes, size: int) -> None:
        """A message on a lane."""
        kind = _OF_KIND[frame[1]]
        self.sent[kind] += 1
        self.sent_bytes[kind] += size

    def on_received(self, frame: bytes, size: int) -> None:
        kind = _OF_KIND[frame[1]]
        self.received[kind] += 1
        self.received_bytes[kind] += size

    def on_published(self, data: bytes, copies: int) -> None:
        kind = _PUBLISHED[data[1]]
        self.sent[kind] += copies
        self.sent_bytes[kind] += copies * len(data)

    def on_heard(self, data: bytes) -> None:
        """A published message has arrived."""
        kind = _PUBLISHED[data[1]]
        self.received[kind] += 1
        self.received_bytes[kind] += len(data)
