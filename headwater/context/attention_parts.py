"""Where attention goes and what sends it there, within the trained length and beyond: the parts of its scores, the
initial tokens at which it rests, and its decay with distance (Dong et al., 2405.18009)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from headwater.context.ablation import INITIAL
from headwater.context.intervention import score_parts
from headwater.context.positional import PositionalVectors, states_of
from headwater.model import Decoder
from headwater.model.intervals import Intervals
from headwater.progress import track

QUERIES = 64
"""Positions of a text whose attention is looked at: as many rows of scores are held, not one for every token."""
PARTS = ("position, position", "position, meaning", "meaning, position", "meaning, meaning", "bias")
"""Of a score: the query's and the key's part, and ALiBi's bias."""


class Attention(NamedTuple):
    """Of every block (L), within the trained length and beyond it (2 stretches of queries; NaN where there are none),
    over the keys that a query sees, all before it or a window. Each is found twice (second axis 2): from the whole
    score, and from its positional part alone: the product of two positional vectors, and ALiBi's bias."""

    queries: Tensor
    """The positions that were looked at, int64 [Q]."""
    shares: Tensor
    """Of the variance of scores over the keys that a query sees, [L,2,5]: the covariance of a part with the whole. They
    add up to 1; below 0 is a part that works against the others."""
    sink: Tensor
    """The attention weight on the initial tokens together, on average over heads, [L,2,Q]."""
    rest: Tensor
    """The same over a stretch's queries, [L,2,2]: scores, stretches."""
    rest_error: Tensor
    """Its standard error over texts."""
    decay: Tensor
    """The mean score by distance in powers of two, less the query's mean over the keys after the initial tokens,
    [L,2,2,B]: scores, stretches; bin 0 the token itself, bin b distances from 2^(b-1) to before 2^b."""

    def even(self, trained: int) -> Tensor:
        """The weight on the initial tokens of a model that attends to all alike, [2]: stretches."""
        return _by_stretch(INITIAL / (self.queries + 1), self.queries, trained)


class _Seen(NamedTuple):
    """Of one text at one block, or the mean over blocks and texts."""

    covariance: Tensor  # [2,5]
    sink: Tensor  # [2,Q]
    decay: Tensor  # [2,2,B]


def attention_of(model: Decoder, ids: Tensor, vectors: PositionalVectors, trained: int) -> Attention:
    """Over texts [N,T], the scores of one at one block held at a time."""
    length = ids.shape[1]
    queries = torch.linspace(INITIAL, length - 1, min(QUERIES, length - INITIAL)).round().long()
    total: list[Tensor] = []
    rests = []
    for text in track(ids, "attention", len(ids)):
        layers = list(_layers(model, text.to(model.device), vectors, queries, trained))
        found = [torch.stack(each) for each in zip(*layers)]
        rests.append(_by_stretch(found[1], queries, trained))
        total = [one + other for one, other in zip(total, found)] if total else found
    covariance, sink, decay = (one / len(ids) for one in total)
    of_texts = torch.stack(rests)  # [N,L,2,2]
    return Attention(queries, covariance / covariance.sum(-1, keepdim=True), sink, of_texts.mean(0),
                     of_texts.std(0) / math.sqrt(len(ids)), decay)


@torch.inference_mode()
def _layers(model: Decoder, text: Tensor, vectors: PositionalVectors, queries: Tensor,
            trained: int) -> Iterator[_Seen]:
    places = torch.arange(len(text), device=text.device)
    asked = queries.to(text.device)
    window = model.config.sliding_window or len(text)
    bias = model.positions.bias(asked[None], places[None])
    with states_of(model) as states:
        model.hidden(text[None], Intervals.causal(torch.zeros_like(text)[None]))
        for layer, state in enumerate(states[:-1]):
            scores = score_parts(model, layer, state, vectors, asked).flatten(0, 1)
            added = torch.zeros_like(scores[:1]) if bias is None else bias
            yield seen(torch.cat((scores, added)).cpu(), queries, trained, window)


def seen(parts: Tensor, queries: Tensor, trained: int, window: int) -> _Seen:
    """From the parts of scores [5,H,Q,T] of queries at positions [Q], which see so many keys, their own the last."""
    distance = queries[:, None] - torch.arange(parts.shape[-1])  # [Q,T]
    visible = (distance >= 0) & (distance < window)
    scores = torch.stack((parts.sum(0), parts[0] + parts[4]))  # [2,H,Q,T]: whole, positional
    spread = _centred(parts, visible)
    covariance = (spread * spread.sum(0)).sum(-1) / visible.sum(-1)  # [5,H,Q]
    weights = scores.masked_fill(~visible, -torch.inf).softmax(-1)
    late = visible & (torch.arange(parts.shape[-1]) >= INITIAL)
    return _Seen(_by_stretch(covariance.mean(1), queries, trained).T, weights[..., :INITIAL].sum(-1).mean(1),
                 _by_distance(_centred(scores, late).mean(1), distance, late, queries, trained))


def _centred(scores: Tensor, visible: Tensor) -> Tensor:
    """Less their mean over the keys that a query sees, 0 at all others: what a softmax makes a difference of."""
    mean = (scores * visible).sum(-1, keepdim=True) / visible.sum(-1, keepdim=True)
    return (scores - mean) * visible


def _by_stretch(found: Tensor, queries: Tensor, trained: int) -> Tensor:
    """The mean over queries [...,Q] within the trained length and beyond, [...,2]."""
    return torch.stack([found[..., own].mean(-1) for own in (queries < trained, queries >= trained)], -1)


def _by_distance(scores: Tensor, distance: Tensor, visible: Tensor, queries: Tensor, trained: int) -> Tensor:
    """The mean of scores [2,Q,T] over the pairs of a stretch whose distance falls into a bin, [2,2,B]."""
    bins = distance.clamp(min=0).double().mul(2).clamp(min=1).log2().floor().long()
    stretches = (queries >= trained).long()[:, None].expand_as(bins)
    number = int(bins.max()) + 1
    cell = (stretches * number + bins)[visible]
    counts = torch.bincount(cell, minlength=2 * number)
    sums = torch.stack([torch.bincount(cell, one[visible].double(), minlength=2 * number) for one in scores])
    return (sums / counts).view(2, 2, number).float()
