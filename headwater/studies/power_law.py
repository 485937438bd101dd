"""The law L(C) = a C^b + L_inf fitted to measured losses, and what it says of a larger model."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from headwater.errors import InputError

EXPONENTS = -np.geomspace(2.0, 0.01, 400)
"""Among which b is searched before it is refined."""
LEVEL = 0.95
"""Of the intervals."""
Floats = NDArray[np.float64]


class Prediction(NamedTuple):
    """A loss with the interval that a new measurement falls into in `LEVEL` of all cases."""

    loss: float
    low: float
    high: float


class PowerLaw(NamedTuple):
    """A fitted law; compute is counted in units of `unit`."""

    a: float
    b: float
    floor: float
    """L_inf, at least 0."""
    unit: float
    compute: Floats
    losses: Floats

    @property
    def scale(self) -> float:
        """a for compute in FLOPs."""
        return self.a * self.unit**-self.b

    def at(self, compute: float | Floats) -> Floats:
        found: Floats = np.asarray(self.a * (np.asarray(compute) / self.unit) ** self.b + self.floor)
        return found

    def predict(self, compute: float) -> Prediction:
        """By the law's linearisation around the fit: s sqrt(1 + g' (J'J)^-1 g) times Student's t of n - 3 degrees,
        with s the residuals' standard deviation and g the gradient of L by (a, b, L_inf)."""
        free = len(self.losses) - 3
        residuals = self.losses - self.at(self.compute)
        spread = float(np.sqrt(residuals @ residuals / free))
        jacobian, gradient = self._gradient(self.compute), self._gradient(np.array([compute]))[0]
        inverse = np.linalg.pinv(jacobian.T @ jacobian)
        half = student(free) * spread * float(np.sqrt(1 + gradient @ inverse @ gradient))
        loss = float(self.at(compute))
        return Prediction(loss, loss - half, loss + half)

    def _gradient(self, compute: Floats) -> Floats:
        scaled = compute / self.unit
        power = scaled**self.b
        found: Floats = np.stack([power, self.a * power * np.log(scaled), np.ones_like(scaled)], 1)
        return found


@lru_cache
def student(degrees: int) -> float:
    """The two-sided quantile of Student's t at `LEVEL`, from a fixed sample; within 1 % for two degrees and more."""
    drawn = np.abs(np.random.default_rng(0).standard_t(degrees, 1_000_000))
    return float(np.quantile(drawn, LEVEL))


def fit(compute: Sequence[float], losses: Sequence[float]) -> PowerLaw:
    """The law with the least squares: for each exponent a and L_inf follow by linear regression, so that one number
    is searched. Raises `InputError` for fewer than four points, or losses that do not fall."""
    c, y = np.array(compute, dtype=np.float64), np.array(losses, dtype=np.float64)
    if len(c) < 4:
        raise InputError(f"{len(c)} losses do not determine three numbers", fix="train at least four sizes")
    unit = float(np.exp(np.log(c).mean()))
    exponents = EXPONENTS
    for _ in range(6):
        errors = [_linear(c / unit, y, b)[2] for b in exponents]
        best = int(np.argmin(errors))
        exponents = np.linspace(exponents[max(0, best - 1)], exponents[min(len(exponents) - 1, best + 1)], 41)
    b = float(exponents[len(exponents) // 2])
    a, floor, _ = _linear(c / unit, y, b)
    if a <= 0:
        raise InputError("the losses do not fall with compute", fix="train the larger models on more tokens, or longer")
    return PowerLaw(a, b, floor, unit, c, y)


def _linear(scaled: Floats, losses: Floats, b: float) -> tuple[float, float, float]:
    """(a, L_inf, sum of squares) of the best line over C^b with L_inf not below 0."""
    power = scaled**b
    centred = power - power.mean()
    a = float(centred @ losses / (centred @ centred))
    floor = float(losses.mean() - a * power.mean())
    if floor < 0:
        a, floor = float(power @ losses / (power @ power)), 0.0
    rest = losses - a * power - floor
    return a, floor, float(rest @ rest)
