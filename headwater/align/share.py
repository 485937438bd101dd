"""A share of a number of tries, with the interval that holds the true one."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple, Self

_Z = 1.959963984540054
"""Of the normal distribution, for 95 %."""


class Share(NamedTuple):
    """So many of so many."""

    hits: float
    number: int

    @classmethod
    def of(cls, values: Iterable[bool]) -> Self:
        found = list(values)
        return cls(sum(found), len(found))

    @property
    def rate(self) -> float:
        """NaN of none."""
        return self.hits / self.number if self.number else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval (1927): the rates that a score test does not reject; 0 to 1 of no tries."""
        if not self.number:
            return 0.0, 1.0
        n, p = self.number, self.rate
        middle, half = p + _Z**2 / (2 * n), _Z * math.sqrt(p * (1 - p) / n + (_Z / (2 * n)) ** 2)
        return max(0.0, (middle - half) / (1 + _Z**2 / n)), min(1.0, (middle + half) / (1 + _Z**2 / n))

    def words(self) -> str:
        low, high = self.interval
        return f"{self.rate:.1%} ({low:.0%}-{high:.0%})" if self.number else ""

    def as_json(self) -> dict[str, float]:
        low, high = self.interval
        return {"hits": self.hits, "number": self.number, "rate": self.rate, "low": low, "high": high}
