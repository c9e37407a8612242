"""What may be done to a descriptor that belongs to somebody else."""

from __future__ import annotations

import os
import socket

from meshcore.transport.connection import Connection


def pair() -> tuple[socket.socket, socket.socket]:
    """Two ends of a TCP connection."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        a = socket.create_connection(server.getsockname())
        b, _ = server.accept()
    return a, b


def test_a_cut_ends_the_connection_and_leaves_the_descriptor_to_its_owner() -> None:
    a, b = pair()
    with a, b:
        assert Connection(b.fileno(), now=0.0).cut()
        assert a.recv(1) == b""
        assert b.fileno() != -1
        os.fstat(b.fileno())


def test_a_descriptor_that_belongs_to_something_else_by_now_is_not_touched() -> None:
    a, b = pair()
    c, d = pair()
    with a, c, d:
        connection = Connection(b.fileno(), now=0.0)
        os.dup2(d.fileno(), b.fileno())  # closed by its owner and given out again
        with b:
            assert not connection.cut()
            c.sendall(b"still there")
            assert d.recv(20) == b"still there"


def test_a_descriptor_that_is_closed_is_not_touched() -> None:
    a, b = pair()
    connection = Connection(b.fileno(), now=0.0)
    a.close()
    b.close()
    assert not connection.cut()
    assert connection.received_bytes() is None
    connection.limit_send_buffer(1000)


def test_the_kernel_tells_how_much_it_received() -> None:
    a, b = pair()
    with a, b:
        connection = Connection(b.fileno(), now=0.0)
        assert connection.received_bytes() == 0
        a.sendall(b"x" * 1000)
        assert b.recv(1000, socket.MSG_WAITALL)
        assert connection.received_bytes() == 1000
        os.fstat(b.fileno())


def test_a_local_socket_does_not_tell_how_much_it_received() -> None:
    a, b = socket.socketpair()
    with a, b:
        assert Connection(b.fileno(), now=0.0).received_bytes() is None


def test_the_send_buffer_can_be_limited() -> None:
    a, b = pair()
    with a, b:
        Connection(b.fileno(), now=0.0).limit_send_buffer(10_000)
        assert b.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) == 20_000  # Linux doubles it
