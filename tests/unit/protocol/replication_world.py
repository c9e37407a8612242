"""A few replicas by hand: nothing happens by chance, and the test holds what it wants held.

`Group` runs the machines of `running`; messages to others are only noted (`said`). Whatever the
machines want is done at once and in order by `settle`, but for what the test holds: the disk or the
service of a replica (`slow_disk`, `slow_service`), or what goes to or from one (`cut`). `pass_time`
goes from deadline to deadline. The service notes what it ran, and answers how many that were.
"""

from __future__ import annotations

import json
import random
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from meshcore.protocol.replication import effects
from meshcore.protocol.replication.messages import Message
from meshcore.protocol.replication.plain import (
    checkpoint_of,
    decode,
    encode,
    entry_of,
    plain_checkpoint,
    plain_entry,
)  # fmt: skip
from meshcore.protocol.replication.records import Replication, Stored
from meshcore.protocol.replication.replica import Replica
from meshcore.protocol.replication.serving import Submitted

A, B, C, D = "a/1", "b/1", "c/1", "d/1"
THREE = (A, B, C)
STEPS_MAX = 100_000


class Disk:
    """What is read after a crash, in plain form."""

    def __init__(self, stored: Stored) -> None:
        self.term, self.voted_for = stored.term, stored.voted_for
        self.checkpoint = plain_checkpoint(stored.checkpoint)
        self.entries = {entry.index: plain_entry(entry) for entry in stored.entries}

    def write(self, wanted: effects.Persist) -> None:
        if wanted.term is not None:
            self.term, self.voted_for = wanted.term, wanted.voted_for
        if wanted.checkpoint is not None:
            self.checkpoint = plain_checkpoint(wanted.checkpoint)
            first = wanted.keep_from
            self.entries = {
                i: e for i, e in self.entries.items() if not wanted.reset and i >= first
            }
        if wanted.entries:
            first = wanted.entries[0].index
            self.entries = {i: e for i, e in self.entries.items() if i < first}
            self.entries.update((entry.index, plain_entry(entry)) for entry in wanted.entries)

    def read(self) -> Stored:
        entries = tuple(entry_of(self.entries[index]) for index in sorted(self.entries))
        return Stored(self.term, self.voted_for, checkpoint_of(self.checkpoint), entries)


class Node:
    """One replica with its disk and its service."""

    def __init__(self, machine: Replica, disk: Disk) -> None:
        self.machine = machine
        self.disk = disk
        self.writing: deque[effects.Persist] = deque()
        self.work: deque[effects.Effect] = deque()
        self.ran: list[str] = []  # the state of the service
        self.restored = 0
        self.stopped = ""


class Group:
    """Settings go to each `Replica`."""

    def __init__(
        self,
        members: tuple[str, ...] = THREE,
        *,
        running: Iterable[str] | None = None,
        replication: Replication = Replication.ACTIVE,
        stored: Stored | None = None,
        size: int | None = None,
        **settings: Any,
    ) -> None:
        self.now = 0.0
        self.settings = {
            "size": len(members) if size is None else size,
            "replication": replication,
            **settings,
        }
        self.nodes: dict[str, Node] = {}
        self.said: list[tuple[str, str, Message]] = []  # sender, target, message
        self.all: list[tuple[str, effects.Effect]] = []  # whatever any of them wanted
        self.replies: dict[int, effects.Effect] = {}
        self.slow_disk: set[str] = set()
        self.slow_service: set[str] = set()
        self.cut: set[str] = set()
        self.loses: Callable[[str, str, Message], bool] = lambda sender, target, message: False
        self._wire: deque[tuple[str, str, list[Any]]] = deque()
        self._refs = 0
        for own in members if running is None else running:
            self.start(own, stored or Stored.new(members))

    # Life ----------------------------------------------------------------------------------------

    def start(self, own: str, stored: Stored) -> Node:
        rng = random.Random(own)
        node = Node(Replica(own, stored, rng=rng, **self.settings), Disk(stored))
        self.nodes[own] = node
        self.take(own, node.machine.begin(self.now))
        return node

    def restart(self, own: str) -> Node:
        """A crash: what is not on disk is gone, and so are the calls it was running."""
        return self.start(own, self.nodes.pop(own).disk.read())

    def __getitem__(self, own: str) -> Replica:
        return self.nodes[own].machine

    # What happens --------------------------------------------------------------------------------

    def take(self, own: str, produced: list[effects.Effect]) -> None:
        node = self.nodes[own]
        for effect in produced:
            self.all.append((own, effect))
            if isinstance(effect, effects.Send):
                self.said.append((own, effect.to, effect.message))
                self._wire.append((own, effect.to, encode(effect.message)))
            elif isinstance(effect, effects.Persist):
                node.writing.append(effect)
            elif isinstance(effect, effects.Restore):
                node.work.clear()
                node.work.append(effect)
            elif isinstance(effect, effects.Execute | effects.Capture):
                node.work.append(effect)
            elif isinstance(effect, effects.Answered | effects.Opened | effects.Refused):
                assert effect.ref not in self.replies, f"{effect.ref} is replied to twice"
                self.replies[effect.ref] = effect
            elif isinstance(effect, effects.Stopped):
                node.stopped = effect.reason
        node.machine.check_invariants()

    def settle(self) -> None:
        """Do everything that is wanted and not held."""
        for _ in range(STEPS_MAX):
            for own in self.nodes:
                self.take(own, self[own].flush(self.now))
            if not (self._deliver() or self._write() or self._work()):
                return
        raise AssertionError("it does not come to rest")

    def _deliver(self) -> bool:
        done = bool(self._wire)
        for _ in range(len(self._wire)):
            sender, target, plain = self._wire.popleft()
            message = decode(plain)
            if target not in self.nodes or self.cut & {sender, target}:
                continue
            if not self.loses(sender, target, message):
                self.take(target, self[target].on_message(sender, message, self.now))
        return done

    def _write(self) -> bool:
        done = False
        for own, node in self.nodes.items():
            if node.writing and own not in self.slow_disk:
                self.write(own)
                done = True
        return done

    def write(self, own: str) -> None:
        """What waits for this disk is on it."""
        node = self.nodes[own]
        while node.writing:
            wanted = node.writing.popleft()
            node.disk.write(wanted)
        self.take(own, node.machine.on_persisted(wanted.token, self.now))

    def _work(self) -> bool:
        done = False
        for own, node in self.nodes.items():
            while node.work and own not in self.slow_service:
                self.work(own)
                done = True
        return done

    def work(self, own: str) -> None:
        """The service does the next thing."""
        node, machine = self.nodes[own], self[own]
        effect = node.work.popleft()
        if isinstance(effect, effects.Execute):
            if not effect.read_only:
                node.ran.append(effect.request.decode())
            answer = str(len(node.ran)).encode()
            self.take(own, machine.on_executed(effect.epoch, [(effect.token, answer)], self.now))
        elif isinstance(effect, effects.Restore):
            node.ran = json.loads(effect.state or b"[]")
            node.restored += 1
        elif isinstance(effect, effects.Capture):
            state = json.dumps(node.ran).encode()
            self.take(own, machine.on_captured(effect.epoch, effect.index, state, self.now))

    def pass_time(self, seconds: float, *, until: Callable[[], bool] = lambda: False) -> None:
        end = self.now + seconds
        self.settle()
        while not until():
            due = [at for own in self.nodes if (at := self[own].next_deadline()) is not None]
            at = max(self.now, min(due, default=end))
            if at > end:
                self.now = end
                return
            self.now = at
            for own in self.nodes:
                at_own = self[own].next_deadline()
                if at_own is not None and at_own <= self.now:
                    self.take(own, self[own].on_tick(self.now))
            self.settle()

    # Inputs --------------------------------------------------------------------------------------

    def hear(self, own: str, sender: str, message: Message, *, settle: bool = True) -> None:
        self.take(own, self[own].on_message(sender, message, self.now))
        if settle:
            self.settle()

    def lead(self, own: str = A) -> Replica:
        """Have this one elected, by those who run."""
        self.settle()
        self.now = max(self.now, self[own]._election_at)
        self.take(own, self[own].on_tick(self.now))
        self.settle()
        assert self[own].view().role == "primary"
        return self[own]

    def open(self, own: str = A) -> int:
        """A session."""
        ref = self.new_ref()
        self.take(own, self[own].open(ref, "client", self.now))
        self.settle()
        opened = self.replies[ref]
        assert isinstance(opened, effects.Opened), opened
        return opened.session

    def call(
        self, own: str, session: int, number: int, *, low: int = 1, settle: bool = True,
        read_only: bool = False, request: str = "",
    ) -> int:  # fmt: skip
        """Ask for a call; its ref."""
        ref = self.new_ref()
        wanted = (request or f"{session}:{number}").encode()
        self.take(
            own,
            self[own].submit(
                Submitted(ref, session, number, low, wanted, 1e9, read_only), self.now
            ),
        )
        if settle:
            self.settle()
        return ref

    def new_ref(self) -> int:
        self._refs += 1
        return self._refs

    # What became of it ---------------------------------------------------------------------------

    def answer(self, ref: int) -> str | None:
        """The answer; None: no reply yet; a refusal by its name."""
        reply = self.replies.get(ref)
        if isinstance(reply, effects.Refused):
            return str(reply.reason)
        return None if reply is None else reply.answer.decode()  # type: ignore[union-attr]

    def wanted(self, own: str, kind: type) -> list[Any]:
        return [effect for name, effect in self.all if name == own and isinstance(effect, kind)]

    def sent(self, own: str, kind: type) -> list[Any]:
        return [m for sender, _, m in self.said if sender == own and isinstance(m, kind)]

    def ran(self, own: str) -> list[str]:
        return self.nodes[own].ran
