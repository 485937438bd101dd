"""POST /v1/completions on the wire: texts or tokens to be continued, with the log-probabilities of what was given."""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from typing import Any, ClassVar

from pydantic import Field

from headwater.generate.request import TokenLogprob
from headwater.generate.sampling import SamplingParams
from headwater.serve.sampled import Sampled
from headwater.serve.wire import Several, each
from headwater.tokenizer.vocabulary import Tokenizer

DEFAULT_TOKENS = 16
"""OpenAI's, of a request that does not say."""


class CompletionRequest(Sampled):
    neutral: ClassVar = {"suffix": ("",), "best_of": (1,)}

    examples: ClassVar = (
        {"prompt": "The Velna is", "max_tokens": 8, "temperature": 0},
        {"prompt": ["The Velna is", "Lakes"], "max_tokens": 1, "echo": True, "logprobs": 1, "temperature": 0},
        {"prompt": [[9, 10], [11]], "max_tokens": 4, "n": 2, "seed": 1, "stream": True, "stop": "."},
        {"prompt": "Lakes", "max_tokens": 8, "guided_regex": "[0-9]{3} km"})

    prompt: Several
    max_tokens: int | None = Field(default=None, ge=0)
    echo: bool | None = None
    logprobs: int | None = Field(default=None, ge=0, le=20)

    @property
    def limit(self) -> int:
        return DEFAULT_TOKENS if self.max_tokens is None else self.max_tokens

    def prompts(self) -> Sequence[str | list[int]]:
        """Each of them. Raises `RequestError` for one that is empty."""
        return each(self.prompt, "prompt")

    def params(self, defaults: SamplingParams) -> list[SamplingParams]:
        """Of each choice; see `Sampled.sampling`."""
        return self.sampling(defaults, 1, self.logprobs)


class Offsets:
    """Where each token's text begins, in characters, token after token."""

    def __init__(self, tokenizer: Tokenizer, start: int = 0) -> None:
        """start: of the first; below 0 where its bytes begin with a space that the text does not have."""
        self._tokenizer, self._at = tokenizer, start
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def next(self, token: int) -> int:
        at = max(0, self._at)
        self._at += len(self._decoder.decode(self._tokenizer.decode_bytes([token])))
        return at


def logprobs_body(tokenizer: Tokenizer, entries: Sequence[tuple[int, TokenLogprob | None]],
                  offsets: Offsets) -> dict[str, Any]:
    """OpenAI's older `logprobs` object, of tokens; None where there is none (a prompt's first token)."""
    return {"tokens": [spelled(tokenizer, token) for token, _ in entries],
            "text_offset": [offsets.next(token) for token, _ in entries],
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
