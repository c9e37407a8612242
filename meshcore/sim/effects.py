"""What the core of a process orders, performed: messages, dials, probes, news for the application.

One method for each effect of the control plane, as the driver has them; work goes to `Work`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from meshcore.protocol.machine import CloseLink, Dial, Notify, Probe, Publish, Send
from meshcore.protocol.membership import link_events
from meshcore.protocol.wire import control

if TYPE_CHECKING:
    from meshcore.sim.process import Process

PROBE_WAIT = 1.0  # seconds until a probe that nobody answers is given up


class Effects:
    """Performs the effects of one process's control plane; `perform` finds the method."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._network = process.network
        self._clock = process.clock
        self.sent: dict[str, int] = {}  # control messages by kind, news included
        self.performers: dict[type, Callable[[Any], None]] = {
            Send: self._send,
            Publish: self._publish,
            Dial: self._dial,
            CloseLink: self._close_link,
            Probe: self._probe,
            Notify: lambda effect: process.on_event(effect.event),
            link_events.NewsConnect: lambda effect: self._network.subscribe(process, effect.link),
            link_events.AskHolder: self._ask_holder,
            link_events.Refused: lambda effect: process.on_fatal(effect.reason),
            link_events.Evicted: lambda effect: process.on_fatal(effect.reason),
            link_events.TakeIncarnation: self._take_incarnation,
        }

    def _send(self, effect: Send) -> None:
        message: Any = effect.message
        url = self._process.url
        if isinstance(message, control.Welcome) and url is not None:
            message = replace(message, news_urls=(f"{url}1", f"{url}2"))
        self._count(message)
        if not self._network.send(self._process, effect.link, 0, [control.encode(message)]):
            self._process.count("control message not sent")

    def _publish(self, effect: Publish) -> None:
        message: Any = effect.message
        self._count(message)
        self._network.publish(self._process, control.encode(message))

    def _count(self, message: Any) -> None:
        name = type(message).__name__
        self.sent[name] = self.sent.get(name, 0) + 1

    def _dial(self, effect: Dial) -> None:
        self._process.dialling[effect.link] = None
        self._network.dial(self._process, effect.link, effect.url)

    def _close_link(self, effect: CloseLink) -> None:
        self._process.dialling.pop(effect.link, None)
        self._network.close(self._process, effect.link)

    def _probe(self, effect: Probe) -> None:
        process = self._process

        def answer() -> None:
            refused = [self._network.refuses(process.host, url) for url in effect.urls]
            wait = PROBE_WAIT if None in refused else 0.0
            self._clock.after(wait, process.input, tell, all(refused))

        def tell(gone: bool, now: float) -> None:
            process.mesh.on_probe(effect.node_id, gone=gone, now=now)

        self._clock.after(2 * self._network.conditions.delay, answer)

    def _ask_holder(self, effect: link_events.AskHolder) -> None:
        self._clock.after(0.0, self._process.work.ask_holder, effect.node_id, effect.life)

    def _take_incarnation(self, effect: link_events.TakeIncarnation) -> None:
        self._process.mesh.set_incarnation(effect.number, self._process.now())
