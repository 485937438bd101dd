"""POST /v1/chat/completions with tools of the server's own: the agent's loop behind OpenAI's wire format."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from headwater.agent.asking import ContextFull
from headwater.agent.budgets import Budgets
from headwater.agent.events import Ended
from headwater.agent.loop import Agent
from headwater.errors import InputError
from headwater.serve.access import asker
from headwater.serve.agent_wire import AskedBudgets
from headwater.serve.answering import CLOSING, OVERDUE, EventStream, cancelled_on_disconnect, unless_left
from headwater.serve.chat_request import ChatRequest
from headwater.serve.conversation import history
from headwater.serve.errors import RequestError
from headwater.serve.running import Running
from headwater.serve.served_model import ServedModel
from headwater.serve.server_tools import OpenTools, Session
from headwater.serve.service import Service
from headwater.serve.turn import message_of
from headwater.serve.work_told import WorkTold


async def answer_with_tools(service: Service, request: Request, asked: ChatRequest, adapter: str | None) -> Response:
    """Answer once, calling the server's tools on the way. Raises `RequestError`, `Unavailable`, `ClientDisconnect`."""
    budgets, offer = _budgets(service, asked), asked.offer()
    session = None if asked.session is None else Session(asked.session, asker(request))
    functions = [one.definition() for one in offer.functions()]
    tools = await unless_left(service.tools.open(offer.kinds(), functions, session), request.receive,
                              service.limits.seconds)
    model = ServedModel(service, asked.params(service.defaults, service.engine.max_length, None)[0], adapter,
                        parallel=offer.parallel)
    try:
        running = _start(service, asked, tools, model, budgets)
    except BaseException:
        await tools.leave()
        raise
    try:
        await unless_left(_begun(running), request.receive, None)
    except BaseException:
        await running.close()
        raise
    reply = _Reply(service, asked, running, model)
    if asked.stream:
        return EventStream(running, reply.chunks())
    async with cancelled_on_disconnect(running.cancel, request.receive):
        return JSONResponse(await reply.whole())


def _budgets(service: Service, asked: ChatRequest) -> Budgets:
    """What the server allows, or the less that is asked for; `max_tokens` is of all turns together."""
    most, limit = service.tools.budgets, service.limits.seconds
    if limit is not None:
        most = most.model_copy(update={"seconds": min(most.seconds, limit)})
    found = (asked.budgets or AskedBudgets()).within(most)
    return found if asked.limit is None else found.model_copy(update={"tokens": min(found.tokens, asked.limit)})


def _start(service: Service, asked: ChatRequest, tools: OpenTools, model: ServedModel, budgets: Budgets) -> Running:
    offer = asked.offer()
    offer.require_choice(tools.box.definitions)
    try:
        agent = Agent(model, tools.box, budgets=budgets)
    except InputError as error:
        raise RequestError(str(error), param="tools", code="invalid_value") from None
    tools.begin(agent)
    run = agent.run(history(asked.messages, agent.format), offer.chosen())
    return Running(run, tools, model, service.limits, service.metrics)


async def _begun(running: Running) -> None:
    try:
        await running.begun()
    except ContextFull as error:
        raise RequestError(str(error), param="messages", code="context_length_exceeded") from None
    except InputError as error:
        raise RequestError(str(error), param=str(error.where or "tools"), code="invalid_value") from None


class _Reply:
    """What is answered, whole or as a stream."""

    def __init__(self, service: Service, asked: ChatRequest, running: Running, model: ServedModel) -> None:
        self._running, self._model, self._asked = running, model, asked
        self._head = service.head("chatcmpl", asked.model)
        self._told = WorkTold()
        self._ended: Ended | None = None

    async def whole(self) -> dict[str, Any]:
        said = [piece async for piece in self._pieces()]
        message = message_of(piece["delta"] for piece in said if "delta" in piece)
        message["agent"] = [piece["agent"] for piece in said if "agent" in piece]
        choice = {"index": 0, "message": message, "logprobs": None, **self._ending()}
        return {**self._head, "object": "chat.completion", "choices": [choice], "usage": self._model.usage()}

    async def chunks(self) -> AsyncGenerator[dict[str, Any]]:
        with_usage = self._asked.stream_options is not None and self._asked.stream_options.include_usage
        head = {**self._head, "object": "chat.completion.chunk", **({"usage": None} if with_usage else {})}
        yield {**head, "choices": [_choice({"role": "assistant", "content": ""})]}
        async with aclosing(self._pieces()) as pieces:
            async for piece in pieces:
                agent = "agent" in piece
                yield {**head, "choices": [], **piece} if agent else {**head, "choices": [_choice(piece["delta"])]}
        yield {**head, "choices": [_choice({}) | self._ending()]}
        if with_usage:
            yield {**head, "choices": [], "usage": self._model.usage()}

    async def _pieces(self) -> AsyncGenerator[dict[str, Any]]:
        try:
            async with aclosing(aiter(self._running)) as events:
                async for event in events:
                    self._ended = event if isinstance(event, Ended) else self._ended
                    for piece in self._told.feed(event):
                        yield piece
        finally:
            await self._running.close()

    def _ending(self) -> dict[str, Any]:
        """See `Answers.ended`: "length" is OpenAI's word for cut short."""
        if self._ended is None:
            return {"finish_reason": "length", "stop_reason": self._running.why or CLOSING}
        if self._ended.why in ("answer", "calls"):
            return {"finish_reason": "stop" if self._ended.why == "answer" else "tool_calls"}
        reason = "repeated" if self._ended.why == "repeated" else \
            {"steps": "steps", "seconds": OVERDUE}.get(self._told.spent or "")
        return {"finish_reason": "length", **({"stop_reason": reason} if reason else {})}


def _choice(delta: dict[str, Any]) -> dict[str, Any]:
    return {"index": 0, "delta": delta, "logprobs": None, "finish_reason": None}
