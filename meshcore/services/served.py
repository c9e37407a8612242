"""A service that a node serves, and the watch over it.

The watch asks the service for its heartbeat from time to time, in the order of the calls: a service
that hangs does not come to it. Then it is no member of its group, and does not lead it, until it
answers again. One that has much to do does not hang: as long as calls end, it is waited for.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable
from typing import Any

from meshcore.errors import ConfigError, FencedError
from meshcore.protocol.replication.records import node_of
from meshcore.services.instance import STOP_WAIT, Instance
from meshcore.services.replicated.host import ReplicaHost
from meshcore.services.service import Service

_LOG = logging.getLogger("meshcore.services")


class Served:
    """What `Node.serve` gives: one service of one node."""

    def __init__(
        self,
        instance: Instance,
        make_host: Callable[[], ReplicaHost] | None,
        *,
        replication: str,
        replicas: int,
        heartbeat_interval: float,
        hang_after: float,
        changed: Callable[[], None],
        ended: Callable[[Served], None],
    ) -> None:
        self._instance = instance
        self._make_host = make_host
        self._host: ReplicaHost | None = None
        self._replication = replication
        self._replicas = replicas
        self._interval = heartbeat_interval
        self._hang_after = hang_after
        self._changed = changed
        self._ended = ended
        self._stopping: asyncio.Task[None] | None = None
        self._watching: asyncio.Task[None] | None = None
        self._sleeping: asyncio.Future[None] | None = None
        self.answering = True
        self.beats = 0
        self._beat_at = time.monotonic()

    @property
    def service(self) -> Service:
        return self._instance.service

    @property
    def group(self) -> str:
        return self._instance.group

    @property
    def instance(self) -> Instance:
        return self._instance

    @property
    def is_replicated(self) -> bool:
        return self._make_host is not None

    @property
    def host(self) -> ReplicaHost | None:
        """What drives the replica, where the service is replicated, once it has begun."""
        return self._host

    # Life ----------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Initialise the service and begin; whatever its `init` raises."""
        host = None if self._make_host is None else self._make_host()
        try:
            await self._instance.start()
            if host is not None:
                host.start()
        except BaseException:
            await self._instance.stop(0)
            if host is not None:
                await host.stop()  # its file is free again
            raise
        self._host = host
        self._watching = asyncio.get_running_loop().create_task(self._watch())

    async def stop(self, grace: float = STOP_WAIT) -> None:
        """Hand over where it leads, do what calls are there, clean up; twice is harmless."""
        if self._stopping is None:
            self._stopping = asyncio.get_running_loop().create_task(self._stop(grace))
        await asyncio.shield(self._stopping)

    async def _stop(self, grace: float) -> None:
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
        if self._host is not None:
            await self._host.stop()
        else:
            self._ended(self)  # before its last calls: no more come
        await self._instance.stop(grace)
        self._ended(self)

    # The watch -----------------------------------------------------------------------------------

    def set_heartbeat(
        self, *, interval: float | None = None, per_minute: float | None = None
    ) -> None:
        """How often the service is asked whether it works: seconds between, or how often."""
        if (interval is None) == (per_minute is None):
            raise ConfigError("set_heartbeat takes interval or per_minute")
        seconds = interval if per_minute is None else 60.0 / per_minute
        if seconds is None or not 0 < seconds < math.inf:
            raise ConfigError(f"interval = {seconds!r} must be greater than 0 (seconds)")
        self._interval = seconds
        if self._sleeping is not None and not self._sleeping.done():
            self._sleeping.set_result(None)

    def beat(self) -> dict[str, Any]:
        """What `heartbeat` answers."""
        status = self.status()
        return {name: status[name] for name in ("beats", "role", "term", "state")}

    async def _watch(self) -> None:
        while True:
            probe = asyncio.get_running_loop().create_task(self._instance.probe())
            try:
                await self._await_answer(probe)
            finally:
                probe.cancel()
            self._on_answer(probe)
            await self._sleep()

    async def _await_answer(self, probe: asyncio.Task[None]) -> None:
        began, done = time.monotonic(), self._instance.done
        while True:
            left = self._hang_after - (time.monotonic() - began)
            answered, _ = await asyncio.wait([probe], timeout=max(left, self._interval / 4, 0.01))
            if answered:
                return
            if self._instance.done != done:
                began, done = time.monotonic(), self._instance.done
            elif self.answering and left <= 0:
                self._on_silence()

    async def _sleep(self) -> None:
        self._sleeping = asyncio.get_running_loop().create_future()
        await asyncio.wait([self._sleeping], timeout=self._interval)

    def _on_answer(self, probe: asyncio.Task[None]) -> None:
        error = probe.exception()
        if error is not None:
            if self.answering:
                _LOG.error("the heartbeat of %s failed: %r", self.group, error)
                self._on_silence()
            return
        self.beats += 1
        self._beat_at = time.monotonic()
        if not self.answering:
            _LOG.warning("service %s answers again", self.group)
            self.answering = True
            if self._host is not None:
                self._host.resume()
            self._changed()

    def _on_silence(self) -> None:
        _LOG.warning(
            "service %s has not answered for %.1f s: it leaves its group until it does",
            self.group,
            time.monotonic() - self._beat_at,
        )
        self.answering = False
        if self._host is not None:
            self._host.step_aside()
        self._changed()

    # What it is ----------------------------------------------------------------------------------

    def announced(self) -> dict[str, Any]:
        """What the mesh is told; only what changes seldom."""
        methods = self.service.methods.values()
        about: dict[str, Any] = {
            "class": type(self.service).__name__,
            "replication": self._replication,
            "replicas": self._replicas,
            "answering": self.answering,
            "state": "ready",
            "role": "member",
            "term": 0,
            "replica": None,
            "gid": None,
            "readonly": sorted(method.name for method in methods if method.readonly),
            "methods": {method.name: method.description for method in methods},
        }
        host = self._host
        if host is not None:
            view = None if host.machine is None else host.machine.view()
            about.update(replica=host.own, gid=host.gid, state="forming", role="candidate")
            if host.stopped:
                about.update(state="stopped", role="stopped", answering=False)
            elif view is not None:
                about.update(state=view.state, role=view.role, term=view.term)
        return about

    def digest(self) -> str | None:
        """A digest of the state, to compare replicas that have applied the same; None: no state."""
        return self._instance.digest() if self.is_replicated else None

    def fenced(self, payload: Any) -> dict[str, Any]:
        """`payload` for an action that refuses older terms (`meshcore.fenced`).

        Raises:
            FencedError: this replica does not lead, as far as it knows.
        """
        machine = None if self._host is None else self._host.machine
        if machine is None or not machine.ready:
            raise FencedError(f"this replica of {self.group} does not lead", may_have_run=False)
        return {"term": machine.term, "payload": payload}

    def status(self) -> dict[str, Any]:
        """Everything: also what changes all the time."""
        status = self.announced()
        del status["methods"], status["readonly"]
        status["beats"] = self.beats
        host = self._host
        view = None if host is None or host.machine is None else host.machine.view()
        if view is not None:
            status.update(
                primary=None if view.primary is None else node_of(view.primary),
                members=[node_of(member) for member in view.members],
                checkpoint=view.checkpoint_number,
                checkpoint_index=view.checkpoint_index,
                commit=view.commit,
                applied=view.applied,
                log=view.last - view.first + 1,
                sessions=view.sessions,
            )
        if host is not None:
            status["problem"] = host.stopped or host.conflict or None
        return status
