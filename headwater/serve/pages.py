"""What is read and not asked of the model: the chat page, its examples, the models, health and metrics."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response

from headwater import __version__
from headwater.serve.errors import RequestError
from headwater.serve.metrics import CONTENT_TYPE
from headwater.serve.service import Service

PAGE = Path(__file__).parent / "page"
PAGE_FILES = {"index.html": "text/html", "style.css": "text/css", "app.js": "text/javascript",
              "words.js": "text/javascript", "icon.svg": "image/svg+xml"}
PAGE_HEADERS = {
    "content-security-policy": "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}


class Pages:
    """The endpoints over a service."""

    def __init__(self, service: Service) -> None:
        self.service = service

    async def models(self, request: Request) -> Response:
        return JSONResponse({"object": "list", "data": [self._card(name) for name in self.service.names]})

    async def one_model(self, request: Request) -> Response:
        name = request.path_params["model"]
        self.service.require(name)
        return JSONResponse(self._card(name))

    async def proposed(self, request: Request) -> Response:
        return JSONResponse(list(self.service.examples))

    async def health(self, request: Request) -> Response:
        worker = self.service.worker
        load, alive = worker.load, worker.alive
        return JSONResponse({"status": "ok" if alive else "closing", "model": self.service.model,
                             "version": __version__, "active": load.active, "waiting": load.waiting,
                             "answered": load.answered}, status_code=200 if alive else 503)

    async def metrics(self, request: Request) -> Response:
        return Response(self.service.metrics.text(), media_type=CONTENT_TYPE)

    async def page(self, request: Request) -> Response:
        name = request.path_params.get("file", "index.html")
        if name not in PAGE_FILES:
            raise RequestError(f"no such page: /{name}", status=404, code="not_found")
        return FileResponse(PAGE / name, headers=PAGE_HEADERS, media_type=PAGE_FILES[name])

    def _card(self, name: str) -> dict[str, Any]:
        service = self.service
        card = {"id": name, "object": "model", "created": service.started, "owned_by": "headwater",
                "max_model_len": service.engine.max_length}
        return card if name == service.model else {**card, "parent": service.model}
