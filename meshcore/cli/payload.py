"""What `meshctl send` sends and prints.

In: PAYLOAD is JSON if it parses, else text; text that begins like JSON and does not parse is taken
for a mistake. Standard input (`-`) follows the same rules up to 1 MiB; what is longer, or is not
UTF-8, is streamed as bytes, as a file always is.

Out: text as it is; bytes raw into a pipe or file, a summary on a terminal; other values as JSON.
"""

from __future__ import annotations

import asyncio
import json
import queue
import sys
import threading
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from meshcore.cli import render
from meshcore.cli.failure import stdout_is_terminal

if TYPE_CHECKING:
    from meshcore import Payload

_WHOLE_MAX = 1024 * 1024  # bytes of standard input that are taken as a value
_CHUNK_BYTES = 256 * 1024
_CHUNKS_AHEAD = 4  # read from a pipe while the mesh is slower
_JSON_BEGINS = ("{", "[", '"')


def parse(text: str, *, as_text: bool) -> Any:
    """The payload that PAYLOAD stands for.

    Raises:
        click.UsageError: it begins like JSON and is none.
    """
    if as_text:
        return text
    try:
        return json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        if text.lstrip().startswith(_JSON_BEGINS):
            raise click.UsageError(
                f"the payload begins like JSON but is none: {error}; --text sends it as it is"
            ) from None
        return text


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def from_stdin(stream: BinaryIO, *, as_text: bool) -> Any:
    """The payload that standard input stands for: a value, or an iterator of bytes."""
    head = stream.read(_WHOLE_MAX + 1)
    if len(head) > _WHOLE_MAX:
        return _streamed(head, stream)
    try:
        text = head.decode("utf-8")
    except UnicodeDecodeError:
        return head
    return parse(text, as_text=as_text)


async def _streamed(head: bytes, stream: BinaryIO) -> AsyncIterator[bytes]:
    """`head`, then the rest of `stream`.

    A thread reads, since a pipe may stay silent for hours; a daemon, since nothing can wake it up
    when the command is interrupted meanwhile.
    """
    yield head
    loop = asyncio.get_running_loop()
    chunks: queue.Queue[bytes] = queue.Queue(_CHUNKS_AHEAD)
    there_is_more = asyncio.Event()

    def wake() -> None:
        try:
            loop.call_soon_threadsafe(there_is_more.set)
        except RuntimeError:  # the command has ended
            return

    def read() -> None:
        chunk = b"more"
        while chunk:
            try:
                chunk = stream.read(_CHUNK_BYTES)
            except (OSError, ValueError):  # closed under us
                chunk = b""
            chunks.put(chunk)
            wake()

    threading.Thread(target=read, name="stdin", daemon=True).start()
    while True:
        await there_is_more.wait()
        there_is_more.clear()
        while not chunks.empty():
            chunk = chunks.get_nowait()
            if not chunk:
                return
            yield chunk


async def show(payload: Payload) -> None:
    """Print one response for a person or a pipe; nothing where there is no payload."""
    from meshcore.payload import KIND_BYTES, KIND_TEXT, LivePayload

    if not payload:
        return
    if payload.kind == KIND_BYTES:
        await _show_bytes(payload)
    elif payload.kind == KIND_TEXT and isinstance(payload, LivePayload):
        await _copy(payload)
    else:
        value = await value_of(payload)
        if isinstance(value, str):
            click.echo(value, nl=not value.endswith("\n"))
        else:
            click.echo(json.dumps(render.to_json(value), ensure_ascii=False))


async def value_of(payload: Payload) -> Any:
    """The whole value of a payload, waited for where it still arrives."""
    from meshcore.payload import LivePayload, decode_body

    if not isinstance(payload, LivePayload):
        return payload.value
    whole = b"".join([chunk async for chunk in payload])
    return decode_body(payload.kind or 0, whole)


async def _show_bytes(payload: Payload) -> None:
    """Chunk by chunk: they may be more than the memory."""
    if stdout_is_terminal():
        size = sum([len(chunk) async for chunk in payload])
        click.echo(f"({size:,} bytes; redirect the output to keep them)")
    else:
        await _copy(payload)


async def _copy(payload: Payload) -> None:
    sink = sys.stdout.buffer
    async for chunk in payload:
        sink.write(chunk)
    sink.flush()
