"""The driver: what the transport brings goes into the core, what the core wants is performed.

Order of a turn: messages of one drain are fed one by one, and what each yields is performed at once
(calls start, futures resolve); when the drain is through, `flush` sends everything that gathered,
acks included. Calls of the application are sent at once where nothing else of this node is in
flight, else at the end of the turn of the loop. One timer stands for all deadlines of the core.

The core is never re-entered: it has returned when effects are performed, and what they call back
into it only adds to the list that is performed next.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol

from meshcore.protocol.delivery.outputs import (
    BODY,
    CALL,
    CALL_BODY,
    CALL_CHUNK,
    CANCELLED,
    CHUNK,
    COUNT,
    FAILED,
    ITEM,
    NO_PAYLOAD,
    SEND,
    VALUE,
    WRITABLE,
)
from meshcore.protocol.delivery.streams import ClientStream, ServerStream
from meshcore.protocol.machine import CloseLink, Dial, Notify, Probe, Publish, Send
from meshcore.protocol.membership.link_events import (
    AskHolder,
    Evicted,
    NewsConnect,
    Refused,
    TakeIncarnation,
)
from meshcore.protocol.mesh import LOOPBACK, Mesh
from meshcore.protocol.wire import control
from meshcore.transport.transport import Transport

_LOG = logging.getLogger("meshcore.driver")
SLACK = 0.02  # seconds; the delay of acks, the shortest time that the data plane waits
TIMER_GRAIN = 0.001  # seconds; uvloop rounds to them, and what fires early fires again and again
DRAIN_LATE = 0.05  # seconds; a loop that is on time has read its sockets a moment ago
_Future = asyncio.Future


class Server(Protocol):
    """The answering side, as the driver calls it."""

    def on_call(self, stream: ServerStream, directive: str, payload: Any, ttl: float | None,
                trace: list[str] | None) -> None: ...  # fmt: skip
    def on_call_body(self, stream: ServerStream, directive: str, body: tuple[int, int | None],
                     ttl: float | None, trace: list[str] | None) -> None: ...  # fmt: skip
    def on_call_chunk(self, stream: ServerStream, data: Any, last: bool) -> None: ...
    def on_cancelled(self, stream: ServerStream, code: int) -> None: ...
    def on_writable(self, stream: ServerStream) -> None: ...


class Caller(Protocol):
    """The calling side: what comes for tokens that are not plain futures, or not a plain value."""

    def on_output(self, call: ClientStream, output: tuple[Any, ...]) -> None: ...


class Owner(Protocol):
    """The node: what is not about work."""

    def on_event(self, event: Any) -> None: ...
    def on_fatal(self, reason: str) -> None: ...
    def ask_holder(self, node_id: str, life: int) -> None: ...
    def take_incarnation(self, number: int) -> None: ...


class Driver:
    """Runs one core on one loop. It is the transport's sink."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        mesh: Mesh,
        *,
        owner: Owner,
        make_transport: Callable[[asyncio.AbstractEventLoop, Driver], Transport],
    ) -> None:
        self.loop = loop
        self.mesh = mesh
        self.now = time.monotonic  # a loop's own clock may stand still during its turn
        self._owner = owner
        self._take = mesh.take
        self._delivery = mesh.delivery
        self.transport = make_transport(loop, self)
        self.counters: dict[str, int] = {}
        self.control_sent: dict[str, int] = {}  # by kind; what is published counts once
        self.in_turn = False  # a drain is under way: what is said now leaves at its end
        self._performing = False
        self.flush_due = False  # the end of this turn is ordered
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = float("inf")
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closed = False
        self._control = self._make_control()

    def connect(self, server: Server, caller: Caller) -> None:
        """Who answers and who calls; before the first frame."""
        self._server, self._caller = server, caller
        self._serve = server.on_call
        self._tell_caller = caller.on_output

    # Inputs from the transport ---------------------------------------------------------------

    def on_frames(self, link: int, lane: int, frame: Any, body: Any) -> None:
        self.in_turn = True
        try:
            if type(frame) is not bytes:
                frame = bytes(frame)
            self.mesh.on_frames(link, lane, frame, body, self.now())
            self._perform()
        except Exception:  # a bug of ours; the other messages and peers are still served
            _LOG.exception("a message of link %d was not handled", link)
            self.count("internal error")
        if self._delivery.turn_is_full:
            # Answers to a full packet are a full packet: it leaves while the next is worked on.
            # (Measured: without it both ends wait for each other, at half the calls per second.)
            self._delivery.turn_is_full = False
            self.transport.end_drain()

    def on_drained(self) -> None:
        self.in_turn = False
        if self.flush_due or self.mesh.is_flush_due():
            self.flush()
        else:
            self._arm()

    def on_news(self, link: int, data: bytes) -> None:
        self.mesh.on_news(link, data[1:], self.now())
        self._perform()

    def on_accepted(self, link: int) -> None:
        self.mesh.on_accepted(link, local=self.transport.is_local(link), now=self.now())
        self._perform()

    def on_connected(self, link: int) -> None:
        self.mesh.on_connected(link, self.now())
        self.flush()

    def on_dial_failed(self, link: int, reason: str) -> None:
        self.mesh.on_dial_failed(link, reason, self.now())
        self.flush()

    def on_closed(self, link: int, reason: str) -> None:
        self.mesh.on_closed(link, reason, self.now())
        self.flush()

    def _on_loopback(self, lane: int, frames: list[Any]) -> None:
        if not self._closed:
            self.mesh.on_frames(
                LOOPBACK, lane, frames[0], frames[1] if len(frames) > 1 else None, self.now()
            )
            self.flush()

    # The turn --------------------------------------------------------------------------------

    def flush(self) -> None:
        """Send what waits, perform what follows, and arm the timer."""
        if self._performing:  # the loop in `_perform` comes back to it
            self.flush_due = True
            return
        self.flush_due = False
        self.mesh.flush(self.now())
        self._perform()
        self._arm()

    def kick(self, *, at_once: bool = False) -> None:
        """Something was said outside of a drain: it leaves now, or at the end of this turn."""
        if at_once and not self._performing and not self.in_turn:
            self.flush()
        elif not self.flush_due and not self.in_turn:
            self.flush_due = True
            self.loop.call_soon(self._end_of_turn)

    def _end_of_turn(self) -> None:
        if self.flush_due and not self._closed:
            self.flush()

    def _perform(self) -> None:
        if self._performing:
            return
        self._performing = True
        try:
            while outputs := self._take():
                for output in outputs:
                    if type(output) is not tuple:
                        self._control[type(output)](output)
                        continue
                    tag = output[0]
                    if tag == CALL:
                        self._serve(output[1], output[2], output[3], output[4], output[5])
                    elif tag == VALUE and output[2] == 1:  # nearly every response
                        token = output[1].token
                        if type(token) is not _Future:
                            self._tell_caller(output[1], output)
                        elif not token.done():
                            token.set_result(None if output[3] is NO_PAYLOAD else output[3])
                    elif tag == SEND:
                        self._send_packet(output)
                    else:
                        self._perform_work(output)
        finally:
            self._performing = False

    def _send_packet(self, output: tuple[Any, ...]) -> None:
        _, link, lane, frames = output
        if link == LOOPBACK:
            self.loop.call_soon(self._on_loopback, lane, frames)
        elif not self.transport.send(link, lane, frames):
            self.mesh.on_send_failed(frames[0], self.now())

    def _perform_work(self, output: tuple[Any, ...]) -> None:
        tag = output[0]
        if tag in (VALUE, ITEM, BODY, CHUNK, FAILED):
            self._tell_caller(output[1], output)
        elif tag == COUNT:
            self.count(output[1])
        else:
            self._perform_serving(output)

    def _perform_serving(self, output: tuple[Any, ...]) -> None:
        server = self._server
        tag = output[0]
        if tag == CALL_BODY:
            server.on_call_body(output[1], output[2], output[3], output[4], output[5])
        elif tag == CALL_CHUNK:
            server.on_call_chunk(output[1], output[2], output[3])
        elif tag == CANCELLED:
            server.on_cancelled(output[1], output[2])
        elif tag == WRITABLE:
            if isinstance(output[1], ServerStream):
                server.on_writable(output[1])
            else:
                self._tell_caller(output[1], output)

    # Effects of the control plane ------------------------------------------------------------

    def _make_control(self) -> dict[type, Callable[[Any], None]]:
        return {
            Send: self._send,
            Publish: self._publish,
            Dial: lambda effect: self.transport.dial(effect.link, effect.url),
            CloseLink: lambda effect: self.transport.close_link(effect.link, effect.reason),
            NewsConnect: lambda effect: self.transport.connect_news(effect.link, effect.urls),
            Probe: self._start_probe,
            Notify: lambda effect: self._owner.on_event(effect.event),
            AskHolder: lambda effect: self._owner.ask_holder(effect.node_id, effect.life),
            Refused: lambda effect: self._owner.on_fatal(effect.reason),
            Evicted: lambda effect: self._owner.on_fatal(effect.reason),
            TakeIncarnation: lambda effect: self._owner.take_incarnation(effect.number),
        }

    def _send(self, effect: Send) -> None:
        message: Any = effect.message
        self._count_sent(message)
        if isinstance(message, control.Welcome):
            # What a neighbour can subscribe to lies beside the address that it came in on.
            message = replace(message, news_urls=self.transport.news_urls_for(effect.link))
        if not self.transport.send(effect.link, 0, [control.encode(message)]):
            self.count("control message not sent")

    def _publish(self, effect: Publish) -> None:
        """To everybody who listens; to those who cannot (yet), on lane 0."""
        message: Any = effect.message
        self._count_sent(message)
        data = control.encode(message)
        self.transport.publish((b"h" if isinstance(message, control.Beat) else b"n") + data)
        for link in self.transport.links_without_news():
            if self.mesh.is_neighbour(link) and not self.transport.send(link, 0, [data]):
                self.count("control message not sent")

    def _start_probe(self, effect: Probe) -> None:
        self.spawn(self._probe(effect))

    async def _probe(self, effect: Probe) -> None:
        gone = await self.transport.probe(effect.urls)
        self.mesh.on_probe(effect.node_id, gone=gone, now=self.now())
        self.flush()

    def _count_sent(self, message: Any) -> None:
        kind = control.KIND_NAMES[type(message)]
        self.control_sent[kind] = self.control_sent.get(kind, 0) + 1

    def count(self, reason: str) -> None:
        self.counters[reason] = self.counters.get(reason, 0) + 1

    # Time ------------------------------------------------------------------------------------

    def _arm(self) -> None:
        """Stand for the next deadline; asking for it costs as much as a whole call.

        Deadlines that packets set are never nearer than `SLACK`, so a timer within it serves them.
        """
        if self._timer_at - self.now() <= SLACK and not self.mesh.control_touched:
            return
        deadline = self.mesh.next_deadline()
        if deadline is None or deadline >= self._timer_at or self._closed:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = deadline
        delay = max(0.0, deadline - self.now()) + TIMER_GRAIN
        self._timer = self.loop.call_later(delay, self._on_timer)

    def _on_timer(self) -> None:
        late = self.now() - self._timer_at
        self._timer, self._timer_at = None, float("inf")
        if late > DRAIN_LATE and self.mesh.is_control_due(self.now()):
            # What has arrived meanwhile counts before anybody is judged silent.
            self.transport.drain()
        self.mesh.on_tick(self.now())
        self.flush()

    # Life ------------------------------------------------------------------------------------

    def spawn(self, work: Any) -> asyncio.Task[Any]:
        """Run a piece of the driver's own work, which `close` cancels."""
        task = self.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._on_task_done)
        return task

    def _on_task_done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            _LOG.error("a task of the node failed", exc_info=task.exception())

    async def close(self, linger: float) -> None:
        """Stop the timer and the tasks, close the transport."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(list(self._tasks))
        await self.transport.close(linger)
