"""Whether two models differ on the same questions by more than chance: paired tests, and several of them at once.

One test makes the marks: the paired randomisation test (Fisher, 1935; Noreen, 1989; Yeh, 2000, "More accurate tests for
the statistical significance of result differences"). If the models were alike, every question's two results might as
well be exchanged, which turns the sign of their difference. It judges the very figure that is printed, averaged over
questions or over subjects, in 0 and 1 or in shares, and keeps its level for few questions, where a bootstrap claims too
much. For 0 and 1 averaged over questions it is McNemar's exact test, and is computed as that.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from headwater.evaluate.bootstrap import F64, RESAMPLES, SEED, mean_of

_PART = 1 << 22
_FEW = 32


def mcnemar(first_alone: int, second_alone: int) -> float:
    """Two-sided exact p of so many questions that the one model alone had right, and the other alone (McNemar, 1947):
    a fair coin's chance to fall as unevenly."""
    number, term, tail = first_alone + second_alone, 1, 0
    for hits in range(min(first_alone, second_alone) + 1):
        tail += term
        term = term * (number - hits) // (hits + 1)
    return min(1.0, 2 * tail / 2**number)


def alone(differences: Sequence[F64]) -> tuple[int, int] | None:
    """How many questions the first model alone had right, and the second; None where results are not 0 and 1."""
    flat = np.concatenate([np.zeros(0), *differences])
    return (int((flat == 1).sum()), int((flat == -1).sum())) if np.isin(flat, (-1, 0, 1)).all() else None


def randomisation(differences: Sequence[F64], *, resamples: int = RESAMPLES, seed: int = SEED) -> float:
    """Two-sided p of the mean over strata of the mean difference [N_s] of each, from random signs.

    At least 1 / (resamples + 1), for the signs that were found count as drawn once.
    """
    differences = [values for values in differences if len(values)]
    generator = np.random.default_rng(seed)
    drawn = np.zeros(resamples)
    for values in differences:
        drawn += _signed_means(np.abs(values), resamples, generator)
    # A tolerance: equal sums in another order must count as equal.
    extreme = int((np.abs(drawn / max(1, len(differences))) >= abs(mean_of(differences)) - 1e-9).sum()) \
        if differences else resamples
    return (extreme + 1) / (resamples + 1)


def _signed_means(sizes: F64, resamples: int, generator: np.random.Generator) -> F64:
    """Means of the sizes [N] under random signs [R]."""
    distinct, counts = np.unique(sizes[sizes > 0], return_counts=True)
    total = np.zeros(resamples)
    if len(distinct) <= _FEW:
        for size, count in zip(distinct, counts, strict=True):
            total += size * (2 * generator.binomial(count, 0.5, resamples) - count)
        return total / len(sizes)
    step = max(1, _PART // len(sizes))
    for start in range(0, resamples, step):
        rows = min(step, resamples - start)
        total[start:start + rows] = (2 * generator.integers(0, 2, (rows, len(sizes)), np.int8) - 1) @ sizes
    return total / len(sizes)


def p_value(differences: Sequence[F64], *, exact: bool, resamples: int = RESAMPLES, seed: int = SEED) -> float:
    """Of the randomisation test; by McNemar's form where `exact` (an average over questions) and all are 0 or 1."""
    counts = alone(differences) if exact else None
    return mcnemar(*counts) if counts is not None else randomisation(differences, resamples=resamples, seed=seed)


def holm(values: Sequence[float]) -> list[float]:
    """p-values corrected so that the chance of any false mark among all of them stays below the level (Holm, 1979)."""
    order = sorted(range(len(values)), key=lambda place: values[place])
    corrected, least = [0.0] * len(values), 0.0
    for rank, place in enumerate(order):
        least = max(least, min(1.0, (len(values) - rank) * values[place]))
        corrected[place] = least
    return corrected
