"""Bounds of the wire. Raising one costs memory per link; lowering one drops peers that use more."""

from __future__ import annotations

VERSION = 1  # of the protocol spoken here; HELLO carries the range that a node can speak
VERSION_MIN = 1

FRAME_BYTES_MAX = 512 * 1024  # one ZeroMQ frame; the largest chunk is half of it
CHUNK_BYTES_MAX = 256 * 1024  # more on one connection holds back pings behind it
LARGE_BYTES = 64 * 1024  # from here a body has a frame of its own, on the bulk lane
PACKET_BYTES_MAX = 64 * 1024  # messages gathered into one packet
PACKET_MESSAGES_MAX = 64  # measured: 64 gives the most calls/s of 8, 16, 32, 64, 128

RECORD_BYTES_MAX = 128 * 1024  # a hub of 4,000 links
DETAILS_BYTES_MAX = 64 * 1024
RECORDS_PER_NEWS_MAX = 512
EDGES_MAX = 4096
ENDPOINTS_MAX = 16
URL_CHARS_MAX = 256
REASON_CHARS_MAX = 512
NODES_MAX = 16_384  # origins in the database; more are refused and counted

HOP_LIMIT = 32
TRACE_HOPS_MAX = HOP_LIMIT + 1
