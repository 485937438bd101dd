"""The HTTP application: OpenAI's API, what is counted, and the chat page."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from headwater.errors import MissingExtraError
from headwater.generate.sampling import SamplingParams
from headwater.generate.worker import Worker

try:
    import uvicorn  # noqa: F401 - what will run the application, asked for before a model is loaded
    from starlette.applications import Starlette
    from starlette.middleware import Middleware
    from starlette.middleware.cors import CORSMiddleware
    from starlette.routing import Route

    from headwater.serve.access import GUARDED, RequireKey, RequireOwnPages
    from headwater.serve.errors import HANDLERS
    from headwater.serve.limits import Limits
    from headwater.serve.pages import Pages
    from headwater.serve.routes import api_routes
    from headwater.serve.server_tools import ServerTools
    from headwater.serve.service import Service
    from headwater.serve.static import page_routes
except ImportError as missing:
    raise MissingExtraError(f"serving needs its extra ({missing})", fix="pip install 'headwater[serve]'") from missing

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response


def make_app(worker: Worker, model: str, *, limits: Limits | None = None, defaults: SamplingParams | None = None,
             examples: Sequence[str] = (), keys: Sequence[str] = (), open_metrics: bool = False,
             origins: Sequence[str] = (), hosts: Collection[str] | None = None, tools: ServerTools | None = None
             ) -> Starlette:
    """The application over a running worker; closing the application closes the worker. keys: one of which requests
    carry, none needed when empty, nor for /metrics where that is open. origins: pages elsewhere that may ask ("*" for
    all). hosts: names under which a server without keys answers, any when None. tools: the server's own, that requests
    may ask for. Its `state.service` is what `GracefulServer` ends."""
    service = Service(worker, model, defaults or SamplingParams(), examples, limits or Limits(),
                      tools or ServerTools())
    pages = Pages(service)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        await service.tools.close()
        await asyncio.to_thread(worker.close)

    routes = [*api_routes(service), Route("/examples.json", pages.proposed), *page_routes()]
    middleware = [Middleware(CORSMiddleware, allow_origins=list(origins), allow_methods=["GET", "POST"],
                             allow_headers=["*"])] if origins else []
    if keys:
        guarded = GUARDED if open_metrics else (*GUARDED, "/metrics")
        middleware.append(Middleware(RequireKey, keys=keys, refused=service.metrics.refused, guarded=guarded))
    else:
        middleware.append(Middleware(RequireOwnPages, origins=origins, hosts=hosts, refused=service.metrics.refused))
    app = Starlette(routes=routes, exception_handlers=_counting(service), lifespan=lifespan, middleware=middleware)
    app.state.service = service
    return app


def _counting(service: Service) -> dict[Any, Any]:
    """The handlers of errors, whose answers are counted."""
    def counting(handler: Any) -> Any:
        async def handle(request: Request, error: Exception) -> Response:
            answer: Response = await handler(request, error)
            service.metrics.refused(answer.status_code)
            return answer

        return handle

    return {kind: counting(handler) for kind, handler in HANDLERS.items()}
