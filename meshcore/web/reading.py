"""What can be read: who this is, what there is, how much of it, and whether the node lives."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from pydantic import BeforeValidator, WithJsonSchema
from starlette.responses import Response

from meshcore.web import refusals, values
from meshcore.web.interface import Site
from meshcore.web.page import PP, Pages
from meshcore.web.shapes import About, Counts, Flows, Health, Item, Map, Record
from meshcore.web.values import JsonResponse

P_MAX = 10**9
BY_MAX = 1024  # characters
PP_MAX = 1000
_OR_A_PAGE: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/html": {"schema": {"type": "string"}}}}
}


def _or(default: int) -> Any:
    """An empty parameter (`?p=&pp=`) stands for its default."""
    return BeforeValidator(lambda value: default if value == "" else value)


def _number(minimum: int, maximum: int) -> Any:
    number = {"type": "integer", "minimum": minimum, "maximum": maximum}
    return WithJsonSchema({"anyOf": [number, {"type": "string", "maxLength": 0}]})


Q = Annotated[str, Query(description='such as `organization == "acme" & @tag("gpu")`, or words')]
_KEY = f"({'|'.join(Item.model_fields)})(:[ad])?"
By = Annotated[
    str,
    Query(
        description="columns to sort by, such as `name,modified:d` (a: ascending, d: descending)",
        max_length=BY_MAX,
        json_schema_extra={"pattern": f"^({_KEY}(,{_KEY})*)?$"},  # the catalogue says what is wrong
    ),
]
P = Annotated[int, _or(0), Query(ge=0, le=P_MAX, description="the page, from 0"), _number(0, P_MAX)]
Pp = Annotated[int, _or(PP), Query(ge=1, le=PP_MAX, description="items"), _number(1, PP_MAX)]
Format = Annotated[
    Literal["", "json", "html"], Query(description="left out, what `Accept` prefers")
]


def wants_html(request: Request, format: str = "") -> bool:
    """Whether the answer is for a person: by `format`, else where HTML is preferred to JSON."""
    if format:
        return format == "html"
    accept = request.headers.get("accept", "")
    return _preference(accept, "text", "html") > _preference(accept, "application", "json")


def _preference(accept: str, kind: str, subtype: str) -> float:
    """How much of a kind is wanted, 0 to 1, by the most specific range that fits."""
    best = (0, 0.0)
    for item in accept.split(",")[:50]:
        media, *parameters = (part.strip().lower() for part in item.split(";"))
        specific = {f"{kind}/{subtype}": 3, f"{kind}/*": 2, "*/*": 1}.get(media, 0)
        quality = 1.0
        for parameter in parameters:
            if parameter.startswith("q="):
                try:
                    quality = float(parameter[2:])
                except ValueError:
                    quality = 0.0
        best = max(best, (specific, quality if specific else 0.0))
    return best[1]


def routes(site: Site, pages: Pages, guarded: dict[str, Any]) -> APIRouter:
    """The routes; `guarded` is what a route has that needs authorization."""
    router = APIRouter()
    catalogue = site.catalogue

    @router.get("/", response_model=About, tags=["node"], responses=_OR_A_PAGE)
    async def about(request: Request, format: Format = "") -> Response:
        """Who this node is; for a browser, the page of its catalogue."""
        if wants_html(request, format):
            return await pages.flows(await catalogue.flows())
        return JsonResponse(values.about(catalogue.about()), headers={"Vary": "Accept"})

    @router.get("/map", response_model=Map, tags=["node"])
    async def map() -> Response:
        """Who this node is, who tells it and whom it tells."""
        return JsonResponse(values.about(catalogue.map()))

    @router.get("/health", response_model=Health, tags=["node"])
    async def health() -> Response:
        """Whether the node lives: its loop answers."""
        about = catalogue.about()
        return JsonResponse(
            {"status": "ok", "node_id": about["node_id"], "version": about["version"]}
        )

    @router.get("/counts", response_model=Counts, tags=["catalogue"])
    async def counts() -> Response:
        """How many flows there are, by organization, node and tag."""
        return JsonResponse(await catalogue.counts())

    @router.get("/flows", response_model=Flows, tags=["catalogue"], responses=_OR_A_PAGE)
    async def flows(
        request: Request, q: Q = "", by: By = "", p: P = 0, pp: Pp = PP, format: Format = ""
    ) -> Response:
        """What is offered: one page of what a query finds, in an order."""
        found = await catalogue.flows(q, by=by, p=p, pp=pp)
        if wants_html(request, format):
            return await pages.flows(found)
        return JsonResponse(values.page(found), headers={"Vary": "Accept"})

    @router.get("/catalogue", response_model=list[Record], tags=["registry"], **guarded)
    async def records() -> Response:
        """Every record that this registry has, with its versions, also of what is deleted."""
        if not catalogue.registry:
            raise refusals.no_registry()
        return values.long_list(await catalogue.records())

    return router
