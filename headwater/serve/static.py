"""The chat page's files, with the headers that keep it to itself."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import Scope

PAGE = Path(__file__).parent / "page"
TYPES = {".html": "text/html; charset=utf-8", ".css": "text/css; charset=utf-8",
         ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml", ".woff2": "font/woff2",
         ".txt": "text/plain; charset=utf-8", ".json": "application/json"}
"""By the end of a name, and not by the machine's own table, in which some have `.js` as plain text."""
POLICY = {
    "default-src": "'none'", "script-src": "'self'", "style-src": "'self'", "font-src": "'self'",
    "connect-src": "'self'", "img-src": "'self' data:", "base-uri": "'none'", "form-action": "'none'",
    "frame-ancestors": "'none'", "require-trusted-types-for": "'script'", "trusted-types": "dompurify",
}
"""Nothing from elsewhere, no style or script written in the page, and no markup but through DOMPurify."""
HEADERS = {
    "content-security-policy": "; ".join(f"{name} {value}" for name, value in POLICY.items()),
    "x-content-type-options": "nosniff",
    "x-dns-prefetch-control": "off",  # a link's host would be looked up before anybody follows it
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}


class Files(StaticFiles):
    def file_response(self, full_path: str | os.PathLike[str], stat_result: os.stat_result, scope: Scope,
                      status_code: int = 200) -> Response:
        response = super().file_response(full_path, stat_result, scope, status_code)
        response.headers.update(HEADERS)
        if response.status_code == 200:
            response.headers["content-type"] = TYPES[Path(full_path).suffix]
        return response


def page_routes() -> list[BaseRoute]:
    """The page at /, and the folders it reads."""
    root = Files(directory=PAGE)

    async def top(request: Request) -> Response:
        return await root.get_response(request.url.path.strip("/") or "index.html", request.scope)

    return [Route("/", top), Route("/icon.svg", top),
            *(Mount(f"/{folder}", Files(directory=PAGE / folder)) for folder in ("css", "js", "vendor"))]
