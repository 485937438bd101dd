"""Whether a reward model's probabilities come true, and the scale on which they do."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

BINS = 5
"""From 0.5, a toss, to 1."""
FLATTEST = 1 / 16
"""Least scale: a model that is at chance is to keep what order it has."""
_STEPS, _RIDGE = 50, 1e-9


class Bin(NamedTuple):
    """Pairs about which the model is about as sure."""

    probability: float
    """Mean, of the answer that it prefers."""
    accuracy: float
    pairs: int


def reliability(differences: Tensor) -> list[Bin]:
    """Of rewards' differences [N], chosen minus rejected; empty bins are left out."""
    sure = differences.double().abs().sigmoid()
    right = _right(differences)
    places = ((sure - 0.5) * 2 * BINS).long().clamp(max=BINS - 1)
    return [Bin(float(sure[own].mean()), float(right[own].mean()), int(own.sum()))
            for own in (places == place for place in range(BINS)) if own.any()]


def expected_calibration_error(bins: list[Bin]) -> float:
    """Mean distance of accuracy and probability, bins weighed by their pairs."""
    return sum(one.pairs * abs(one.accuracy - one.probability) for one in bins) / sum(one.pairs for one in bins)


def _right(differences: Tensor) -> Tensor:
    """1, 0, or 1/2 where the rewards are equal."""
    return (differences > 0).double() + (differences == 0).double() / 2


def pair_scale(differences: Tensor) -> float:
    """By which rewards are to be multiplied so that sigmoid(difference) is the chance of being preferred: 1 over the
    temperature that the pairs' likelihood is highest at. Their outcomes are smoothed as Platt did (1999), so that
    pairs which are all right give a finite one."""
    count = len(differences)
    [scale] = _logistic(differences[:, None], torch.full((count,), (count + 1) / (count + 2)))
    return max(FLATTEST, scale)


def safety_scale(rewards: Tensor, safe: Tensor) -> tuple[float, float]:
    """(a, b) so that sigmoid(a r + b) is the chance that an answer is safe, by the labels 1 and 0 [N]: Platt's scaling.
    """
    positive, negative = float(safe.sum()), float((1 - safe).sum())
    targets = torch.where(safe > 0, (positive + 1) / (positive + 2), 1 / (negative + 2))
    scale, shift = _logistic(torch.stack([rewards, torch.ones_like(rewards)], 1), targets)
    if scale < FLATTEST:
        middle = float(FLATTEST * rewards.double().mean())
        return FLATTEST, float(torch.tensor((positive + 1) / (negative + 1)).log()) - middle
    return scale, shift


def _logistic(features: Tensor, targets: Tensor) -> list[float]:
    """Weights [K] of the likeliest sigmoid(X w) for features [N,K], by Newton's steps, each as long as it helps."""
    features, targets = features.double(), targets.double()
    weights = torch.zeros(features.shape[1], dtype=torch.float64)

    def loss(at: Tensor) -> Tensor:
        return torch.nn.functional.binary_cross_entropy_with_logits(features @ at, targets)

    for _ in range(_STEPS):
        chance = (features @ weights).sigmoid()
        slope = features.t() @ (chance - targets) / len(targets)
        bend = (features * (chance * (1 - chance))[:, None]).t() @ features / len(targets)
        step = torch.linalg.solve(bend + _RIDGE * torch.eye(len(weights), dtype=torch.float64), slope)
        while loss(weights - step) > loss(weights) and step.abs().max() > 1e-12:
            step = step / 2
        weights = weights - step
    return [float(one) for one in weights]
