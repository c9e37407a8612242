"""What is sent piece by piece: paths, binary files, BytesIO, async iterators of bytes.

`classify(payload)` gives a `Source` for those and None for a plain value. A str is never a path.
A path is opened at once, so that a missing file is the sender's error at the call, and so that the
file may be removed afterwards. Regular files are read on the loop (they come from the page cache,
and a thread per piece costs more); pipes and other objects that may block are read in a thread.
"""

from __future__ import annotations

import asyncio
import io
import os
import stat
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from meshcore.errors import BadPayloadError

_PLAIN = frozenset({bytes, str, type(None), bool, int, float, list, dict, tuple, bytearray})


class Source:
    """Bytes that are read when they are sent, once.

    `size` is their number, or None where it is not known before the end.
    """

    size: int | None = None

    def chunks(self, n: int) -> AsyncIterator[bytes]:
        """Pieces of 1 to `n` bytes. Raises BadPayloadError where the bytes cannot be had."""
        raise NotImplementedError

    async def close(self) -> None:
        """Release what it holds; twice is harmless. Called also after a failure."""


def classify(payload: object) -> Source | None:
    """The source that `payload` is, or None where it is a plain value.

    Raises BadPayloadError for a path that cannot be opened and for a file in text mode.
    """
    if type(payload) in _PLAIN:
        return None
    if isinstance(payload, Source):
        return payload
    if isinstance(payload, os.PathLike):
        return _open(Path(payload))
    if isinstance(payload, io.TextIOBase):
        raise BadPayloadError(
            "payload: a file in text mode cannot be sent; open it with mode 'rb'",
            may_have_run=False,
        )
    if hasattr(payload, "__aiter__"):
        return _IteratorSource(payload)
    if hasattr(payload, "read"):
        return _FileSource(payload, own=False)
    return None


def _open(path: Path) -> Source:
    try:
        if path.is_dir():
            raise IsADirectoryError(None, "is a directory")
        return _FileSource(open(path, "rb"), own=True)
    except OSError as error:
        raise BadPayloadError(
            f"payload file {path}: {error.strerror or error}", may_have_run=False
        ) from error


class _FileSource(Source):
    def __init__(self, file: Any, *, own: bool) -> None:
        self._file, self._own = file, own
        self._may_block = True
        if isinstance(file, io.BytesIO):
            self._may_block = False
            self.size = max(0, len(file.getbuffer()) - file.tell())
            return
        try:
            status = os.fstat(file.fileno())
        except (AttributeError, OSError):  # no descriptor: an object that only reads
            return
        if stat.S_ISREG(status.st_mode):
            self._may_block = False
            self.size = max(0, status.st_size - file.tell())

    async def chunks(self, n: int) -> AsyncIterator[bytes]:
        left = self.size  # a file that grows meanwhile is sent as long as it was announced
        while left is None or left > 0:
            want = n if left is None else min(n, left)
            try:
                data = await _in_thread(self._read, want) if self._may_block else self._read(want)
            except OSError as error:
                raise BadPayloadError(f"payload: cannot be read: {error}") from error
            if type(data) is not bytes:
                raise BadPayloadError(
                    f"payload: read() gave {type(data).__name__}, expected bytes; "
                    "open the file with mode 'rb'"
                )
            if not data:
                if left is not None:
                    raise BadPayloadError(f"payload: the file became {left} bytes shorter")
                return
            if left is not None:
                left -= len(data)
            yield data

    def _read(self, n: int) -> Any:
        # read1 gives what a pipe has instead of waiting until n bytes are there.
        read = getattr(self._file, "read1", None) if self._may_block else None
        return self._file.read(n) if read is None else read(n)

    async def close(self) -> None:
        if self._own:
            self._file.close()


class _IteratorSource(Source):
    def __init__(self, iterable: Any) -> None:
        self._iterator = iterable.__aiter__()

    async def chunks(self, n: int) -> AsyncIterator[bytes]:
        async for data in self._iterator:
            if not isinstance(data, (bytes, bytearray, memoryview)):
                raise BadPayloadError(
                    f"payload: the async iterator gave {type(data).__name__}, expected bytes"
                )
            if len(data) <= n and type(data) is bytes:
                if data:
                    yield data
                continue
            view = memoryview(data).cast("B")
            for start in range(0, len(view), n):
                yield bytes(view[start : start + n])

    async def close(self) -> None:
        close = getattr(self._iterator, "aclose", None)
        if close is not None:
            await close()


async def _in_thread(read: Any, n: int) -> Any:
    """`read(n)` in a daemon thread: a pipe that never speaks must not hold up the exit."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Any] = loop.create_future()

    def settle(result: Any, error: BaseException | None) -> None:
        if not future.done():
            future.set_exception(error) if error is not None else future.set_result(result)

    def work() -> None:
        result, failure = None, None
        try:
            result = read(n)
        except Exception as error:  # handed over to the loop
            failure = error
        if not loop.is_closed():
            loop.call_soon_threadsafe(settle, result, failure)

    threading.Thread(target=work, name="meshcore-read", daemon=True).start()
    return await future
