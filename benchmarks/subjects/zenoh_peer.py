"""eclipse-zenoh: a queryable and a querier, peer to peer over one TCP link, no scouting."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Mapping

import zenoh

from benchmarks import answering

KEY = "bench/echo"


def _open(**endpoints: list[str]) -> zenoh.Session:
    config = zenoh.Config()
    config.insert_json5("mode", '"peer"')
    config.insert_json5("scouting/multicast/enabled", "false")
    config.insert_json5("scouting/gossip/enabled", "false")
    config.insert_json5("listen/endpoints", json.dumps(endpoints.get("listen", [])))
    config.insert_json5("connect/endpoints", json.dumps(endpoints.get("connect", [])))
    return zenoh.open(config)


def server(options: Mapping[str, object]) -> None:
    """Answer each query with its own payload."""
    # A session does not say which port it took for 0, so the system chooses one beforehand.
    with socket.create_server(("127.0.0.1", 0)) as probe:
        endpoint = f"tcp/127.0.0.1:{probe.getsockname()[1]}"
    session = _open(listen=[endpoint])

    def echo(query: zenoh.Query) -> None:
        with query:
            query.reply(KEY, query.payload)

    queryable = session.declare_queryable(KEY, echo)
    answering.announce(endpoint)
    threading.Event().wait()
    queryable.undeclare()


def client(address: str, options: Mapping[str, object]) -> None:
    """Blocking gets one by one; with N in flight each reply's callback frees a place."""
    session = _open(connect=[address])
    querier = session.declare_querier(KEY, timeout=5.0)

    def call() -> None:
        for reply in querier.get(payload=answering.PAYLOAD):
            answering.check(reply.ok.payload.to_bytes())
            return
        raise RuntimeError("zenoh gave no reply")

    def many(seconds: float, in_flight: int) -> int:
        places = threading.Semaphore(in_flight)
        count = 0

        def on_reply(reply: zenoh.Reply) -> None:
            nonlocal count
            answering.check(reply.ok.payload.to_bytes())
            count += 1

        def on_end() -> None:
            places.release()

        end = time.perf_counter() + seconds
        handler = zenoh.handlers.Callback(on_reply, on_end)
        while time.perf_counter() < end:
            places.acquire()
            querier.get(handler, payload=answering.PAYLOAD)
        for _ in range(in_flight):
            places.acquire()
        return count

    _wait_for_match(call)
    answering.answer_blocking(call, many)


def _wait_for_match(call: object) -> None:
    deadline = time.monotonic() + 5
    while True:
        try:
            call()  # type: ignore[operator]
        except RuntimeError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return
