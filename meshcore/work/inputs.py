"""The payload in the form that the action declared.

`value`   what was sent, decoded
`bytes`   bytes as they are, text as UTF-8; anything else is refused
`file`    the path of a file that is removed when the work has ended
`stream`  an iterator of bytes, asynchronous on the loop and plain in a thread

A payload that came whole and small is a plain value, a large one a `Payload`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

from meshcore.errors import BadPayloadError
from meshcore.payload import KIND_VALUE, LivePayload, Payload, Spool
from meshcore.work.job import Job


def argument_of(job: Job, spool: Spool) -> object:
    """The argument for the action; BadPayloadError where the payload does not fit.

    Reads and writes files: actions in threads call it there.
    """
    form, payload = job.spec.payload, job.payload
    if form == "value":
        return payload.value if isinstance(payload, Payload) else payload
    if form == "bytes":
        return _as_bytes(job)
    if form == "file":
        return _as_file(job, spool)
    whole = Payload.of(payload)
    if job.spec.executor == "loop":
        return whole.__aiter__()
    return _from_loop(job, whole) if isinstance(whole, LivePayload) else whole.chunks()


def _as_bytes(job: Job) -> bytes:
    payload = job.payload
    if isinstance(payload, bytes):
        return payload
    whole = Payload.of(payload)
    if whole.kind == KIND_VALUE or not whole:
        value = whole.value
        raise BadPayloadError(
            f"{job.spec.directive} takes bytes or text, not {type(value).__name__}"
        )
    return whole.readall()


def _as_file(job: Job, spool: Spool) -> Path:
    whole = Payload.of(job.payload)
    if whole.path is not None and whole.kind != KIND_VALUE:
        job.cleanup = whole.close
        return whole.path
    file, path = spool.new_file()
    job.cleanup = lambda: path.unlink(missing_ok=True)
    with file:
        file.writelines(whole.chunks())
    return path


def _from_loop(job: Job, payload: LivePayload) -> Iterator[bytes]:
    """The chunks of a payload that arrives on the loop, for a worker thread."""
    assert job.context is not None  # the executor makes one for every stream in a thread
    chunks: AsyncIterator[bytes] = payload.__aiter__()
    while (chunk := job.context._wait(_next(chunks))) is not None:
        yield chunk


async def _next(chunks: AsyncIterator[bytes]) -> Any:
    return await anext(chunks, None)
