"""The receiving side of one large body.

Usage::

    assembly = Assembly(spool, KIND_BYTES)
    assembly.feed(chunk)        # BusyError, OSError: abort() it and refuse the work
    payload = assembly.finish()
"""

from __future__ import annotations

from meshcore.payload.received import Payload
from meshcore.payload.spool import Spool, Store

MEMORY_BYTES_MAX = 1024 * 1024  # one body in memory; larger ones go to a file


class Assembly:
    """Gathers the chunks of a body, which come in order; ends by `finish` or `abort`."""

    __slots__ = ("_chunks", "_kind", "_size", "_store")

    def __init__(self, spool: Spool, kind: int) -> None:
        self._kind = kind
        self._chunks: list[bytes] = []
        self._size = 0
        self._store = Store(spool)

    @property
    def size(self) -> int:
        """Bytes received so far."""
        return self._size

    def feed(self, chunk: bytes | bytearray | memoryview) -> None:
        """Take the next bytes, which are copied unless they are `bytes`.

        Raises BusyError where the spool is full, OSError where the disk is; abort it then.
        """
        size = len(chunk)
        file = self._store.file
        fits = file is None and self._size + size <= MEMORY_BYTES_MAX
        if self._store.take(size, memory_ok=fits):
            self._chunks.append(chunk if type(chunk) is bytes else bytes(chunk))
        else:
            if file is None:
                file = self._store.open(self._size)
                file.writelines(self._chunks)
                self._chunks.clear()
            file.write(chunk)
        self._size += size

    def finish(self) -> Payload:
        """The payload, which now owns what was received."""
        store = self._store
        if store.file is None:
            return Payload(self._kind, b"".join(self._chunks), store=store)
        store.file.flush()
        return Payload(self._kind, store=store, size=self._size)

    def abort(self) -> None:
        """Give everything back; the body will never be whole."""
        self._chunks.clear()
        self._store.close()
