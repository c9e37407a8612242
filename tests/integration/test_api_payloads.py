"""Payloads of every kind, out and in: values, files, iterators, streams."""

from __future__ import annotations

import asyncio
import io
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from meshcore import (
    BadPayloadError,
)
from tests.integration.nodes import eventually, pair, run

MIB = 2**20


async def pieces(body: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(body), size):
        yield body[start : start + size]
        await asyncio.sleep(0)


def test_large_payloads_of_every_kind_arrive_whole(home: Path) -> None:
    body = os.urandom(20_000_000)
    (home / "body").write_bytes(body)

    async def scenario() -> None:
        async with pair() as (oscar, alpha):

            @alpha.action("test:take", payload="file")
            def take(path: Path) -> bytes:
                return Path(path).read_bytes()

            with open(home / "body", "rb") as file:  # noqa: ASYNC230
                for kind in (body, home / "body", file, io.BytesIO(body), pieces(body, 99_999)):
                    assert await oscar.call("alpha", "test:take", kind) == body

    run(scenario)


def test_actions_answer_with_files_and_iterators(home: Path) -> None:
    body = os.urandom(5_000_000)
    (home / "body").write_bytes(body)

    async def scenario() -> None:
        async with pair() as (oscar, alpha):

            @alpha.action("test:give")
            async def give(kind: str) -> Any:
                kinds = {
                    "path": home / "body",
                    "io": io.BytesIO(body),
                    "pieces": pieces(body, 7777),
                }
                return kinds[kind]

            for kind in ("path", "io", "pieces"):
                assert await oscar.call("alpha", "test:give", kind) == body

    run(scenario)


def test_an_action_takes_a_stream_as_it_comes() -> None:
    async def scenario() -> None:
        async with pair() as (oscar, alpha):
            half_way, seen = asyncio.Event(), asyncio.Event()

            @alpha.action("test:tally", payload="stream")
            async def tally(payload: Any) -> int:
                total = 0
                async for chunk in payload:
                    total += len(chunk)
                    seen.set()
                return total

            async def slowly() -> AsyncIterator[bytes]:
                yield b"x" * 100_000
                await half_way.wait()
                yield b"y" * 100_000

            work = asyncio.create_task(oscar.call("alpha", "test:tally", slowly()))
            await seen.wait()  # before the second half was sent
            half_way.set()
            assert await work == 200_000

    run(scenario)


def test_large_responses_lie_in_a_file_that_goes_with_them(home: Path) -> None:
    body = os.urandom(3 * MIB)

    async def scenario() -> None:
        async with pair() as (oscar, _):
            async with oscar.stream("alpha", "demo:echo", body) as responses:
                async for message in responses:
                    if message.payload:
                        path = message.payload.path
                        assert path is not None
                        assert message.payload.size == len(body)
                        assert message.payload.read(10) == body[:10]
                        await message.payload.save(home / "saved")
                        assert message.payload.readall() == body
            del message
            await eventually(lambda: not path.exists())
        assert (home / "saved").read_bytes() == body[10:]

    run(scenario)


def test_a_text_is_never_taken_for_a_path(home: Path) -> None:
    (home / "secret").write_text("secret")

    async def scenario() -> None:
        async with pair() as (oscar, _):
            assert await oscar.call("alpha", "demo:echo", str(home / "secret")) == str(
                home / "secret"
            )
            with pytest.raises(BadPayloadError):
                await oscar.call("alpha", "demo:echo", home / "missing")

    run(scenario)


def test_an_iterator_that_raises_ends_its_call() -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"x" * 100_000
        raise LookupError("no more")

    async def scenario() -> None:
        async with pair() as (oscar, _):
            with pytest.raises(BadPayloadError, match="no more"):
                await oscar.call("alpha", "demo:echo", broken(), timeout=5)

    run(scenario)


def test_progress_is_told_while_a_payload_is_read() -> None:
    async def scenario() -> None:
        async with pair() as (oscar, _):
            told: list[tuple[int, int | None]] = []
            done = asyncio.Event()
            await oscar.send(
                recipient="alpha",
                directive="demo:echo",
                payload=io.BytesIO(bytes(2_000_000)),
                progress=lambda sent, total: told.append((sent, total)),
                response_handler=lambda message: done.set() if message.header.eof else None,
            )
            await done.wait()
            assert told[-1] == (2_000_000, 2_000_000)
            assert [sent for sent, _ in told] == sorted(sent for sent, _ in told)

    run(scenario)
