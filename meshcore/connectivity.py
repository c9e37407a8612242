"""Who is there, how alive, and what changes: the node's view of the others, and its events.

Callbacks are plain functions, called on the node's loop in the order of the events; each
subscription returns a function that ends it. A callback that raises is logged and stays subscribed.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from meshcore import host
from meshcore.config import Timings
from meshcore.errors import UnknownNodeError
from meshcore.protocol.membership import events, link_events
from meshcore.protocol.mesh import Rerouted
from meshcore.protocol.view import NodeStatus

if TYPE_CHECKING:
    from meshcore.protocol.mesh import Mesh

_LOG = logging.getLogger("meshcore.connectivity")


@dataclass(frozen=True, slots=True)
class NodeInfo:
    """One node as this node sees it. What is not known yet is None.

    Attributes:
        id: its node id.
        incarnation: the number of its present life.
        env: what it is written in.
        version: of meshcore, at that node.
        host: its machine: `{"name", "os", "cores", "cpu": {"model", "speed", "usage"}, "ram":
            {"total", "free", "used_perc"}}` in MHz, bytes and 0 to 100; what it cannot tell is
            None, and the load is that of the moment when it last told of itself.
        pid: of its process.
        status: ALIVE, SLOW, WARNING or DEAD.
        reachable: whether there is a way to it now.
        reason: why it is not reachable ("gone", "silent", "unreachable"), else "".
        stalled: its connection is whole but its loop does not run.
        plugins: the namespaces whose actions it offers.
        organization: as it was configured there.
        hops: links on the way to it; 0 for the own node, and where there is no way.
    """

    id: str
    incarnation: int
    env: str
    version: str | None
    host: dict[str, Any]
    pid: int | None
    status: NodeStatus
    reachable: bool
    reason: str
    stalled: bool
    plugins: tuple[str, ...]
    organization: str | None
    hops: int


@dataclass(frozen=True, slots=True)
class Change:
    """Nodes that are known from now on, or no longer."""

    added: tuple[str, ...]
    removed: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class StatusEvent:
    """A node's status has changed."""

    node_id: str
    old: NodeStatus
    new: NodeStatus
    reachable: bool
    reason: str


@dataclass(frozen=True, slots=True)
class LinkEvent:
    """A link to a neighbour came up or went down; `reason` says why it went down."""

    node_id: str
    up: bool
    reason: str
    url: str | None


class Connectivity:
    def __init__(self, mesh: Mesh, *, set_timings: Callable[[Timings], None]) -> None:
        self._mesh = mesh
        self._set_timings = set_timings
        self._started = time.monotonic()
        self._urls: dict[int, str | None] = {}
        self._subscribers: dict[str, list[Callable[[Any], None]]] = {
            "change": [],
            "status": [],
            "link": [],
            "attached": [],
            "routes": [],
        }

    # Reads -----------------------------------------------------------------------------------

    @property
    def nodes(self) -> dict[str, NodeInfo]:
        """Every known node by its id, the own included."""
        return {entry.node_id: self._info(entry) for entry in self._mesh.roster.nodes()}

    @property
    def info(self) -> NodeInfo:
        """The own node."""
        return self.nodes[self._mesh.identity.node_id]

    @property
    def connected(self) -> bool:
        """Whether a link to another node is up."""
        return bool(self._mesh.has_link())

    @property
    def up_time(self) -> float:
        """Seconds since this node started."""
        return time.monotonic() - self._started

    def get_status(self, node_id: str) -> NodeStatus:
        """Raises UnknownNodeError where nobody knows that id."""
        entry = self._mesh.roster.get(node_id)
        if entry is None:
            raise UnknownNodeError(
                f"no node {node_id!r} is known", node_id=node_id, may_have_run=False
            )
        return entry.status

    def get_all_hosts(self) -> list[str]:
        """The names of the machines that the known nodes run on, sorted, each once."""
        return sorted({info.host["name"] for info in self.nodes.values() if info.host.get("name")})

    def _info(self, entry: events.NodeEntry) -> NodeInfo:
        details = self._mesh.details_of.get(entry.node_id)
        content = details.content if details is not None else {}
        env = content.get("env")
        return NodeInfo(
            id=entry.node_id,
            incarnation=entry.incarnation,
            env=env if isinstance(env, str) else "python",
            version=content.get("version"),
            host=host.as_told(content.get("host")),
            pid=content.get("pid"),
            status=entry.status,
            reachable=entry.reachable,
            reason=entry.reason.value,
            stalled=entry.stalled,
            plugins=tuple(content.get("plugins") or ()),
            organization=content.get("organization"),
            hops=entry.hops,
        )

    # Settings --------------------------------------------------------------------------------

    def set_timings(self, **timings: float) -> None:
        """Judge by these timings from now on; each call starts from the defaults.

        Takes send_alive_interval, check_interval, slow, warn, dead, remove, all in seconds. Raises
        ConfigError naming what is out of range or out of order; then nothing has changed.
        """
        self._set_timings(Timings(**timings))

    # Events ----------------------------------------------------------------------------------

    def on_change(self, callback: Callable[[Change], None]) -> Callable[[], None]:
        """`callback` gets a Change when nodes become known or are forgotten."""
        return self._subscribe("change", callback)

    def on_status(self, callback: Callable[[StatusEvent], None]) -> Callable[[], None]:
        """`callback` gets a StatusEvent for each transition, in order."""
        return self._subscribe("status", callback)

    def on_link(self, callback: Callable[[LinkEvent], None]) -> Callable[[], None]:
        """`callback` gets a LinkEvent for each link that comes up or goes down."""
        return self._subscribe("link", callback)

    def on_attached(self, callback: Callable[[str], None]) -> Callable[[], None]:
        """For ephemeral nodes: `callback` gets the id of the node they are attached to."""
        return self._subscribe("attached", callback)

    def on_routes(self, callback: Callable[[tuple[str, ...]], None]) -> Callable[[], None]:
        """`callback` gets the ids of nodes to which the way has changed."""
        return self._subscribe("routes", callback)

    def _subscribe(self, kind: str, callback: Callable[[Any], None]) -> Callable[[], None]:
        callbacks = self._subscribers[kind]
        callbacks.append(callback)

        def unsubscribe() -> None:
            if callback in callbacks:
                callbacks.remove(callback)

        return unsubscribe

    def dispatch(self, event: Any) -> None:
        """Tell the subscribers what the core reports (called by the node)."""
        match event:
            case events.Added(node_id=node_id):
                self._tell("change", Change((node_id,), ()))
            case events.Removed(node_id=node_id):
                self._tell("change", Change((), (node_id,)))
            case events.StatusChanged():
                told = StatusEvent(
                    event.node_id, event.old, event.new, event.reachable, event.reason.value
                )
                self._tell("status", told)
            case Rerouted(node_ids=node_ids):
                self._tell("routes", node_ids)
            case link_events.LinkUp():
                if event.client_address is None:
                    self._urls[event.link] = event.url
                    self._tell("link", LinkEvent(event.node_id, True, "", event.url))
                elif not self._mesh.identity.listed:
                    self._tell("attached", event.node_id)
            case link_events.LinkDown():
                if event.link in self._urls:
                    url = self._urls.pop(event.link)
                    self._tell("link", LinkEvent(event.node_id, False, event.reason, url))

    def _tell(self, kind: str, event: object) -> None:
        for callback in list(self._subscribers[kind]):
            try:
                callback(event)
            except Exception:
                _LOG.exception("a callback for %s events failed", kind)
