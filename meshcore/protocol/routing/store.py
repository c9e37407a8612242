"""Store: the newest record of each origin and kind, and the sums that tell two stores apart.

What a node holds falls in two parts. The records of origins that it can reach are *shared*: it adds
them up in its digest, and two neighbours whose digests are equal hold the same. The others are
*private*: kept for a while so that older news of them are refused and so that a way back is
recognised, but never offered to anybody.

Contract: versions compare as (incarnation, sequence, content hash). A record of a greater
incarnation ends the life before it: what is held of the older life goes. The digest is the sum
modulo 2^64 of one 64-bit term for each shared record: the 8-byte BLAKE2b, big-endian, of the
origin's UTF-8 bytes, a zero byte, the kind in one byte, and incarnation, sequence and content hash
in 8 bytes each, big-endian. Each origin falls in one of 256 buckets, by the last byte of the 8-byte
BLAKE2b of its UTF-8 bytes; a bucket has the sum of its records' terms.

The last digests are remembered: a neighbour that tells one of them is behind us.

Complications: private origins are dropped after 60 minutes, and the oldest first where there are
more than 4,096, but none within its first 30 seconds: a node that joins a large mesh cannot reach
anybody of it until its first tables are computed.
"""

from __future__ import annotations

import hashlib
import struct
from collections import deque
from collections.abc import Iterator
from functools import lru_cache
from typing import TypeAlias

from meshcore.protocol.wire.control import BUCKETS
from meshcore.protocol.wire.limits import NODES_MAX
from meshcore.protocol.wire.records import Record, content_hash, kind_of

PRIVATE_MAX = 4096
PRIVATE_AGE_MAX = 3600.0
PRIVATE_AGE_MIN = 30.0
Version: TypeAlias = tuple[int, int, int]  # incarnation, sequence, content hash
SUM_MASK = 2**64 - 1
PAST_DIGESTS = 64
_NUMBERS = struct.Struct(">BBQQQ")


class Held:
    """One record as it is held: the bytes of its origin, and what they say."""

    __slots__ = (
        "_term", "at", "content", "incarnation", "kind", "origin", "raw", "record", "sequence",
    )  # fmt: skip

    def __init__(self, raw: bytes, record: Record, at: float) -> None:
        self.raw = raw
        self.record = record
        self.origin = record.origin
        self.kind = kind_of(record)
        self.incarnation = record.incarnation
        self.sequence = record.sequence
        self.content = content_hash(raw)
        self.at = at
        self._term = -1  # not computed yet

    @property
    def version(self) -> Version:
        return self.incarnation, self.sequence, self.content

    def term(self) -> int:
        """What this record adds to the digest."""
        if self._term < 0:
            numbers = _NUMBERS.pack(0, self.kind, self.incarnation, self.sequence, self.content)
            hashed = hashlib.blake2b(self.origin.encode() + numbers, digest_size=8)
            self._term = int.from_bytes(hashed.digest(), "big")
        return self._term


@lru_cache(maxsize=NODES_MAX)
def _bucket_of(name: str) -> int:
    return hashlib.blake2b(name.encode(), digest_size=8).digest()[-1]


class _Origin:
    __slots__ = ("bucket", "held", "shared")

    def __init__(self, name: str) -> None:
        self.bucket = _bucket_of(name)
        self.held: dict[int, Held] = {}  # by kind; all of one incarnation
        self.shared = False

    def sum(self) -> int:
        return sum(held.term() for held in self.held.values())


class Store:
    """The records that a node holds; `own_id` is always shared."""

    def __init__(self, own_id: str) -> None:
        self._own_id = own_id
        self._origins: dict[str, _Origin] = {}
        self._by_raw: dict[bytes, Held] = {}
        self._private: dict[str, float] = {}  # since when, the oldest first
        self._sums = [0] * BUCKETS
        self.digest = 0
        self._past: deque[int] = deque(maxlen=PAST_DIGESTS)

    def __len__(self) -> int:
        return len(self._origins)

    def __contains__(self, origin: str) -> bool:
        return origin in self._origins

    @property
    def private_count(self) -> int:
        return len(self._private)

    def origins(self) -> list[str]:
        return list(self._origins)

    def had(self, digest: int) -> bool:
        """Whether this is our own digest, or was it not long ago."""
        return digest == self.digest or digest in self._past

    def sums(self) -> tuple[int, ...]:
        return tuple(self._sums)

    def get(self, origin: str, kind: int) -> Held | None:
        entry = self._origins.get(origin)
        return None if entry is None else entry.held.get(kind)

    def same(self, raw: bytes) -> Held | None:
        """The held record of exactly these bytes, which then need not be decoded."""
        return self._by_raw.get(raw)

    def all_of(self, origin: str) -> list[Held]:
        entry = self._origins.get(origin)
        return [] if entry is None else list(entry.held.values())

    def incarnation(self, origin: str) -> int:
        """The incarnation of what is held of an origin; -1 where nothing is."""
        entry = self._origins.get(origin)
        return -1 if entry is None else max(held.incarnation for held in entry.held.values())

    def compare(self, origin: str, kind: int, version: Version) -> int:
        """1, 0 or -1: the version is newer than, equal to, or older than what is held."""
        life = self.incarnation(origin)
        if version[0] != life:
            return 1 if version[0] > life else -1
        held = self.get(origin, kind)
        if held is None or version > held.version:
            return 1
        return 0 if version == held.version else -1

    def shared(self, buckets: frozenset[int]) -> Iterator[tuple[int, Held]]:
        """The shared records in these buckets, each with its bucket."""
        for entry in self._origins.values():
            if entry.shared and entry.bucket in buckets:
                yield from ((entry.bucket, held) for held in entry.held.values())

    def put(self, held: Held) -> list[int]:
        """Hold a record that is newer than what is held; returns the kinds that it has ended."""
        entry = self._origins.get(held.origin)
        if entry is None:
            entry = self._origins[held.origin] = _Origin(held.origin)
            entry.shared = held.origin == self._own_id
            if not entry.shared:
                self._private[held.origin] = held.at
        before = entry.sum() if entry.shared else 0
        ended = [kind for kind, old in entry.held.items() if old.incarnation < held.incarnation]
        for kind in dict.fromkeys((*ended, held.kind)):
            if kind in entry.held:
                del self._by_raw[entry.held.pop(kind).raw]
        entry.held[held.kind] = held
        self._by_raw[held.raw] = held
        if entry.shared:
            self._add(entry.bucket, entry.sum() - before)
        return [kind for kind in ended if kind != held.kind]

    def share(self, origin: str, shared: bool, now: float) -> bool:
        """An origin has become reachable, or has ceased to be; False where that changes nothing."""
        entry = self._origins.get(origin)
        if entry is None or entry.shared == shared or origin == self._own_id:
            return False
        entry.shared = shared
        self._add(entry.bucket, entry.sum() if shared else -entry.sum())
        if shared:
            del self._private[origin]
        else:
            self._private[origin] = now
        return True

    def next_expiry(self) -> float | None:
        """When `expire` has something to do."""
        since = next(iter(self._private.values()), None)
        if since is None:
            return None
        return since + (PRIVATE_AGE_MIN if len(self._private) > PRIVATE_MAX else PRIVATE_AGE_MAX)

    def expire(self, now: float) -> list[str]:
        """Forget the private origins that are too old or too many; returns their ids."""
        forgotten = []
        while (at := self.next_expiry()) is not None and at <= now:
            origin = next(iter(self._private))
            del self._private[origin]
            for held in self._origins.pop(origin).held.values():
                del self._by_raw[held.raw]
            forgotten.append(origin)
        return forgotten

    def _add(self, bucket: int, difference: int) -> None:
        self._sums[bucket] = (self._sums[bucket] + difference) & SUM_MASK
        self._past.append(self.digest)
        self.digest = (self.digest + difference) & SUM_MASK

    def check_invariants(self) -> None:
        """Re-derive the indexes and the sums."""
        sums = [0] * BUCKETS
        for name, entry in self._origins.items():
            assert entry.held
            assert len({held.incarnation for held in entry.held.values()}) == 1
            assert entry.shared == (name not in self._private)
            for kind, held in entry.held.items():
                assert (held.origin, held.kind) == (name, kind)
                assert self._by_raw[held.raw] is held
            if entry.shared:
                sums[entry.bucket] = (sums[entry.bucket] + entry.sum()) & SUM_MASK
        assert sums == self._sums
        assert sum(sums) & SUM_MASK == self.digest
        assert len(self._by_raw) == sum(len(entry.held) for entry in self._origins.values())
        assert list(self._private.values()) == sorted(self._private.values())
        assert self._private.keys() <= self._origins.keys()
