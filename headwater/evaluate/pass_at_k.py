"""pass@k: how likely at least one of k programs for a problem is right."""

from __future__ import annotations

import math


def pass_at_k(programs: int, passed: int, k: int) -> float:
    """The unbiased estimate from `programs` programs of which `passed` passed: 1 - C(n-c, k) / C(n, k), as a product so
    that no large number is ever formed (Chen et al. 2021, "Evaluating Large Language Models Trained on Code", eq. 1).

    Raises `ValueError` unless 0 <= passed <= programs and 1 <= k <= programs.
    """
    if not (0 <= passed <= programs and 1 <= k <= programs):
        raise ValueError(f"pass@{k} of {programs} programs, {passed} passed: k and those passed must be of them")
    if programs - passed < k:
        return 1.0
    return 1.0 - math.prod(1.0 - k / n for n in range(programs - passed + 1, programs + 1))
