"""POST /v1/completions."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from headwater.generate.likelihood import token_logprobs
from headwater.generate.request import Delta, TokenLogprob
from headwater.serve.answering import Answers, EventStream, cancelled_on_disconnect
from headwater.serve.completion_request import CompletionRequest, logprobs_body
from headwater.serve.errors import RequestError
from headwater.serve.service import Service
from headwater.serve.wire import usage


@dataclass(frozen=True)
class Prompt:
    """A text to be continued, and what of it is sent back."""

    ids: list[int]
    text: str
    """With `echo`."""
    logprobs: tuple[TokenLogprob | None, ...] | None
    """Of its tokens, with `echo` and `logprobs`."""


class Completions:
    """The endpoint over a service."""

    def __init__(self, service: Service) -> None:
        self.service = service

    async def __call__(self, request: Request) -> Response:
        service = self.service
        asked = CompletionRequest.parse(await service.body(request))
        adapter = service.require(asked.model)
        given = asked.prompts()
        service.require_choices(asked.choices, len(given))
        if asked.echo and asked.logprobs is not None and adapter is not None:
            raise RequestError("'echo' with 'logprobs' is not available of an adapter", param="echo",
                               code="unsupported_parameter")
        ids = [self._ids(one, asked) for one in given]
        prompts = [await self._prompt(one, text, asked) for one, text in zip(ids, given, strict=True)]
        head = {**service.head("cmpl", asked.model), "object": "text_completion"}
        if asked.limit == 0:
            return JSONResponse(self._unanswered(prompts, asked, head))
        params = asked.params(service.defaults)
        answers = await service.submit([(one.ids, own) for one in prompts for own in params], adapter)
        if asked.stream:
            return EventStream(answers.cancel, self._chunks(answers, prompts, asked, head))
        async with cancelled_on_disconnect(answers.cancel, request.receive):
            found = await answers.whole()
        choices = [self._choice(index, prompts[index // asked.choices], delta, asked) | answers.ended(delta)
                   for index, delta in enumerate(found)]
        return JSONResponse({**head, "choices": choices, "usage": _usage(prompts, found)})

    def _ids(self, prompt: str | list[int], asked: CompletionRequest) -> list[int]:
        engine = self.service.engine
        ids = engine.tokenizer.framed(prompt) if isinstance(prompt, str) else prompt
        if len(ids) + asked.limit > engine.max_length:
            raise RequestError(f"this model's context holds {engine.max_length} tokens; the prompt has {len(ids)} and "
                               f"the answer asks for {asked.limit}: shorten the prompt or ask for fewer tokens",
                               param="prompt" if len(ids) >= engine.max_length else "max_tokens",
                               code="context_length_exceeded")
        engine.check(ids)
        return ids

    async def _prompt(self, ids: list[int], given: str | list[int], asked: CompletionRequest) -> Prompt:
        if not asked.echo:
            return Prompt(ids, "", None)
        top = asked.logprobs
        found = None if top is None else await self.service.worker.ask(
            lambda engine: token_logprobs(engine.model, ids, top))
        text = given if isinstance(given, str) else self.service.engine.tokenizer.decode_bytes(ids).decode(
            "utf-8", "replace")
        return Prompt(ids, text, None if found is None else tuple(found))

    def _choice(self, index: int, prompt: Prompt, delta: Delta, asked: CompletionRequest) -> dict[str, Any]:
        entries: list[tuple[int, TokenLogprob | None]] = []
        start = 0
        if prompt.logprobs is not None:
            entries += zip(prompt.ids, prompt.logprobs, strict=True)
        entries += [(one.token, one) for one in delta.logprobs]
        logprobs = None if asked.logprobs is None else logprobs_body(self.service.engine.tokenizer, entries, start)
        return {"index": index, "text": prompt.text + delta.text, "logprobs": logprobs, "finish_reason": None}

    def _unanswered(self, prompts: list[Prompt], asked: CompletionRequest, head: dict[str, Any]) -> dict[str, Any]:
        """Prompts alone."""
        empty = Delta("", (), (), "length")
        choices = [self._choice(index, one, empty, asked) | {"finish_reason": "length"}
                   for index, one in enumerate(one for one in prompts for _ in range(asked.choices))]
        return {**head, "choices": choices, "usage": _usage(prompts, [])}

    async def _chunks(self, answers: Answers, prompts: list[Prompt], asked: CompletionRequest, head: dict[str, Any]
                      ) -> AsyncIterator[dict[str, Any]]:
        plain = Prompt([], "", None)
        said: list[Delta] = []
        for index in range(len(answers.tickets)) if asked.echo else ():
            yield {**head, "choices": [self._choice(index, prompts[index // asked.choices], Delta("", (), (), None),
                                                    asked)]}
        async for index, delta in answers:
            said.append(delta)
            ended = answers.ended(delta) if delta.finish_reason is not None else {}
            yield {**head, "choices": [self._choice(index, plain, delta, asked) | ended]}
        if asked.stream_options is not None and asked.stream_options.include_usage:
            yield {**head, "choices": [], "usage": _usage(prompts, said)}


def _usage(prompts: list[Prompt], answers: list[Delta]) -> dict[str, int]:
    return usage(sum(len(one.ids) for one in prompts), sum(len(delta.tokens) for delta in answers))
