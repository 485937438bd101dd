"""How far a mean over questions would move with other questions: the bootstrap, by subject where subjects are averaged.

Method: BCa intervals (Efron, 1987, "Better Bootstrap Confidence Intervals", JASA 82; Efron and Tibshirani, 1993,
chapter 14). Questions are drawn with replacement within each stratum, which for several strata is the bootstrap of
stratified samples (Davison and Hinkley, 1997, section 3.2).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
RESAMPLES = 10_000
LEVEL = 0.95
SEED = 0
_FEW = 32
"""Up to so many different values their counts are drawn, which is the same in distribution and far quicker."""
_PART = 1 << 22
"""Values drawn at once."""
_NORMAL = NormalDist()


@dataclass(frozen=True)
class Figure:
    """A score and the interval around it."""

    value: float
    low: float
    high: float

    def as_json(self) -> dict[str, float]:
        return {"value": self.value, "low": self.low, "high": self.high}

    def negated(self) -> Figure:
        return Figure(-self.value, -self.high, -self.low)


def mean_of(strata: Sequence[F64]) -> float:
    """The mean over strata of the mean [N_s] of each; NaN of none."""
    # fsum: the order of questions and subjects does not show in the last digit.
    means = [math.fsum(values) / len(values) for values in strata if len(values)]
    return math.fsum(means) / len(means) if means else math.nan


def interval(strata: Sequence[F64], *, resamples: int = RESAMPLES, level: float = LEVEL, seed: int = SEED) -> Figure:
    """`mean_of` with the BCa interval that holds the true one `level` of the times.

    Where every answer scores the same there is nothing to draw from and the bootstrap would claim certainty: of 0s or
    1s alone the far end is then the exact one-sided bound for so many tries (Clopper and Pearson, 1934), of other
    values the interval is a point.
    """
    strata = [values for values in strata if len(values)]
    value = mean_of(strata)
    if not strata:
        return Figure(math.nan, math.nan, math.nan)
    if all(values.min() == values.max() for values in strata):
        return _certain(strata, value, level)
    drawn = resampled(strata, resamples=resamples, seed=seed)
    low, high = np.quantile(drawn, _shares(drawn, value, _acceleration(strata), level))
    return Figure(value, min(float(low), value), max(float(high), value))


def resampled(strata: Sequence[F64], *, resamples: int = RESAMPLES, seed: int = SEED) -> F64:
    """`mean_of` of as many samples with replacement [R], each question drawn within its stratum."""
    generator = np.random.default_rng(seed)
    total = np.zeros(resamples)
    for values in strata:
        total += _resampled_mean(values, resamples, generator)
    return total / len(strata)


def _resampled_mean(values: F64, resamples: int, generator: np.random.Generator) -> F64:
    distinct, counts = np.unique(values, return_counts=True)
    if len(distinct) <= _FEW:
        return np.asarray(generator.multinomial(len(values), counts / len(values), resamples) @ distinct / len(values))
    means = np.empty(resamples)
    step = max(1, _PART // len(values))
    for start in range(0, resamples, step):
        rows = min(step, resamples - start)
        chosen = generator.integers(0, len(values), (rows, len(values)), np.int32)
        means[start:start + rows] = values[chosen].mean(1)
    return means


def _shares(drawn: F64, value: float, acceleration: float, level: float) -> tuple[float, float]:
    """The shares of the resampled means at which the interval ends."""
    # Rounded: a mean summed in another order is still the same mean.
    near = np.round(drawn - value, 12)
    below = float(((near < 0).mean() + (near <= 0).mean()) / 2)
    bias = _NORMAL.inv_cdf(min(max(below, 1 / (len(drawn) + 1)), len(drawn) / (len(drawn) + 1)))
    ends = (bias + _NORMAL.inv_cdf(share) for share in ((1 - level) / 2, (1 + level) / 2))
    low, high = (_NORMAL.cdf(bias + end / (1 - acceleration * end)) for end in ends)
    return low, high


def _acceleration(strata: Sequence[F64]) -> float:
    """From the influence of every question on the mean, its weight times its distance from its stratum's mean."""
    pulls = np.concatenate([(values - values.mean()) / len(values) for values in strata])
    return float((pulls**3).sum() / (6 * (pulls**2).sum() ** 1.5))


def _certain(strata: Sequence[F64], value: float, level: float) -> Figure:
    far = (1 - level) ** (1 / sum(map(len, strata))) if value in (0, 1) else math.nan
    # One-sided at the far end: the near one is the edge itself, so all of the error is on this side.
    return Figure(value, far if value == 1 else value, 1 - far if value == 0 else value)
