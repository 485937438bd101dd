"""How likely a model finds a text, as a value."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class LogLikelihood:
    """Of a continuation given its context: natural log-probability summed over its tokens."""

    logprob: float
    greedy: bool
    """Every token was the most likely one."""
    tokens: int


def sums(logprobs: Tensor, greedy: Tensor, lengths: list[int]) -> list[LogLikelihood]:
    """Of continuations of so many tokens, one after the other."""
    return [LogLikelihood(part.sum(dtype=torch.float64).item(), bool(hit.all()), len(part))
            for part, hit in zip(logprobs.cpu().split(lengths), greedy.cpu().split(lengths))]
