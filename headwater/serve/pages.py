"""What is read and not asked of the model: the models, health, metrics, and what the chat page proposes."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from headwater import __version__
from headwater.serve.metrics import CONTENT_TYPE
from headwater.serve.service import Service


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

    async def tools(self, request: Request) -> Response:
        """The server's own tools, as the page offers them to the person."""
        return JSONResponse([{"type": name, "label": kind.label} for name, kind in self.service.tools.kinds.items()])

    async def health(self, request: Request) -> Response:
        """Whether requests are accepted."""
        load, ready = self.service.worker.load, self.service.accepting
        return JSONResponse({"status": "ok" if ready else "closing", "model": self.service.model,
                             "version": __version__, "active": load.active, "waiting": load.waiting,
                             "answered": load.answered}, status_code=200 if ready else 503)

    async def live(self, request: Request) -> Response:
        """Whether the engine's thread lives: where it does not, nothing but a new start helps."""
        alive = self.service.worker.alive
        return JSONResponse({"status": "ok" if alive else "dead"}, status_code=200 if alive else 503)

    async def metrics(self, request: Request) -> Response:
        return Response(self.service.metrics.text(), media_type=CONTENT_TYPE)

    def _card(self, name: str) -> dict[str, Any]:
        service = self.service
        card = {"id": name, "object": "model", "created": service.started, "owned_by": "headwater",
                "max_model_len": service.engine.max_length}
        return card if name == service.model else {**card, "parent": service.model}
