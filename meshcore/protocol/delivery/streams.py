"""One call with its responses, as each end keeps it.

A stream lives in its channel from the call to the last response. Neither end remembers it longer:
packet numbers already keep a call from running twice, and the cookie keeps old packets out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from meshcore.protocol.delivery.bodies import Outgoing
    from meshcore.protocol.delivery.channel import Channel

STREAM_CREDIT = 512 * 1024  # bytes; 256 KiB would be stop-and-wait with chunks of 256 KiB
ITEM_BYTES = 32  # what a small response costs of the credit besides its payload


class ClientStream:
    """The initiator's end: who waits, and which response comes next."""

    __slots__ = (
        "body",
        "body_offset",
        "body_serial",
        "bucket",
        "channel",
        "consumed",
        "credit",
        "directive",
        "expected",
        "final_serial",
        "held",
        "held_count",
        "lane",
        "message",
        "number",
        "outgoing",
        "position",
        "received",
        "returned",
        "sent_bytes",
        "token",
        "ttl",
    )

    def __init__(
        self,
        number: int,
        channel: Channel,
        directive: str,
        token: object,
        *,
        lane: int,
        ttl: float | None,
    ) -> None:
        self.number = number
        self.channel = channel
        self.directive = directive
        self.token = token
        self.lane = lane
        self.ttl = ttl  # seconds, as the caller set it
        self.message = b""  # the packed call, to repeat it
        self.position = 0  # in its outbox, to tell whether it was ever sent; 0: traced
        self.body: list[Any] | None = None  # the payload to repeat; empty where it was `Fed`
        self.bucket: dict[Any, None] | None = None  # of the wheel, where it has a deadline
        self.expected = 1  # the serial of the next response
        self.held: dict[int, list[tuple[Any, bool]]] | None = None  # responses that came early
        self.held_count = 0
        self.body_serial = self.body_offset = 0  # of the body that comes in (0: none), and so far
        self.final_serial = 0  # of a body that is the last response
        self.received = self.consumed = self.returned = 0  # bytes of responses
        self.credit = STREAM_CREDIT  # bytes of the payload that may be sent
        self.sent_bytes = 0
        self.outgoing: Outgoing | None = None


class ServerStream:
    """The responder's end: what an action is given to respond on."""

    __slots__ = (
        "bucket",
        "channel",
        "consumed",
        "credit",
        "directive",
        "done",
        "final",
        "number",
        "offset",
        "outgoing",
        "returned",
        "sent_bytes",
        "serial",
        "work",
    )

    def __init__(self, number: int, channel: Channel, directive: str) -> None:
        self.number = number
        self.channel = channel
        self.directive = directive
        self.serial = 0  # of the last response
        self.done = False  # no response may follow
        self.bucket: dict[Any, None] | None = None
        self.credit = STREAM_CREDIT  # bytes of responses that may be sent
        self.sent_bytes = 0
        self.outgoing: Outgoing | None = None
        self.final = False  # the body under way is the last response
        self.offset = -1  # of the next chunk of the call's body; -1: none is expected
        self.consumed = self.returned = 0  # bytes of the call's body
        self.work: object = None  # the shell's own record of the running work

    @property
    def sender(self) -> str:
        return self.channel.address

    @property
    def message_id(self) -> str:
        """The same text as at the sender, though it never crosses the wire."""
        return message_id(self.channel.address, self.channel.life, self.number)


def message_id(address: str, life: int, number: int) -> str:
    return f"{address}-{life:016x}-{number}"
