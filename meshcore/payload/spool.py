"""The budget of one node for received bodies, and what one body occupies of it.

So many bytes in memory, so many in files. Over the memory budget even a small body goes to a file;
over the file budget BusyError refuses the body, and the peer hears it.

A `Store` owns what one body occupies and gives it back when it is closed or collected. Files are
readable by this user alone (0600) and removed with their store. One that a killed process left
behind is removed by `Spool.purge()`, for a directory that one node alone uses.

A store may be closed from any thread, and by the garbage collector in the middle of any call: hence
the re-entrant lock.
"""

from __future__ import annotations

import os
import tempfile
import threading
import weakref
from pathlib import Path
from typing import BinaryIO

from meshcore.errors import BusyError

_PREFIX = "meshcore-body-"


class Spool:
    """The budget of one node for received bodies.

    Args:
        memory_max: bytes of bodies held in memory, all together.
        bytes_max: bytes of bodies held in files, all together.
        directory: where the files are made; None = the system's directory for temporary files.
    """

    def __init__(
        self,
        *,
        memory_max: int = 64 * 1024 * 1024,
        bytes_max: int = 16 * 1024**3,
        directory: Path | None = None,
    ) -> None:
        self.memory_max, self.bytes_max, self.directory = memory_max, bytes_max, directory
        self.memory_used = 0
        self.file_used = 0
        self._lock = threading.RLock()

    @classmethod
    def of_node(cls, data_dir: Path | None, bytes_max: int) -> Spool:
        """The spool of a node: below its data directory, where it has one (and the lock of it)."""
        if data_dir is None:
            return cls(bytes_max=bytes_max)
        directory = data_dir / "spool"
        directory.mkdir(mode=0o700, exist_ok=True)
        spool = cls(bytes_max=bytes_max, directory=directory)
        spool.purge()  # what a killed process left behind; the lock says that it is over
        return spool

    def take_memory(self, size: int) -> bool:
        """Reserve `size` bytes of memory; False where the budget is used up."""
        with self._lock:
            if self.memory_used + size > self.memory_max:
                return False
            self.memory_used += size
            return True

    def take_file(self, size: int) -> None:
        """Reserve `size` bytes of files; BusyError where the budget is used up."""
        with self._lock:
            if self.file_used + size > self.bytes_max:
                raise BusyError(
                    f"no room for a payload: {self.file_used} of {self.bytes_max} bytes are used",
                    may_have_run=False,
                )
            self.file_used += size

    def give_back(self, memory: int, file: int) -> None:
        """Return what was reserved."""
        with self._lock:
            self.memory_used -= memory
            self.file_used -= file

    def new_file(self) -> tuple[BinaryIO, Path]:
        """An open temporary file and its path; whoever asks removes it."""
        descriptor, name = tempfile.mkstemp(prefix=_PREFIX, dir=self.directory)
        return os.fdopen(descriptor, "w+b"), Path(name)

    def purge(self) -> int:
        """Remove the files that an earlier life left in `directory`; their number.

        Only for a directory that belongs to this node alone, before anything is spooled.
        """
        if self.directory is None:
            return 0
        left = sorted(self.directory.glob(_PREFIX + "*"))
        for path in left:
            path.unlink(missing_ok=True)
        return len(left)


class Store:
    """What one body occupies: bytes in memory, or a file."""

    __slots__ = ("__weakref__", "_finalizer", "_used", "file", "path", "spool")

    def __init__(self, spool: Spool) -> None:
        self.spool = spool
        self.file: BinaryIO | None = None
        self.path: Path | None = None
        self._used = [0, 0]  # memory, file: shared with the finalizer, which must not hold self
        self._finalizer = weakref.finalize(self, _give_back, spool, self._used, None, None)

    def take(self, size: int, *, memory_ok: bool) -> bool:
        """Reserve for `size` more bytes; True if they may be in memory. Raises BusyError."""
        if memory_ok and self.spool.take_memory(size):
            self._used[0] += size
            return True
        self.spool.take_file(size)
        self._used[1] += size
        return False

    def open(self, in_memory: int) -> BinaryIO:
        """The store's file, made now; `in_memory` bytes move over from the memory budget."""
        self.spool.take_file(in_memory)
        self._used[1] += in_memory
        self.file, self.path = self.spool.new_file()
        self.spool.give_back(self._used[0], 0)
        self._used[0] = 0
        self._finalizer.detach()
        self._finalizer = weakref.finalize(
            self, _give_back, self.spool, self._used, self.file, self.path
        )
        return self.file

    def close(self) -> None:
        """Give it back; twice is harmless."""
        self._finalizer()


def _give_back(spool: Spool, used: list[int], file: BinaryIO | None, path: Path | None) -> None:
    if file is not None:
        file.close()
    if path is not None:
        path.unlink(missing_ok=True)
    spool.give_back(used[0], used[1])
    used[:] = [0, 0]
