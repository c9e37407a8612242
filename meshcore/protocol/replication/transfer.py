"""A checkpoint on its way to a replica that needs it, in parts, one at a time.

It travels as a sequence: first the sessions, one after the other, then the bytes of the state. A
position (`offset`) counts what comes before, sessions and bytes alike, so that no part is larger
than `PART_BYTES`, whatever there is most of. (But for a session with answers larger than that.)

A part that is not answered is sent again; a replica that knows nothing of the parts before it says
so, and it begins anew.
"""

from __future__ import annotations

from typing import Any, Final

from meshcore.protocol.replication.messages import Part, Taken
from meshcore.protocol.replication.records import Checkpoint
from meshcore.protocol.replication.sessions import plain_size

PART_BYTES: Final = 256 * 1024
RESEND: Final = 1.0  # seconds
STATE_BYTES_MAX: Final = 256 * 1024 * 1024
SESSIONS_TAKEN_MAX: Final = 64 * 1024  # more than any group has


class Sending:
    """The primary's side."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.checkpoint = checkpoint
        self._offset = 0
        self._sent_at = 0.0

    @property
    def _end(self) -> int:
        return len(self.checkpoint.sessions) + len(self.checkpoint.state or b"")

    def part(self, now: float, term: int, number: int) -> Part:
        """The part that is due."""
        self._sent_at = now
        held, offset = self.checkpoint, self._offset
        sessions, room = self._sessions_from(offset)
        start = max(0, offset - len(held.sessions))
        all_there = offset + len(sessions) >= len(held.sessions)
        data = (held.state or b"")[start : start + room] if all_there else b""
        return Part(
            term, held.index, held.term, held.members, sessions, held.number,
            offset, data, offset + len(sessions) + len(data) == self._end, held.state is None,
            number,
        )  # fmt: skip

    def _sessions_from(self, offset: int) -> tuple[list[Any], int]:
        """The sessions of the part there, one at least if there is one; and the room they leave."""
        taken: list[Any] = []
        room = PART_BYTES
        for position in range(offset, len(self.checkpoint.sessions)):
            session = self.checkpoint.sessions[position]
            room -= plain_size(session)
            if taken and room < 0:
                break
            taken.append(session)
        return taken, max(0, room)

    def resend(self, now: float, term: int, number: int) -> Part | None:
        """The part that has not been answered in time."""
        return self.part(now, term, number) if now >= self._sent_at + RESEND else None

    def next(self, taken: Taken, now: float, term: int, number: int) -> Part | None:
        """The part after what has been taken; None where that says nothing new."""
        if taken.index != self.checkpoint.index or not 0 <= taken.offset <= self._end:
            return None
        if taken.offset == self._offset:
            return None  # it has come twice, or is all there is and being written
        self._offset = taken.offset
        return self.part(now, term, number)


class Receiving:
    """The other side: the parts so far."""

    def __init__(self) -> None:
        self._first: Part | None = None
        self._sessions: list[Any] = []
        self._data = bytearray()

    @property
    def offset(self) -> int:
        """How much is there."""
        return len(self._sessions) + len(self._data)

    def clear(self) -> None:
        """Begin anew, or need nothing any more."""
        self._first, self._sessions, self._data = None, [], bytearray()

    def take(self, part: Part) -> Checkpoint | None:
        """Take a part; the checkpoint when it is whole."""
        if part.offset == 0:
            self.clear()
            self._first = part
        first = self._first
        if first is None or (first.index, first.index_term) != (part.index, part.index_term):
            return None
        if part.offset != self.offset or self._is_too_much(part):
            return None
        self._sessions += part.sessions
        self._data += part.data
        if not part.last:
            return None
        state = None if first.initial else bytes(self._data)
        checkpoint = Checkpoint(
            first.index, first.index_term, first.members, self._sessions, state, first.number
        )
        self.clear()
        return checkpoint

    def _is_too_much(self, part: Part) -> bool:
        return (
            len(self._data) + len(part.data) > STATE_BYTES_MAX
            or len(self._sessions) + len(part.sessions) > SESSIONS_TAKEN_MAX
        )
