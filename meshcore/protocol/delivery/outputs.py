"""What delivery hands to the shell: plain tuples whose first field says which.

Measured: an object for each message costs 18-30 % of the calls per second, so there is none.

==========  =======================================================================================
SEND        link, lane, frames
VALUE       call, serial, payload: the last response, a success (NO_PAYLOAD: eof alone)
ITEM        call, serial, payload, size: one of several; return `size` with `consumed`
BODY        call, serial, content kind, size or None, last: a large response begins
CHUNK       call, serial, data, last: its next bytes; return their number with `consumed`
FAILED      call, serial, Failure: the last response, a failure
CALL        stream, directive, payload, ttl in seconds or None, trace or None
CALL_BODY   stream, directive, (content kind, size or None), ttl, trace: CALL_CHUNKs follow
CALL_CHUNK  stream, data, last
CANCELLED   stream, code: the work is no longer wanted
WRITABLE    call or stream: a window that was full has room again
COUNT       reason
==========  =======================================================================================

`call` is the ClientStream that `Delivery.call` returned, with the caller's `token`; `stream` is the
ServerStream to respond on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, TypeAlias

SEND: Final = 0
VALUE: Final = 1
ITEM: Final = 2
BODY: Final = 3
CHUNK: Final = 4
FAILED: Final = 5
CALL: Final = 6
CALL_BODY: Final = 7
CALL_CHUNK: Final = 8
CANCELLED: Final = 9
WRITABLE: Final = 10
COUNT: Final = 11

Output: TypeAlias = tuple[Any, ...]


class _NoPayload:
    """A response without payload: what a generator's eof carries."""

    def __repr__(self) -> str:
        return "NO_PAYLOAD"

    def __bool__(self) -> bool:
        return False


NO_PAYLOAD: Final = _NoPayload()


@dataclass(frozen=True, slots=True)
class Failure:
    """Why work ended without its result; `name` is the class of a remote exception, or ""."""

    code: int
    message: str
    may_have_run: bool
    name: str = ""
    traceback: str = ""
    unknown_node: bool = False
