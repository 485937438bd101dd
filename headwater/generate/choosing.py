"""From the logits of a step to a token for every request: what changes its logits, the draw, what it is bound to."""

from __future__ import annotations

import math
from collections.abc import Sequence as Ordered
from typing import NamedTuple

import torch
from torch import Tensor

from headwater.generate.request import Sequence, TokenLogprob
from headwater.generate.sampling import SamplingRows, draw, penalised

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
    seen = [s.seen for s in sequences if s.seen is not None]
    plain = logits.float()
    own = {row: plain[row].clone() if s.shift is not None or s.guide is not None else plain[row]
           for row, s in enumerate(sequences) if s.params.logprobs is not None}
    scores = penalised(plain, rows, torch.stack(seen).to(logits.device) if seen else None)
    for row, sequence in enumerate(sequences):
        if sequence.shift is not None:
            sequence.shift.add_to(scores[row])
        if sequence.guide is not None:
            scores[row].masked_fill_(sequence.guide.forbidden().to(scores.device), -math.inf)
    found = []
    for row, (sequence, token) in enumerate(zip(sequences, draw(scores, rows, uniforms).tolist(), strict=True)):
        settled = token if sequence.guide is None else _settled(sequence, token, scores[row], uniforms[row])
        top = None if settled is None else sequence.params.logprobs
        found.append(Chosen(settled, None if settled is None or top is None else _logprob(own[row], settled, top)))
    return found


def _settled(sequence: Sequence, token: int, scores: Tensor, uniform: Tensor) -> int | None:
    """The first token drawn that leaves room for an end; else the next of the end that is known."""
    guide = sequence.guide
    assert guide is not None
    rows = None
    for _ in range(TRIES):
        if guide.takes(token, sequence.left - 1):
            return token
        scores[token] = -math.inf
        rows = rows or SamplingRows.of([sequence.params], scores.device)
        token = int(draw(scores[None], rows, uniform[None]))
    return guide.follow()


def _logprob(logits: Tensor, token: int, top: int) -> TokenLogprob:
    logprobs = logits.log_softmax(-1)
    best = logprobs.topk(min(top, len(logprobs)))
    return TokenLogprob(token, logprobs[token].item(), tuple(zip(best.indices.tolist(), best.values.tolist())))
