"""Pyro5: a daemon and one proxy. A proxy belongs to one thread and makes one call at a time."""

from __future__ import annotations

from collections.abc import Mapping

import Pyro5.api
import serpent

from benchmarks import answering


@Pyro5.api.expose
class Echo:
    """One exposed method."""

    def echo(self, body: bytes) -> bytes:
        """Give back what came."""
        return body


def server(options: Mapping[str, object]) -> None:
    """Serve until killed."""
    daemon = Pyro5.api.Daemon(host="127.0.0.1", port=0)
    answering.announce(str(daemon.register(Echo())))
    daemon.requestLoop()


def client(address: str, options: Mapping[str, object]) -> None:
    """Blocking calls, one by one; bytes come back base64-encoded by the default serializer."""
    proxy = Pyro5.api.Proxy(address)

    def call() -> None:
        answering.check(serpent.tobytes(proxy.echo(answering.PAYLOAD)))

    call()
    answering.answer_blocking(call)
