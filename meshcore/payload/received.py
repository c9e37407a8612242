"""A received payload, wherever it lies.

`Payload` is whole: `value`, `readall`, `read`, `size`, `async for chunk in payload`, `await
payload.save(path)`. It is falsy where a response carries none (the eof of a generator); None, an
empty text and 0 are payloads. `readall` gives bytes as they are, text as UTF-8, and any other value
as JSON text; `value` gives what was sent.

`LivePayload` is taken while it still arrives, chunk by chunk, by one reader. Whoever feeds it is
told what was taken, which is what returns credit to the sender: a slow reader slows its sender.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, Final

from meshcore.payload.spool import Store
from meshcore.payload.values import KIND_VALUE, decode_body, encode_body, json_text

CHUNK_BYTES = 256 * 1024
_UNKNOWN: Final = object()  # a value that was not decoded yet


class Payload:
    """What came with a directive or a response; without arguments there is none.

    Args:
        kind: KIND_BYTES, KIND_TEXT or KIND_VALUE; None = no payload.
        body: the bytes, unless they are in the file of `store`.
        store: what the body occupies; given back with the payload.
        size: bytes of a body that lies in a file.
    """

    __slots__ = ("_body", "_kind", "_position", "_size", "_store", "_text", "_value")

    def __init__(
        self,
        kind: int | None = None,
        body: bytes | bytearray | memoryview = b"",
        *,
        store: Store | None = None,
        size: int | None = None,
    ) -> None:
        self._kind = kind
        self._body = body
        self._store = store
        self._size = len(body) if size is None else size
        self._value: Any = None if kind is None else _UNKNOWN
        self._text: bytes | None = None  # the JSON text of a value, once asked for
        self._position = 0

    @classmethod
    def of(cls, value: object) -> Payload:
        """The payload of a value that is at hand (encoded only if its bytes are asked for)."""
        if isinstance(value, Payload):
            return value
        if isinstance(value, (bytes, bytearray, memoryview, str)):
            kind, body = encode_body(value)
            payload = cls(kind, body)
        else:
            payload = cls(KIND_VALUE)
        payload._value = value
        return payload

    def __bool__(self) -> bool:
        return self._kind is not None

    def __repr__(self) -> str:
        if self._kind is None:
            return "<no payload>"
        where = "in a file" if self.path is not None else "in memory"
        return f"<Payload of kind {self._kind}, {where}>"

    @property
    def kind(self) -> int | None:
        """KIND_BYTES, KIND_TEXT or KIND_VALUE; None where there is no payload."""
        return self._kind

    @property
    def path(self) -> Path | None:
        """The file that it lies in, which goes with the payload; None while it is in memory."""
        return None if self._store is None else self._store.path

    @property
    def value(self) -> Any:
        """What was sent: bytes, text or the decoded value; None where there is no payload.

        Raises BadPayloadError where the body is not what its kind says.
        """
        if self._value is _UNKNOWN:
            assert self._kind is not None
            self._value = decode_body(self._kind, self._raw())
        return self._value

    @property
    def size(self) -> int | None:
        """The number of bytes that `readall` gives; None while it is not known."""
        return len(self._json()) if self._kind == KIND_VALUE else self._size

    def readall(self) -> bytes:
        """All of it: bytes as they are, a str as UTF-8, any other value as JSON text."""
        if self._kind == KIND_VALUE:
            return self._json()
        raw = self._raw()
        return raw if type(raw) is bytes else bytes(raw)

    def read(self, n: int = -1) -> bytes:
        """The next `n` bytes of what `readall` gives; all that is left for -1, b"" at the end."""
        start = self._position
        if self._kind != KIND_VALUE and self.path is not None:
            data = self._pread(self._size - start if n < 0 else n, start)
        else:
            whole = self._json() if self._kind == KIND_VALUE else self._body
            data = bytes(whole[start:] if n < 0 else whole[start : start + n])
        self._position = start + len(data)
        return data

    def chunks(self, n: int = CHUNK_BYTES) -> Iterator[bytes]:
        """What is left for `read`, in pieces of at most `n` bytes."""
        while chunk := self.read(n):
            yield chunk

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self.chunks():
            yield chunk

    async def save(self, path: str | os.PathLike[str]) -> None:
        """Write what is left for `read` to `path`, which appears only when it is complete.

        The loop runs on between two pieces of 256 KiB. Raises OSError.
        """
        target = Path(path)
        partial = target.with_name(f".{target.name}.{os.getpid()}.part")
        try:
            with open(partial, "wb") as file:  # noqa: ASYNC230 (page cache; pieces are small)
                async for chunk in self:
                    file.write(chunk)
                    await asyncio.sleep(0)
            os.replace(partial, target)
        finally:
            partial.unlink(missing_ok=True)

    def close(self) -> None:
        """Give its memory or file back now instead of when it is collected."""
        if self._store is not None:
            self._store.close()
            self._body = b""
            self._store = None
            self._size = 0

    def _raw(self) -> bytes | bytearray | memoryview:
        return self._body if self.path is None else self._pread(self._size, 0)

    def _pread(self, n: int, start: int) -> bytes:
        assert self._store is not None
        assert self._store.file is not None
        # pread, so that threads that read the same payload do not share a file position.
        pieces, descriptor = [], self._store.file.fileno()
        while n > 0 and (piece := os.pread(descriptor, n, start)):
            pieces.append(piece)
            start, n = start + len(piece), n - len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _json(self) -> bytes:
        if self._text is None:
            self._text = json_text(self.value).encode(errors="surrogatepass")
        return self._text


class LivePayload(Payload):
    """A payload that still arrives: `async for` and `save` take it as it comes, once.

    Args:
        kind: as for Payload; chunks of a MessagePack value are its raw bytes.
        taken: called with the number of bytes whenever the reader has taken some.
        size: the announced size in bytes, where the sender knew it.

    The feeder's credit bounds what waits here; nothing else does.
    """

    __slots__ = ("_chunks", "_ended", "_error", "_taken", "_waiter")

    def __init__(
        self, kind: int, *, taken: Callable[[int], None] | None = None, size: int | None = None
    ) -> None:
        super().__init__(kind, size=size or 0)
        self._chunks: deque[bytes] = deque()
        self._taken = taken
        self._ended = False
        self._error: BaseException | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._size = -1 if size is None else size

    def feed(self, chunk: bytes | memoryview) -> None:
        """The next bytes have come."""
        if not self._ended and len(chunk):
            self._chunks.append(chunk if type(chunk) is bytes else bytes(chunk))
            self._wake()

    def finish(self) -> None:
        """All of it has come."""
        self._ended = True
        self._wake()

    def fail(self, error: BaseException) -> None:
        """The rest will never come; the reader gets `error` after what has come."""
        if not self._ended:
            self._error = error
            self.finish()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            while self._chunks:
                chunk = self._chunks.popleft()
                if self._taken is not None:
                    self._taken(len(chunk))
                yield chunk
            if self._ended:
                break
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        if self._error is not None:
            raise self._error

    @property
    def value(self) -> Any:
        raise self._not_whole()

    @property
    def size(self) -> int | None:
        """The announced size in bytes, or None."""
        return None if self._size < 0 else self._size

    def readall(self) -> bytes:
        raise self._not_whole()

    def read(self, n: int = -1) -> bytes:
        raise self._not_whole()

    def close(self) -> None:
        self._chunks.clear()
        self.finish()

    @staticmethod
    def _not_whole() -> RuntimeError:
        return RuntimeError(
            "this payload may still be arriving: use 'async for chunk in payload' "
            "or 'await payload.save(path)'"
        )
