"""How the next token is chosen: validated parameters and one vectorised `sample` over rows that each have their own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Self

import torch
from pydantic import Field, field_validator
from torch import Tensor

from headwater.generate.constraint import Constraint
from headwater.settings import Settings

CANDIDATES = 64
"""Width of the first look at a row with filters; a wider one, 50 times slower, is taken only where it must be."""


Bias = Annotated[float, Field(ge=-100, le=100)]
"""Added to a logit: a little makes a token likelier or rarer, 100 either way decides."""


class SamplingParams(Settings):
    """One request's sampling. Order as in vLLM: repetition penalty, what is added to logits, the constraint; then as in
    Hugging Face too temperature, top_k, top_p, min_p."""

    max_tokens: int = Field(default=256, gt=0)
    """Most tokens to generate; a full context ends the text earlier."""
    temperature: float = Field(default=1.0, ge=0, le=100)
    """Logits are divided by it; 0 takes the most likely token."""
    top_k: int = Field(default=0, ge=0)
    """Keep the k most likely tokens; 0 keeps all."""
    top_p: float = Field(default=1.0, ge=0, le=1)
    """Keep the smallest set of most likely tokens whose mass is >= p (always at least one)."""
    min_p: float = Field(default=0.0, ge=0, le=1)
    """Keep the tokens at least this fraction as likely as the most likely one."""
    repetition_penalty: float = Field(default=1.0, gt=0)
    """Logits of tokens already in the prompt or the answer are divided by it when positive, multiplied when not."""
    presence_penalty: float = Field(default=0.0, ge=-2, le=2)
    """Taken from the logits of tokens that the answer holds already; the prompt does not count (as OpenAI has it)."""
    frequency_penalty: float = Field(default=0.0, ge=-2, le=2)
    """Taken from them as many times as the answer holds them."""
    logit_bias: dict[int, Bias] = {}
    """Added to the logits of these tokens."""
    constraint: Constraint | None = None
    """What the whole answer has to be."""
    stop: tuple[str, ...] = ()
    """Texts that end the answer; the stop text itself is left out. Under a constraint only where what stands before it
    is a whole answer."""
    trim_start: bool = False
    """Leave out white space before the answer's first character (GLM's chat format opens with an empty line)."""
    seed: int | None = None
    """The same seed gives the same tokens whatever else is in the batch; None draws a fresh one."""
    logprobs: int | None = Field(default=None, ge=0, le=20)
    """None: none. Otherwise the log-probability of each token and of this many most likely ones."""

    @field_validator("stop")
    @classmethod
    def _no_empty_stop(cls, stop: tuple[str, ...]) -> tuple[str, ...]:
        if any(not text for text in stop):
            raise ValueError("a stop text must not be empty")
        return stop


@dataclass(frozen=True)
class SamplingRows:
    """The parameters of a batch as columns; built when the batch changes, not at every step."""

    temperature: Tensor
    top_k: Tensor
    top_p: Tensor
    min_p: Tensor
    repetition_penalty: Tensor
    greedy: bool
    """Every row takes its most likely token."""
    plain: Tensor
    """Rows drawn from the whole vocabulary, int64."""
    filtered: Tensor
    """Rows drawn from a part of it, int64."""
    penalised: Tensor
    """Rows with a repetition penalty, int64."""

    @classmethod
    def of(cls, params: Sequence[SamplingParams], device: torch.device | str = "cpu") -> Self:
        def column(values: list[float], dtype: torch.dtype) -> Tensor:
            return torch.tensor(values, dtype=dtype, device=device)

        def rows(chosen: list[bool]) -> Tensor:
            return torch.tensor([row for row, yes in enumerate(chosen) if yes], dtype=torch.long, device=device)

        drawn = [p.temperature > 0 for p in params]
        cut = [p.top_k > 0 or p.top_p < 1 or p.min_p > 0 for p in params]
        return cls(
            temperature=column([p.temperature or 1.0 for p in params], torch.float32),
            top_k=column([p.top_k for p in params], torch.long),
            top_p=column([p.top_p for p in params], torch.float64),
            min_p=column([p.min_p for p in params], torch.float64),
            repetition_penalty=column([p.repetition_penalty for p in params], torch.float32),
            greedy=not any(drawn),
            plain=rows([d and not c for d, c in zip(drawn, cut)]),
            filtered=rows([d and c for d, c in zip(drawn, cut)]),
            penalised=rows([p.repetition_penalty != 1.0 for p in params]),
        )


def sample(logits: Tensor, rows: SamplingRows, uniforms: Tensor, seen: Tensor | None = None) -> Tensor:
    """Next tokens, int64 [B], of logits [B,V].

    uniforms: float64 [B] in [0, 1), one draw per row: a row's token is the inverse of its own cumulative
    distribution at its own draw, so it does not depend on the other rows. seen: bool [P,V], the tokens already
    present in the rows of `rows.penalised`.
    """
    return draw(penalised(logits.float(), rows, seen), rows, uniforms)


def penalised(logits: Tensor, rows: SamplingRows, seen: Tensor | None) -> Tensor:
    """Logits [B,V] after the repetition penalties of those rows that have one, of which `seen` [P,V] is the past."""
    if not rows.penalised.numel():
        return logits
    assert seen is not None, "rows with a repetition penalty need what they have seen"
    return logits.index_copy(0, rows.penalised, repetition_penalised(
        logits[rows.penalised], seen, rows.repetition_penalty[rows.penalised]))


def draw(logits: Tensor, rows: SamplingRows, uniforms: Tensor) -> Tensor:
    """`sample` of logits to which nothing is to be done but temperature and filters; -inf are never drawn."""
    tokens = logits.argmax(-1)
    if rows.greedy:
        return tokens
    scores = logits / rows.temperature[:, None]
    if rows.plain.numel():
        weights = scores[rows.plain].double().softmax(-1)
        tokens[rows.plain] = _inverse_cdf(weights, uniforms[rows.plain])
    if rows.filtered.numel():
        at = rows.filtered
        tokens[at] = _draw_filtered(scores[at], rows.top_k[at], rows.top_p[at], rows.min_p[at], uniforms[at],
                                    min(CANDIDATES, scores.shape[1]))
    return tokens


def repetition_penalised(logits: Tensor, seen: Tensor, penalty: Tensor) -> Tensor:
    """Seen logits divided by the penalty when positive, multiplied when not (CTRL, 1909.05858, as in HF)."""
    changed = torch.where(logits > 0, logits / penalty[:, None], logits * penalty[:, None])
    return torch.where(seen, changed, logits)


def _inverse_cdf(weights: Tensor, uniforms: Tensor) -> Tensor:
    """First index whose cumulative weight exceeds uniform x total; weights float64 [R,W], not all zero in a row."""
    mass = weights.cumsum(-1)
    index = torch.searchsorted(mass, uniforms[:, None] * mass[:, -1:], right=True)
    return index.clamp_(max=weights.shape[1] - 1)[:, 0]


def _draw_filtered(scores: Tensor, top_k: Tensor, top_p: Tensor, min_p: Tensor, uniforms: Tensor,
                   width: int) -> Tensor:
    """Tokens [R] drawn after top_k, top_p and min_p, looking at the `width` most likely tokens of each row.

    Rows whose kept set reaches beyond that look again, eight times as wide; which rows do depends on the row alone,
    so the batch cannot change a row's result.
    """
    vocabulary = scores.shape[1]
    values, ids = scores.topk(width)  # descending
    limit = torch.where(top_k > 0, top_k, vocabulary)[:, None]
    rank = torch.arange(width, device=scores.device)
    weights = torch.where(rank < limit, (values.double() - values[:, :1]).exp(), 0.0)  # relative to the largest
    mass = weights.cumsum(-1)
    total = mass[:, -1:]
    if width < vocabulary:
        whole = (scores.double() - values[:, :1]).exp().sum(-1, keepdim=True)
        total = torch.where(limit <= width, total, whole)
    keep = (rank < limit) & (mass - weights < top_p[:, None] * total) & (weights >= min_p[:, None])
    keep[:, 0] = True
    chosen = _inverse_cdf(weights * keep, uniforms)
    tokens = ids.gather(1, chosen[:, None])[:, 0]
    if width < vocabulary:
        again = (keep[:, -1] & (limit[:, 0] > width)).nonzero()[:, 0]
        if again.numel():
            tokens[again] = _draw_filtered(scores[again], top_k[again], top_p[again], min_p[again], uniforms[again],
                                           min(8 * width, vocabulary))
    return tokens
