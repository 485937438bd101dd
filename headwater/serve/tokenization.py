"""POST /tokenize and /detokenize, as vLLM has them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from pydantic import Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from headwater.serve.chat_request import WireMessage
from headwater.serve.conversation import conversation
from headwater.serve.errors import RequestError
from headwater.serve.service import Service
from headwater.serve.tool_wire import Tool, Tools
from headwater.serve.wire import Asked, Many
from headwater.tokenizer.calls import format_for


class TokenizeRequest(Asked):
    """A text or a chat."""

    examples: ClassVar = ({"prompt": "The Velna", "add_special_tokens": False, "return_token_strs": True},
                          {"messages": [{"role": "user", "content": "hello"}], "add_generation_prompt": False})

    model: str | None = None
    prompt: str | None = None
    messages: Many[WireMessage] | None = Field(default=None, min_length=1)
    tools: Many[Tool] | None = None
    add_special_tokens: bool | None = None
    """Whether a text stands between what its family puts around one; true when not set."""
    add_generation_prompt: bool | None = None
    """Whether a chat ends where the assistant begins to speak; true when not set."""
    return_token_strs: bool | None = None

    def check(self) -> None:
        if (self.prompt is None) == (self.messages is None):
            raise RequestError("give either 'prompt' or 'messages'", param="prompt", code="invalid_value")
        idle = ("add_special_tokens",) if self.messages else ("add_generation_prompt", "tools")
        for name in idle:
            if getattr(self, name) is not None:
                raise RequestError(f"'{name}' has no effect on {'messages' if self.messages else 'a prompt'}",
                                   param=name, code="invalid_value")
        for number, message in enumerate(self.messages or ()):
            message.check(f"messages.{number}")


class DetokenizeRequest(Asked):
    examples: ClassVar = ({"tokens": [9, 10, 11]},)

    model: str | None = None
    tokens: Many[int]


class Tokenization:
    """The endpoints over a service."""

    def __init__(self, service: Service) -> None:
        self.service, self._tokenizer = service, service.engine.tokenizer

    async def tokenize(self, request: Request) -> Response:
        asked = TokenizeRequest.parse(await self.service.body(request))
        self._require(asked.model)
        ids = self._ids(asked)
        found: dict[str, Any] = {"count": len(ids), "max_model_len": self.service.engine.max_length, "tokens": ids,
                                 "token_strs": None}
        if asked.return_token_strs:
            found["token_strs"] = [self._tokenizer.piece(index) for index in ids]
        return JSONResponse(found)

    async def detokenize(self, request: Request) -> Response:
        asked = DetokenizeRequest.parse(await self.service.body(request))
        self._require(asked.model)
        strange = next((index for index in asked.tokens if not 0 <= index < self._tokenizer.vocab_size), None)
        if strange is not None:
            raise RequestError(f"token {strange} is outside the vocabulary of {self._tokenizer.vocab_size}",
                               param="tokens", code="invalid_value")
        return JSONResponse({"prompt": self._tokenizer.decode(asked.tokens)})

    def _require(self, model: str | None) -> None:
        if model is not None:
            self.service.require(model)

    def _ids(self, asked: TokenizeRequest) -> Sequence[int]:
        tokenizer = self._tokenizer
        if asked.prompt is not None:
            return tokenizer.encode(asked.prompt) if asked.add_special_tokens is False else \
                tokenizer.framed(asked.prompt)
        assert asked.messages is not None
        offer = Tools(asked.tools or [], None, True)
        offer.check()
        if offer.kinds():
            raise RequestError("what a model is told of the server's own tools is not counted here: give functions",
                               param="tools", code="unsupported_tool")
        format = format_for(tokenizer.chat, [one.definition() for one in offer.functions()])
        return tokenizer.chat.render(conversation(asked.messages, format),
                                     add_generation_prompt=asked.add_generation_prompt is not False).ids
