"""What later tokens lose without the positions of early ones (Dong et al., 2405.18009, table 2)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, get_args

import torch
from torch import Tensor

from headwater.context.intervention import Part, without
from headwater.context.perplexity import TOKENS, Loss, losses
from headwater.context.positional import PositionalVectors, states_of
from headwater.model import Decoder
from headwater.progress import track

INITIAL = 4
"""Tokens at the start, whose positional vectors differ from all others after the first layer."""
LATER = 32
"""Where the later tokens begin that something is taken from; a quarter of a shorter text."""
GROUPS = 8
"""Of texts, each left out once for the error of a similarity."""


class Similarity(NamedTuple):
    """Of two sets of positional vectors: the cosine at a position, on average over positions."""

    mean: float
    error: float
    """Standard error over texts: the jackknife over groups of them."""


class Reading(NamedTuple):
    """Of all texts, at the targets: positions that nothing is taken from."""

    losses: Tensor
    """Of the tokens that follow them, on average over each text, [N]."""
    sums: Tensor
    """Of the last layer's states, over the texts of each group, float64 [G,T,D]."""


class Effect(NamedTuple):
    """Of taking something away."""

    part: Part | None
    """None: nothing is taken."""
    positions: tuple[int, int]
    """From the first to before the second."""
    loss: Loss
    change: Loss
    """Against nothing taken, text by text."""
    vectors: Similarity
    """Of the targets' positional vectors after the last layer, with and without."""
    basis: Similarity
    """The same of what is left of them when their mean over the targets is gone."""


def ranges(length: int) -> tuple[list[tuple[int, int]], tuple[int, int]]:
    """Of texts of a length the positions that something is taken from, and the targets: the first four, as many later
    ones, and all from those on up to the middle; the targets are the second half, the same every time."""
    middle, later = length // 2, min(LATER, length // 4)
    return [(0, INITIAL), (later, later + INITIAL), (later, middle)], (middle, length)


def effects(model: Decoder, ids: Tensor, vectors: PositionalVectors, layers: Sequence[int]) -> list[Effect]:
    """Without values, positional vectors or their basis at each range of positions, in all of these blocks at once;
    nothing taken first. ids: int64 [N,T], one batch of whose states is held at a time."""
    taken, targets = ranges(ids.shape[1])
    plain = read(model, ids, targets)
    found = [_effect(None, (0, 0), plain, plain)]
    tries = [(part, positions) for part in get_args(Part) for positions in taken]
    for part, positions in track(tries, "ablations"):
        with without(model, part, slice(*positions), layers, vectors):
            found.append(_effect(part, positions, plain, read(model, ids, targets)))
    return found


def read(model: Decoder, ids: Tensor, targets: tuple[int, int]) -> Reading:
    """The losses and states of texts at the targets, a batch at a time."""
    groups = min(GROUPS, len(ids))
    sums = torch.zeros(groups, targets[1] - targets[0], model.config.hidden_size, dtype=torch.float64)
    found = []
    with states_of(model) as states:
        for rows, group in zip(*(one.split(max(1, TOKENS // ids.shape[1]))
                                 for one in (ids, torch.arange(len(ids)) % groups)), strict=True):
            found.append(losses(model, rows)[:, targets[0] : targets[1]].mean(1))
            sums.index_add_(0, group, states[-1][:, slice(*targets)].double().cpu())
    return Reading(torch.cat(found), sums)


def _effect(part: Part | None, positions: tuple[int, int], plain: Reading, changed: Reading) -> Effect:
    return Effect(part, positions, Loss.over(changed.losses), Loss.over(changed.losses - plain.losses),
                  similarity(plain.sums, changed.sums),
                  similarity(*(sums - sums.mean(1, keepdim=True) for sums in (plain.sums, changed.sums))))


def similarity(one: Tensor, other: Tensor) -> Similarity:
    """Of the means over texts, from their sums over groups of texts [G,T,D]."""
    def cosine(first: Tensor, second: Tensor) -> float:
        return float(torch.cosine_similarity(first, second, dim=-1).mean())

    left = torch.tensor([cosine(one.sum(0) - own, other.sum(0) - its) for own, its in zip(one, other, strict=True)],
                        dtype=torch.float64)
    error = math.sqrt((len(left) - 1) * float(left.var(correction=0)))
    return Similarity(cosine(one.sum(0), other.sum(0)), error)
