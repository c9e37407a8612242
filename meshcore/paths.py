"""Where a node keeps its data and its local socket, and what makes that safe.

- State: `<user state dir>/meshcore/<id>`, kept over restarts. One process at a time: `DataDir`
  holds a lock (flock) on it, which ends with the process however it ends.
- Runtime: `<user runtime dir>/meshcore`, for `<id>.sock`. It is 0700 and ours: whoever may connect
  to a socket in it may run actions.
- Incarnation: the number of this life of a node id, greater than that of every earlier life, on
  disk before it is said to anybody.

Both places follow XDG_STATE_HOME and XDG_RUNTIME_DIR. Whatever stands in the way is a ConfigError
that names the path.
"""

from __future__ import annotations

import fcntl
import os
import stat
import time
import warnings
from pathlib import Path
from types import TracebackType

import platformdirs

from meshcore.errors import ConfigError
from meshcore.identity import NUMBER_MAX, check_node_id
from meshcore.urls import check_ipc_path

_APPLICATION = "meshcore"
_LOCK = "lock"
_INCARNATION = "incarnation"
CATALOGUE = "catalogue.db"  # in the data directory of a registry


def state_dir(node_id: str) -> Path:
    """The default data directory of a node; it is not made here."""
    base = platformdirs.user_state_dir(_APPLICATION, appauthor=False)
    return Path(base) / check_node_id(node_id)


def console_history() -> Path:
    """Where `meshctl console` keeps what was typed; it is not made here."""
    base = platformdirs.user_state_dir(_APPLICATION, appauthor=False)
    return Path(base) / "console_history"


def runtime_dir() -> Path:
    """The directory of this user's local sockets, made 0700 where it was missing.

    Raises:
        ConfigError: it cannot be made, or is not a directory that belongs to this user alone.
    """
    path = Path(_user_runtime_dir())
    try:
        # The parent as well: XDG_RUNTIME_DIR counts only while it is 0700.
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.mkdir(mode=0o700, exist_ok=True)
        found, parent = path.lstat(), path.parent.stat()
    except OSError as error:
        raise ConfigError(f"runtime directory {path}: {error.strerror}") from error
    if not stat.S_ISDIR(found.st_mode):
        raise ConfigError(f"runtime directory {path} must be a directory, not a link or a file")
    if found.st_uid != os.geteuid():
        raise ConfigError(
            f"runtime directory {path} belongs to uid {found.st_uid}, not to us"
            f" (uid {os.geteuid()}); set XDG_RUNTIME_DIR to a directory of your own"
        )
    open_to_all = parent.st_mode & 0o022 and not parent.st_mode & stat.S_ISVTX
    if parent.st_uid not in (0, os.geteuid()) or open_to_all:
        raise ConfigError(
            f"runtime directory {path}: others may replace it in {path.parent};"
            " set XDG_RUNTIME_DIR to a directory of your own"
        )
    if stat.S_IMODE(found.st_mode) & 0o077:
        path.chmod(0o700)
    return path


def _user_runtime_dir() -> str:
    with warnings.catch_warnings():
        # It warns where XDG_RUNTIME_DIR is unset, as it is in most containers, and goes on with
        # /run/user/UID or /tmp/runtime-UID; every process of this user comes to the same.
        warnings.simplefilter("ignore")
        try:
            return platformdirs.user_runtime_dir(_APPLICATION, appauthor=False)
        except OSError as error:
            raise ConfigError(f"no runtime directory: {error}; set XDG_RUNTIME_DIR") from error


def socket_path(node_id: str) -> Path:
    """`<runtime dir>/<id>.sock`, of a length that the system can bind.

    Raises:
        ConfigError: as `runtime_dir`, or the path is too long for a socket.
    """
    path = runtime_dir() / f"{check_node_id(node_id)}.sock"
    check_ipc_path(str(path), key="runtime directory")
    return path


class DataDir:
    """A data directory, made where it was missing, locked until `close()` or the process's end.

    Also a context manager.

    Raises:
        ConfigError: another process holds it, or it cannot be made or written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            # Opened for writing without O_TRUNC: until the lock is ours the text is the holder's.
            self._lock = os.open(path / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ConfigError(f"data directory {path}: {error.strerror}") from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(self._lock, 32, 0).decode("ascii", "replace").strip()
            os.close(self._lock)
            by = f"pid {holder}" if holder else "another process"
            raise ConfigError(f"data directory {path} is in use by {by}") from error
        try:
            os.ftruncate(self._lock, 0)
            os.pwrite(self._lock, f"{os.getpid()}\n".encode(), 0)
        except OSError as error:
            os.close(self._lock)
            raise ConfigError(f"data directory {path}: {error.strerror}") from error

    def next_incarnation(self, *, at_least: int = 0) -> int:
        """The number of a new life: greater than any stored one, on disk when this returns.

        It is max(stored + 1, `at_least`, milliseconds since 1970), so that it rises even when the
        directory was restored from an old copy or the clock was set back, but not when both were:
        then peers know a greater number, and it is taken with `at_least`.

        Raises:
            ConfigError: the stored number is damaged, or the new one cannot be written.
        """
        file = self.path / _INCARNATION
        number = max(self._stored_incarnation(file) + 1, at_least, time.time_ns() // 1_000_000)
        if number > NUMBER_MAX:
            raise ConfigError(f"{file}: {number} is beyond the greatest incarnation")
        try:
            write_durably(file, f"{number}\n".encode())
        except OSError as error:
            raise ConfigError(f"{file}: {error.strerror}") from error
        return number

    def _stored_incarnation(self, file: Path) -> int:
        try:
            text = file.read_bytes()[:64].strip()
        except FileNotFoundError:
            return -1
        except OSError as error:
            raise ConfigError(f"{file}: {error.strerror}") from error
        # Guessing here could make a restarted node look older than its last life, for ever.
        if not text.isdigit() or int(text) > NUMBER_MAX:
            raise ConfigError(f"{file} must hold a number; restore it, or remove it to start anew")
        return int(text)

    def remove_catalogue(self) -> None:
        """Begin with an empty catalogue: remove its file, and those that SQLite keeps beside it.

        Raises ConfigError where that cannot be done.
        """
        for ending in ("-journal", "-wal", "-shm", ""):  # the file itself last: it is the catalogue
            file = self.path / (CATALOGUE + ending)
            try:
                file.unlink(missing_ok=True)
            except OSError as error:
                raise ConfigError(f"{file}: {error.strerror}") from error

    def close(self) -> None:
        """Give the directory free; twice is harmless."""
        if self._lock >= 0:
            os.close(self._lock)  # the file stays: to remove it would let two processes lock
            self._lock = -1

    def __enter__(self) -> DataDir:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def write_durably(path: Path, content: bytes) -> None:
    """Replace a file so that, whenever the machine stops, it holds the old or the new content.

    The content and the rename are on disk when it returns. Raises OSError.
    """
    temporary = path.with_name(path.name + ".new")
    file = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        view = memoryview(content)
        while view:
            view = view[os.write(file, view) :]
        os.fsync(file)
    finally:
        os.close(file)
    temporary.replace(path)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
