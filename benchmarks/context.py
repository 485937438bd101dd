"""The least base of RoPE for a length: certified, beside the first base of a grid that does, found by trying each.

    python benchmarks/context.py [--full]

No other tool computes the bound; the grid, of 2,000 bases a decade from 1 on with every distance looked at, is what one
would write first. Its base is the larger one of the two by up to a grid step, or by much where it steps over the least.
One core: OPENBLAS_NUM_THREADS=1.
"""

from __future__ import annotations

import os
import time

os.environ["OPENBLAS_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = "1"

from _harness import Case, arguments, report

from headwater.context.bound import GRID, Turning, least_base, supported_length


def on_grid(length: int) -> float:
    step = 0
    while supported_length(Turning.of_base(10 ** (step / GRID)), length) is not None:
        step += 1
    return float(10 ** (step / GRID))


def compare(length: int, *, grid: bool) -> list[Case]:
    start = time.perf_counter()
    least = least_base(length)
    ours = time.perf_counter() - start
    assert least is not None
    if not grid:
        return [Case(f"{length:,}", "seconds", ours, "not tried"),
                Case(f"{length:,}", "base", least.at, "not tried")]
    start = time.perf_counter()
    found = on_grid(length)
    theirs = time.perf_counter() - start
    return [Case(f"{length:,}", "seconds", ours, "grid", theirs, theirs / ours),
            Case(f"{length:,}", "base", least.at, "grid", found, found / least.at)]


def main() -> None:
    options = arguments(__doc__)
    lengths = [2**power for power in ((10, 12, 14, 16, 18, 20) if options.full else (10, 12))]
    report("context", [row for length in lengths for row in compare(length, grid=length <= 1 << 16)], {}, ("numpy",))


if __name__ == "__main__":
    main()
