"""What every request for text has in OpenAI's wire format: how it is sampled, what it must be, how it is read."""

from __future__ import annotations

import difflib
import json
from collections.abc import Collection, Mapping
from typing import Annotated, Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from headwater.errors import SettingsError
from headwater.generate.constraint import Constraint, Kind
from headwater.generate.sampling import SamplingParams
from headwater.serve.errors import RequestError

SAMPLED = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty", "presence_penalty", "frequency_penalty",
           "seed")
HARMLESS = frozenset(("user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key"))
"""Parameters that do not change an answer; accepted and not used."""


class Wire(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class StreamOptions(Wire):
    include_usage: bool = False


class Sampled(Wire):
    """top_k, min_p, repetition_penalty and the four `guided_...` are additions, named as vLLM names them."""

    harmless: ClassVar[frozenset[str]] = HARMLESS
    neutral: ClassVar[Mapping[str, tuple[object, ...]]] = {}
    """Parameters this server does not have, and the values that ask for nothing; null always does."""

    model: str
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: int | None = Field(default=None, ge=1)
    n: int | None = Field(default=None, ge=1)
    temperature: float | None = Field(default=None, ge=0, le=2, allow_inf_nan=False)
    top_p: float | None = Field(default=None, ge=0, le=1)
    top_k: int | None = Field(default=None, ge=0)
    min_p: float | None = Field(default=None, ge=0, le=1)
    repetition_penalty: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    presence_penalty: float | None = Field(default=None, ge=-2, le=2)
    frequency_penalty: float | None = Field(default=None, ge=-2, le=2)
    logit_bias: dict[str, Annotated[float, Field(ge=-100, le=100)]] | None = None
    stop: str | list[str] | None = None
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**63)
    guided_json: dict[str, Any] | None = None
    guided_regex: str | None = None
    guided_choice: list[str] | None = None
    guided_grammar: str | None = None

    @property
    def choices(self) -> int:
        return self.n or 1

    @property
    def limit(self) -> int | None:
        """Tokens asked for."""
        return self.max_tokens

    def stops(self) -> tuple[str, ...]:
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())

    def constraint(self) -> Constraint | None:
        """What the answer must be. Raises `RequestError`."""
        asked: list[tuple[str, Kind, Any]] = [
            ("guided_json", "json_schema", self.guided_json), ("guided_regex", "regex", self.guided_regex),
            ("guided_choice", "choice", self.guided_choice), ("guided_grammar", "grammar", self.guided_grammar)]
        given = [one for one in asked if one[2] is not None]
        if len(given) > 1:
            raise RequestError(f"'{given[0][0]}' and '{given[1][0]}' contradict each other", param=given[1][0],
                               code="invalid_value")
        return constraint_of(*given[0]) if given else None

    def biases(self) -> dict[int, float]:
        try:
            return {int(token): value for token, value in (self.logit_bias or {}).items()}
        except ValueError as error:
            raise RequestError(f"'logit_bias' names a token that is no number: {error}", param="logit_bias",
                               code="invalid_value") from None

    def sampling(self, defaults: SamplingParams, room: int, logprobs: int | None, **more: Any) -> list[SamplingParams]:
        """What the request asks for, the server's `defaults` where it asks for nothing, of each choice; at most `room`
        tokens. Choices draw from seeds of their own, the first from the request's."""
        asked: dict[str, Any] = {name: value for name in SAMPLED if (value := getattr(self, name)) is not None}
        values = {**defaults.model_dump(), **asked, "max_tokens": self.limit or room, "stop": self.stops(),
                  "logit_bias": self.biases(), "constraint": self.constraint(), "logprobs": logprobs, **more}
        try:
            first = SamplingParams.parse(values)
        except SettingsError as error:
            raise RequestError(str(error), param=str(error.where or "") or None, code="invalid_value") from None
        seed = first.seed
        return [first, *(first.model_copy(update={"seed": None if seed is None else _seed(seed, number)})
                         for number in range(1, self.choices))]

    @classmethod
    def parse(cls, body: bytes) -> Self:
        """Raises `RequestError` (400) that names the parameter."""
        try:
            values = json.loads(body)
        except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
            raise RequestError(f"the body is not valid JSON: {error}", code="invalid_json") from None
        if not isinstance(values, dict):
            raise RequestError("the body must be a JSON object", code="invalid_json")
        kept = {name: value for name, value in values.items() if not cls._asks_for_nothing(name, value)}
        try:
            request = cls.model_validate(kept)
        except ValidationError as error:
            raise _request_error(error, set(cls.model_fields)) from None
        request.check()
        return request

    @classmethod
    def _asks_for_nothing(cls, name: str, value: object) -> bool:
        if name in cls.harmless:
            return True
        if name not in cls.neutral:
            return False
        if value is None or value in cls.neutral[name]:
            return True
        raise RequestError(f"'{name}' is not supported by this server", param=name, code="unsupported_parameter")

    def check(self) -> None:
        """What pydantic cannot say of a single field. Raises `RequestError`."""
        stops = self.stops()
        if len(stops) > 4 or any(not stop for stop in stops):
            raise RequestError("'stop' takes one to four texts that are not empty", param="stop", code="invalid_value")
        if self.stream_options is not None and not self.stream:
            raise RequestError("'stream_options' needs 'stream': true", param="stream_options", code="invalid_value")


def _seed(seed: int, number: int) -> int:
    """Of a further choice: far from those of neighbouring seeds."""
    return (seed + number * 0x9E37_79B9_7F4A_7C15) % 2**63


def constraint_of(param: str, kind: Kind, value: Any) -> Constraint:
    """Raises `RequestError` that names the parameter."""
    try:
        return Constraint.parse({"kind": kind, "text": value if isinstance(value, str) else
                                 json.dumps(value, ensure_ascii=False)})
    except SettingsError as error:
        raise RequestError(f"'{param}': {error.what}", param=param, code="invalid_value") from None


def _request_error(error: ValidationError, names: Collection[str]) -> RequestError:
    # A union reports every branch it tried; the one that got furthest into the request says most.
    first = max(error.errors(), key=lambda item: len(item["loc"]))
    path = [str(part) for part in first["loc"] if part not in ("str", "int") and not str(part).startswith("list[")]
    param = ".".join(path) or None
    if first["type"] == "extra_forbidden":
        known = {"role", "content", "name"} if path[0] == "messages" else names
        nearest = difflib.get_close_matches(path[-1], sorted(known), n=1)
        hint = f"; did you mean '{nearest[0]}'?" if nearest else ""
        return RequestError(f"unknown parameter '{param}'{hint}", param=param, code="unknown_parameter")
    if first["type"] == "missing":
        return RequestError(f"'{param}' is required", param=param, code="missing_required_parameter")
    return RequestError(f"'{param}': {first['msg']}" if param else first["msg"], param=param, code="invalid_value")


def usage(prompt_tokens: int, completion_tokens: int) -> dict[str, int]:
    return {"prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens,
            "total_tokens": prompt_tokens + completion_tokens}
