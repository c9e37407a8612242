"""meshcore itself, through its public API: acks, dedupe, deadlines and routing are on.

options: `action` is how the server runs the echo ("eager", "async" or "plain": a plain function,
which runs in a thread).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from benchmarks import answering
from meshcore import Config, Controller, Node

LISTEN = ["tcp://127.0.0.1:0"]


def server(options: Mapping[str, object]) -> None:
    """A node with one action."""
    node = Node(Config(listen=LISTEN))
    _add_echo(node, str(options.get("action", "eager")))

    async def app() -> None:
        answering.announce({"url": node.endpoints[0], "id": node.node_id})
        await asyncio.Event().wait()

    node.run(app)


def _add_echo(node: Node, kind: str) -> None:
    if kind == "plain":

        @node.action("bench:echo")
        def echo_in_thread(payload: bytes, context: object) -> bytes:
            return payload

    else:

        @node.action("bench:echo", eager=kind == "eager")
        async def echo(payload: bytes, context: object) -> bytes:
            return payload


def relay(address: Mapping[str, str], options: Mapping[str, object]) -> None:
    """A node between two others; the id stays that of the server."""
    node = Node(Config(listen=LISTEN, peers=[address["url"]]))

    async def app() -> None:
        answering.announce({"url": node.endpoints[0], "id": address["id"]})
        await asyncio.Event().wait()

    node.run(app)


def client(address: Mapping[str, str], options: Mapping[str, object]) -> None:
    """A controller that calls by node id, over however many hops there are."""
    controller = Controller(Config(peers=[address["url"]]))
    recipient = address["id"]

    async def app() -> None:
        async def call() -> None:
            answering.check(await controller.call(recipient, "bench:echo", answering.PAYLOAD))

        await controller.wait_for(recipient)
        await call()
        await answering.answer_async(call)

    controller.run(app)
