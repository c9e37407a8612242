"""Decoders and an encoder that remember: what one node says, many nodes of a process read.

A beat is read by every neighbour, a record by everybody. Messages and records are frozen, so one
object can serve all; what does not decode is not remembered, and raises for each.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from meshcore.protocol.wire import control
from meshcore.protocol.wire.records import Record, decode_record

T = TypeVar("T")
CONTROL_MAX = 8192  # messages that are remembered: some seconds of a large mesh
RECORDS_MAX = 200_000


class Remembering(Generic[T]):
    """A decoder with the latest `most` of its answers; the oldest half goes when they are more."""

    __slots__ = ("_decode", "_known", "_most")

    def __init__(self, decode: Callable[[bytes], T], most: int) -> None:
        self._decode, self._most = decode, most
        self._known: dict[bytes, T] = {}

    def __call__(self, data: bytes) -> T:
        known = self._known.get(data)
        if known is None:
            known = self._decode(data)
            if len(self._known) >= self._most:
                for old in list(self._known)[: self._most // 2]:
                    del self._known[old]
            self._known[data] = known
        return known


class Codecs:
    """Those of one world."""

    def __init__(self) -> None:
        self.decode: Callable[[bytes], Any] = Remembering(control.decode, CONTROL_MAX)
        self.decode_record: Callable[[bytes], Record] = Remembering(decode_record, RECORDS_MAX)
