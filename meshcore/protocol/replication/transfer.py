"""A checkpoint on its way to a replica that needs it, in parts, one at a time.

A part that is not answered is sent again; a replica that knows nothing of the parts before it says
so, and it begins anew.
"""

from __future__ import annotations

from typing import Final

from meshcore.protocol.replication.messages import Part, Taken
from meshcore.protocol.replication.records import Checkpoint

PART_BYTES: Final = 256 * 1024
RESEND: Final = 1.0  # seconds
STATE_BYTES_MAX: Final = 256 * 1024 * 1024


class Sending:
    """The primary's side."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.checkpoint = checkpoint
        self._offset = 0
        self._sent_at = 0.0

    def part(self, now: float, term: int, number: int) -> Part:
        """The part that is due."""
        self._sent_at = now
        held, offset = self.checkpoint, self._offset
        state = held.state or b""
        data = state[offset : offset + PART_BYTES]
        return Part(
            term, held.index, held.term, held.members,
            held.sessions if offset == 0 else [], held.number,
            offset, data, offset + len(data) == len(state), held.state is None, number,
        )  # fmt: skip

    def resend(self, now: float, term: int, number: int) -> Part | None:
        """The part that has not been answered in time."""
        return self.part(now, term, number) if now >= self._sent_at + RESEND else None

    def next(self, taken: Taken, now: float, term: int, number: int) -> Part | None:
        """The part after what has been taken; None where that says nothing new."""
        size = len(self.checkpoint.state or b"")
        if taken.index != self.checkpoint.index or not 0 <= taken.offset <= size:
            return None
        if taken.offset == self._offset:
            return None  # it has come twice, or is all there is and being written
        self._offset = taken.offset
        return self.part(now, term, number)


class Receiving:
    """The other side: the parts so far."""

    def __init__(self) -> None:
        self._first: Part | None = None
        self._data = bytearray()

    def take(self, part: Part) -> Checkpoint | None:
        """Take a part; the checkpoint when it is whole."""
        first = self._first
        if part.offset == 0:
            self._first, self._data = part, bytearray()
        elif first is None or (first.index, first.index_term) != (part.index, part.index_term):
            return None
        if part.offset != len(self._data) or len(self._data) > STATE_BYTES_MAX:
            return None
        self._data += part.data
        if not part.last:
            return None
        first, self._first = self._first, None
        assert first is not None
        state = None if first.initial else bytes(self._data)
        self._data = bytearray()
        return Checkpoint(
            first.index, first.index_term, first.members, first.sessions, state, first.number
        )

    @property
    def offset(self) -> int:
        """How many bytes are there."""
        return len(self._data)
