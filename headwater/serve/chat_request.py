"""POST /v1/chat/completions on the wire: what is read, what is refused, what is answered."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from headwater.generate.constraint import Constraint
from headwater.generate.request import TokenLogprob
from headwater.generate.sampling import SamplingParams
from headwater.serve.errors import RequestError
from headwater.serve.wire import HARMLESS, Sampled, Wire, constraint_of
from headwater.tokenizer.chat import Message
from headwater.tokenizer.vocabulary import Tokenizer


class TextPart(Wire):
    type: Literal["text"]
    text: str


class WireMessage(Wire):
    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[TextPart]
    name: str | None = None

    def plain(self) -> Message:
        content = self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)
        # OpenAI's newer name for the same thing.
        return {"role": "system" if self.role == "developer" else self.role, "content": content}


class JsonSchema(Wire):
    name: str
    description: str | None = None
    schema_: dict[str, Any] = Field(alias="schema")
    strict: bool | None = None
    """Answers are always held to the schema."""


class ResponseFormat(Wire):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None


class ChatRequest(Sampled):
    harmless: ClassVar[frozenset[str]] = HARMLESS | {"parallel_tool_calls"}
    neutral: ClassVar = {"tools": ([],), "functions": ([],), "tool_choice": ("none", "auto"),
                         "function_call": ("none", "auto"), "modalities": (["text"],), "stop_token_ids": ([],)}

    messages: list[WireMessage] = Field(min_length=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    response_format: ResponseFormat | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = Field(default=None, ge=0, le=20)

    @property
    def limit(self) -> int | None:
        """Tokens asked for, by either name."""
        return self.max_completion_tokens if self.max_completion_tokens is not None else self.max_tokens

    def constraint(self) -> Constraint | None:
        guided, form = super().constraint(), self.response_format
        if form is None or form.type == "text":
            return guided
        if guided is not None:
            raise RequestError("'response_format' contradicts what guides the answer", param="response_format",
                               code="invalid_value")
        if form.type == "json_object":
            return Constraint(kind="json")
        assert form.json_schema is not None
        return constraint_of("response_format", "json_schema", form.json_schema.schema_)

    def params(self, defaults: SamplingParams, room: int) -> list[SamplingParams]:
        """Of each choice; see `Sampled.sampling`."""
        return self.sampling(defaults, room, (self.top_logprobs or 0) if self.logprobs else None, trim_start=True)

    def check(self) -> None:
        super().check()
        form = self.response_format
        if form is not None and (form.type == "json_schema") != (form.json_schema is not None):
            raise RequestError("'response_format' has a 'json_schema' where its type is json_schema, and only there",
                               param="response_format", code="invalid_value")
        if self.top_logprobs is not None and not self.logprobs:
            raise RequestError("'top_logprobs' needs 'logprobs': true", param="top_logprobs", code="invalid_value")
        if self.max_tokens not in (None, self.limit):
            raise RequestError("'max_tokens' and 'max_completion_tokens' contradict each other", param="max_tokens",
                               code="invalid_value")


def logprobs_body(tokenizer: Tokenizer, logprobs: list[TokenLogprob]) -> dict[str, Any]:
    """OpenAI's `logprobs` object of a choice."""
    def entry(token: int, logprob: float) -> dict[str, Any]:
        data = tokenizer.decode_bytes([token])
        return {"token": data.decode("utf-8", "replace") or tokenizer.piece(token), "logprob": logprob,
                "bytes": list(data)}

    return {"content": [{**entry(item.token, item.logprob),
                         "top_logprobs": [entry(*pair) for pair in item.top]} for item in logprobs],
            "refusal": None}
