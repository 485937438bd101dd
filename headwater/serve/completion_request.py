"""POST /v1/completions on the wire: texts or tokens to be continued, with the log-probabilities of what was given."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from pydantic import Field

from headwater.generate.request import TokenLogprob
from headwater.generate.sampling import SamplingParams
from headwater.serve.errors import RequestError
from headwater.serve.wire import Sampled
from headwater.tokenizer.vocabulary import Tokenizer

DEFAULT_TOKENS = 16
"""OpenAI's, of a request that does not say."""


class CompletionRequest(Sampled):
    neutral: ClassVar = {"suffix": ("",), "best_of": (1,)}

    prompt: str | list[str] | list[int] | list[list[int]]
    max_tokens: int | None = Field(default=None, ge=0)
    echo: bool | None = None
    logprobs: int | None = Field(default=None, ge=0, le=20)

    @property
    def limit(self) -> int:
        return DEFAULT_TOKENS if self.max_tokens is None else self.max_tokens

    def prompts(self) -> list[str | list[int]]:
        """Each of them. Raises `RequestError` for one that is empty."""
        given = self.prompt
        single = isinstance(given, str) or (bool(given) and isinstance(given[0], int))
        found: list[Any] = [given] if single else list(given)
        if not found or not all(found):
            raise RequestError("'prompt' is empty" if not found or single else "one of the prompts is empty",
                               param="prompt", code="invalid_value")
        return found

    def params(self, defaults: SamplingParams) -> list[SamplingParams]:
        """Of each choice; see `Sampled.sampling`."""
        return self.sampling(defaults, 1, self.logprobs)


def logprobs_body(tokenizer: Tokenizer, entries: Sequence[tuple[int, TokenLogprob | None]],
                  start: int = 0) -> dict[str, Any]:
    """OpenAI's older `logprobs` object, of tokens; None where there is none (a prompt's first token). start: characters
    before the first."""
    offsets, held = [], b""
    for token, _ in entries:
        offsets.append(start + len(held.decode("utf-8", "ignore")))
        held += tokenizer.decode_bytes([token])
    return {"tokens": [spelled(tokenizer, token) for token, _ in entries], "text_offset": offsets,
            "token_logprobs": [None if one is None else one.logprob for _, one in entries],
            "top_logprobs": [None if one is None else {
                spelled(tokenizer, token): logprob for token, logprob in (*one.top, (one.token, one.logprob))}
                for _, one in entries]}


def spelled(tokenizer: Tokenizer, token: int) -> str:
    """A token as the older API writes it: half a character as its bytes, a special one by its name."""
    data = tokenizer.decode_bytes([token])
    try:
        return data.decode() or tokenizer.piece(token)
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in data)
