"""One node as another sees it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from meshcore.protocol.view import NodeStatus


@dataclass(frozen=True, slots=True)
class NodeInfo:
    """One node as this node sees it. What is not known yet is None.

    Attributes:
        id: its node id.
        incarnation: the number of its present life.
        env: what it is written in.
        version: of meshcore, at that node.
        is_master: whether it is the master, as this node sees it.
        is_master_forced: whether it is forced to be master (True), or never to be (False).
        host: of its machine: `name`, `os`, `cores`, `cpu` (`model`, `speed` in MHz, `usage` in
            per cent), `ram` (`total` and `free` in bytes, `used_perc`). What changes all the time
            is as it was when the node last told, or was last asked (`connectivity.refresh`).
        pid: of its process.
        timestamp: when there was the last sign of life of it, in Unix seconds.
        connected_since: since when it is known here without a gap, in Unix seconds.
        up_time: seconds since its process started.
        status: ALIVE, SLOW, WARNING or DEAD.
        reachable: whether there is a way to it now.
        reason: why it is not reachable ("gone", "silent", "unreachable"), or "quiet" where nothing
            is heard over a connection that is whole; else "".
        stalled: its connection is whole but its loop does not run.
        plugins: the namespaces whose actions it offers.
        organization: as it was configured there.
        hops: links on the way to it; 0 for the own node, and where there is no way.
        latency: seconds there and back, the sum of what the links on the way measured last.
    """

    id: str
    incarnation: int
    env: str
    version: str | None
    is_master: bool
    is_master_forced: bool | None
    host: dict[str, Any]
    pid: int | None
    timestamp: float
    connected_since: float
    up_time: float | None
    status: NodeStatus
    reachable: bool
    reason: str
    stalled: bool
    plugins: tuple[str, ...]
    organization: str | None
    hops: int
    latency: float | None
