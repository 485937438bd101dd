"""The HTTP application: chat completions, models, health, and the chat page."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from headwater import __version__
from headwater.errors import InputError, MissingExtraError
from headwater.generate.request import Delta, TokenLogprob
from headwater.generate.sampling import SamplingParams
from headwater.generate.worker import Ticket, Unavailable, Worker
from headwater.serve.protocol import ChatRequest, RequestError, error_body, logprobs_body, parse_chat, usage

try:
    import uvicorn  # noqa: F401 - what will run the application, asked for before a model is loaded
    from starlette.applications import Starlette
    from starlette.requests import ClientDisconnect, Request
    from starlette.responses import JSONResponse, Response
    from starlette.routing import Route

    from headwater.serve.static import page_routes
except ImportError as missing:
    raise MissingExtraError("serving needs starlette and uvicorn", fix="pip install 'headwater[serve]'") from missing

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send


@dataclass
class Api:
    """The handlers and what they share. `defaults` is the sampling of a request that asks for none; `examples` are
    questions the page proposes."""

    worker: Worker
    model: str
    defaults: SamplingParams
    examples: Sequence[str] = ()
    max_body: int = 1 << 20
    started: int = 0

    async def models(self, request: Request) -> Response:
        return JSONResponse({"object": "list", "data": [self._card(name) for name in self._names]})

    async def one_model(self, request: Request) -> Response:
        name = request.path_params["model"]
        self._known(name)
        return JSONResponse(self._card(name))

    async def proposed(self, request: Request) -> Response:
        return JSONResponse(list(self.examples))

    async def health(self, request: Request) -> Response:
        load = self.worker.load
        alive = self.worker.alive
        return JSONResponse({"status": "ok" if alive else "closing", "model": self.model, "version": __version__,
                             "active": load.active, "waiting": load.waiting, "answered": load.answered},
                            status_code=200 if alive else 503)

    async def chat(self, request: Request) -> Response:
        asked = parse_chat(await self._body(request))
        self._known(asked.model)
        prompt = self._prompt(asked)
        params = asked.params(self.defaults, self.worker.engine.max_length - len(prompt))
        ticket = self.worker.submit(prompt, params, None if asked.model == self.model else asked.model)
        head = {"id": f"chatcmpl-{secrets.token_hex(12)}", "created": int(time.time()), "model": asked.model}
        if asked.stream:
            return EventStream(ticket, self._chunks(ticket, asked, head))
        async with cancelled_on_disconnect(ticket, request.receive):
            return JSONResponse(await self._whole(ticket, asked, head))

    @property
    def _names(self) -> list[str]:
        """The model and its adapters."""
        return [self.model, *self.worker.engine.adapters.names]

    def _card(self, name: str) -> dict[str, Any]:
        card = {"id": name, "object": "model", "created": self.started, "owned_by": "headwater",
                "max_model_len": self.worker.engine.max_length}
        return card if name == self.model else {**card, "parent": self.model}

    def _known(self, model: str) -> None:
        if model not in self._names:
            known = ", ".join(f"'{name}'" for name in self._names)
            raise RequestError(f"the model '{model}' does not exist; this server has {known}", status=404,
                               param="model", code="model_not_found")

    async def _body(self, request: Request) -> bytes:
        body = bytearray()
        async for part in request.stream():
            body += part
            if len(body) > self.max_body:
                raise RequestError(f"the body is larger than {self.max_body} bytes", status=413, code="body_too_large")
        return bytes(body)

    def _prompt(self, asked: ChatRequest) -> list[int]:
        engine = self.worker.engine
        template = engine.tokenizer.chat
        prompt = template.render([message.plain() for message in asked.messages], add_generation_prompt=True).ids
        wanted = asked.limit or 1
        if len(prompt) + wanted > engine.max_length:
            raise RequestError(f"this model's context holds {engine.max_length} tokens; the messages have "
                               f"{len(prompt)} and the answer asks for {wanted}: shorten the messages or ask for "
                               "fewer tokens", param="messages" if len(prompt) >= engine.max_length else "max_tokens",
                               code="context_length_exceeded")
        return prompt

    async def _whole(self, ticket: Ticket, asked: ChatRequest, head: dict[str, Any]) -> dict[str, Any]:
        deltas = [delta async for delta in ticket]
        logprobs = [entry for delta in deltas for entry in delta.logprobs]
        choice = {"index": 0, "message": {"role": "assistant", "content": "".join(d.text for d in deltas),
                                          "refusal": None},
                  "logprobs": self._logprobs(asked, logprobs), "finish_reason": _finish(deltas[-1])}
        return {**head, "object": "chat.completion", "choices": [choice],
                "usage": usage(len(ticket.prompt), sum(len(d.tokens) for d in deltas))}

    async def _chunks(self, ticket: Ticket, asked: ChatRequest, head: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        count = 0
        with_usage = asked.stream_options is not None and asked.stream_options.include_usage
        head = {**head, "object": "chat.completion.chunk", **({"usage": None} if with_usage else {})}
        yield {**head, "choices": [_choice({"role": "assistant", "content": ""})]}
        async for delta in ticket:
            count += len(delta.tokens)
            if delta.text or delta.logprobs:
                yield {**head, "choices": [_choice({"content": delta.text},
                                                   logprobs=self._logprobs(asked, list(delta.logprobs)))]}
            if delta.finish_reason is not None:
                yield {**head, "choices": [_choice({}, finish=_finish(delta))]}
        if with_usage:
            yield {**head, "choices": [], "usage": usage(len(ticket.prompt), count)}

    def _logprobs(self, asked: ChatRequest, logprobs: list[TokenLogprob]) -> dict[str, Any] | None:
        return logprobs_body(self.worker.engine.tokenizer, logprobs) if asked.logprobs else None


def _choice(delta: dict[str, Any], *, finish: str | None = None,
            logprobs: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": finish}


def _finish(delta: Delta) -> str | None:
    # OpenAI has no word for an answer cut short by a closing server; "length" is its word for cut short.
    return "length" if delta.finish_reason == "cancelled" else delta.finish_reason


@asynccontextmanager
async def cancelled_on_disconnect(ticket: Ticket, receive: Receive) -> AsyncIterator[None]:
    """Cancels the ticket when the client leaves; the body must have been read."""
    async def watch() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        ticket.cancel()

    watcher = asyncio.create_task(watch())
    try:
        yield
    except BaseException:
        ticket.cancel()
        raise
    finally:
        watcher.cancel()
        with suppress(asyncio.CancelledError):
            await watcher


class EventStream(Response):
    """Server-sent events: one JSON object each, then [DONE]. A failure on the way is an event with an "error"."""

    def __init__(self, ticket: Ticket, events: AsyncIterator[dict[str, Any]]) -> None:
        super().__init__(media_type="text/event-stream", headers={"cache-control": "no-cache"})
        del self.headers["content-length"]
        self.ticket, self.events = ticket, events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def write(data: str, more: bool = True) -> None:
            await send({"type": "http.response.body", "body": data.encode(), "more_body": more})

        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        async with cancelled_on_disconnect(self.ticket, receive):
            try:
                async for event in self.events:
                    await write(f"data: {json.dumps(event, ensure_ascii=False)}\n\n")
            except Exception as error:
                body = error_body(f"the answer failed: {type(error).__name__}", kind="server_error")
                await write(f"data: {json.dumps(body)}\n\n")
            await write("data: [DONE]\n\n", more=False)


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestError)
    return JSONResponse(error_body(error.what, param=error.param, code=error.code), status_code=error.status)


async def _bad_input(request: Request, error: Exception) -> Response:
    return JSONResponse(error_body(str(error), param="messages", code="invalid_value"), status_code=400)


async def _unavailable(request: Request, error: Exception) -> Response:
    assert isinstance(error, Unavailable)
    full = error.kind == "full"
    return JSONResponse(error_body(error.what, kind="rate_limit_error" if full else "server_error",
                                   code="queue_full" if full else "closing"),
                        status_code=429 if full else 503, headers={"retry-after": "2"})


async def _http(request: Request, error: Exception) -> Response:
    status = getattr(error, "status_code", 500)
    return JSONResponse(error_body(f"{request.method} {request.url.path}: {getattr(error, 'detail', 'error')}",
                                   code="not_found" if status == 404 else None), status_code=status,
                        headers=getattr(error, "headers", None))


async def _left(request: Request, error: Exception) -> Response:
    return Response(status_code=499)  # nobody reads it


async def _failed(request: Request, error: Exception) -> Response:
    return JSONResponse(error_body(f"the server failed: {type(error).__name__}", kind="server_error"), status_code=500)


def make_app(worker: Worker, model: str, *, max_body: int = 1 << 20, defaults: SamplingParams | None = None,
             examples: Sequence[str] = ()) -> Starlette:
    """The application over a running worker; closing the application closes the worker."""
    from starlette.exceptions import HTTPException

    api = Api(worker, model, defaults or SamplingParams(), examples, max_body, int(time.time()))

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(worker.close)

    routes = [Route("/v1/models", api.models), Route("/v1/models/{model:path}", api.one_model),
              Route("/v1/chat/completions", api.chat, methods=["POST"]), Route("/health", api.health),
              Route("/examples.json", api.proposed), *page_routes()]
    handlers: dict[Any, Any] = {RequestError: _refused, InputError: _bad_input, Unavailable: _unavailable,
                                ClientDisconnect: _left, HTTPException: _http, Exception: _failed}
    return Starlette(routes=routes, exception_handlers=handlers, lifespan=lifespan)
