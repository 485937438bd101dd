"""POST /v1/completions."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from headwater.generate.likelihood import token_logprobs
from headwater.generate.request import Delta, TokenLogprob
from headwater.serve.answering import Answers, EventStream, cancelled_on_disconnect, unless_left
from headwater.serve.completion_request import CompletionRequest, Offsets, logprobs_body
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

    async def answer(self, request: Request) -> Response:
        service = self.service
        asked = CompletionRequest.parse(await service.body(request))
        adapter = service.require(asked.model)
        given = asked.prompts()
        service.require_choices(asked.choices, len(given))
        if asked.echo and asked.logprobs is not None and adapter is not None:
            raise RequestError("'echo' with 'logprobs' is not available of an adapter", param="echo",
                               code="unsupported_parameter")
        ids = [self._ids(one, asked) for one in given]
        prompts = await unless_left(self._prompts(ids, given, asked), request.receive, service.limits.seconds)
        params = asked.params(service.defaults)
        wanted = [(one.ids, own) for one in prompts for own in params] if asked.limit else []
        answers = await service.submit(wanted, adapter, asked.guide, sum(map(len, ids)))
        reply = _Reply(service, asked, [one for one in prompts for _ in params], prompts)
        if asked.stream:
            return EventStream(answers, reply.chunks(answers))
        async with cancelled_on_disconnect(answers.cancel, request.receive):
            return JSONResponse(await reply.whole(answers))

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

    async def _prompts(self, ids: Sequence[list[int]], given: Sequence[str | list[int]], asked: CompletionRequest
                       ) -> list[Prompt]:
        return [await self._prompt(one, text, asked) for one, text in zip(ids, given, strict=True)]

    async def _prompt(self, ids: list[int], given: str | list[int], asked: CompletionRequest) -> Prompt:
        if not asked.echo:
            return Prompt(ids, "", None)
        top = asked.logprobs
        found = None if top is None else await self.service.worker.ask(
            lambda engine: token_logprobs(engine.model, ids, top))
        text = given if isinstance(given, str) else self.service.engine.tokenizer.decode_bytes(ids).decode(
            "utf-8", "replace")
        return Prompt(ids, text, None if found is None else tuple(found))


class _Reply:
    """What is answered, whole or as a stream."""

    def __init__(self, service: Service, asked: CompletionRequest, before: Sequence[Prompt],
                 prompts: Sequence[Prompt]) -> None:
        """before: the prompt of each choice; `prompts` without repetition."""
        self._asked, self._before, self._prompts = asked, before, prompts
        self._tokenizer = service.engine.tokenizer
        self._head = {**service.head("cmpl", asked.model), "object": "text_completion"}
        self._offsets = [self._start(one) for one in before]

    def _start(self, prompt: Prompt) -> Offsets:
        if prompt.logprobs is None:
            return Offsets(self._tokenizer, len(prompt.text))
        # SentencePiece's space before a text is in its first token and not in the text.
        decoded = self._tokenizer.decode_bytes(prompt.ids).decode("utf-8", "replace")
        return Offsets(self._tokenizer, -1 if decoded == f" {prompt.text}" else 0)

    async def whole(self, answers: Answers) -> dict[str, Any]:
        found = await answers.whole()
        choices = [self._choice(index, delta, echo=True) | answers.ended(delta)
                   for index, delta in enumerate(found or self._nothing())]
        return {**self._head, "choices": choices, "usage": self._usage(answers, found)}

    async def chunks(self, answers: Answers) -> AsyncGenerator[dict[str, Any]]:
        said: list[Delta] = []
        if not answers.tickets or self._asked.echo:
            for index, delta in enumerate(self._nothing()):
                ended = {} if answers.tickets else answers.ended(delta)
                yield {**self._head, "choices": [self._choice(index, delta, echo=True) | ended]}
        async for index, delta in answers:
            said.append(delta)
            ended = answers.ended(delta) if delta.finish_reason is not None else {}
            yield {**self._head, "choices": [self._choice(index, delta, echo=False) | ended]}
        if self._asked.stream_options is not None and self._asked.stream_options.include_usage:
            yield {**self._head, "choices": [], "usage": self._usage(answers, said)}

    def _nothing(self) -> list[Delta]:
        """Answers of no tokens."""
        return [Delta("", (), (), "length") for _ in self._before]

    def _choice(self, index: int, delta: Delta, *, echo: bool) -> dict[str, Any]:
        prompt = self._before[index]
        # The end mark too, as in OpenAI's and vLLM's: clients that ask for one token count on an entry for it.
        said = [*delta.logprobs, *([] if delta.end is None else [delta.end])]
        entries: list[tuple[int, TokenLogprob | None]] = [(one.token, one) for one in said]
        if echo and prompt.logprobs is not None:
            entries = [*zip(prompt.ids, prompt.logprobs, strict=True), *entries]
        logprobs = None if self._asked.logprobs is None else logprobs_body(self._tokenizer, entries,
                                                                           self._offsets[index])
        return {"index": index, "text": (prompt.text if echo else "") + delta.text, "logprobs": logprobs,
                "finish_reason": None}

    def _usage(self, answers: Answers, said: Sequence[Delta]) -> dict[str, Any]:
        first = answers.tickets[:: self._asked.choices]
        return usage(sum(len(one.ids) for one in self._prompts), sum(len(delta.tokens) for delta in said),
                     sum(ticket.sequence.cached_tokens for ticket in first))
