"""The style, the script and the icon of the pages: our own files, nothing from elsewhere."""

from __future__ import annotations

import hashlib
from pathlib import Path

from fastapi import APIRouter, Request
from starlette.exceptions import HTTPException
from starlette.responses import Response

_DIRECTORY = Path(__file__).parent / "static"
_KINDS = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_KEEP = "public, max-age=31536000, immutable"  # of a URL with the hash of the content


class Assets:
    """All files of `static/`, by name."""

    def __init__(self) -> None:
        self._content = {path.name: path.read_bytes() for path in sorted(_DIRECTORY.iterdir())}
        self._hash = {
            name: hashlib.sha256(content).hexdigest()[:12]
            for name, content in self._content.items()
        }

    def url(self, name: str) -> str:
        """Where a page finds it; another content has another URL."""
        return f"/static/{name}?v={self._hash[name]}"

    def routes(self) -> APIRouter:
        router = APIRouter(include_in_schema=False)

        @router.get("/static/{name}")
        async def static(request: Request, name: str, v: str = "") -> Response:
            content = self._content.get(name)
            if content is None:
                raise HTTPException(404)
            tag = f'"{self._hash[name]}"'
            keep = _KEEP if v == self._hash[name] else "no-cache"
            headers = {"ETag": tag, "Cache-Control": keep}
            if request.headers.get("if-none-match") == tag:
                return Response(status_code=304, headers=headers)
            return Response(content, media_type=_KINDS[Path(name).suffix], headers=headers)

        return router
