"""A bare ZMTP 3.0 client: what no well-behaved library would send."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass

from tests.integration.transport.peers import TIMEOUT

GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32)
MORE, LONG, COMMAND = 1, 2, 4


def frame(body: bytes, *, more: bool = False, command: bool = False) -> bytes:
    flags = MORE * more | COMMAND * command
    if len(body) < 256:
        return bytes((flags, len(body))) + body
    return bytes((flags | LONG,)) + len(body).to_bytes(8) + body


def ready(socket_type: bytes, identity: bytes = b"") -> bytes:
    properties = [(b"Socket-Type", socket_type), (b"Identity", identity)]
    body = b"\x05READY" + b"".join(
        bytes((len(name),)) + name + len(value).to_bytes(4) + value for name, value in properties
    )
    return frame(body, command=True)


@dataclass
class RawPeer:
    """One connection; nothing is read from it but by `until_cut`."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    sent_bytes: int = 0

    @classmethod
    async def connect(
        cls, url: str, socket_type: bytes = b"DEALER", identity: bytes = b""
    ) -> RawPeer:
        """Connect and, unless the type is empty, shake hands."""
        host, _, port = url.removeprefix("tcp://").rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        raw = cls(reader, writer)
        if socket_type:
            writer.write(GREETING)
            await reader.readexactly(64)
            writer.write(ready(socket_type, identity))
            await reader.readexactly(2)
        return raw

    async def send(self, *bodies: bytes) -> None:
        """One message of these frames."""
        await self.send_bytes(
            b"".join(frame(body, more=n < len(bodies)) for n, body in enumerate(bodies, 1))
        )

    async def send_bytes(self, data: bytes) -> None:
        self.writer.write(data)
        self.sent_bytes += len(data)
        await self.writer.drain()

    async def send_for_ever(self, data: bytes) -> None:
        while True:
            await self.send_bytes(data)
            await asyncio.sleep(0)

    async def until_cut(self) -> None:
        """Wait until the other side ends the connection."""
        async with asyncio.timeout(TIMEOUT):
            with contextlib.suppress(OSError):
                while await self.reader.read(65536):
                    pass
        await self.close()

    async def close(self) -> None:
        self.writer.transport.abort()  # close() would wait for what nobody reads
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()
