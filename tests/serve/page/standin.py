"""A server that stands in for the real one: it replays scripted chunks, so that the page can be shown anything."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Standin:
    """`script` is the next answer: text, a field `agent` (a dict), or seconds to wait (a float)."""

    script: list[str | dict[str, Any] | float] = field(default_factory=list)
    models: list[dict[str, Any]] = field(default_factory=lambda: [{"id": "river", "max_model_len": 4096}])
    tools: list[dict[str, str]] | None = None
    late: float = 0
    """Seconds before the models are told."""
    key: str = ""
    asked: list[dict[str, Any]] = field(default_factory=list)
    left: int = 0
    """Answers whose reader went before their end."""
    url: str = ""

    async def chunks(self) -> AsyncIterator[str]:
        def chunk(delta: dict[str, Any], **more: Any) -> str:
            return f"data: {json.dumps({'choices': [{'index': 0, 'delta': delta, **more}]}, ensure_ascii=False)}\n\n"

        ended = False
        try:
            yield chunk({"role": "assistant", "content": ""})
            for part in self.script:
                if isinstance(part, float):
                    await asyncio.sleep(part)
                elif isinstance(part, dict):
                    yield f"data: {json.dumps({'choices': [], 'agent': part}, ensure_ascii=False)}\n\n"
                else:
                    yield chunk({"content": part})
            yield chunk({}, finish_reason="stop")
            yield "data: [DONE]\n\n"
            ended = True
        finally:
            self.left += not ended


def application(standin: Standin) -> Any:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import JSONResponse, Response, StreamingResponse
    from starlette.routing import Route

    from headwater.serve.static import page_routes

    async def chat(request: Request) -> Response:
        standin.asked.append(await request.json())
        return StreamingResponse(standin.chunks(), media_type="text/event-stream")

    async def models(request: Request) -> Response:
        await asyncio.sleep(standin.late)
        if standin.key and request.headers.get("authorization") != f"Bearer {standin.key}":
            return JSONResponse({"error": {"message": "no key", "code": "invalid_api_key"}}, 401)
        return JSONResponse({"object": "list", "data": standin.models})

    async def tools(request: Request) -> Response:
        return JSONResponse({"error": {}}, 404) if standin.tools is None else JSONResponse(standin.tools)

    return Starlette(routes=[Route("/v1/chat/completions", chat, methods=["POST"]), Route("/v1/models", models),
                             Route("/tools.json", tools), *page_routes()])


@contextmanager
def standing_in() -> Iterator[Standin]:
    import uvicorn

    from headwater.serve.server import listen

    standin = Standin()
    listener = listen("127.0.0.1", 0)
    listener.listen()
    standin.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    server = uvicorn.Server(uvicorn.Config(application(standin), log_level="critical", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        yield standin
    finally:
        server.should_exit = True
        thread.join(20)
        listener.close()
