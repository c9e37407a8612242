"""The traps of a descriptor that tells of edges, each set on purpose while the loop waits."""

from __future__ import annotations

import socket
import time

import pytest

from meshcore.transport.hub import Knobs
from meshcore.transport.link import preamble
from tests.integration.transport.peers import Peer, eventually, linked, run
from tests.integration.transport.zmtp import GREETING, frame, ready

TCP = "tcp://127.0.0.1:0"
KEY = bytes(range(16))
STANDSTILL = 0.1  # seconds in which libzmq's thread works and our loop does not
NO_GUARD = Knobs(guard_interval=60.0)  # it would find what was missed


def test_a_message_whose_edge_a_send_swallowed_is_received_all_the_same(loop: str) -> None:
    async def work() -> None:
        async with Peer(knobs=NO_GUARD) as a, Peer(knobs=NO_GUARD) as b:
            at_a, at_b = await linked(a, b, a.transport.listen(TCP))
            for number in range(1, 6):
                b.send(at_b, 0, [b"question"])
                a.send(at_a, 0, [b"question"])
                time.sleep(STANDSTILL)  # noqa: ASYNC251 (both messages have arrived behind our back)
                a.send(at_a, 0, [b"and another"])
                b.send(at_b, 0, [b"and another"])
                await a.until(lambda n=number: len(a.frames) == 2 * n, timeout=2)
                await b.until(lambda n=number: len(b.frames) == 2 * n, timeout=2)

    run(work(), loop)


def test_what_arrived_before_a_connection_was_lost_is_handed_over(loop: str) -> None:
    async def work() -> None:
        async with Peer(knobs=NO_GUARD) as peer:
            port = int(peer.transport.listen(TCP).rpartition(":")[2])
            with socket.create_connection(("127.0.0.1", port)) as raw:
                raw.sendall(GREETING)
                raw.recv(64, socket.MSG_WAITALL)
                raw.sendall(ready(b"DEALER") + frame(preamble(0, KEY)))
                await peer.until(lambda: peer.accepted)
                raw.sendall(b"".join(frame(b"%d" % number) for number in range(500)))
                raw.shutdown(socket.SHUT_WR)  # close() would reset, which takes data with it
                time.sleep(STANDSTILL)  # noqa: ASYNC251 (the loss is known when we read the first)
            await peer.until(lambda: peer.closed)
            assert [each[2] for each in peer.frames] == [b"%d" % number for number in range(500)]

    run(work(), loop)


def test_a_connection_that_is_over_before_its_preamble_is_read_makes_no_link() -> None:
    async def work() -> None:
        async with Peer(knobs=NO_GUARD) as peer:
            port = int(peer.transport.listen(TCP).rpartition(":")[2])
            with socket.create_connection(("127.0.0.1", port)) as raw:
                raw.sendall(GREETING)
                raw.recv(64, socket.MSG_WAITALL)
                raw.sendall(ready(b"DEALER") + frame(preamble(0, KEY)) + frame(b"more"))
            time.sleep(STANDSTILL)  # noqa: ASYNC251
            async with Peer() as other:
                await linked(peer, other, f"tcp://127.0.0.1:{port}")
                assert len(peer.accepted) == 1
                drops = {"message of a lost connection": 2, "ended without introduction": 1}
                await eventually(lambda: peer.drops == drops)

    run(work())


@pytest.mark.parametrize("lane", [0, 1])
def test_a_full_peer_is_served_again_as_soon_as_it_reads(loop: str, lane: int) -> None:
    async def work() -> None:
        async with Peer(knobs=NO_GUARD) as a, Peer(knobs=NO_GUARD) as b:
            at_a, at_b = await linked(a, b, a.transport.listen(TCP))
            for sender, link, receiver in ((a, at_a, b), (b, at_b, a)):
                count = 0
                while sender.send(link, lane, [b"x" * 50_000]):  # until our own queue is full, too
                    count += 1
                await receiver.until(lambda r=receiver, n=count: len(r.frames) == n)

    run(work(), loop)
