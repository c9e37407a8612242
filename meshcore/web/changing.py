"""What can be changed: programs outside the mesh register, registries exchange what they hold."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from meshcore.flows import FlowError, flow_from
from meshcore.protocol.catalogue.records import Flow
from meshcore.web import refusals, values
from meshcore.web.interface import Catalogue, Site
from meshcore.web.refusals import Refusal
from meshcore.web.shapes import Registered, Registration
from meshcore.web.values import JSON, JsonResponse, iso

_SHOWN_MAX = 200  # characters of a URL in a message
_MESSAGE = {JSON: {"schema": {"$ref": "#/components/schemas/Message"}}}
_ANSWERS: dict[str, Any] = {
    "response_model": None,
    "responses": {200: {"description": "What this registry has to tell", "content": _MESSAGE}},
}
_ASKS: dict[str, Any] = {
    **_ANSWERS,
    "openapi_extra": {"requestBody": {"required": True, "content": _MESSAGE}},
}
# What a message over HTTP may leave out.
_DEFAULTS: dict[str, Any] = {"mesh": "", "life": 0, "organization": ""}


def routes(site: Site, guarded: dict[str, Any]) -> APIRouter:
    """The routes; `guarded` is what each has, because it needs authorization."""
    router = APIRouter(tags=["registry"], **guarded)
    catalogue = site.catalogue

    @router.post("/register", response_model=Registered)
    async def register(body: Registration) -> Response:
        """A program outside the mesh offers exactly these flows, until its `ttl` is over."""
        return JsonResponse(_register(catalogue, body))

    @router.post("/connect", **_ASKS)
    async def connect(request: Request) -> Response:
        """A registry outside the mesh exchanges with this one from now on."""
        return JsonResponse(_exchange(catalogue, "connect", await _body(request)))

    @router.post("/update", **_ASKS)
    async def update(request: Request) -> Response:
        """What has changed at a registry outside the mesh, or what it wants to know."""
        return JsonResponse(_exchange(catalogue, "update", await _body(request)))

    @router.delete("/connect", **_ANSWERS)
    async def disconnect(
        url: Annotated[str, Query(description="where the one that ends it is reached")],
    ) -> Response:
        """A registry outside the mesh exchanges with this one no more."""
        said = {"url": url, "feed": False, "nodes": []}
        return JsonResponse(_exchange(catalogue, "disconnect", said))

    return router


async def _body(request: Request) -> Any:
    try:
        return json.loads(await request.body())
    except json.JSONDecodeError as error:
        text = f"the body is not JSON: {error.msg} (character {error.pos})"
        raise Refusal(400, text, field="body") from None
    except (ValueError, RecursionError):  # not UTF-8, digits without end, brackets in brackets
        raise Refusal(400, "the body is not JSON that can be read", field="body") from None


def _exchange(catalogue: Catalogue, kind: str, said: Any) -> dict[str, Any]:
    if not catalogue.registry:
        raise refusals.no_registry()
    if not isinstance(said, dict):
        raise Refusal(422, "body: it must be an object", field="body")
    return catalogue.exchange(kind, {**_DEFAULTS, **said})


def _register(catalogue: Catalogue, body: Registration) -> dict[str, Any]:
    if not catalogue.registry:
        raise refusals.no_registry()
    messages: list[str] = []
    flows: dict[str, Flow] = {}
    for where, key, entry in _entries(body.flows):
        try:
            flow = _flow(where, key, entry, messages)
        except FlowError as error:
            messages.append(f"{where} refused: {error}")
            continue
        if flow.url in flows:
            messages.append(f"{where} is a duplicate of {_short(flow.url)}: the last one counts")
        flows[flow.url] = flow
    done = catalogue.register(body.url, body.organization, list(flows.values()), ttl=body.ttl)
    visit = "first visit" if done.first_visit else f"seen previously {iso(done.seen)}"
    summary = [
        f"registered node {body.url} ({visit})",
        f"received {len(body.flows)} flows, registered {len(flows)} flows",
    ]
    return {**values.about(catalogue.about()), "message": summary + messages}


def _flow(where: str, key: str | None, entry: Any, messages: list[str]) -> Flow:
    """The flow of an entry; a field that no flow has is left out, and `messages` say so."""
    try:
        return flow_from(entry, url=key)
    except FlowError as error:
        flow = flow_from(entry, url=key, extra=True)  # raises where that was not all
        messages.append(f"{where}: {error}; left out")
        return flow


def _entries(flows: list[Any] | dict[str, Any]) -> Iterator[tuple[str, str | None, Any]]:
    """Where an entry stands, the URL that it stands under, and the entry."""
    listed: Iterable[tuple[str | None, Any]]
    listed = flows.items() if isinstance(flows, dict) else ((None, entry) for entry in flows)
    for number, (key, entry) in enumerate(listed):
        where = f"flows[{number}]" if key is None else f"flows[{json.dumps(_short(key))}]"
        yield where, key, entry


def _short(url: str) -> str:
    return url if len(url) <= _SHOWN_MAX else url[: _SHOWN_MAX - 1] + "…"
