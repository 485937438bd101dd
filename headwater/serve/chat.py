"""POST /v1/chat/completions."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from headwater.generate.request import TokenLogprob
from headwater.serve.answering import Answers, EventStream, cancelled_on_disconnect
from headwater.serve.chat_request import ChatRequest, logprobs_body
from headwater.serve.errors import RequestError
from headwater.serve.service import Service
from headwater.serve.wire import usage


class Chat:
    """The endpoint over a service."""

    def __init__(self, service: Service) -> None:
        self.service = service

    async def __call__(self, request: Request) -> Response:
        service = self.service
        asked = ChatRequest.parse(await service.body(request))
        adapter = service.require(asked.model)
        service.require_choices(asked.choices)
        prompt = self._prompt(asked)
        params = asked.params(service.defaults, service.engine.max_length - len(prompt))
        answers = await service.submit([(prompt, own) for own in params], adapter)
        head = service.head("chatcmpl", asked.model)
        if asked.stream:
            return EventStream(answers.cancel, self._chunks(answers, asked, head))
        async with cancelled_on_disconnect(answers.cancel, request.receive):
            return JSONResponse(await self._whole(answers, asked, head))

    def _prompt(self, asked: ChatRequest) -> list[int]:
        engine = self.service.engine
        prompt = engine.tokenizer.chat.render([message.plain() for message in asked.messages],
                                              add_generation_prompt=True).ids
        wanted = asked.limit or 1
        if len(prompt) + wanted > engine.max_length:
            raise RequestError(f"this model's context holds {engine.max_length} tokens; the messages have "
                               f"{len(prompt)} and the answer asks for {wanted}: shorten the messages or ask for "
                               "fewer tokens", param="messages" if len(prompt) >= engine.max_length else "max_tokens",
                               code="context_length_exceeded")
        return prompt

    async def _whole(self, answers: Answers, asked: ChatRequest, head: dict[str, Any]) -> dict[str, Any]:
        found = await answers.whole()
        choices = [{"index": index, "message": {"role": "assistant", "content": delta.text, "refusal": None},
                    "logprobs": self._logprobs(asked, list(delta.logprobs)), **answers.ended(delta)}
                   for index, delta in enumerate(found)]
        return {**head, "object": "chat.completion", "choices": choices,
                "usage": usage(len(answers.tickets[0].prompt), sum(len(delta.tokens) for delta in found))}

    async def _chunks(self, answers: Answers, asked: ChatRequest, head: dict[str, Any]
                      ) -> AsyncIterator[dict[str, Any]]:
        count = 0
        with_usage = asked.stream_options is not None and asked.stream_options.include_usage
        head = {**head, "object": "chat.completion.chunk", **({"usage": None} if with_usage else {})}
        for index in range(asked.choices):
            yield {**head, "choices": [_choice(index, {"role": "assistant", "content": ""})]}
        async for index, delta in answers:
            count += len(delta.tokens)
            if delta.text or delta.logprobs:
                yield {**head, "choices": [_choice(index, {"content": delta.text},
                                                   logprobs=self._logprobs(asked, list(delta.logprobs)))]}
            if delta.finish_reason is not None:
                yield {**head, "choices": [_choice(index, {}) | answers.ended(delta)]}
        if with_usage:
            yield {**head, "choices": [], "usage": usage(len(answers.tickets[0].prompt), count)}

    def _logprobs(self, asked: ChatRequest, logprobs: list[TokenLogprob]) -> dict[str, Any] | None:
        return logprobs_body(self.service.engine.tokenizer, logprobs) if asked.logprobs else None


def _choice(index: int, delta: dict[str, Any], *, logprobs: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": None}
