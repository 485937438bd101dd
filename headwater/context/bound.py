"""The bound that a context length sets on RoPE's base (Men et al., 2405.14591).

Between a query and a key that is like it, and a query and any other, rotary attention tells apart by
B_m = sum_i cos(m theta_i), theta_i = base^(-2i/d), at a distance of m tokens (theorem 1). Where B_m < 0, what is alike
is attended to less than what is not: a context of L tokens needs B_m >= 0 for every m < L.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from headwater.progress import track

Floats = NDArray[np.float64]
GRID = 2000
"""Bases a decade on which the last one that fails is looked for."""
_WINDOW, _WIDTH = 1 << 13, 1 << 8
"""Distances looked at together, and those of a row of the matrix product that finds them."""
_RESOLUTION = 1e-8
"""Of ln(base): what is closer to the bound than this is not told apart."""
_LONGEST = 1 << 24
_GRID_ABOVE = 1000.0


class Turning(NamedTuple):
    """The pairs of dimensions of a head: those that turn with the position, and those that stand still."""

    frequencies: Floats
    """theta_i [F], radians a token."""
    still: int = 0

    @classmethod
    def of_base(cls, base: float, dims: int = 128, still: int = 0) -> Turning:
        """RoPE over `dims` dimensions of a head; `still` pairs beside them are not rotated."""
        return cls(np.exp(-math.log(base) * _exponents(dims)), still)


class Bound(NamedTuple):
    """The least base that supports a length: none below `above` does, `at` does; they are 1e-8 apart."""

    above: float
    at: float


def similarity(turning: Turning, count: int, first: int = 0) -> Floats:
    """B_m for the `count` distances m from `first` on, float64 [count].

    By one matrix product: cos((a + b) t) = cos(at) cos(bt) - sin(at) sin(bt).
    """
    width = math.isqrt(max(count, 1) - 1) + 1
    early, late = _turns(turning.frequencies, width, 1), _turns(turning.frequencies, -(-count // width), width, first)
    product = np.concatenate([late.real, -late.imag], 1) @ np.concatenate([early.real, early.imag], 1).T
    found: Floats = product.ravel()[:count] + turning.still
    return found


def supported_length(turning: Turning, longest: int = _LONGEST) -> int | None:
    """The least distance m < longest with B_m < 0: so many tokens are supported. None: all `longest` are."""
    if turning.still >= len(turning.frequencies):
        return None
    for first, count in _parts(longest):
        found = np.flatnonzero(similarity(turning, count, first) < 0)
        if len(found):
            return first + int(found[0])
    return None


def least_base(length: int, dims: int = 128, still: int = 0) -> Bound | None:
    """The infimum of the bases with B_m >= 0 for all m < length, certified; None where every base has.

    The bases that do are not all those above one that does, so that halving an interval finds nothing. From base 1 on,
    a distance m with B_m < 0 excludes all bases up to ln(base) + -B_m / (m sum_i (2i/d) theta_i): B_m changes no
    faster, here or at any larger base. Where no distance excludes more than 1e-8 the next base is tried itself.
    """
    if still >= dims // 2:
        return None
    exponents, x = _exponents(dims), 0.0
    search = _Search(length, exponents, still)
    while True:
        found = search.best(x)
        end = x if found is None else search.excluded(found, x)
        if end - x > _RESOLUTION / 10:
            x = end
            continue
        after = x + _RESOLUTION
        if supported_length(Turning(np.exp(-after * exponents), still), length) is None:
            return Bound(math.exp(x), math.exp(after))
        x = after


def rounded_up(least: Bound, length: int, dims: int = 128, still: int = 0) -> float:
    """The least base with as few decimals as it can have, from one on: one to write down, which supports the length."""
    for decimals in range(1, 8):
        base = math.ceil(least.at * 10**decimals) / 10**decimals
        if supported_length(Turning.of_base(base, dims, still), length) is None:
            return base
    return least.at


def last_failing_base(length: int, least: Bound, dims: int = 128, still: int = 0) -> float:
    """The largest base, of 2,000 a decade up to a thousand times the least one, that does not support the length: all
    that were tried above it do."""
    top = math.floor(GRID * math.log10(least.at * _GRID_ABOVE))
    for step in track(range(top, math.floor(GRID * math.log10(least.above)), -1), "bases that fail"):
        if supported_length(Turning.of_base(10 ** (step / GRID), dims, still), length) is not None:
            return float(10 ** (step / GRID))
    return least.above


class _Search:
    """Looks for a distance that excludes many bases above a given one."""

    def __init__(self, length: int, exponents: Floats, still: int) -> None:
        self.length, self.exponents, self.still = length, exponents, still
        self.inverse = (1 / np.maximum(1, np.arange(length + _WINDOW))).astype(np.float32)
        self.usual, self.part = 0.0, 0

    def best(self, x: float) -> int | None:
        """A distance m whose -B_m / m is large: the first that comes up to half of the usual, else the largest. In
        float32: `excluded` looks at it again."""
        frequencies = np.exp(-x * self.exponents)
        early = _turns(frequencies, _WIDTH, 1)
        right = np.concatenate([early.real, early.imag], 1).astype(np.float32).T.copy()
        parts = min(self.length - 1, int(4 * math.exp(x)) + 64) // _WINDOW + 1  # larger ones exclude less
        best, found = 0.0, None
        for turn in range(parts):
            part = (self.part + turn) % parts
            first = part * _WINDOW
            late = _turns(frequencies, _WINDOW // _WIDTH, _WIDTH, first)
            left = np.concatenate([late.real, -late.imag], 1).astype(np.float32)
            values = ((left @ right).ravel()[: self.length - first] + np.float32(self.still))
            values *= self.inverse[first : first + len(values)]
            at = int(values.argmin())
            if -values[at] > best:
                best, found, own = -float(values[at]), first + at, part
                if best >= self.usual / 2:
                    break
        if found is not None:
            self.usual, self.part = 0.95 * self.usual + 0.05 * best, own
        return found

    def excluded(self, m: int, x: float) -> float:
        """Up to where the distance excludes all bases, from ln(base) = x on."""
        first = None
        while True:
            frequencies = np.exp(-x * self.exponents)
            rounding = len(frequencies) * (m + 2) * 2.0**-51
            depth = -float(np.cos(m * frequencies).sum()) - self.still - rounding
            if depth <= 0:
                return x
            more = depth / (m * float((self.exponents * frequencies).sum()))
            x += more
            first = first or more
            if more < first / 10:
                return x


def _exponents(dims: int) -> Floats:
    exponents: Floats = np.arange(0, dims, 2) / dims
    return exponents


def _turns(frequencies: Floats, count: int, stride: int, first: int = 0) -> NDArray[np.complex128]:
    """e^(i (first + k stride) theta), k < count, [count, F], by adding angles: few of them need a cosine."""
    part = math.isqrt(max(count, 1) - 1) + 1
    low = np.exp(1j * stride * np.outer(np.arange(part), frequencies))
    high = np.exp(1j * np.outer(first + stride * part * np.arange(-(-count // part)), frequencies))
    found: NDArray[np.complex128] = (high[:, None] * low[None]).reshape(-1, len(frequencies))[:count]
    return found


def _parts(count: int) -> Iterator[tuple[int, int]]:
    """(first, size) of pieces of `range(count)`, small ones first."""
    first, size = 0, 1 << 10
    while first < count:
        yield first, min(size, count - first)
        first, size = first + size, min(2 * size, 1 << 18)
