"""The machines of the control plane, made once and kept together; nothing happens here yet.

`consequences` lets the effects of one become inputs of the next, `control_plane` feeds them
messages and the time, and `core` adds the data plane.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping

from meshcore.protocol.delivery.delivery import Delivery
from meshcore.protocol.election.election import Candidate, Election
from meshcore.protocol.election.scale import Scale
from meshcore.protocol.forwarding import Forwarding
from meshcore.protocol.membership.detector import Detector
from meshcore.protocol.membership.gathering import Gathering
from meshcore.protocol.membership.handshake import Local
from meshcore.protocol.membership.links import Links
from meshcore.protocol.membership.roster import Roster
from meshcore.protocol.membership.targets import Target
from meshcore.protocol.membership.timings import TimingsLike
from meshcore.protocol.mesh.clients import Clients
from meshcore.protocol.mesh.own import Identity, OwnRecords
from meshcore.protocol.routing.database import LinkStateDatabase
from meshcore.protocol.routing.latency import Latency
from meshcore.protocol.routing.routing import Routing
from meshcore.protocol.timesync.clock import MeshClock
from meshcore.protocol.wire import control
from meshcore.protocol.wire.control import Flags
from meshcore.protocol.wire.records import Details, EdgeState, Record


class Machines:
    """What one node's control plane consists of, and what can be read of it."""

    def __init__(
        self,
        identity: Identity,
        *,
        timings: TimingsLike,
        rng: random.Random,
        now: float,
        unix_now: float,
        costs: Mapping[str, int],
        auto_connect: int,
        delivery: Delivery,
        forwarding: Forwarding,
    ) -> None:
        self.identity = identity
        self.delivery, self.forwarding = delivery, forwarding
        self._node_id = identity.node_id
        self._emit = delivery.emit
        self.scale = Scale(rng, now)
        local = Local(
            mesh=identity.mesh,
            node_id=identity.node_id,
            incarnation=identity.incarnation,
            life=identity.life,
            flags=Flags.OUTBOUND_ONLY if identity.listed else Flags.EPHEMERAL,
            interval=timings.send_alive_interval,
            scale=self.scale.name,
            started_at=now,
            description=identity.description,
        )
        self.links = Links(local, rng, holder_of=self._holder_of, known_of=self._known_of)
        self.detector = Detector(timings, rng=rng, now=now)
        self.database = LinkStateDatabase(identity.node_id, identity.incarnation, rng=rng)
        self._decode: Callable[[bytes], control.Control] = control.decode
        self.routing = Routing(identity.node_id)
        self.roster = Roster(
            identity.node_id,
            incarnation=identity.incarnation,
            life=identity.life,
            timings=timings,
            listed=identity.listed,
        )
        self.gathering = self._make_gathering(auto_connect, rng, now)
        self.election = Election(identity.node_id)
        self.clock = MeshClock(unix_now, now)
        self.latency = Latency(costs, rng=rng)
        self.own = OwnRecords(
            self.links,
            self.detector,
            self.latency,
            self.scale,
            digest=lambda: self.database.digest,
        )
        if identity.listed:
            self.election.update(identity.node_id, Candidate(self.scale.name, 0.0), now)
        self.clients = Clients(self.roster, self._emit)
        self.view_master: str | None = None  # as a client's node has told it
        self.details_of: dict[str, Details] = {}
        self.attached_to: str | None = None  # a client's node
        self.leave_acked = False
        self.control_received: dict[str, int] = {}  # by kind, beats and news included
        self.control_touched = True  # its deadlines may have changed
        self._attached_link = 0
        self._senders: dict[int, str] = {}  # link -> node id, or address of a client of ours
        self._local: dict[int, None] = {}  # accepted links from this very machine
        self._up: dict[int, None] = {}  # links to nodes that are up
        self._edges_changed = False
        self._has_left = False  # the last word is said
        self._outdone: dict[int, int] = {}  # how often each other life of our id has outbid us

    def _make_gathering(self, degree: int, rng: random.Random, now: float) -> Gathering:
        return Gathering(
            self._node_id,
            rng,
            degree=degree if self.identity.listed else 0,
            now=now,
            known=self._targets,
            in_vain=self.links.is_in_vain,
        )

    def share_decoders(
        self,
        decode: Callable[[bytes], control.Control],
        decode_record: Callable[[bytes], Record],
    ) -> None:
        """Decode by these, which remember: where many nodes share a process, each hears the same.

        They must give and raise what those of `protocol.wire` do.
        """
        self._decode = decode
        self.database.share_decoder(decode_record)

    # Reads -----------------------------------------------------------------------------------

    def has_link(self) -> bool:
        """Whether a link to another node is up."""
        return bool(self._attached_link or self._up)

    def is_neighbour(self, link: int) -> bool:
        """Whether a node, and not a client, is at the other end: it gets what is published."""
        return link in self._senders and link not in self.clients

    @property
    def master(self) -> str | None:
        """Who is master as this node sees it; a client sees what its node does."""
        return self.election.master if self.identity.listed else self.view_master

    def next_hop_to_master(self) -> str | None:
        """The neighbour whose time this node follows; None for the master, or without one."""
        master = self.election.master
        return None if master is None else self.routing.graph.next_hop(master)

    def _holder_of(self, node_id: str) -> int | None:
        entry = self.roster.holder(node_id)
        return entry.life if entry is not None and entry.reachable else None

    def _targets(self) -> Iterator[Target]:
        """Whose addresses the link states tell; who has left is dialled no more."""
        for origin in self.database.origins():
            record = self.database.link_state(origin)
            if record is not None and not record.left:
                links = sum(edge.state is not EdgeState.DOWN for edge in record.edges)
                reachable = self._holder_of(origin) is not None
                told_at = self.database.told_at(origin)
                yield Target(origin, record.endpoints, links, reachable, told_at)

    def _known_of(self, node_id: str) -> tuple[int, int] | None:
        incarnation = self.database.incarnation_of(node_id)
        record = self.database.link_state(node_id)
        known = None if incarnation is None else (incarnation, 0 if record is None else record.life)
        entry = self.roster.holder(node_id)  # a link tells of a life before its record comes
        if entry is not None and (known is None or entry.incarnation > known[0]):
            known = entry.incarnation, entry.life
        return known
