"""What went wrong, in words for the caller: a code, a name, a text and a bounded traceback.

BadPayloadError is the action's way to refuse its payload, WorkCancelledError its answer to a
cancel; everything else that it raises is ACTION_FAILED. An error that a *call to another node*
brought (it has a `node_id`) is this action's failure, not a verdict on its own payload.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import traceback
from pathlib import Path

from meshcore.errors import BadPayloadError, Code, MeshError, WorkCancelledError
from meshcore.work.job import Failure

TRACEBACK_BYTES_MAX = 16 * 1024
MESSAGE_BYTES_MAX = 4 * 1024
_FRAMES_MAX = 64
_OWN = str(Path(__file__).parent)
_CUT = "\n  [...]\n"
_CANCELLED = (asyncio.CancelledError, concurrent.futures.CancelledError, WorkCancelledError)


def failure_of(error: BaseException) -> Failure:
    """The failure that an action's exception is."""
    name = type(error).__name__
    message = bounded(_text(error), MESSAGE_BYTES_MAX)
    elsewhere = isinstance(error, MeshError) and error.node_id is not None
    if isinstance(error, BadPayloadError) and not elsewhere:
        return Failure(Code.BAD_PAYLOAD, name, message)
    if isinstance(error, _CANCELLED) and not elsewhere:
        return Failure(Code.CANCELLED, name, message or "the action ended itself by cancelling")
    return Failure(Code.ACTION_FAILED, name, message, _traceback(error))


def bounded(text: str, bytes_max: int) -> str:
    """`text` as valid UTF-8 of at most `bytes_max` bytes; the middle is left out."""
    data = text.encode("utf-8", "backslashreplace")
    if len(data) > bytes_max:
        room = bytes_max - len(_CUT)
        head = data[: room // 4].decode("utf-8", "ignore")
        return head + _CUT + data[len(data) - room + room // 4 :].decode("utf-8", "ignore")
    return data.decode()


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as broken:  # a faulty __str__ must not hide the failure
        return f"<its text cannot be had: {type(broken).__name__}>"


def _traceback(error: BaseException) -> str:
    """The traceback from the action's own first frame on."""
    frames = error.__traceback__
    while frames is not None and frames.tb_frame.f_code.co_filename.startswith(_OWN):
        frames = frames.tb_next
    described = traceback.TracebackException(type(error), error, frames, limit=-_FRAMES_MAX)
    return bounded("".join(described.format()), TRACEBACK_BYTES_MAX)
