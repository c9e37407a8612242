"""One replica on a node: drives its formation and its machine, with the disk, the mesh and time.

Everything runs on the node's loop. What a turn of the loop asks of the machine is written and sent
once, at the end of the turn (`flush`).
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from meshcore.leases.keeper import Grant, LeaseKeeper
from meshcore.protocol.replication import effects, formation
from meshcore.protocol.replication.core import Leadership, ReplicaTimings
from meshcore.protocol.replication.formation import Formation
from meshcore.protocol.replication.messages import Message
from meshcore.protocol.replication.plain import BadMessage, decode
from meshcore.protocol.replication.records import Replication, Stored, node_of
from meshcore.protocol.replication.replica import Replica
from meshcore.services.instance import Instance
from meshcore.services.outcome import is_same
from meshcore.services.replicated.alarm import Alarm
from meshcore.services.replicated.applier import Applier
from meshcore.services.replicated.carrier import Carrier, Post, Respond
from meshcore.services.replicated.clients import Clients
from meshcore.storage.replicas import Formed, Job, MemoryStore, ReplicaStore

_LOG = logging.getLogger("meshcore.services")
HAND_OVER_WAIT = 2.0  # seconds for another replica to take over when this one stops
KINDS = {"active": Replication.ACTIVE, "passive": Replication.PASSIVE}


class ReplicaHost:
    """Args: see `Services.serve`; `changed` is called when `details` has."""

    def __init__(
        self,
        instance: Instance,
        *,
        post: Post,
        replication: str,
        replicas: int,
        named: tuple[str, ...] | None,
        checkpoint_interval: float,
        checkpoint_log_bytes: int,
        path: Path | None,
        changed: Callable[[], None],
        grant: Grant | None = None,
        timings: ReplicaTimings | None = None,
    ) -> None:
        self._instance = instance
        self.group = instance.group
        self._replication = KINDS[replication]
        self._replicas = replicas
        self._timings = timings
        self._checkpoints = checkpoint_interval, checkpoint_log_bytes
        self._changed = changed
        self._store: ReplicaStore | MemoryStore = (
            MemoryStore() if path is None else ReplicaStore(path)
        )
        self.own = f"{instance.node_id}/{self._store.state_id}"
        self._rng = random.Random(int.from_bytes(os.urandom(8), "big"))
        self._formation = Formation(
            self.own, replicas=replicas, named=named, record=self._store.formation, rng=self._rng
        )
        self._carrier = Carrier(post, self._on_said, group=self.group, own=self.own)
        self._applier = Applier(instance, self)
        self.machine: Replica | None = None
        self.clients = Clients(self._running, self._perform_now, self._applier.tracebacks)
        self._lease: LeaseKeeper | None = None
        if grant is not None:
            self._lease = LeaseKeeper(
                grant,
                given=lambda term, until: self._do(self._machine().on_lease, term, until),
                renewed=lambda until: self._do(self._machine().on_lease_renewed, until),
                lost=lambda: self._do(self._machine().on_lease_lost),
            )
        lease, clients, applier = self._lease, self.clients, self._applier
        self._doing: dict[type, Callable[[Any], None]] = {
            effects.Send: self._carrier.send,
            effects.Persist: self._store.add,
            effects.Execute: applier.add, effects.Capture: applier.add,
            effects.Restore: applier.restore,
            effects.Answered: clients.tell, effects.Opened: clients.tell,
            effects.Refused: clients.tell,
            effects.StateChanged: lambda effect: self._changed(),
            effects.Stopped: self._on_stopped,
        }  # fmt: skip
        if lease is not None:
            self._doing[effects.WantLease] = lambda effect: lease.want()
            self._doing[effects.ReleaseLease] = lambda effect: lease.release()
        self._alarm = Alarm(self._on_time)
        self._flushing = False
        self._closed = False
        self._seen: dict[str, str | None] = {}
        self._waiting_for: list[tuple[Callable[[], bool], asyncio.Future[None]]] = []
        self.stopped = ""
        self.conflict = ""

    # Life ----------------------------------------------------------------------------------------

    def start(self) -> None:
        """The service is initialised: find the others."""
        self._applier.start()
        self._store.start(self._on_written, self._on_disk_failed)
        self._form(self._formation.begin(time.monotonic()))

    async def stop(self) -> None:
        """Hand over where this is the primary, then take no more part."""
        machine = self.machine
        if machine is not None and machine.view().role == "primary" and not self._closed:
            there = [member for member in machine.members if member in self._seen]
            if there:
                self._do(machine.designate, there[0])
                await self._wait(lambda: machine.view().role != "primary", HAND_OVER_WAIT)
        self._closed = True
        self._alarm.cancel()
        if self._lease is not None:
            await self._lease.close()
        await self._applier.stop()
        self._carrier.close()
        self.clients.refuse_all()
        await asyncio.get_running_loop().run_in_executor(None, self._store.close)

    async def _wait(self, condition: Callable[[], bool], timeout: float) -> bool:
        """Wait until that is so, as looked at after each step; whether it is."""
        if condition():
            return True
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (condition, waiter)
        self._waiting_for.append(entry)
        try:
            async with asyncio.timeout(timeout):
                await waiter
        except TimeoutError:
            return condition()
        finally:
            self._waiting_for.remove(entry)
        return True

    # The mesh ------------------------------------------------------------------------------------

    def set_seen(self, seen: dict[str, str | None]) -> None:
        """Which other replicas announce themselves for this name, and in which group."""
        if self._closed:
            return
        lost = [replica for replica in self._seen if replica not in seen]
        self._seen = dict(seen)
        now = time.monotonic()
        self._form(self._formation.set_seen(seen, now))
        if self.machine is not None:
            self._do(self.machine.set_present, [self.own, *seen])
            for replica in lost:
                self._do(self.machine.on_lost, replica)

    def on_form(self, sender: str, message: Any) -> None:
        """Another candidate says something."""
        if not self._closed:
            self._form(self._formation.on_message(sender, message, time.monotonic()))

    def on_replica(
        self, gid: str, sender: str, target: str, messages: Iterable[Any], respond: Respond
    ) -> str:
        """Another replica says something; the reason where it is refused.

        `respond` is called, now or later, with what is to be said to it.
        """
        if self._running() is None or target != self.own:
            respond(None)  # it is of another life: the sender will find out
            return ""
        if gid != self._formation.gid:
            return f"{sender} is of the group {gid}, this node of {self._formation.gid}"
        try:
            heard = [decode(plain) for plain in messages]
        except BadMessage as error:
            return str(error)
        self._carrier.owe(sender, respond, heard)
        self._hear(sender, heard)
        return ""

    def _on_said(self, sender: str, messages: Any) -> None:
        """What another replica says in response; BadMessage where that is nothing."""
        if not isinstance(messages, list):
            raise BadMessage("a response is a list of messages")
        if self._running() is not None:
            self._hear(sender, [decode(plain) for plain in messages])

    def _hear(self, sender: str, messages: Iterable[Message]) -> None:
        for message in messages:
            self._perform(self._machine().on_message(sender, message, time.monotonic()))
        self._after()

    # Formation -----------------------------------------------------------------------------------

    def _form(self, wanted: Iterable[formation.Effect]) -> None:
        for effect in wanted:
            if isinstance(effect, formation.Tell):
                self._carrier.tell(effect.to, effect.message)
            elif isinstance(effect, formation.Save):
                self._store.add(Formed(effect.token, effect.record))
            elif isinstance(effect, formation.Formed):
                self._begin(effect.gid, effect.members)
            else:
                self.conflict = effect.text
                _LOG.error("group %s: %s", self.group, effect.text)
        self._arm()

    def _begin(self, gid: str, members: tuple[str, ...]) -> None:
        """The group is formed: take part in it."""
        stored = self._store.stored() or Stored.new(members)
        interval, log_bytes = self._checkpoints
        self._carrier.gid = gid
        self.machine = Replica(
            self.own,
            stored,
            size=self._replicas,
            replication=self._replication,
            rng=self._rng,
            timings=self._timings,
            leadership=Leadership.ELECTION if self._lease is None else Leadership.LEASE,
            checkpoint_interval=interval,
            checkpoint_log_bytes=log_bytes,
            is_same=is_same,
        )
        self._do(self.machine.begin)
        self._do(self.machine.set_present, [self.own, *self._seen])

    # Disk ----------------------------------------------------------------------------------------

    def _on_written(self, jobs: list[Job]) -> None:
        if self._closed:
            return
        last = 0
        for job in jobs:
            if isinstance(job, Formed):
                self._form(self._formation.on_saved(job.token, time.monotonic()))
            else:
                last = job.token
        if last and self.machine is not None:
            self._perform(self.machine.on_persisted(last, time.monotonic()))
            self._flush()  # at once: others wait for what may be said now

    def _on_disk_failed(self, reason: str) -> None:
        if self.machine is not None:
            self._do(self.machine.on_persist_failed, 0, reason)
        else:
            self.stopped = f"its disk failed: {reason}"
            _LOG.error("group %s: %s", self.group, self.stopped)

    # The service (the applier's `Sink`) ----------------------------------------------------------

    def _running(self) -> Replica | None:
        """The machine, once the group is formed and as long as this is not closed."""
        return None if self._closed else self.machine

    def _machine(self) -> Replica:
        assert self.machine is not None
        return self.machine

    def executed(self, epoch: int, outcomes: list[tuple[int, bytes]]) -> None:
        self._do(self._machine().on_executed, epoch, outcomes)

    def captured(self, epoch: int, index: int, state: bytes) -> None:
        self._do(self._machine().on_captured, epoch, index, state)

    def failed(self, reason: str) -> None:
        self._do(self._machine().fail, reason)

    # Control -------------------------------------------------------------------------------------

    def designate(self, node: str) -> None:
        """Hand over to the member on that node; ValueError where that cannot be."""
        machine = self.machine
        if machine is None:
            raise ValueError(f"group {self.group} is not formed yet")
        found = [member for member in machine.members if node_of(member) == node]
        if not found:
            nodes = ", ".join(node_of(member) for member in machine.members)
            raise ValueError(f"{node} has no member of {self.group}; those are on {nodes}")
        self._do(machine.designate, found[0])

    async def is_led_by(self, node: str, timeout: float) -> bool:
        """Whether that node leads, as this replica knows, within so many seconds."""

        def leads() -> bool:
            primary = None if self.machine is None else self.machine.primary
            return primary is not None and node_of(primary) == node

        return await self._wait(leads, timeout)

    def step_aside(self) -> None:
        if self.machine is not None:
            self._do(self.machine.step_aside)

    def resume(self) -> None:
        if self.machine is not None:
            self._do(self.machine.resume)

    def set_checkpoints(self, *, interval: float | None, log_bytes: int | None) -> None:
        """When checkpoints are taken, from now on."""
        self._checkpoints = interval or self._checkpoints[0], log_bytes or self._checkpoints[1]
        machine = self.machine
        if machine is not None:
            now = time.monotonic()
            self._perform(machine.set_checkpoints(interval=interval, log_bytes=log_bytes, now=now))
            self._after()

    @property
    def gid(self) -> str | None:
        """The id of the group, once it is formed."""
        return self._formation.gid if self._formation.formed else None

    # The turn ------------------------------------------------------------------------------------

    def _do(self, method: Callable[..., list[effects.Effect]], *arguments: Any) -> None:
        self._perform_now(method(*arguments, time.monotonic()))

    def _perform_now(self, wanted: Iterable[effects.Effect]) -> None:
        self._perform(wanted)
        self._after()

    def _after(self) -> None:
        if not self._flushing:
            self._flushing = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = False
        if self._closed or self.machine is None:
            return
        self._perform(self.machine.flush(time.monotonic()))
        self._carrier.flush()
        for condition, waiter in self._waiting_for:
            if not waiter.done() and condition():
                waiter.set_result(None)
        self._arm()

    def _perform(self, wanted: Iterable[effects.Effect]) -> None:
        for effect in wanted:
            self._doing[type(effect)](effect)

    def _on_stopped(self, effect: effects.Stopped) -> None:
        self.stopped = effect.reason
        _LOG.error("the replica of %s has stopped: %s", self.group, effect.reason)
        self._changed()

    def _arm(self) -> None:
        times = [self._formation.next_deadline()]
        if self.machine is not None:
            times.append(self.machine.next_deadline())
        wanted = [at for at in times if at is not None]
        if self._closed or not wanted:
            return
        self._alarm.set(min(wanted))

    def _on_time(self) -> None:
        now = time.monotonic()
        at = self._formation.next_deadline()
        if at is not None and now >= at:
            self._form(self._formation.on_tick(now))
        if self.machine is not None:
            at = self.machine.next_deadline()
            if at is not None and now >= at:
                self._do(self.machine.on_tick)
        self._arm()
