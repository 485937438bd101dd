"""What is answered, as the OpenAPI document tells it; tests hold real answers against it."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class Told(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ErrorDetail(Told):
    message: str
    type: Literal["invalid_request_error", "rate_limit_error", "server_error"]
    param: str | None
    code: str | None


class Error(Told):
    error: ErrorDetail


class ReadUsage(Told):
    prompt_tokens: int
    total_tokens: int


class PromptTokens(Told):
    cached_tokens: int
    """Those that had been read for an earlier request."""


class Usage(ReadUsage):
    completion_tokens: int
    prompt_tokens_details: PromptTokens


class Spelled(Told):
    token: str
    logprob: float
    bytes: list[int]


class SpelledBeside(Spelled):
    top_logprobs: list[Spelled]


class ChatLogprobs(Told):
    content: list[SpelledBeside]
    refusal: None


class CalledFunction(Told):
    name: str
    arguments: str


class ToolCall(Told):
    id: str
    type: Literal["function"]
    function: CalledFunction


class ChatMessage(Told):
    role: Literal["assistant"]
    content: str | None
    refusal: None
    tool_calls: list[ToolCall] = Field(default_factory=list)


class Ended(Told):
    index: int
    finish_reason: Literal["stop", "length", "tool_calls"]
    stop_reason: Literal["timeout", "closing", "slow_reader", "abort"] | None = None
    """Why an answer was cut short, where neither its limit nor the context's end did it."""


class ChatChoice(Ended):
    message: ChatMessage
    logprobs: ChatLogprobs | None


class ChatCompletion(Told):
    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage


class CompletionLogprobs(Told):
    tokens: list[str]
    text_offset: list[int]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None]


class CompletionChoice(Ended):
    text: str
    logprobs: CompletionLogprobs | None


class Completion(Told):
    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: Usage


class Embedding(Told):
    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class EmbeddingList(Told):
    object: Literal["list"]
    model: str
    data: list[Embedding]
    usage: ReadUsage


class Card(Told):
    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    max_model_len: int
    parent: str | None = None
    """Of an adapter, the model that it belongs to."""


class CardList(Told):
    object: Literal["list"]
    data: list[Card]


class Tokens(Told):
    count: int
    max_model_len: int
    tokens: list[int]
    token_strs: list[str] | None


class Text(Told):
    prompt: str


class Ready(Told):
    status: Literal["ok", "closing"]
    model: str
    version: str
    active: int
    waiting: int
    answered: int


class Live(Told):
    status: Literal["ok", "dead"]


class Document(BaseModel):
    model_config = ConfigDict(extra="allow")

    openapi: str
    info: dict[str, Any]
    paths: dict[str, Any]
