"""One TCP or ipc connection under a ZeroMQ socket, known by its file descriptor.

libzmq hides connections; the socket monitor and `SRCFD` of a message tell their descriptor. With
it one peer can be cut off without disturbing the others, and the bytes that the kernel received
can be compared with those that arrived as messages.

The trap: libzmq owns the descriptor and may have closed it, and the system may have given its
number to something else. So the inode is remembered, and nothing is done to another one.
"""

from __future__ import annotations

import ipaddress
import os
import socket
from typing import Protocol

import zmq

_TCP_INFO_BYTES = 136
# Of struct tcp_info, Linux 4.2 and newer: tcpi_bytes_acked and tcpi_bytes_received.
_BYTES_ACKED, _BYTES_RECEIVED = slice(120, 128), slice(128, 136)
_TCP_INFO = getattr(socket, "TCP_INFO", None)


class Traffic(Protocol):
    """What the owner of a connection has been given of it."""

    bytes_in: int
    messages_in: int


class Connection:
    """`owner` is the lane or news channel that it carries, None until it has said which."""

    __slots__ = (
        "_inode",
        "delivered_bytes",
        "fd",
        "forgiven_bytes",
        "identity",
        "is_cut",
        "opened_at",
        "owner",
        "stalled_looks",
    )

    def __init__(self, fd: int, now: float) -> None:
        self.fd = fd
        self.opened_at = now
        self.owner: Traffic | None = None
        self.identity = b""  # its routing id on a ROUTER, once a message came
        self.forgiven_bytes = 0.0  # these three are the guard's
        self.delivered_bytes = self.stalled_looks = 0
        self.is_cut = False
        self._inode = _inode(fd)

    def cut(self) -> bool:
        """End the connection at once, as seen from both sides; libzmq then reports it as lost."""
        self.is_cut = True
        if self._inode is None or _inode(self.fd) != self._inode:
            return False
        try:
            with socket.socket(fileno=os.dup(self.fd)) as own:
                own.shutdown(socket.SHUT_RDWR)
        except OSError:  # it ended by itself meanwhile
            return False
        return True

    def is_local(self) -> bool:
        """Whether the other end is on this machine: over loopback or a socket of a file system."""
        try:
            with socket.socket(fileno=os.dup(self.fd)) as own:
                if own.family == socket.AF_UNIX:
                    return True
                host = own.getpeername()[0]
        except OSError:
            return False
        return ipaddress.ip_address(host.partition("%")[0].removeprefix("::ffff:")).is_loopback

    def limit_send_buffer(self, size_bytes: int) -> None:
        """Let the kernel hold at most about `size_bytes` on the way out."""
        try:
            with socket.socket(fileno=os.dup(self.fd)) as own:
                own.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, size_bytes)
        except OSError:  # gone: nothing to limit
            return

    def acked_bytes(self) -> int | None:
        """Bytes that the other end has acknowledged; None where the kernel does not tell."""
        return self._told(_BYTES_ACKED)

    def received_bytes(self) -> int | None:
        """Bytes that the kernel received so far; None where it does not tell (ipc, not Linux)."""
        return self._told(_BYTES_RECEIVED)

    def _told(self, number: slice) -> int | None:
        if _TCP_INFO is None:
            return None
        try:
            # The bare type of the C module: this is done for every connection all the time.
            borrowed = socket.SocketType(socket.AF_INET, socket.SOCK_STREAM, 0, self.fd)
        except OSError:
            return None
        try:
            info = borrowed.getsockopt(socket.IPPROTO_TCP, _TCP_INFO, _TCP_INFO_BYTES)
        except OSError:
            return None
        finally:
            borrowed.detach()  # libzmq's descriptor, not ours to close
        field = info[number]
        return int.from_bytes(field, "little") if len(field) == 8 else None


def source_fd(frame: zmq.Frame) -> int:
    """The descriptor that a message came in on; -1 where libzmq does not tell."""
    try:
        return int(frame.get(zmq.SRCFD))
    except zmq.ZMQError:
        return -1


def has_chosen_identity(frame: zmq.Frame) -> bool:
    """Whether the sender chose its routing id: ours never do, somebody poses as another."""
    try:
        return bool(frame.get("Identity"))
    except zmq.ZMQError:
        return False


def _inode(fd: int) -> tuple[int, int] | None:
    try:
        status = os.fstat(fd)
    except OSError:
        return None
    return status.st_dev, status.st_ino
