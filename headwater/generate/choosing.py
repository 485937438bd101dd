"""From the logits of a step to a token for every request: what changes its logits, the draw, what it is bound to."""

from __future__ import annotations

import math
from collections.abc import Sequence as Ordered
from typing import NamedTuple

import torch
from torch import Tensor

from headwater.generate.matcher import look_ahead
from headwater.generate.request import Sequence, TokenLogprob
from headwater.generate.sampling import SamplingRows, adjusted, sample

TRIES = 4
"""Tokens that are drawn for a constrained answer that has no room for them, before it goes on to its end."""


class Chosen(NamedTuple):
    """For one request."""

    token: int | None
    """None: the answer is whole, and nothing may follow."""
    logprob: TokenLogprob | None
    """Where it was asked for."""


def choose(logits: Tensor, sequences: Ordered[Sequence], rows: SamplingRows) -> list[Chosen]:
    """Of logits [B,V], which may be changed in place. Log-probabilities are those of the model, before all else."""
    uniforms = torch.tensor([s.uniform() for s in sequences], dtype=torch.float64, device=logits.device)
    seen, counts = (_stacked([getattr(s, name) for s in sequences], logits.device) for name in ("seen", "counts"))
    own = {row: logits[row].clone() for row, s in enumerate(sequences) if s.params.logprobs is not None}
    scores = adjusted(logits, rows, seen, counts)
    for row, sequence in enumerate(sequences):
        if sequence.matcher is not None:
            scores[row] += sequence.matcher.mask().to(scores.device)
    found = []
    for row, (sequence, token) in enumerate(zip(sequences, sample(scores, rows, uniforms).tolist(), strict=True)):
        settled = token if sequence.matcher is None else _settled(sequence, token, scores[row], uniforms[row])
        top = None if settled is None else sequence.params.logprobs
        found.append(Chosen(settled, None if settled is None or top is None else _logprob(own[row], settled, top)))
    look_ahead(sequence.matcher for sequence in sequences if sequence.matcher is not None)
    return found


def _settled(sequence: Sequence, token: int, scores: Tensor, uniform: Tensor) -> int | None:
    """The first token drawn that leaves room for an end; else the next of the end that is known."""
    matcher = sequence.matcher
    assert matcher is not None
    rows = None
    for _ in range(TRIES):
        if matcher.takes(token, sequence.left - 1):
            return token
        scores[token] = -math.inf
        rows = rows or SamplingRows.of([sequence.params], scores.device)
        token = int(sample(scores[None], rows, uniform[None]))
    return matcher.follow()


def _stacked(columns: list[Tensor | None], device: torch.device) -> Tensor | None:
    """Those that are there."""
    found = [column for column in columns if column is not None]
    return torch.stack(found).to(device) if found else None


def _logprob(logits: Tensor, token: int, top: int) -> TokenLogprob:
    logprobs = logits.float().log_softmax(-1)
    best = logprobs.topk(min(top, len(logprobs)))
    return TokenLogprob(token, logprobs[token].item(), tuple(zip(best.indices.tolist(), best.values.tolist())))
