"""The reserved namespace `mesh`: what every node answers about itself and its view of the mesh.

These are answered on the loop, without a place in the work queue, so that a busy node can still be
asked why it is busy. The shapes are those of `meshctl … --json`.
"""

from __future__ import annotations

import asyncio
import os
import time
from itertools import pairwise
from typing import Any, Protocol

from meshcore import host
from meshcore.catalogue import Catalogue
from meshcore.config import Config
from meshcore.connectivity import Connectivity
from meshcore.errors import BadPayloadError, ConfigError, MeshError, UnknownNodeError
from meshcore.identity import is_directive
from meshcore.mastership import set_master
from meshcore.protocol.delivery.outputs import Failure
from meshcore.protocol.delivery.streams import ServerStream
from meshcore.protocol.view import NodeStatus
from meshcore.router import Router
from meshcore.runtime.driver import Driver
from meshcore.runtime.explain import explain
from meshcore.runtime.serving import Serving
from meshcore.selectors import Picker, selector
from meshcore.work.executor import Executor

PING_WAIT = 1.0  # seconds that the table of nodes waits for an answer
PINGS_AT_ONCE = 64


class Asked(Protocol):
    """What the answers need of the node."""

    node_id: str
    config: Config
    endpoints: list[str]
    router: Router
    connectivity: Connectivity
    catalogue: Catalogue

    async def request(
        self, recipient: str, directive: str, payload: Any, *, timeout: float | None
    ) -> Any: ...


class Answers:
    """Registers the answers of one node."""

    def __init__(
        self,
        node: Asked,
        driver: Driver,
        serving: Serving,
        executor: Executor,
        picker: Picker,
    ) -> None:
        self._node = node
        self._driver = driver
        self._mesh = driver.mesh
        self._serving = serving
        self._executor = executor
        self._picker = picker
        self._started_at = driver.now()

    def register(self) -> None:
        self._serving.internal.update(
            {
                "mesh:ping": self._ping,
                "mesh:identify": self._identify,
                "mesh:nodes": self._nodes,
                "mesh:edges": self._edges,
                "mesh:route": self._route,
                "mesh:actions": self._actions,
                "mesh:status": self._status,
                "mesh:master": self._master,
                "mesh:force": self._force,
                "mesh:set_master": self._set_master,
                "mesh:pick": self._pick,
            }
        )

    def _up(self) -> float:
        return self._driver.now() - self._started_at

    def _active(self) -> list[dict[str, Any]]:
        return [
            {**work, "started": work["started"].timestamp()} for work in self._executor.active()
        ]

    def _ping(self, stream: ServerStream, payload: Any, trace: list[str] | None) -> Any:
        return {
            "initial_time": payload if isinstance(payload, int | float) else None,
            "response_time": time.time(),
            "active_work": self._active(),
            "up_time": self._up(),
            "queued": self._executor.queued,
            "hops": trace or [],
            "host": host.load(),
        }

    def _identify(self, stream: ServerStream, payload: Any, trace: list[str] | None) -> Any:
        return {
            "life": self._mesh.identity.life,
            "description": host.process_description(),
            "host": host.load(),
        }

    def _edges(self, stream: ServerStream, payload: Any, trace: list[str] | None) -> Any:
        router = self._node.router
        return [
            {
                "from": one,
                "to": other,
                "cost": cost,
                "latency_ms": _milliseconds(router.link_latency(one, other)),
            }
            for one, other, cost in router.get_edges()
        ]

    def _route(self, stream: ServerStream, payload: Any, trace: list[str] | None) -> Any:
        if not isinstance(payload, str):
            raise BadPayloadError("mesh:route takes a node id")
        if self._mesh.roster.get(payload) is None:
            failure = Failure(8, "", False, unknown_node=True)
            raise UnknownNodeError(explain(self._mesh, failure, payload, "mesh:route"))
        router = self._node.router
        path = router.route(payload)
        links = [
            {
                "from": one,
                "to": other,
                "cost": router.link_cost(one, other),
                "latency_ms": _milliseconds(router.link_latency(one, other)),
            }
            for one, other in pairwise(path)
        ]
        return {
            "path": path,
            "cost": router.cost(payload),
            "latency_ms": _milliseconds(router.latency(payload)),
            "links": links,
        }

    def _master(self, stream: ServerStream, payload: Any, trace: list[str] | None) -> Any:
        connectivity = self._node.connectivity
        nodes = connectivity.nodes.values()
        return {
            "master": self._mesh.master,
            "forced": sorted(info.id for info in nodes if info.is_master_forced),
            "forced_off": sorted(info.id for info in nodes if info.is_master_forced is False),
            "settled": self._mesh.election.next_deadline() is None,
            "now": connectivity.now(),
            "now_error": connectivity.now_error,
        }

    def _force(self, stream: ServerStream, payload: Any, trace: list[str] | None) -> Any:
        if payload is not None and not isinstance(payload, bool):
            raise BadPayloadError("mesh:force takes true, false or nil")
        self._node.connectivity.is_master = payload
        return None

    async def _set_master(
        self, stream: ServerStream, payload: Any, trace: list[str] | None
    ) -> None:
        if payload is not None and not isinstance(payload, str):
            raise BadPayloadError("mesh:set_master takes a node id or nil")
        await set_master(self._node.connectivity, payload, self._node.request)

    def _actions(self, stream: ServerStream, payload: Any, trace: list[str] | None) -> Any:
        if payload is not None and self._mesh.roster.get(str(payload)) is None:
            failure = Failure(8, "", False, unknown_node=True)
            raise UnknownNodeError(explain(self._mesh, failure, str(payload), "mesh:actions"))
        rows: dict[str, dict[str, Any]] = {}
        for node_id, offered in self._node.router.node_capabilities().items():
            if payload is not None and node_id != payload:
                continue
            for directive, about in offered["actions"].items():
                row = rows.setdefault(
                    directive,
                    {
                        "directive": directive,
                        "description": about.get("description", ""),
                        "tags": about.get("tags", []),
                        "nodes": [],
                    },
                )
                row["nodes"].append(node_id)
        return [rows[directive] for directive in sorted(rows)]

    async def _pick(self, stream: ServerStream, payload: Any, trace: list[str] | None) -> list[str]:
        asked = payload if isinstance(payload, dict) else {}
        policy, directive = asked.get("selector"), asked.get("directive")
        if not isinstance(policy, str) or not is_directive(directive):
            raise BadPayloadError("mesh:pick takes a map: selector, directive")
        try:
            chosen = selector(policy)
        except ConfigError as error:
            raise BadPayloadError(str(error)) from error
        return await self._picker.pick(chosen, str(directive))

    def _nodes(self, stream: ServerStream, payload: Any, trace: list[str] | None) -> Any:
        return self._table()

    async def _table(self) -> list[dict[str, Any]]:
        gate = asyncio.Semaphore(PINGS_AT_ONCE)
        entries = sorted(self._mesh.roster.nodes(), key=lambda entry: (entry.hops, entry.node_id))
        return list(await asyncio.gather(*(self._row(entry, gate) for entry in entries)))

    async def _row(self, entry: Any, gate: asyncio.Semaphore) -> dict[str, Any]:
        own = entry.node_id == self._mesh.identity.node_id
        details = self._mesh.details_of.get(entry.node_id)
        content = details.content if details is not None else {}
        about = content.get("host")
        row: dict[str, Any] = {
            "node_id": entry.node_id,
            "status": NodeStatus(entry.status).name,
            "reachable": entry.reachable,
            "reason": entry.reason.value,
            "stalled": entry.stalled,
            "hops": entry.hops if entry.reachable else None,
            "latency_ms": None,
            "uptime_s": None,
            "is_master": entry.node_id == self._mesh.master,
            "host": about.get("name") if isinstance(about, dict) else None,
            "organization": content.get("organization"),
            "registry": content.get("registry") is True,
            "active_work": None,
            "actions": sorted(content.get("actions") or {}),
        }
        if own:
            row.update(
                latency_ms=0.0, uptime_s=self._up(), active_work=len(self._executor.active())
            )
        elif entry.reachable:
            async with gate:
                await self._ask(entry.node_id, row)
        return row

    async def _ask(self, node_id: str, row: dict[str, Any]) -> None:
        start = self._driver.now()
        try:
            pong = await self._node.request(node_id, "mesh:ping", None, timeout=PING_WAIT)
        except MeshError:
            return  # not known: the row says null
        row.update(
            latency_ms=(self._driver.now() - start) * 1000,
            uptime_s=pong.get("up_time"),
            active_work=len(pong.get("active_work") or ()),
        )

    def _status(self, stream: ServerStream, payload: Any, trace: list[str] | None) -> Any:
        from meshcore import __version__

        mesh, node = self._mesh, self._node
        now = self._driver.now()
        stats = mesh.delivery.stats()
        links = [
            {
                "node_id": info.node_id,
                "url": info.url,
                "dialled": info.dialled,
                "since_s": now - info.since,
                "state": info.state.name.lower(),
                "latency_ms": _milliseconds(mesh.latency.round_trip(info.node_id or "")),
            }
            for info in mesh.links.links()
            if info.client_address is None
        ]
        return {
            "node_id": node.node_id,
            "version": __version__,
            "pid": os.getpid(),
            "mesh": mesh.identity.mesh,
            "uptime_s": self._up(),
            "listen": list(node.endpoints),
            "connected": mesh.has_link(),
            "master": mesh.master,
            "links": links,
            "dialling": [
                {
                    "url": dial.url,
                    "learnt": not dial.configured,
                    "state": dial.state.name.lower(),
                    "attempts": dial.attempts,
                    "last_error": dial.last_error,
                    "next_in_s": dial.next_in,
                }
                for dial in mesh.links.dials(now)
            ],
            "clients": len(mesh.clients),
            "work": {
                "active": self._active(),
                "queued": self._executor.queued,
                "max_workers": node.config.max_workers,
            },
            "catalogue": node.catalogue.stats(),
            "channels": stats["channels"],
            "streams": stats["calls_in"] + stats["calls_out"],
            "forwarded": mesh.forwarding.forwarded,
            "control": {
                "sent": dict(self._driver.control_sent),
                "received": dict(mesh.control_received),
            },
            "counters": {**self._driver.counters, **self._executor.counters},
            "queues": {key: stats[key] for key in ("in_flight_bytes", "backlog_bytes")},
            "transport": self._driver.transport.stats(),
        }


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else seconds * 1000
