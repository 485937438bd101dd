"""Whether a reward model's probabilities come true, and the scale on which they do."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

BINS = 5
"""From 0.5, a toss, to 1."""
FLATTEST = 1 / 16
"""Least scale: a model that is at chance is to keep what order it has."""
FEWEST = 50
"""Pairs, or labelled answers with half as many of each kind, that a scale is fitted to. Of planted preferences: fitted
to 6 pairs, the log loss of new ones rose by 0.035 nats where the model had been right, and by 0.019 where it was half
too sure; fitted to 50, by 0.009, and fell by 0.006."""
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
    temperature that the pairs' log loss is least at."""
    [scale] = _logistic(differences[:, None], pair_targets(len(differences)))
    return max(FLATTEST, scale)


def safety_scale(rewards: Tensor, safe: Tensor) -> tuple[float, float]:
    """(a, b) so that sigmoid(a r + b) is the chance that an answer is safe, by the labels 1 and 0 [N]: Platt's scaling.
    """
    scale, shift = _logistic(torch.stack([rewards, torch.ones_like(rewards)], 1), label_targets(safe))
    if scale < FLATTEST:
        positive, negative = float(safe.sum()), float((1 - safe).sum())
        middle = float(FLATTEST * rewards.double().mean())
        return FLATTEST, float(torch.tensor((positive + 1) / (negative + 1)).log()) - middle
    return scale, shift


def pair_targets(count: int) -> Tensor:
    """Outcomes of pairs, smoothed as Platt did (1999), so that pairs which are all right give a finite scale: the
    chosen answer was the better one in all but one of N + 2."""
    return torch.full((count,), (count + 1) / (count + 2), dtype=torch.float64)


def label_targets(safe: Tensor) -> Tensor:
    """The same of the labels 1 and 0 [N], each kind by its own number."""
    positive, negative = float(safe.sum()), float((1 - safe).sum())
    return torch.where(safe > 0, (positive + 1) / (positive + 2), 1 / (negative + 2)).double()


def log_loss(log_odds: Tensor, targets: Tensor) -> float:
    """What a scale makes least: the mean cross-entropy of smoothed outcomes [N], in nats."""
    return float(torch.nn.functional.binary_cross_entropy_with_logits(log_odds.double(), targets))


class Scale(NamedTuple):
    """Rewards times one number plus another, and what these were fitted to."""

    scale: float
    shift: float
    by: str
    """pairs, or safety: its labels."""
    known: int
    """Pairs or labelled answers that there are."""
    fitted: bool


def fitted(rewards: Tensor, safe: Tensor, *, absolute: bool) -> Scale:
    """The likeliest scale of rewards [2N], chosen and rejected in turn: by the pairs; `absolute`: and shift, by the
    labels 1, 0 and NaN [2N]. None is fitted to fewer than `FEWEST`."""
    if not absolute:
        differences = rewards[::2] - rewards[1::2]
        enough = len(differences) >= FEWEST
        return Scale(pair_scale(differences) if enough else 1.0, 0.0, "pairs", len(differences), enough)
    known = ~safe.isnan()
    labels = safe[known]
    enough = min(int(labels.sum()), int((1 - labels).sum())) >= FEWEST // 2
    scale, shift = safety_scale(rewards[known], labels) if enough else (1.0, 0.0)
    return Scale(scale, shift, "safety", len(labels), enough)


def calibrated(rewards: Tensor, safe: Tensor, by: Scale) -> dict[str, Any]:
    """What the scale came to: the log loss of what it was fitted to, and calibration errors, of the labels too where
    they are what it was fitted to; before and with it, and `told`, the words for it."""
    found: dict[str, Any] = by._asdict()
    known = ~safe.isnan()
    for when, now in (("_before", rewards), ("", rewards * by.scale + by.shift)):
        differences = now[::2] - now[1::2]
        found[f"error{when}"] = expected_calibration_error(reliability(differences))
        if by.by == "pairs":
            found[f"log_loss{when}"] = log_loss(differences, pair_targets(len(differences)))
        elif known.any():
            found[f"log_loss{when}"] = log_loss(now[known], label_targets(safe[known]))
            right = torch.where(safe[known] > 0, now[known], -now[known])
            found[f"labels_error{when}"] = expected_calibration_error(reliability(right))
    return {**found, "bins": [one._asdict() for one in reliability(differences)], "told": _told(found)}


def _told(found: dict[str, Any]) -> str:
    """For people."""
    names = {"pairs": "pairs", "safety": "labels of safety"}
    known, error = f"{found['known']:,} {names[found['by']]}", f"{found['error_before']:.3f}"
    if not found["fitted"]:
        need = f"{FEWEST}" if found["by"] == "pairs" else f"{FEWEST // 2} of each kind"
        return (f"Calibration: none. {known} are held back, a scale is fitted to {need} or more: rewards stay as they "
                f"were learned. Calibration error of the pairs {error}")
    shift = f" {'plus' if found['shift'] > 0 else 'minus'} {abs(found['shift']):.3g}" if found["shift"] else ""
    moved = f"rewards times {found['scale']:.3g}{shift}"
    loss = f"{found['log_loss_before']:.3f} before, {found['log_loss']:.3f} with it"
    told = f"Calibration by {known}: {moved}, where their log loss is least ({loss})"
    pairs = f"{error} before, {found['error']:.3f} with it"
    if found["by"] == "pairs":
        return f"{told}. Calibration error {pairs}"
    labels = f"{found['labels_error_before']:.3f} before, {found['labels_error']:.3f} with it"
    return (f"{told}. Calibration error of the labels, as chances of being safe: {labels}; of the pairs, as chances of "
            f"being preferred, to which nothing was fitted: {pairs}")


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
