"""The catalogue over HTTP: an API, a page for people, and exchange with registries elsewhere.

It needs the extra `web`, and is loaded only where a node has an address for it (`--http`).

`interface`    what it needs of a node
`app`          puts the parts together: one ASGI application
`guard`        what every request passes first: host, origin, token, kind and size of its body
`access`       who may change something
`reading`      GET: who this is, what there is; `changing`: programs and registries outside
`page`         the catalogue as HTML, with `templates/` and `static/`
`shapes`       the answers as the OpenAPI document describes them; `values`: how they become JSON
`refusals`     every error in one shape
`server`       runs the application in the loop of the node; `connections`: bounds of each
`partners`     the way out: requests to registries of other meshes
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshcore.errors import ConfigError

if TYPE_CHECKING:
    from meshcore.web.interface import Site
    from meshcore.web.server import WebServer

__all__ = ["open_web"]


def open_web(site: Site) -> WebServer:
    """The web server of a node, not started.

    Raises:
        ConfigError: the extra is not installed.
    """
    try:
        import fastapi  # noqa: F401
        import httpx  # noqa: F401
        import jinja2  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            f"http needs a package that is not installed ({error.name}):"
            " pip install 'meshcore-runtime[web]'"
        ) from None
    from meshcore.web.server import WebServer

    return WebServer(site)
