"""What every request passes before the application sees it, and every answer on its way out.

Nothing of a body is read before the request may have one: the host, the origin, the token, the kind
of content and its announced size come first. Then it is read whole, within a size, a time, and a
sum over all requests, so that the application behind never waits for a client.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import MutableMapping
from email.utils import formatdate
from typing import Any

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from meshcore.web import refusals
from meshcore.web.access import Access
from meshcore.web.refusals import Refusal
from meshcore.web.values import JSON, JsonResponse

_LOG = logging.getLogger("meshcore.web")
BODY_MAX = 16 * 1024 * 1024  # bytes of one request
BODIES_MAX = 64 * 1024 * 1024  # bytes of all that are read and worked on at a time
BODY_TIMEOUT = 30.0  # seconds to send a body
ANSWER_TIMEOUT = 60.0  # seconds to make and send the answer
CHANGING = ("POST", "PUT", "PATCH", "DELETE")
GUARDED_PATHS = ("/catalogue",)  # whoever may change something may read these

_HEADERS = {
    "content-security-policy": "default-src 'self'; base-uri 'none'; form-action 'self';"
    " frame-ancestors 'none'; object-src 'none'",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}


class Guard:
    """An ASGI application around another one."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._access = access
        self._held = 0  # bytes of bodies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":  # neither lifespan nor websockets are served
            return
        answer = _Answer(send, head=scope["method"] == "HEAD")
        if answer.head:
            scope = {**scope, "method": "GET"}
        try:
            async with asyncio.timeout(BODY_TIMEOUT + ANSWER_TIMEOUT):
                await self._serve(scope, receive, answer)
        except asyncio.CancelledError:  # the server stops and has waited long enough
            if not answer.begun:
                stopping = Refusal(503, "this node stops", name="ClosedError")
                await _respond(stopping, scope, receive, answer)
        except Exception as error:
            refusal = refusals.of(error)
            if isinstance(error, TimeoutError):
                refusal = Refusal(
                    504,
                    f"no answer in {BODY_TIMEOUT + ANSWER_TIMEOUT:.0f} s",
                    name="DeadlineExceededError",
                )
            if refusal is None:
                _LOG.exception("%s %s failed", scope["method"], scope["path"][:200])
                refusal = refusals.internal()
            if answer.ended:
                return
            if answer.begun:
                raise ConnectionAbortedError("the answer was cut short") from error
            await _respond(refusal, scope, receive, answer)

    async def _serve(self, scope: Scope, receive: Receive, answer: _Answer) -> None:
        headers = Headers(scope=scope)
        self._access.check_host(headers.getlist("host"))
        changing = scope["method"] in CHANGING
        if changing or scope["path"] in GUARDED_PATHS:
            client = scope.get("client")
            self._access.check_change(client[0] if client else "", headers)
        if not changing:
            await self._app(scope, receive, answer)
            return
        size = _announced(headers)
        body = _Body(self, receive)
        try:
            if size or "transfer-encoding" in headers:
                _check_content(headers)
                await body.read(size)
            await self._app(scope, body, answer)
        finally:
            self._held -= body.size

    def hold(self, size: int) -> None:
        """So many bytes more of bodies; raises Refusal where that is too much at a time."""
        if self._held + size > BODIES_MAX:
            raise Refusal(
                503, "too much is being sent to this node just now; try again", name="BusyError"
            )
        self._held += size


class _Body:
    """The body of one request: read whole, then given to the application."""

    def __init__(self, guard: Guard, receive: Receive) -> None:
        self._guard = guard
        self._receive = receive
        self._content: bytes | None = b""
        self.size = 0

    async def read(self, announced: int) -> None:
        if announced > BODY_MAX:
            raise _too_large()
        parts: list[bytes] = []
        try:
            async with asyncio.timeout(BODY_TIMEOUT):
                more = True
                while more:
                    message = await self._receive()
                    if message["type"] == "http.disconnect":
                        raise Refusal(400, "the body is not whole", field="body")
                    part = message.get("body", b"")
                    if self.size + len(part) > BODY_MAX:
                        raise _too_large()
                    self._guard.hold(len(part))
                    self.size += len(part)
                    parts.append(part)
                    more = message.get("more_body", False)
        except TimeoutError:
            raise Refusal(408, f"the body took longer than {BODY_TIMEOUT:.0f} s") from None
        self._content = b"".join(parts)

    async def __call__(self) -> Message:
        if self._content is None:
            return await self._receive()
        content, self._content = self._content, None
        return {"type": "http.request", "body": content, "more_body": False}


class _Answer:
    """Sends on what the application sends, with the headers that every answer has."""

    def __init__(self, send: Send, *, head: bool) -> None:
        self._send = send
        self.head = head
        self.begun = self.ended = False

    async def __call__(self, message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.begun = True
            said = {name.lower() for name, _ in message["headers"]}
            more = {"date": formatdate(usegmt=True), "cache-control": "no-store", **_HEADERS}
            message["headers"] = [
                *message["headers"],
                *((n.encode(), v.encode()) for n, v in more.items() if n.encode() not in said),
            ]
        elif message["type"] == "http.response.body":
            self.ended = not message.get("more_body", False)
            if self.head:
                message = {**message, "body": b""}
        await self._send(message)


async def _respond(refusal: Refusal, scope: Scope, receive: Receive, send: Send) -> None:
    # What is left of a body that nobody reads must not be taken for the next request.
    headers = {**refusal.headers, "Connection": "close"}
    response = JsonResponse(refusal.body, status_code=refusal.status, headers=headers)
    await response(scope, receive, send)


def _announced(headers: Headers) -> int:
    text = headers.get("content-length", "0")
    if not (text.isascii() and text.isdigit()) or len(text) > 18:
        raise Refusal(400, "Content-Length must be a number of bytes", field="Content-Length")
    return int(text)


def _check_content(headers: Headers) -> None:
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != JSON:
        said = f", not {kind[:80]!r}" if kind else ""
        raise Refusal(415, f"Content-Type: send {JSON}{said}", field="Content-Type")
    if headers.get("content-encoding", "identity").lower() != "identity":
        raise Refusal(415, "Content-Encoding: send the body as it is", field="Content-Encoding")


def _too_large() -> Refusal:
    return Refusal(413, f"the body has more than {BODY_MAX:,} bytes", field="body")
