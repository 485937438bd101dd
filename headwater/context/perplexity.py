"""Perplexity by position and by the length of the context, on the same tokens."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from headwater.errors import InputError
from headwater.model import Decoder
from headwater.model.intervals import Intervals
from headwater.model.scoring import token_log_probabilities

TOKENS = 8192
"""Read in one pass at most, where rows are shorter."""


class Loss(NamedTuple):
    """In nats a token."""

    mean: float
    error: float
    """Standard error over texts; 0 of one text."""

    @classmethod
    def over(cls, of_texts: Tensor) -> Loss:
        """From the mean of every text, [N]."""
        error = float(of_texts.std()) / math.sqrt(len(of_texts)) if len(of_texts) > 1 else 0.0
        return cls(float(of_texts.mean()), error)

    @property
    def perplexity(self) -> float:
        return math.exp(min(self.mean, 700.0))

    @property
    def margin(self) -> float:
        """Two standard errors, of the perplexity."""
        return 2 * self.error * self.perplexity

    def __str__(self) -> str:
        return f"{self.perplexity:,.2f} ± {self.margin:,.2f}"


@torch.inference_mode()
def losses(model: Decoder, ids: Tensor) -> Tensor:
    """-log p of every token of ids [N,T] but the first, given all before it, float32 [N,T-1]; memory linear in T.
    Raises `InputError` for a model whose output is not finite."""
    found = []
    for rows in ids.split(max(1, TOKENS // ids.shape[1])):
        rows = rows.to(model.device)
        hidden = model.hidden(rows, Intervals.causal(torch.zeros_like(rows)))[:, :-1]
        log_probabilities, _ = token_log_probabilities(model, hidden.flatten(0, 1), rows[:, 1:].flatten())
        found.append(-log_probabilities.view(len(rows), -1).cpu())
        if not bool(found[-1].isfinite().all()):
            place = 1 + int(found[-1].isfinite().all(0).to(torch.uint8).argmin())
            raise InputError(f"the model's output is not finite from position {place:,} on",
                             fix="read it in another way, or look whether its weights are finite")
    return torch.cat(found)


def by_position(found: Tensor, bounds: Sequence[int]) -> dict[tuple[int, int], Loss]:
    """The loss at the positions of each range [start, stop) of `bounds`, from the `losses` of texts [N,T-1]."""
    return {(start, stop): Loss.over(found[:, max(0, start - 1) : stop - 1].mean(1))
            for start, stop in pairwise(bounds)}


def by_length(model: Decoder, ids: Tensor, lengths: Sequence[int], last: int) -> dict[int, Loss]:
    """The loss of the `last` tokens of texts [N,T] given contexts of other lengths, the tokens themselves included: the
    same tokens every time, so that lengths differ by the context alone."""
    return {length: Loss.over(losses(model, ids[:, -length:])[:, -last:].mean(1)) for length in lengths}


def sliding(model: Decoder, ids: Tensor, window: int, stride: int) -> Tensor:
    """The `losses` of texts [N,T] read in `windows`, each token's in the one where it is new, [N,T-1]."""
    return torch.cat([losses(model, ids[:, start:stop])[:, -new:]
                      for start, stop, new in windows(ids.shape[1], window, stride)], 1)


def windows(size: int, window: int, stride: int) -> list[tuple[int, int, int]]:
    """Windows that move by `stride`: (start, stop, tokens that are new). Every token but the first is new once, with at
    least window - stride tokens before it where there are so many. Raises `InputError` for a stride as long as the
    window: a token without any before it has no loss."""
    if not 0 < stride < window:
        raise InputError(f"a stride {stride} of a window of {window}", fix="give a stride below the window")
    stops = [min(window, size), *(min(stop, size) for stop in range(window + stride, size + stride, stride))]
    return [(max(0, stop - window), stop, stop - max(1, before)) for before, stop in pairwise([0, *stops])]
