"""What every request for text has: how it is sampled, what it must be, where it stops."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from headwater.errors import SettingsError
from headwater.generate.constraint import Constraint, Kind
from headwater.generate.sampling import SamplingParams
from headwater.serve.errors import RequestError
from headwater.serve.wire import Asked, Many, Wire

SAMPLED = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty", "presence_penalty", "frequency_penalty",
           "seed")
GUIDES: Mapping[str, Kind] = {"guided_json": "json_schema", "guided_regex": "regex", "guided_choice": "choice",
                              "guided_grammar": "grammar"}


class StreamOptions(Wire):
    include_usage: bool = False


class Sampled(Asked):
    """top_k, min_p, repetition_penalty and the four `guided_...` are additions, named as vLLM names them."""

    model: str
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: int | None = Field(default=None, ge=1)
    n: int | None = Field(default=None, ge=1)
    temperature: float | None = Field(default=None, ge=0, le=2, allow_inf_nan=False)
    top_p: float | None = Field(default=None, ge=0, le=1)
    top_k: int | None = Field(default=None, ge=0, lt=2**63)
    min_p: float | None = Field(default=None, ge=0, le=1)
    repetition_penalty: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    presence_penalty: float | None = Field(default=None, ge=-2, le=2)
    frequency_penalty: float | None = Field(default=None, ge=-2, le=2)
    logit_bias: dict[str, Annotated[float, Field(ge=-100, le=100)]] | None = None
    stop: str | Many[str] | None = None
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**63)
    guided_json: dict[str, Any] | None = None
    guided_regex: str | None = None
    guided_choice: Many[str] | None = None
    guided_grammar: str | None = None

    @property
    def guide(self) -> str | None:
        """The parameter that says what the answer must be."""
        return next((name for name in GUIDES if getattr(self, name) is not None), None)

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
        given = [name for name in GUIDES if getattr(self, name) is not None]
        if len(given) > 1:
            raise RequestError(f"'{given[0]}' and '{given[1]}' contradict each other", param=given[1],
                               code="invalid_value")
        return constraint_of(given[0], GUIDES[given[0]], getattr(self, given[0])) if given else None

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
