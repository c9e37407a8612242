"""One life of one node: a whole core and a fake shell around it, without sockets or a loop.

The shell does what the real driver does, in its order: an input goes into the core, what it yields
is performed until nothing more comes, `flush` sends what gathered, and one timer is armed for the
next deadline. Its clock is as far from the others' as clocks of different machines are.

It also checks the contract of the core at every step: the time asked for after a tick lies ahead,
the list of outputs is taken empty, and (every `check_every` steps) all invariants hold.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from meshcore.protocol.delivery.outputs import COUNT, SEND
from meshcore.protocol.machine import CloseLink, Dial, Notify, Probe, Publish, Send
from meshcore.protocol.membership import link_events
from meshcore.protocol.membership.timings import Timings
from meshcore.protocol.mesh import LOOPBACK, Identity, Mesh
from meshcore.protocol.wire import control
from meshcore.sim.clock import Clock
from meshcore.sim.network import Network
from meshcore.sim.work import Ledger, Work

LEAVE_WAIT = 0.5  # seconds for one neighbour to acknowledge that we leave
PROBE_WAIT = 1.0  # seconds until a probe that nobody answers is given up
CLOCKS_APART = 1000.0  # seconds between the clocks of two processes, at most


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all processes of a world share."""

    clock: Clock
    network: Network
    ledger: Ledger
    check_every: int  # steps of a process between two looks at its invariants; 0 = never
    request_timeout: float = 30.0
    auto_connect: int = 0


class Process:
    """A node from its start to its end."""

    def __init__(
        self,
        around: Surroundings,
        name: str,
        *,
        incarnation: int,
        rng: random.Random,
        url: str | None,
        timings: Timings | None = None,
        host: str | None = None,
    ) -> None:
        self.name, self.url = name, url
        self.host = host or name  # the machine: a second process of an id has its own
        self.clock, self.network, self.ledger = around.clock, around.network, around.ledger
        self.is_alive, self.is_paused, self.is_leaving = True, False, False
        self.paused_at = 0.0
        self.started_at = around.clock.now
        self.wires: dict[int, Any] = {}
        self.dialling: dict[int, None] = {}
        self.counters: dict[str, int] = {}
        self.control_sent: dict[str, int] = {}  # control messages by kind, news included
        self.events: list[object] = []  # what the application was told
        self.fatal: list[str] = []
        self._check_every, self._steps = around.check_every, 0
        self._inbox: list[tuple[Callable[..., None], tuple[Any, ...]]] = []
        self._next_link = 2
        self._timer_at = float("inf")
        self._offset = rng.uniform(0.0, CLOCKS_APART)
        self._latest = 0.0
        self._performing = False
        self._leave_until = 0.0
        life = rng.getrandbits(64) or 1
        identity = Identity("sim", name, incarnation, life, description=f"life of {name}")
        self.mesh = Mesh(
            identity,
            timings=timings or Timings(),
            rng=random.Random(rng.getrandbits(64)),
            now=self.now(),
            request_timeout=around.request_timeout,
            auto_connect=around.auto_connect,
        )
        self.work = Work(self)
        self._control = self._make_control()
        self.mesh.set_endpoints(() if url is None else (url,), (), self.now())
        self.mesh.set_details({"name": name, "actions": {}}, self.now())
        self.flush()

    @property
    def life(self) -> int:
        return self.mesh.identity.life

    @property
    def incarnation(self) -> int:
        return self.mesh.identity.incarnation

    def now(self) -> float:
        """The time of this process's own clock, which never goes back."""
        self._latest = max(self._latest, self.clock.now + self._offset)
        return self._latest

    # Inputs ----------------------------------------------------------------------------------

    def on_frames(self, link: int, lane: int, frames: list[Any]) -> None:
        body = frames[1] if len(frames) > 1 else None
        self.input(self.mesh.on_frames, link, lane, frames[0], body)

    def on_news(self, link: int, data: bytes) -> None:
        self.input(self.mesh.on_news, link, data)

    def on_accepted(self, link: int, *, local: bool) -> None:
        def accepted(link: int, now: float) -> None:
            self.mesh.on_accepted(link, local=local, now=now)

        self.input(accepted, link)

    def on_connected(self, link: int) -> None:
        self.input(self.mesh.on_connected, link)

    def on_dial_failed(self, link: int, reason: str) -> None:
        self.input(self.mesh.on_dial_failed, link, reason)

    def on_closed(self, link: int, reason: str) -> None:
        self.input(self.mesh.on_closed, link, reason)

    def input(self, method: Callable[..., Any], *args: Any) -> None:
        """Call a method of the core with the time, unless the process is dead or sleeps."""
        if not self.is_alive:
            return
        if self.is_paused:
            self._inbox.append((method, args))
            return
        method(*args, self.now())
        self.flush()

    def _on_timer(self, armed_for: float) -> None:
        if armed_for != self._timer_at or not self.is_alive:
            return  # an earlier timer has taken its place
        if self.is_paused:  # `resume` ticks
            return
        self.tick()

    def tick(self) -> None:
        due, self._timer_at = self._timer_at, float("inf")
        now = self.now()
        if due != float("inf"):  # the sum with the offset may round to just before the deadline
            now = self._latest = max(now, due)
        self.mesh.on_tick(now)
        self.flush(ticked_at=now)

    # The turn --------------------------------------------------------------------------------

    def flush(self, *, ticked_at: float | None = None) -> None:
        """Send what waits, perform what follows, and arm the timer."""
        if self._performing:
            return
        self._perform()
        self.mesh.flush(self.now())
        self._perform()
        self._steps += 1
        if self._check_every and self._steps % self._check_every == 0:
            self.mesh.check_invariants()
        deadline = self.mesh.next_deadline()
        if ticked_at is not None:
            assert deadline is None or deadline > ticked_at, (
                f"{self.name}: after a tick at {ticked_at} the next is due at {deadline}"
            )
        if deadline is not None and deadline < self._timer_at and self.is_alive:
            self._timer_at = deadline
            self.clock.at(deadline - self._offset, self._on_timer, deadline)
        if self._leave_until and self.mesh.leave_acked:
            self._close()

    def _perform(self) -> None:
        self._performing = True
        while outputs := self.mesh.take():
            for output in outputs:
                if type(output) is tuple:
                    self._perform_work(output)
                else:
                    self._control[type(output)](output)
        self._performing = False

    def _perform_work(self, output: tuple[Any, ...]) -> None:
        tag = output[0]
        if tag == SEND:
            _, link, lane, frames = output
            if link == LOOPBACK:
                self.clock.after(0.0, self.on_frames, LOOPBACK, lane, frames)
            elif not self.network.send(self, link, lane, frames):
                self.mesh.on_send_failed(frames[0], self.now())
        elif tag == COUNT:
            self.counters[output[1]] = self.counters.get(output[1], 0) + 1
        else:
            self.work.on_output(output)

    # Effects of the control plane ------------------------------------------------------------

    def _make_control(self) -> dict[type, Callable[[Any], None]]:
        return {
            Send: self._send,
            Publish: self._publish,
            Dial: self._dial,
            CloseLink: self._close_link,
            Probe: self._probe,
            Notify: lambda effect: self.events.append(effect.event),
            link_events.NewsConnect: lambda effect: self.network.subscribe(self, effect.link),
            link_events.AskHolder: self._ask_holder,
            link_events.Refused: lambda effect: self._on_fatal(effect.reason),
            link_events.Evicted: lambda effect: self._on_fatal(effect.reason),
            link_events.TakeIncarnation: self._take_incarnation,
        }

    def _send(self, effect: Send) -> None:
        message: Any = effect.message
        if isinstance(message, control.Welcome) and self.url is not None:
            message = replace(message, news_urls=(f"{self.url}1", f"{self.url}2"))
        self._count_control(message)
        if not self.network.send(self, effect.link, 0, [control.encode(message)]):
            self.counters["control message not sent"] = (
                self.counters.get("control message not sent", 0) + 1
            )

    def _publish(self, effect: Publish) -> None:
        message: Any = effect.message
        self._count_control(message)
        self.network.publish(self, control.encode(message))

    def _count_control(self, message: Any) -> None:
        name = type(message).__name__
        self.control_sent[name] = self.control_sent.get(name, 0) + 1

    def _dial(self, effect: Dial) -> None:
        self.dialling[effect.link] = None
        self.network.dial(self, effect.link, effect.url)

    def _close_link(self, effect: CloseLink) -> None:
        self.dialling.pop(effect.link, None)
        self.network.close(self, effect.link)

    def _probe(self, effect: Probe) -> None:
        def answer() -> None:
            refused = [self.network.refuses(self.host, url) for url in effect.urls]
            wait = PROBE_WAIT if None in refused else 0.0
            self.clock.after(wait, self.input, tell, all(refused))

        def tell(gone: bool, now: float) -> None:
            self.mesh.on_probe(effect.node_id, gone=gone, now=now)

        self.clock.after(2 * self.network.conditions.delay, answer)

    def _ask_holder(self, effect: link_events.AskHolder) -> None:
        self.clock.after(0.0, self.work.ask_holder, effect.node_id, effect.life)

    def _take_incarnation(self, effect: link_events.TakeIncarnation) -> None:
        self.mesh.set_incarnation(effect.number, self.now())

    def _on_fatal(self, reason: str) -> None:
        """Another process has this id: this one ends."""
        self.fatal.append(reason)
        self.clock.after(0.0, self.kill)

    # Life ------------------------------------------------------------------------------------

    def new_link(self) -> int:
        """The number of a link that was accepted."""
        number = self._next_link
        self._next_link += 2
        return number

    def add_peer(self, url: str) -> None:
        self.input(self.mesh.add_peer, url)

    def kill(self, *, silent: bool = False) -> None:
        """As by kill -9; `silent`: the whole machine is off, and nothing says so."""
        if self.is_alive:
            self.is_alive = False
            self.dialling.clear()
            self._inbox.clear()
            self.network.host_down(self.host, silent=silent)
            self.work.abandon()

    def stop(self) -> None:
        """Leave in good order: the calls end, the last word is said, the links close."""
        if self.is_alive and not self.is_leaving:
            self.is_leaving = True
            self.mesh.delivery.close_calls(f"{self.name} stops", self.now())
            self.flush()
            self.mesh.leave(self.now())
            self._leave_until = self.clock.now + LEAVE_WAIT
            self.clock.after(LEAVE_WAIT, self._close)
            self.flush()

    def _close(self) -> None:
        if self.is_alive and self._leave_until:
            self._leave_until = 0.0
            self.mesh.close_links(self.now())
            self.flush()
            self.kill()

    def pause(self) -> None:
        """As by SIGSTOP."""
        if self.is_alive and not self.is_paused:
            self.is_paused, self.paused_at = True, self.clock.now
            self.network.suspect(self.host)

    def resume(self) -> None:
        """What has arrived is read first, then it is looked at the time."""
        if not self.is_paused or not self.is_alive:
            return
        self.is_paused = False
        inbox, self._inbox = self._inbox, []
        for method, args in inbox:
            self.input(method, *args)
        if self.is_alive:
            self.tick()
