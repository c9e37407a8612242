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
    """The initiator's end: who waits, and which response comes next.

    Defaults stand in the class: most calls are over before they need any of it.
    """

    position = 0  # in its outbox, to tell whether it was ever sent; 0: traced
    body: list[Any] | None = None  # the payload to repeat; empty where it was `Fed`
    bucket: dict[Any, None] | None = None  # of the wheel, where it has a deadline
    expected = 1  # the serial of the next response
    held: dict[int, list[tuple[Any, bool]]] | None = None  # responses that came early
    held_count = 0
    body_serial = body_offset = 0  # of the body that comes in (0: none), and so far
    final_serial = 0  # of a body that is the last response
    received = consumed = returned = 0  # bytes of responses
    credit = STREAM_CREDIT  # bytes of the payload that may be sent
    sent_bytes = 0
    outgoing: Outgoing | None = None

    def __init__(
        self,
        number: int,
        channel: Channel,
        directive: str,
        token: object,
        lane: int,
        ttl: float | None,
        message: bytes,
    ) -> None:
        self.number = number
        self.channel = channel
        self.directive = directive
        self.token = token
        self.lane = lane
        self.ttl = ttl  # seconds, as the caller set it
        self.message = message  # the packed call, to repeat it


class ServerStream:
    """The responder's end: what an action is given to respond on."""

    serial = 0  # of the last response
    done = False  # no response may follow
    bucket: dict[Any, None] | None = None
    credit = STREAM_CREDIT  # bytes of responses that may be sent
    sent_bytes = 0
    outgoing: Outgoing | None = None
    final = False  # the body under way is the last response
    offset = -1  # of the next chunk of the call's body; -1: none is expected
    consumed = returned = 0  # bytes of the call's body

    def __init__(self, number: int, channel: Channel, directive: str) -> None:
        self.number = number
        self.channel = channel
        self.directive = directive

    @property
    def sender(self) -> str:
        return self.channel.address

    @property
    def message_id(self) -> str:
        """The same text as at the sender, though it never crosses the wire."""
        return f"{self.channel.calls_prefix}{self.number}"


def calls_prefix(address: str, life: int) -> str:
    """What the message ids of an initiator's calls begin with; the stream's number follows."""
    return f"{address}-{life:016x}-"
