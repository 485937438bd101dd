"""One request on its way through the engine, and what comes out of it."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from headwater.generate.sampling import SamplingParams
from headwater.generate.text_stream import TextStream

if TYPE_CHECKING:
    from headwater.generate.matcher import Matcher
    from headwater.generate.shared_prompts import Beginning

FinishReason = Literal["stop", "length", "cancelled"]
"""stop: an end mark or a stop text; length: max_tokens or the context is used up; cancelled: the caller left."""


@dataclass(frozen=True)
class TokenLogprob:
    """Natural log-probabilities under the model itself, before penalties, bias, constraint, temperature and filters."""

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()
    """The most likely ids, best first."""


@dataclass(frozen=True)
class Delta:
    """What became certain since the last one; `finish_reason` is set on the last."""

    text: str
    tokens: tuple[int, ...]
    logprobs: tuple[TokenLogprob, ...]
    finish_reason: FinishReason | None
    end: TokenLogprob | None = None
    """Of the end mark, which is not among the tokens, where one came and log-probabilities are asked for."""


@dataclass(frozen=True)
class Completion:
    """A finished answer. `tokens` leaves out the end mark; `text` leaves out a stop text and all after it."""

    tokens: list[int]
    text: str
    finish_reason: FinishReason
    prompt_tokens: int
    logprobs: list[TokenLogprob] | None = None
    end_mark: int | None = None
    """The token that ended it, where one did."""
    cached_tokens: int = 0
    """Of the prompt's, those that had been read for an earlier one."""


@dataclass(eq=False)
class Sequence:
    """A submitted request: its tokens so far and what was not yet taken. Owned by the engine's thread.

    `cancel` may be called from any thread; the engine frees the slot at its next step.
    """

    prompt: list[int]
    params: SamplingParams
    limit: int
    """Tokens it may generate: max_tokens, or what the context leaves."""
    adapter: str | None = None
    """By name; None: the model itself."""
    beginning: Beginning | None = None
    """What it shares with others of one call."""
    matcher: Matcher | None = None
    """Of what constrains the answer."""
    together: bool = False
    """Read in one pass with others of one call, as quickly as can be, and not piece by piece between steps."""
    cached_tokens: int = 0
    """Of the prompt's, those that had been read for an earlier one."""
    tokens: list[int] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    finish_reason: FinishReason | None = None
    end_mark: int | None = None
    end: TokenLogprob | None = None
    """Of the end mark."""
    cancelled: bool = False

    def __post_init__(self) -> None:
        self._text = TextStream(self.params.stop, trim_start=self.params.trim_start,
                                may_stop=None if self.matcher is None else self._is_whole)
        self._bytes = b""
        # A string seed is hashed, so that -1 and 1 differ; None is seeded by the operating system.
        seed = self.params.seed
        self._random = random.Random(None if seed is None else str(seed))
        self._pending = ""
        self._taken = 0
        self._taken_finish = False
        self.last = self.prompt[-1]
        self.seen: Tensor | None = None
        self.counts: Tensor | None = None

    @property
    def length(self) -> int:
        """Prompt and answer, in tokens."""
        return len(self.prompt) + len(self.tokens)

    @property
    def left(self) -> int:
        """Tokens that it may still generate."""
        return self.limit - len(self.tokens)

    @property
    def own(self) -> int:
        """Tokens of the prompt behind what it shares."""
        return len(self.prompt) - (0 if self.beginning is None else len(self.beginning.tokens))

    def cancel(self) -> None:
        self.cancelled = True

    def uniform(self) -> float:
        """The request's next draw in [0, 1)."""
        return self._random.random()

    def watch(self, vocabulary: int) -> None:
        """Keep the tokens seen and said so far, which penalties need."""
        if self.params.frequency_penalty or self.params.presence_penalty:
            self.counts = torch.zeros(vocabulary)
        if self.params.repetition_penalty != 1.0:
            self.seen = torch.zeros(vocabulary, dtype=torch.bool)
            self.seen[torch.tensor([token for token in self.prompt if token < vocabulary])] = True

    def accept(self, token: int, data: bytes) -> None:
        """Take the next token, which is not an end mark, and the bytes it stands for."""
        self.tokens.append(token)
        self.last = token
        if self.seen is not None:
            self.seen[token] = True
        if self.counts is not None:
            self.counts[token] += 1
        if self.matcher is not None:
            self._bytes += data
        self._pending += self._text.feed(data)
        if self._text.stopped or (self.matcher is not None and self.matcher.complete):
            self.finish("stop")
        elif not self.left:  # what is bound to a constraint is whole by then
            self.finish("length" if self.matcher is None else "stop")

    def _is_whole(self, after: str) -> bool:
        """Whether the constraint allows the answer without this text at its end."""
        assert self.matcher is not None
        before = self._bytes.decode(errors="ignore").removesuffix(after).encode()
        return self.matcher.fits(self.tokens, len(self._bytes) - len(before))

    def finish(self, reason: FinishReason) -> None:
        self._pending += self._text.finish()
        self.finish_reason = reason

    def take(self) -> Delta | None:
        """What came since the last call, or None when there is nothing new to show."""
        done = self.finish_reason is not None and not self._taken_finish
        if not self._pending and not done:
            return None
        delta = Delta(self._pending, tuple(self.tokens[self._taken:]), tuple(self.logprobs[self._taken:]),
                      self.finish_reason, self.end)
        self._pending, self._taken, self._taken_finish = "", len(self.tokens), done
        return delta
