"""What can be changed: programs outside the mesh register, registries exchange what they hold."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Annotated, Any

from fastapi import APIRouter, Query
from starlette.responses import Response

from meshcore.errors import BadPayloadError
from meshcore.flows import FlowError, flow_from
from meshcore.protocol.catalogue.records import Flow
from meshcore.web import refusals, values
from meshcore.web.interface import Catalogue, Site
from meshcore.web.shapes import HttpUrl, Message, Registered, Registration
from meshcore.web.values import JsonResponse, iso

_SHOWN_MAX = 200  # characters of a URL in a message


def routes(site: Site, guarded: dict[str, Any]) -> APIRouter:
    """The routes; `guarded` is what each has, because it needs authorization."""
    router = APIRouter(tags=["registry"], **guarded)
    catalogue = site.catalogue

    @router.post("/register", response_model=Registered)
    async def register(body: Registration) -> Response:
        """A program outside the mesh offers exactly these flows, until its `ttl` is over."""
        return JsonResponse(_register(catalogue, body))

    @router.post("/connect", response_model=Message)
    async def connect(message: Message) -> Response:
        """A registry outside the mesh exchanges with this one from now on."""
        return _exchange(catalogue, "connect", message)

    @router.post("/update", response_model=Message)
    async def update(message: Message) -> Response:
        """What has changed at a registry outside the mesh, or what it wants to know."""
        return _exchange(catalogue, "update", message)

    @router.delete("/connect", response_model=Message)
    async def disconnect(
        url: Annotated[HttpUrl, Query(description="where the one that ends it is reached")],
    ) -> Response:
        """A registry outside the mesh exchanges with this one no more."""
        said = {"url": url, "feed": False, "nodes": []}
        return _exchange(catalogue, "disconnect", Message.model_validate(said))

    return router


def _exchange(catalogue: Catalogue, kind: str, message: Message) -> Response:
    if not catalogue.registry:
        raise refusals.no_registry()
    said = {**message.model_dump(), "url": message.url.rstrip("/")}  # one registry, one name
    try:
        return JsonResponse(catalogue.exchange(kind, said))
    except BadPayloadError as error:  # every field is right, but they contradict each other
        refusal = refusals.of(error)
        assert refusal is not None
        refusal.status = 409
        raise refusal from None


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
