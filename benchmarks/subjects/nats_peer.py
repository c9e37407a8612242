"""nats-py over nats-server: request and reply through the broker, one connection each."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import nats
from nats.aio.msg import Msg

from benchmarks import answering


def server(options: Mapping[str, object]) -> None:
    """Start a broker on a port of its choice, and answer on one subject."""

    async def serve(url: str) -> None:
        connection = await nats.connect(url)

        async def echo(message: Msg) -> None:
            await message.respond(message.data)

        await connection.subscribe("bench.echo", cb=echo)
        await connection.flush()
        answering.announce(url)
        await asyncio.Event().wait()

    with tempfile.TemporaryDirectory() as folder:
        url = _start_broker(Path(folder))
    asyncio.run(serve(url))


def _start_broker(folder: Path) -> str:
    # /usr/sbin is where Debian puts it and where a user's PATH does not look.
    program = shutil.which("nats-server", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None:
        raise FileNotFoundError("nats-server is not installed (Debian: apt install nats-server)")
    subprocess.Popen(
        [program, "-a", "127.0.0.1", "-p", "-1", "--ports_file_dir", str(folder)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        for file in folder.glob("*.ports"):
            if text := file.read_text():
                return str(json.loads(text)["nats"][0])
        time.sleep(0.02)
    raise TimeoutError("nats-server wrote no ports file in 10 s")


def client(address: str, options: Mapping[str, object]) -> None:
    """Concurrent requests on one connection."""

    async def run() -> None:
        connection = await nats.connect(address)

        async def call() -> None:
            answer = await connection.request("bench.echo", answering.PAYLOAD, timeout=5)
            answering.check(answer.data)

        await call()
        await answering.answer_async(call)
        await connection.close()

    asyncio.run(run())
