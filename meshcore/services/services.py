"""The services of a node: what it serves, and what it answers about services."""

from __future__ import annotations

import asyncio
import logging
import math
import weakref
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from meshcore.config import Config
from meshcore.errors import (
    BadPayloadError,
    BusyError,
    ClosedError,
    ConfigError,
    MeshError,
    RPCNotFoundError,
)  # fmt: skip
from meshcore.leases.etcd import EtcdGrant
from meshcore.payload.values import encode_value
from meshcore.protocol.mesh import Mesh
from meshcore.protocol.replication.formation import MEMBERS_MAX
from meshcore.protocol.replication.replica import CHECKPOINT_INTERVAL, CHECKPOINT_LOG_BYTES
from meshcore.router import Router
from meshcore.services.calling import CALL, Request
from meshcore.services.directives import Directives
from meshcore.services.directory import Directory, close_to
from meshcore.services.group import Group, Policy
from meshcore.services.instance import Instance
from meshcore.services.loading import load_service
from meshcore.services.outcome import plain_failure, traceback_of
from meshcore.services.registry import AttachedRegistry, Registry
from meshcore.services.replicated.carrier import Post
from meshcore.services.replicated.host import ReplicaHost
from meshcore.services.served import Served
from meshcore.services.service import Request as Called
from meshcore.services.service import Service

__all__ = ["Served", "Services"]

_LOG = logging.getLogger("meshcore.services")
REPLICATIONS = ("none", "active", "passive")
HEARTBEAT_INTERVAL = 1.0  # seconds
HANG_AFTER = 5.0
NAME_CHARS_MAX = 64
GROUPS_MAX = 64  # services of one node
_SENDABLE = frozenset({bytes, bool, float, type(None)})  # without a look inside


class Services:
    """`announce` is called when what the node serves has changed."""

    def __init__(
        self,
        mesh: Mesh,
        router: Router,
        *,
        request: Request,
        post: Post,
        config: Config,
        announce: Callable[[], None],
        controller: Any,
    ) -> None:
        self.node_id = mesh.identity.node_id
        self._request = request
        self._post = post
        self._config = config
        self._announce = announce
        self._controller = controller
        self.directory = Directory(mesh)
        self.directory.on_offers = self._on_offers
        self.registry: Registry = (
            AttachedRegistry(self.directory, request, post, node_id=self.node_id, router=router)
            if config.ephemeral
            else Registry(self.directory, request, post, node_id=self.node_id, router=router)
        )
        self.served: dict[str, Served] = {}
        self._running = False
        self._data_dir: Path | None = None
        self._groups: weakref.WeakSet[Group] = weakref.WeakSet()

    # Life ----------------------------------------------------------------------------------------

    def register(self, internal: dict[str, Any], respond: Callable[[Any, Any, bool], Any]) -> None:
        """Answer the directives about services."""
        internal[CALL] = self._on_call
        Directives(self, self._request, respond).register(internal)

    async def start(self, config: Config) -> None:
        """Begin what the configuration names, and what `serve` was asked for before."""
        await self._load(config.services)
        self._data_dir = config.data_dir
        self._running = True
        for served in list(self.served.values()):
            await self._begin(served)

    async def _load(self, sections: Mapping[str, Mapping[str, Any]]) -> None:
        for group, section in sections.items():
            service, settings = load_service(group, section)
            await self.serve(service, group=group, **settings)

    async def stop(self, grace: float) -> None:
        """End all services in good order; calls that are there may run so many seconds more."""
        self._running = False
        await asyncio.gather(*(one.stop(grace) for one in list(self.served.values())))
        await asyncio.gather(*(group.close() for group in list(self._groups)))
        await self.registry.close()

    def _on_ended(self, served: Served) -> None:
        if self.served.get(served.group) is served:
            del self.served[served.group]
            self.announce()

    async def serve(
        self,
        service: Service,
        *,
        group: str,
        replication: str = "none",
        replicas: int = 1,
        members: Iterable[str] | None = None,
        checkpoint_interval: float = CHECKPOINT_INTERVAL,
        checkpoint_log_bytes: int = CHECKPOINT_LOG_BYTES,
        heartbeat_interval: float = HEARTBEAT_INTERVAL,
        hang_after: float = HANG_AFTER,
        leadership: str = "election",
    ) -> Served:
        """Serve this in that group, from now or from the node's start on until it stops.

        Args:
            service: what is called; its `init` runs first.
            group: a name that all who serve the same use.
            replication: "none", "active" (all run each call) or "passive" (the primary first).
            replicas: how many members a replicated group has.
            members: their nodes; left out, the first that are there.
            checkpoint_interval, checkpoint_log_bytes: seconds, and size of the log, between two.
            heartbeat_interval: seconds between two questions whether the service works.
            hang_after: seconds without an answer until it is no member any more.
            leadership: "election", or "etcd": who has a lease of etcd leads (setting `etcd`).

        Raises ConfigError, and whatever `init` raises."""
        named = None if members is None else tuple(members)
        replicas = len(named) if named is not None and replicas == 1 else replicas
        self._check(service, group, replication, replicas, named)
        grant = self._grant_of(group, leadership)
        _check_positive(
            checkpoint_interval=checkpoint_interval,
            checkpoint_log_bytes=checkpoint_log_bytes,
            heartbeat_interval=heartbeat_interval,
            hang_after=hang_after,
        )
        instance = Instance(service, group=group, node_id=self.node_id)

        def make_host() -> ReplicaHost:
            return ReplicaHost(
                instance,
                post=self._post,
                replication=replication,
                replicas=replicas,
                named=named,
                checkpoint_interval=checkpoint_interval,
                checkpoint_log_bytes=checkpoint_log_bytes,
                path=self._path_of(group),
                changed=self.announce,
                grant=grant,
            )

        served = Served(
            instance,
            make_host if replication != "none" else None,
            replication=replication,
            replicas=replicas,
            heartbeat_interval=heartbeat_interval,
            hang_after=hang_after,
            changed=self.announce,
            ended=self._on_ended,
        )
        service.controller, service.served = self._controller, served
        self.served[group] = served
        if self._running:
            await self._begin(served)
        return served

    async def _begin(self, served: Served) -> None:
        try:
            await served.start()
        except BaseException:
            self.served.pop(served.group, None)
            raise
        self._tell_seen(served)
        self.announce()

    async def end(self, group: str) -> None:
        """Serve that no more; ConfigError where it is not served here."""
        served = self.served.get(group)
        if served is None:
            raise ConfigError(f"this node does not serve {group}")
        await served.stop()

    def _grant_of(self, group: str, leadership: str) -> EtcdGrant | None:
        """What gives the lease to lead, where somebody does."""
        if leadership == "election":
            return None
        if leadership != "etcd":
            raise ConfigError(f"leadership = {leadership!r} must be election or etcd")
        key = f"meshcore/{self._config.mesh}/{group}"
        return EtcdGrant(self._config.etcd, key=key, owner=self.node_id)

    def _path_of(self, group: str) -> Path | None:
        return None if self._data_dir is None else self._data_dir / "services" / f"{group}.db"

    def _check(
        self,
        service: Service,
        group: str,
        replication: str,
        replicas: int,
        named: tuple[str, ...] | None,
    ) -> None:
        if not isinstance(service, Service):
            raise ConfigError(f"a service is an instance of meshcore.Service, not {service!r}")
        if not _is_name(group):
            raise ConfigError(
                f"group = {group!r} must be letters, digits, '-', '_' and '.', up to"
                f" {NAME_CHARS_MAX}"
            )
        if group in self.served:
            raise ConfigError(f"this node serves {group} already")
        if len(self.served) >= GROUPS_MAX:
            raise ConfigError(f"a node serves up to {GROUPS_MAX} groups")
        if replication not in REPLICATIONS:
            raise ConfigError(
                f"replication = {replication!r} must be one of {', '.join(REPLICATIONS)}"
            )
        if replication == "none":
            return
        if not 1 <= replicas <= MEMBERS_MAX:
            raise ConfigError(f"replicas = {replicas!r} must be from 1 to {MEMBERS_MAX}")
        if named is not None and len(set(named)) != replicas:
            raise ConfigError(f"members names {len(set(named))} nodes, replicas is {replicas}")
        kind = type(service)
        for name in ("get_checkpoint", "put_checkpoint"):
            if getattr(kind, name) is getattr(Service, name):
                raise ConfigError(f"{kind.__name__} needs {name}: it is replicated")

    # Groups --------------------------------------------------------------------------------------

    def group(
        self, name: str, *, policy: Policy | None = None, timeout: float | None = None
    ) -> Group:
        """Call the services of that group; see `Group`."""
        made = Group(name, self.registry, policy=policy, timeout=timeout)
        self._groups.add(made)
        return made

    def announce(self) -> None:
        """What this node serves has changed: tell the mesh, and ourselves."""
        self._announce()
        self.directory.look(self.node_id)

    def announced(self) -> dict[str, Any]:
        """For the details of the node."""
        return {group: served.announced() for group, served in sorted(self.served.items())}

    def dispatch(self, event: Any) -> None:
        """Follow the mesh."""
        self.directory.dispatch(event)

    def _on_offers(self, groups: Iterable[str]) -> None:
        for group in groups:
            served = self.served.get(group)
            if served is not None:
                self._tell_seen(served)

    def _tell_seen(self, served: Served) -> None:
        if served.host is not None:
            offers = self.directory.offers(served.group)
            served.host.set_seen(
                {
                    offer.replica: offer.gid
                    for offer in offers
                    if offer.replica is not None and offer.node != self.node_id
                }
            )

    # Calls ---------------------------------------------------------------------------------------

    def instance(self, group: str) -> Served:
        """RPCNotFoundError where this node does not serve that."""
        served = self.served.get(group)
        if served is None:
            raise RPCNotFoundError(
                f"{self.node_id} does not serve {group!r}{close_to(group, self.served)}",
                may_have_run=False,
            )
        return served

    async def _on_call(self, stream: Any, payload: Any, trace: Any) -> Any:
        match payload:
            case [str() as group, str() as method, list() as args, dict() as kwargs, str(), int()]:
                pass
            case _:
                raise BadPayloadError(f"{CALL} takes group, method, args, kwargs, client, number")
        client, number = payload[4], payload[5]
        try:
            served = self.instance(group)
            if served.is_replicated and method != "heartbeat":
                raise RPCNotFoundError(
                    f"{group} is replicated: its calls go to the group", may_have_run=False
                )
            request = Called(group, client, self.node_id, number, args, kwargs, method)
            value = await served.instance.call(request)
            if type(value) not in _SENDABLE:
                encode_value(value)  # what cannot be sent is a failure of the service
            return [value]
        except (BusyError, ClosedError):
            raise
        except asyncio.CancelledError:
            if not self._running:
                raise ClosedError(f"{self.node_id} stops") from None
            raise
        except Exception as error:
            failure = plain_failure(error)
            if not isinstance(error, RPCNotFoundError):
                failure["traceback"] = traceback_of(error)
            return [None, failure]

    # Status --------------------------------------------------------------------------------------

    def status(self, group: str | None = None) -> dict[str, Any]:
        """What this node serves, with what changes all the time."""
        return {
            name: served.status()
            for name, served in sorted(self.served.items())
            if group in (None, name)
        }

    def set(self, group: str, settings: dict[str, Any]) -> None:
        """Change settings of a service while it runs; ConfigError names what is wrong."""
        served = self.instance(group)
        known = {"checkpoint_interval", "checkpoint_log_bytes", "heartbeat_interval"}
        for name in settings:
            if name not in known:
                raise ConfigError(f"{name} cannot be set; {', '.join(sorted(known))} can")
        _check_positive(**settings)
        if "heartbeat_interval" in settings:
            served.set_heartbeat(interval=settings["heartbeat_interval"])
        interval, log_bytes = (
            settings.get("checkpoint_interval"), settings.get("checkpoint_log_bytes"),
        )  # fmt: skip
        if interval is None and log_bytes is None:
            return
        if served.host is None:
            raise ConfigError(f"{group} is not replicated: it has no checkpoints")
        served.host.set_checkpoints(interval=interval, log_bytes=log_bytes)

    def designate(self, group: str, node: str) -> None:
        """Hand over to that node; MeshError where that cannot be."""
        host = self.instance(group).host
        if host is None:
            raise ConfigError(f"{group} is not replicated: it has no primary")
        try:
            host.designate(node)
        except ValueError as error:
            raise MeshError(str(error), may_have_run=False) from error


def _check_positive(**settings: Any) -> None:
    for name, value in settings.items():
        if type(value) not in (int, float) or not 0 < value < math.inf:
            raise ConfigError(f"{name} = {value!r} must be a number greater than 0")


def _is_name(name: Any) -> bool:
    return (
        isinstance(name, str)
        and 0 < len(name) <= NAME_CHARS_MAX
        and name[0].isalnum()
        and all(char.isascii() and (char.isalnum() or char in "-_.") for char in name)
    )
