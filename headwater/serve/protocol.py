"""OpenAI's wire format for chat completions: what is read, what is refused, what is answered."""

from __future__ import annotations

import difflib
import json
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from headwater.errors import HeadwaterError
from headwater.generate.request import TokenLogprob
from headwater.generate.sampling import SamplingParams
from headwater.tokenizer.chat import Message
from headwater.tokenizer.vocabulary import Tokenizer

HARMLESS = frozenset(("user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key",
                      "parallel_tool_calls"))
"""Parameters that do not change the answer of a model without tools; accepted and not used."""
NEUTRAL: dict[str, tuple[object, ...]] = {
    "n": (1,), "tools": ([],), "functions": ([],), "tool_choice": ("none", "auto"), "function_call": ("none", "auto"),
    "response_format": ({"type": "text"},), "presence_penalty": (0,), "frequency_penalty": (0,), "logit_bias": ({},),
    "modalities": (["text"],), "stop_token_ids": ([],),
}
"""Parameters this server does not have, and the values that ask for nothing; null always does."""


class RequestError(HeadwaterError):
    """A request that is answered with an error status."""

    def __init__(self, what: str, *, status: int = 400, param: str | None = None, code: str | None = None) -> None:
        super().__init__(what)
        self.status, self.param, self.code = status, param, code


class _Wire(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class TextPart(_Wire):
    type: Literal["text"]
    text: str


class WireMessage(_Wire):
    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[TextPart]
    name: str | None = None

    def plain(self) -> Message:
        content = self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)
        # OpenAI's newer name for the same thing.
        return {"role": "system" if self.role == "developer" else self.role, "content": content}


class StreamOptions(_Wire):
    include_usage: bool = False


class ChatRequest(_Wire):
    """POST /v1/chat/completions. top_k, min_p and repetition_penalty are additions, named as vLLM names them."""

    model: str
    messages: list[WireMessage] = Field(min_length=1)
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: int | None = Field(default=None, ge=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    temperature: float | None = Field(default=None, ge=0, le=2, allow_inf_nan=False)
    top_p: float | None = Field(default=None, ge=0, le=1)
    top_k: int | None = Field(default=None, ge=0)
    min_p: float | None = Field(default=None, ge=0, le=1)
    repetition_penalty: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    stop: str | list[str] | None = None
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**63)
    logprobs: bool | None = None
    top_logprobs: int | None = Field(default=None, ge=0, le=20)

    @property
    def limit(self) -> int | None:
        """Tokens asked for, by either name."""
        return self.max_completion_tokens if self.max_completion_tokens is not None else self.max_tokens

    def stops(self) -> tuple[str, ...]:
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())

    def params(self, defaults: SamplingParams, room: int) -> SamplingParams:
        """What the request asks for, the server's `defaults` where it asks for nothing; at most `room` tokens."""
        names = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty", "seed")
        asked: dict[str, Any] = {name: value for name in names if (value := getattr(self, name)) is not None}
        return SamplingParams.parse({
            **defaults.model_dump(), **asked, "max_tokens": self.limit or room, "stop": self.stops(),
            "logprobs": (self.top_logprobs or 0) if self.logprobs else None, "trim_start": True})


def parse_chat(body: bytes) -> ChatRequest:
    """Raises `RequestError` (400) that names the parameter."""
    try:
        values = json.loads(body)
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RequestError(f"the body is not valid JSON: {error}", code="invalid_json") from None
    if not isinstance(values, dict):
        raise RequestError("the body must be a JSON object", code="invalid_json")
    kept = {name: value for name, value in values.items() if not _asks_for_nothing(name, value)}
    try:
        request = ChatRequest.model_validate(kept)
    except ValidationError as error:
        raise _request_error(error) from None
    _check(request)
    return request


def _asks_for_nothing(name: str, value: object) -> bool:
    if name in HARMLESS:
        return True
    if name not in NEUTRAL:
        return False
    if value is None or value in NEUTRAL[name]:
        return True
    raise RequestError(f"'{name}' is not supported by this server", param=name, code="unsupported_parameter")


def _check(request: ChatRequest) -> None:
    stops = request.stops()
    if len(stops) > 4 or any(not stop for stop in stops):
        raise RequestError("'stop' takes one to four texts that are not empty", param="stop", code="invalid_value")
    if request.stream_options is not None and not request.stream:
        raise RequestError("'stream_options' needs 'stream': true", param="stream_options", code="invalid_value")
    if request.top_logprobs is not None and not request.logprobs:
        raise RequestError("'top_logprobs' needs 'logprobs': true", param="top_logprobs", code="invalid_value")
    if request.max_tokens not in (None, request.limit):
        raise RequestError("'max_tokens' and 'max_completion_tokens' contradict each other", param="max_tokens",
                           code="invalid_value")


def _request_error(error: ValidationError) -> RequestError:
    # A union reports every branch it tried; the one that got furthest into the request says most.
    first = max(error.errors(), key=lambda item: len(item["loc"]))
    path = [str(part) for part in first["loc"] if part not in ("str", "list[TextPart]", "list[str]")]
    param = ".".join(path) or None
    if first["type"] == "extra_forbidden":
        known = {"role", "content", "name"} if path[0] == "messages" else set(ChatRequest.model_fields)
        nearest = difflib.get_close_matches(path[-1], sorted(known), n=1)
        hint = f"; did you mean '{nearest[0]}'?" if nearest else ""
        return RequestError(f"unknown parameter '{param}'{hint}", param=param, code="unknown_parameter")
    if first["type"] == "missing":
        return RequestError(f"'{param}' is required", param=param, code="missing_required_parameter")
    return RequestError(f"'{param}': {first['msg']}" if param else first["msg"], param=param, code="invalid_value")


def error_body(what: str, *, kind: str = "invalid_request_error", param: str | None = None,
               code: str | None = None) -> dict[str, Any]:
    """OpenAI's error object. Lone surrogates, which JSON can carry into a message but UTF-8 cannot, become "?"."""
    plain = [None if text is None else text.encode("utf-8", "replace").decode() for text in (what, param)]
    return {"error": {"message": plain[0], "type": kind, "param": plain[1], "code": code}}


def usage(prompt_tokens: int, completion_tokens: int) -> dict[str, int]:
    return {"prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens,
            "total_tokens": prompt_tokens + completion_tokens}


def logprobs_body(tokenizer: Tokenizer, logprobs: list[TokenLogprob]) -> dict[str, Any]:
    """OpenAI's `logprobs` object of a choice."""
    def entry(token: int, logprob: float) -> dict[str, Any]:
        data = tokenizer.decode_bytes([token])
        return {"token": data.decode("utf-8", "replace") or tokenizer.piece(token), "logprob": logprob,
                "bytes": list(data)}

    return {"content": [{**entry(item.token, item.logprob),
                         "top_logprobs": [entry(*pair) for pair in item.top]} for item in logprobs],
            "refusal": None}
