"""Who is there, how alive, who is master and what time it is; and the events of all that.

Reads are snapshots of what this node believes now. Times of the mesh are those of `now()`; `status`
and everything else about life goes by monotonic clocks alone.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from meshcore import host
from meshcore.config import Timings
from meshcore.errors import ConfigError, UnknownNodeError
from meshcore.events import (
    Change,
    Event,
    LinkEvent,
    MasterEvent,
    Overflow,
    StatusEvent,
    Subscribers,
    Watch,
)
from meshcore.node_info import NodeInfo
from meshcore.protocol.election.election import Contested, MasterChanged
from meshcore.protocol.membership import events, link_events
from meshcore.protocol.mesh import Rerouted
from meshcore.protocol.view import NodeStatus
from meshcore.runtime.explain import unknown_node

if TYPE_CHECKING:
    from meshcore.protocol.mesh import Mesh
    from meshcore.router import Router

__all__ = [
    "Change",
    "Connectivity",
    "LinkEvent",
    "MasterEvent",
    "NodeInfo",
    "Overflow",
    "StatusEvent",
]
_LOG = logging.getLogger("meshcore.connectivity")


class Connectivity:
    """The node's view of the others. Made by the node, as `node.connectivity`.

    Args:
        act: does something with the core and sends what follows: `act(method, *arguments)`.
        request: `Node.request`, to ask a node for the load of its machine.
    """

    def __init__(
        self,
        mesh: Mesh,
        router: Router,
        *,
        act: Callable[..., None],
        request: Callable[..., Awaitable[Any]],
    ) -> None:
        self._mesh = mesh
        self._router = router
        self._act = act
        self._request = request
        self._known_since = {mesh.identity.node_id: time.time()}
        self._loads: dict[str, dict[str, Any]] = {}
        self._urls: dict[int, str | None] = {}
        self._contested: tuple[str, ...] = ()
        self._subscribers = Subscribers(
            ("change", "status", "link", "master", "attached", "routes")
        )
        # A reader that has broken off its loop is forgotten with its iterator.
        self._watches: WeakSet[Watch] = WeakSet()

    # Reads -----------------------------------------------------------------------------------

    @property
    def nodes(self) -> dict[str, NodeInfo]:
        """Every known node by its id, the own included."""
        return {entry.node_id: self._info(entry) for entry in self._mesh.roster.nodes()}

    @property
    def info(self) -> NodeInfo:
        """The own node; for an ephemeral one the node that it is attached to."""
        own = self._mesh.attached_to or self._mesh.identity.node_id
        return self.get(own)

    def get(self, node_id: str) -> NodeInfo:
        """One node; raises UnknownNodeError where nobody knows that id."""
        return self._info(self._entry(node_id))

    @property
    def connected(self) -> bool:
        """Whether a link to another node is up."""
        return bool(self._mesh.has_link())

    @property
    def up_time(self) -> float:
        """Seconds since this node started."""
        return self._mesh.scale.up_time(time.monotonic())

    def get_status(self, node_id: str) -> NodeStatus:
        """Raises UnknownNodeError where nobody knows that id."""
        return self._entry(node_id).status

    def get_all_hosts(self) -> list[str]:
        """The names of the machines that the known nodes run on, sorted, each once."""
        return sorted({info.host["name"] for info in self.nodes.values() if info.host.get("name")})

    async def refresh(self, node_id: str) -> NodeInfo:
        """Ask a node how busy its machine is; `host` in its NodeInfo says so from then on.

        Raises:
            UnknownNodeError, UnreachableError, DeadlineExceededError: as for any call.
        """
        answer = await self._request(self._entry(node_id).node_id, "mesh:ping", None, timeout=None)
        load = answer.get("host")
        if node_id in self._mesh.roster and isinstance(load, dict):
            self._loads[node_id] = load
        return self.get(node_id)

    def _entry(self, node_id: str) -> events.NodeEntry:
        entry = self._mesh.roster.get(node_id)
        if entry is None:
            raise UnknownNodeError(
                unknown_node(self._mesh, node_id), node_id=node_id, may_have_run=False
            )
        return entry

    def _info(self, entry: events.NodeEntry) -> NodeInfo:
        mesh, node_id = self._mesh, entry.node_id
        details = mesh.details_of.get(node_id)
        content = details.content if details is not None else {}
        record = mesh.database.link_state(node_id)
        own = node_id == mesh.identity.node_id
        forced = mesh.own.forced if own else record.forced if record is not None else None
        env = content.get("env")
        return NodeInfo(
            id=node_id,
            incarnation=entry.incarnation,
            env=env if isinstance(env, str) else "python",
            version=content.get("version"),
            is_master=node_id == mesh.master,
            is_master_forced=forced,
            host=self._host_of(node_id, content.get("host")),
            pid=content.get("pid"),
            timestamp=time.time() - self._silence(entry),
            connected_since=self._known_since.get(node_id, time.time()),
            up_time=self.up_time if own else self._up_time(node_id),
            status=entry.status,
            reachable=entry.reachable,
            reason=entry.reason.value,
            stalled=entry.stalled,
            plugins=tuple(content.get("plugins") or ()),
            organization=content.get("organization"),
            hops=entry.hops,
            latency=self._router.latency(node_id),
        )

    def _host_of(self, node_id: str, told: Any) -> dict[str, Any]:
        """What a node has told of its machine, with the load that it said when it was asked."""
        described, load = host.as_told(told), self._loads.get(node_id)
        return described if load is None else host.with_load(described, load)

    def _silence(self, entry: events.NodeEntry) -> float:
        """Seconds since the last sign of life: by beats of a neighbour, else by the topology."""
        now = time.monotonic()
        if entry.silent_since is not None:
            return max(0.0, now - entry.silent_since)
        age = self._mesh.detector.age_of(entry.node_id, now)
        return 0.0 if age is None else age

    def _up_time(self, node_id: str) -> float | None:
        record, scale = self._mesh.database.link_state(node_id), self._mesh.scale
        if record is None or record.scale != scale.name:
            return None  # it has yet to take the scale of ages that we have, or we its
        return max(0.0, scale.position(time.monotonic()) - record.born)

    # Master ----------------------------------------------------------------------------------

    @property
    def master(self) -> NodeInfo | None:
        """The master as this node sees it; None where there is none."""
        master = self._mesh.master
        entry = None if master is None else self._mesh.roster.get(master)
        return None if entry is None else self._info(entry)

    @property
    def is_master(self) -> bool:
        """Whether this node is the master.

        Set True to force it on, False to have it never be, None to leave it to age.
        """
        return self._mesh.master == self._mesh.identity.node_id

    @is_master.setter
    def is_master(self, forced: bool | None) -> None:
        if forced is not None and not isinstance(forced, bool):
            raise ConfigError(f"is_master = {forced!r} must be True, False or None")
        if not self._mesh.identity.listed:
            raise ConfigError("an ephemeral node cannot be master: it is not listed")
        self._act(self._mesh.set_forced, forced)

    # Time ------------------------------------------------------------------------------------

    def now(self) -> float:
        """What time it is in the mesh, in Unix seconds: the master's; it never goes back."""
        return self._mesh.clock.time(time.monotonic())

    @property
    def now_error(self) -> float | None:
        """How far `now()` may be from the master's, in seconds; None where nothing is known yet."""
        return self._mesh.clock.error(time.monotonic())

    def sync_time(self, timestamp: float, delay: float) -> None:
        """A reference says that it was `timestamp`, in Unix seconds, `delay` seconds ago.

        Sets the clock at once, forward or backward: on the master that of the whole mesh, which
        follows within two seconds for each hop. A node that follows a master returns to that one's
        time as soon as it hears of it again.

        Raises:
            ConfigError: no number, or a negative delay.
        """
        given: dict[str, Any] = {"timestamp": timestamp, "delay": delay}
        for name, value in given.items():
            if type(value) not in (int, float) or not 0 <= value <= 2**53:
                raise ConfigError(f"{name} = {value!r} must be a number of seconds, at least 0")
        self._act(self._mesh.sync_time, timestamp, delay)

    # Settings --------------------------------------------------------------------------------

    def set_timings(self, **timings: float) -> None:
        """Judge by these timings from now on; each call starts from the defaults.

        Takes send_alive_interval, check_interval, slow, warn, dead, remove, all in seconds. Raises
        ConfigError naming what is out of range or out of order; then nothing has changed.
        """
        self._act(self._mesh.set_timings, Timings(**timings))

    # Events ----------------------------------------------------------------------------------

    def on_change(self, callback: Callable[[Change], None]) -> Callable[[], None]:
        """`callback` gets a Change when nodes become known or are forgotten."""
        return self._subscribers.add("change", callback)

    def on_status(self, callback: Callable[[StatusEvent], None]) -> Callable[[], None]:
        """`callback` gets a StatusEvent for each transition, in order."""
        return self._subscribers.add("status", callback)

    def on_link(self, callback: Callable[[LinkEvent], None]) -> Callable[[], None]:
        """`callback` gets a LinkEvent for each link that comes up or goes down."""
        return self._subscribers.add("link", callback)

    def on_master(self, callback: Callable[[MasterEvent], None]) -> Callable[[], None]:
        """`callback` gets a MasterEvent when the master changes, or several are forced on."""
        return self._subscribers.add("master", callback)

    def on_attached(self, callback: Callable[[str], None]) -> Callable[[], None]:
        """For ephemeral nodes: `callback` gets the id of the node they are attached to."""
        return self._subscribers.add("attached", callback)

    def on_routes(self, callback: Callable[[tuple[str, ...]], None]) -> Callable[[], None]:
        """`callback` gets the ids of nodes to which the way has changed."""
        return self._subscribers.add("routes", callback)

    def watch(self) -> Watch:
        """All events of nodes, statuses, links and the master, from now on, for `async for`.

        It is bounded: a reader that is too slow gets one Overflow with everything as it is then.
        """
        watch = Watch(self._overflow, self._watches.discard)
        self._watches.add(watch)
        return watch

    def close(self) -> None:
        """The node has stopped: whoever watches has seen all (called by the node)."""
        for watch in self._watches:
            watch.close()

    def _overflow(self, dropped: int) -> Overflow:
        return Overflow(dropped, self.nodes, self._mesh.master)

    def dispatch(self, event: Any) -> None:
        """Tell the subscribers what the core reports (called by the node)."""
        match event:
            case events.Added(node_id=node_id):
                self._known_since[node_id] = time.time()
                self._tell("change", Change((node_id,), ()))
            case events.Removed(node_id=node_id):
                self._known_since.pop(node_id, None)
                self._loads.pop(node_id, None)
                self._tell("change", Change((), (node_id,)))
            case events.StatusChanged():
                told = StatusEvent(
                    event.node_id, event.old, event.new, event.reachable, event.reason.value
                )
                self._tell("status", told)
            case MasterChanged(old=old, new=new):
                self._tell("master", MasterEvent(old, new, self._contested))
            case Contested(node_ids=node_ids):
                self._contested = node_ids
                if node_ids:
                    _LOG.warning("several nodes are forced to be master: %s", ", ".join(node_ids))
                master = self._mesh.master
                self._tell("master", MasterEvent(master, master, node_ids))
            case Rerouted(node_ids=node_ids):
                self._subscribers.tell("routes", node_ids)
            case link_events.LinkUp() | link_events.LinkDown():
                self._dispatch_link(event)

    def _dispatch_link(self, event: link_events.LinkUp | link_events.LinkDown) -> None:
        if isinstance(event, link_events.LinkDown):
            if event.link in self._urls:
                url = self._urls.pop(event.link)
                self._tell("link", LinkEvent(event.node_id, False, event.reason, url))
        elif event.client_address is None:
            self._urls[event.link] = event.url
            self._tell("link", LinkEvent(event.node_id, True, "", event.url))
        elif not self._mesh.identity.listed:
            self._subscribers.tell("attached", event.node_id)

    def _tell(self, kind: str, event: Event) -> None:
        self._subscribers.tell(kind, event)
        for watch in self._watches:
            watch.put(event)
