"""Limits so small that a short run meets them: `with tight():`.

What only happens to large groups would never happen to a simulated one: a checkpoint of several
parts, sessions that are evicted, a follower behind whom the log was cut, a pipeline that is full.
The machine's numbers are changed where it looks them up, and put back afterwards.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from meshcore.protocol.replication import applying, leading, members, serving, sessions, transfer

REPLACE_AFTER = 1.5  # seconds, instead of a minute: longer than many restarts, not than all

# module, name, value
LIMITS: tuple[tuple[Any, str, int], ...] = (
    (transfer, "PART_BYTES", 300),
    (sessions, "SESSIONS_MAX", 4),  # fewer than there are clients
    (applying, "RETAIN", 10),
    (applying, "AHEAD_MAX", 4),
    (serving, "AHEAD_MAX", 4),
    (leading, "IN_FLIGHT_MAX", 2),
    (leading, "COUNT_MAX", 5),
    (members, "NEARLY", 5),
)


@contextmanager
def tight() -> Iterator[None]:
    """Small limits until the block ends."""
    whole = [(module, name, getattr(module, name)) for module, name, _ in LIMITS]
    for module, name, value in LIMITS:
        setattr(module, name, value)
    try:
        yield
    finally:
        for module, name, value in whole:
            setattr(module, name, value)
