"""POST /v1/chat/completions."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from headwater.errors import InputError
from headwater.generate.constraint import Constraint
from headwater.generate.request import Delta, TokenLogprob
from headwater.serve.all_tools import answer_with_tools
from headwater.serve.answering import Answers, EventStream, cancelled_on_disconnect
from headwater.serve.chat_request import ChatRequest, logprobs_body
from headwater.serve.conversation import conversation
from headwater.serve.errors import RequestError
from headwater.serve.sampled import constraint_of
from headwater.serve.service import Service
from headwater.serve.turn import TextTurn, ToolTurn, Turn, message_of
from headwater.serve.wire import usage
from headwater.tokenizer.calls import CallFormat, format_for


class Chat:
    """The endpoint over a service."""

    def __init__(self, service: Service) -> None:
        self.service = service

    async def answer(self, request: Request) -> Response:
        service = self.service
        asked = ChatRequest.parse(await service.body(request))
        adapter = service.require(asked.model)
        service.require_choices(asked.choices)
        service.tools.require(asked.offer())
        if len(asked.messages) >= service.engine.max_length:  # each is a token at least: none of them is written
            raise RequestError(f"this model's context holds {service.engine.max_length} tokens, and there are "
                               f"{len(asked.messages)} messages: send fewer", param="messages",
                               code="context_length_exceeded")
        if asked.works:
            return await answer_with_tools(service, request, asked, adapter)
        format = self._format(asked)
        prompt = self._prompt(asked, format)
        room = service.engine.max_length - len(prompt)
        params = asked.params(service.defaults, room, calls=_grammar(asked, format))
        answers = await service.submit([(prompt, own) for own in params], adapter, asked.guide, len(prompt))
        reply = _Reply(service, asked, [self._turn(asked, format) for _ in params])
        if asked.stream:
            return EventStream(answers, reply.chunks(answers))
        async with cancelled_on_disconnect(answers.cancel, request.receive):
            return JSONResponse(await reply.whole(answers))

    def _format(self, asked: ChatRequest) -> CallFormat:
        """A model that must not call is not told of tools."""
        offered = [one.definition() for one in asked.offer().functions()] if asked.calls else []
        try:
            return format_for(self.service.engine.tokenizer.chat, offered)
        except InputError as error:
            raise RequestError(str(error), param="tools" if offered else "messages", code="invalid_value") from None

    def _turn(self, asked: ChatRequest, format: CallFormat) -> Turn:
        if not asked.calls:
            return TextTurn()
        return ToolTurn(format, self.service.engine.tokenizer, parallel=asked.offer().parallel)

    def _prompt(self, asked: ChatRequest, format: CallFormat) -> list[int]:
        engine = self.service.engine
        prompt = engine.tokenizer.chat.render(conversation(asked.messages, format), add_generation_prompt=True).ids
        wanted = asked.limit or 1
        if len(prompt) + wanted > engine.max_length:
            more = f" and the answer asks for {asked.limit}" if asked.limit else ""
            raise RequestError(f"this model's context holds {engine.max_length} tokens; the messages have "
                               f"{len(prompt)}{more}: shorten the messages{' or ask for fewer tokens' * bool(more)}",
                               param="messages" if len(prompt) >= engine.max_length else "max_tokens",
                               code="context_length_exceeded")
        return prompt


def _grammar(asked: ChatRequest, format: CallFormat) -> Constraint | None:
    """What keeps calls to their schemas: where one is asked for, where a function is strict, and where several would
    have to be one."""
    offer = asked.offer()
    choice = offer.chosen()
    if not asked.calls or (choice == "auto" and not any(one.strict for one in offer.functions())
                           and (offer.parallel or not format.several)):
        return None
    try:
        grammar = format.grammar(choice, parallel=offer.parallel)
    except InputError as error:
        raise RequestError(str(error), param="tools", code="invalid_value") from None
    return constraint_of("tools", "grammar", grammar)


class _Reply:
    """What is answered, whole or as a stream."""

    def __init__(self, service: Service, asked: ChatRequest, turns: list[Turn]) -> None:
        """turns: of each choice."""
        self._asked, self._turns, self._tokenizer = asked, turns, service.engine.tokenizer
        self._head = service.head("chatcmpl", asked.model)

    async def whole(self, answers: Answers) -> dict[str, Any]:
        found = await answers.whole()
        choices = [{"index": index, "message": message_of(self._said(answers, index, delta)),
                    "logprobs": self._logprobs(list(delta.logprobs)), **self._ended(answers, index, delta)}
                   for index, delta in enumerate(found)]
        return {**self._head, "object": "chat.completion", "choices": choices,
                "usage": _usage(answers, sum(len(delta.tokens) for delta in found))}

    async def chunks(self, answers: Answers) -> AsyncGenerator[dict[str, Any]]:
        count = 0
        with_usage = self._asked.stream_options is not None and self._asked.stream_options.include_usage
        head = {**self._head, "object": "chat.completion.chunk", **({"usage": None} if with_usage else {})}
        for index in range(len(self._turns)):
            yield {**head, "choices": [_choice(index, {"role": "assistant", "content": ""})]}
        async for index, delta in answers:
            count += len(delta.tokens)
            logprobs = self._logprobs(list(delta.logprobs))
            for said in self._said(answers, index, delta) or ([{"content": ""}] if delta.logprobs else []):
                yield {**head, "choices": [_choice(index, said, logprobs=logprobs)]}
                logprobs = None
            if delta.finish_reason is not None:
                yield {**head, "choices": [_choice(index, {}) | self._ended(answers, index, delta)]}
        if with_usage:
            yield {**head, "choices": [], "usage": _usage(answers, count)}

    def _said(self, answers: Answers, index: int, delta: Delta) -> list[dict[str, Any]]:
        return self._turns[index].feed(delta, answers.tickets[index].sequence.end_mark)

    def _ended(self, answers: Answers, index: int, delta: Delta) -> dict[str, Any]:
        ended = answers.ended(delta)
        called = self._turns[index].called and ended["finish_reason"] == "stop"
        return {"finish_reason": "tool_calls"} if called else ended

    def _logprobs(self, logprobs: list[TokenLogprob]) -> dict[str, Any] | None:
        return logprobs_body(self._tokenizer, logprobs) if self._asked.logprobs else None


def _usage(answers: Answers, said: int) -> dict[str, Any]:
    """The prompt counts once, however many choices answer it."""
    first = answers.tickets[0]
    return usage(len(first.prompt), said, first.sequence.cached_tokens)


def _choice(index: int, delta: dict[str, Any], *, logprobs: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": None}
