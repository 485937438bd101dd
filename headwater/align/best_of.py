"""What the best, the mean and the middle of k answers are worth, expected over every choice of k of those sampled."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import comb
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class Curves(NamedTuple):
    """Rewards by how many answers there are to a prompt, averaged over prompts."""

    k: list[int]
    max: list[float]
    mean: list[float]
    median: list[float]


def curves(rewards: Sequence[Sequence[float]], most: int) -> Curves:
    """Of the rewards of each prompt's usable answers, for k = 1..most. No order of sampling decides: each value is the
    mean over all choices of k answers. A prompt with fewer usable ones counts with all that it has; one with none does
    not count."""
    ordered = [np.sort(np.array(own, dtype=np.float64)) for own in rewards if len(own)]
    every = list(range(1, most + 1))
    return Curves(every, *([float(np.mean([expected(own, min(k, len(own))) for own in ordered])) for k in every]
                           for expected in (expected_max, lambda own, _: own.mean(), expected_median)))


def expected_max(ordered: Floats, k: int) -> float:
    """Of k of these, each choice as likely; ordered: ascending [n]."""
    return float(chance(len(ordered), k, k) @ ordered)


def expected_median(ordered: Floats, k: int) -> float:
    """As `expected_max`; of an even k the mean of the two in the middle."""
    low, high = chance(len(ordered), k, (k + 1) // 2), chance(len(ordered), k, k // 2 + 1)
    return float((low + high) @ ordered / 2)


@lru_cache(maxsize=1024)
def chance(n: int, k: int, place: int) -> Floats:
    """P(the i-th smallest of n is the place-th smallest of k drawn from them) = C(i-1, place-1) C(n-i, k-place) /
    C(n, k), [n]."""
    return np.array([comb(i - 1, place - 1) * comb(n - i, k - place) / comb(n, k) for i in range(1, n + 1)])
