"""The context and the options of every socket, in one place, each with its reason.

libzmq's defaults suit a cluster that trusts itself: no bound on a message, endless queues towards
peers that are gone, no heartbeats, an exit that hangs. Every socket of a node is made here.

Source: libzmq 4.3.5 (stable API only) and measurements of 2025.
"""

from __future__ import annotations

import ctypes
import os
import resource

import zmq

from meshcore.protocol.wire.limits import FRAME_BYTES_MAX

OPEN_FILES = 65_536  # wanted; running out of descriptors aborts libzmq and with it the interpreter
SOCKETS_MAX = 16_384

# Messages that libzmq holds per connection and direction, beside our own queue, which counts bytes.
# A stuck peer costs at most this times its largest message. RCVHWM stays high on purpose: a loop
# that is stuck until it is reached stops reading PINGs, and libzmq then closes the connection.
SEND_HWM = 32
SEND_HWM_BULK = 2
RECEIVE_HWM = 1000
NEWS_HWM = 64
BULK_BUFFER_BYTES = 256 * 1024  # more in the kernel only lets a ping of the same machine wait

HEARTBEAT_INTERVAL_MS = 1000
HEARTBEAT_TIMEOUT_MS = 2500  # a frozen peer shows after 2.4-3.5 s
HANDSHAKE_TIMEOUT_MS = 5000


def new_context() -> zmq.Context[zmq.Socket[bytes]]:
    """The one context of a node; prepares the process the first time (idempotent)."""
    _seed_libc_rand()
    _raise_open_files()
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    context.set(zmq.MAX_SOCKETS, min(SOCKETS_MAX, context.get(zmq.SOCKET_LIMIT)))
    return context


def new_socket(
    context: zmq.Context[zmq.Socket[bytes]], kind: int, *, ipv6: bool, bulk: bool = False
) -> zmq.Socket[bytes]:
    """A socket of `kind` with every option that can be set before bind or connect."""
    socket = context.socket(kind)
    news = kind in (zmq.SUB, zmq.PUB, zmq.XPUB)
    send_hwm = NEWS_HWM if news else SEND_HWM_BULK if bulk else SEND_HWM
    for option, value in (
        (zmq.LINGER, 0),  # the default hangs at exit
        (zmq.IPV6, int(ipv6)),
        (zmq.IMMEDIATE, 1),  # never queue for a connection that does not stand
        (zmq.SNDTIMEO, 0),
        (zmq.SNDHWM, send_hwm),
        (zmq.RCVHWM, RECEIVE_HWM),
        (zmq.MAXMSGSIZE, FRAME_BYTES_MAX),
        (zmq.RECONNECT_IVL, -1),  # an old socket keeps stale messages: each dial is a new one
        (zmq.HANDSHAKE_IVL, HANDSHAKE_TIMEOUT_MS),
        (zmq.HEARTBEAT_IVL, HEARTBEAT_INTERVAL_MS),
        (zmq.HEARTBEAT_TIMEOUT, HEARTBEAT_TIMEOUT_MS),
        (zmq.HEARTBEAT_TTL, HEARTBEAT_TIMEOUT_MS),
        (zmq.TCP_KEEPALIVE, 1),
        (zmq.TCP_KEEPALIVE_IDLE, 10),
        (zmq.TCP_KEEPALIVE_INTVL, 5),
        (zmq.TCP_KEEPALIVE_CNT, 3),
    ):
        socket.setsockopt(option, value)
    if bulk:
        socket.setsockopt(zmq.SNDBUF, BULK_BUFFER_BYTES)
    if kind == zmq.ROUTER:
        socket.setsockopt(zmq.ROUTER_MANDATORY, 1)  # the default drops in silence
        socket.setsockopt(zmq.ROUTER_HANDOVER, 0)  # a chosen id must not take a peer's messages
    if kind == zmq.XPUB:
        socket.setsockopt(zmq.XPUB_VERBOSE, 1)  # every subscription is counted, also a repeated one
    return socket


def _seed_libc_rand() -> None:
    # libzmq draws routing ids with rand() and never seeds it; a peer that predicts one aborts us.
    seed = int.from_bytes(os.urandom(4), "little")
    ctypes.CDLL(None).srand(ctypes.c_uint(seed))


def _raise_open_files() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = resource.RLIM_INFINITY
    wanted = OPEN_FILES if hard == unlimited else min(OPEN_FILES, hard)
    if soft != unlimited and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
