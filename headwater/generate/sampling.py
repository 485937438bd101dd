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


class SamplingParams(Settings):
    """One request's sampling. In this order: repetition penalty (as in Hugging Face), frequency and presence penalty
    and bias (as in OpenAI's API), the constraint, temperature, top_k, top_p, min_p."""

    max_tokens: int = Field(default=256, gt=0)
    """Most tokens to generate; a full context ends the text earlier."""
    temperature: float = Field(default=1.0, ge=0, le=100)
    """Logits are divided by it; 0 takes the most likely token."""
    top_k: int = Field(default=0, ge=0, lt=2**63)
    """Keep the k most likely tokens; 0 keeps all."""
    top_p: float = Field(default=1.0, ge=0, le=1)
    """Keep the smallest set of most likely tokens whose mass is >= p (always at least one)."""
    min_p: float = Field(default=0.0, ge=0, le=1)
    """Keep the tokens at least this fraction as likely as the most likely one."""
    repetition_penalty: float = Field(default=1.0, gt=0)
    """Logits of tokens already in the prompt or the answer are divided by it when positive, multiplied when not."""
    frequency_penalty: float = Field(default=0.0, ge=-2, le=2)
    """Taken from a token's logit for every time that the answer has it already."""
    presence_penalty: float = Field(default=0.0, ge=-2, le=2)
    """Taken once from the logit of a token that the answer has already."""
    logit_bias: dict[int, Annotated[float, Field(ge=-100, le=100)]] = Field(default_factory=dict)
    """Added to the logits of these tokens."""
    constraint: Constraint | None = None
    """What the answer must be; None: anything."""
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
    counted: Tensor
    """Rows with a frequency or presence penalty, int64."""
    frequency_penalty: Tensor
    presence_penalty: Tensor
    biases: tuple[Tensor, Tensor, Tensor]
    """Rows, tokens and what is added to their logits."""

    @classmethod
    def of(cls, params: Sequence[SamplingParams], device: torch.device | str = "cpu") -> Self:
        def column(values: list[float], dtype: torch.dtype) -> Tensor:
            return torch.tensor(values, dtype=dtype, device=device)

        def rows(chosen: list[bool]) -> Tensor:
            return torch.tensor([row for row, yes in enumerate(chosen) if yes], dtype=torch.long, device=device)

        drawn = [p.temperature > 0 for p in params]
        cut = [p.top_k > 0 or p.top_p < 1 or p.min_p > 0 for p in params]
        biased = [(row, token, value) for row, p in enumerate(params) for token, value in p.logit_bias.items()]
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
            counted=rows([p.frequency_penalty != 0 or p.presence_penalty != 0 for p in params]),
            frequency_penalty=column([p.frequency_penalty for p in params], torch.float32),
            presence_penalty=column([p.presence_penalty for p in params], torch.float32),
            biases=(column([row for row, _, _ in biased], torch.long),
                    column([token for _, token, _ in biased], torch.long),
                    column([value for _, _, value in biased], torch.float32)),
        )


def adjusted(logits: Tensor, rows: SamplingRows, seen: Tensor | None, counts: Tensor | None) -> Tensor:
    """Logits float32 [B,V] after penalties and biases. seen: bool [P,V], the tokens already present in the rows of
    `rows.penalised`. counts: [C,V], how often the answers of the rows of `rows.counted` have each token."""
    logits = logits.float()
    if rows.penalised.numel():
        assert seen is not None, "rows with a repetition penalty need what they have seen"
        logits = logits.index_copy(0, rows.penalised, repetition_penalised(
            logits[rows.penalised], seen, rows.repetition_penalty[rows.penalised]))
    if rows.counted.numel():
        assert counts is not None, "rows with a frequency or presence penalty need what they have said"
        at = rows.counted
        logits = logits.index_copy(0, at, logits[at] - rows.frequency_penalty[at, None] * counts
                                   - rows.presence_penalty[at, None] * (counts > 0))
    if rows.biases[0].numel():
        logits = logits.index_put(rows.biases[:2], rows.biases[2], accumulate=True)
    return logits


def sample(logits: Tensor, rows: SamplingRows, uniforms: Tensor) -> Tensor:
    """Next tokens, int64 [B], of logits [B,V] after penalties, biases and masks (minus infinity: never).

    uniforms: float64 [B] in [0, 1), one draw per row: a row's token is the inverse of its own cumulative
    distribution at its own draw, so it does not depend on the other rows.
    """
    logits = logits.float()
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
