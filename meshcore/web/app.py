"""The web application of one node, put together.

There is no page of documentation that loads its scripts from elsewhere: the OpenAPI document is at
`/openapi.json`, and `docs/http.md` has examples.
"""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request, Security
from fastapi.exceptions import RequestValidationError
from fastapi.security import HTTPBearer
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp

from meshcore import __version__
from meshcore.errors import MeshError
from meshcore.web import changing, reading, refusals
from meshcore.web.access import Access
from meshcore.web.assets import Assets
from meshcore.web.guard import Guard
from meshcore.web.interface import Site
from meshcore.web.page import Pages
from meshcore.web.refusals import Refusal
from meshcore.web.shapes import ErrorAnswer
from meshcore.web.values import JsonResponse

DESCRIPTION = "What can be done where: the catalogue of a mesh, as one of its nodes knows it."


def make_app(site: Site, access: Access) -> ASGIApp:
    """An ASGI application that needs no lifespan; `access` says who may change something."""
    app = FastAPI(
        title="meshcore",
        description=DESCRIPTION,
        version=__version__,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        separate_input_output_schemas=False,
        responses={"4XX": {"model": ErrorAnswer, "description": "What is wrong with the request"}},
    )
    assets = Assets()
    pages = Pages(site, assets)
    token = HTTPBearer(auto_error=False, description="the setting http_token of the node")
    guarded: dict[str, Any] = {"dependencies": [Security(token)]} if access.needs_token else {}
    routers = [
        reading.routes(site, pages, guarded),
        changing.routes(site, guarded),
        assets.routes(),
    ]
    for router in routers:
        app.include_router(router)
    _refuse_in_one_shape(app, pages, [route for router in routers for route in router.routes])
    return Guard(app, access)


def _refuse_in_one_shape(app: FastAPI, pages: Pages, routes: list[BaseRoute]) -> None:
    async def refuse(request: Request, error: Exception) -> Response:
        if isinstance(error, HTTPException) and error.status_code == 405:
            allowed = _methods(routes, request)
            if allowed:  # of all routes with that path, not of the first one alone
                error = HTTPException(405, headers={"Allow": ", ".join(allowed)})
        refusal = refusals.of(error) or refusals.internal()  # the guard logs that
        if request.method == "GET" and reading.wants_html(request):
            return await pages.error(refusal)
        return JsonResponse(refusal.body, status_code=refusal.status, headers=refusal.headers)

    for kind in (Refusal, RequestValidationError, HTTPException, MeshError, Exception):
        app.add_exception_handler(kind, refuse)


def _methods(routes: list[BaseRoute], request: Request) -> list[str]:
    """What may be done with the path of a request."""
    found: set[str] = set()
    for route in routes:
        if route.matches(request.scope)[0] is not Match.NONE:
            found |= set(getattr(route, "methods", None) or ())
    return sorted(found | ({"HEAD"} if "GET" in found else set()))
