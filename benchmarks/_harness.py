"""What every benchmark shares: interleaved medians, rows of ours against a peer, one table and one JSON line."""

from __future__ import annotations

import argparse
import gc
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from rich.console import Console
from rich.table import Table

import headwater


@dataclass(frozen=True)
class Case:
    """One comparison. `ratio` > 1 means ours is better; a figure that was not measured is None and `peer` says why."""

    case: str
    metric: str
    ours: float | None
    peer: str
    theirs: float | None = None
    ratio: float | None = None

    @classmethod
    def compare(cls, case: str, metric: str, ours: float, peer: str, theirs: float, *,
                more_is_better: bool = True) -> Case:
        above, below = (ours, theirs) if more_is_better else (theirs, ours)
        return cls(case, metric, ours, peer, theirs, above / below if below else None)


def arguments(description: str | None, *extra: tuple[str, dict[str, Any]]) -> argparse.Namespace:
    """`--quick` (default, under 60 s) or `--full`, and the benchmark's own options."""
    parser = argparse.ArgumentParser(description=description)
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", default=True, help="under 60 s (the default)")
    size.add_argument("--full", action="store_true", help="all the data, more repeats")
    for name, options in extra:
        parser.add_argument(name, **options)
    return parser.parse_args()


def measure_interleaved(functions: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Median seconds of each function; one unmeasured call each, then the rounds take the functions in turn."""
    for function in functions.values():
        function()
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(repeats):
        for name, function in functions.items():
            gc.collect()
            start = time.perf_counter()
            function()
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def installed(package: str) -> str | None:
    """The installed version of a distribution, or None."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def report(benchmark: str, rows: list[Case], ceilings: dict[str, float], packages: tuple[str, ...] = ()) -> None:
    """Print the table, then, as the last line, the JSON object that machines read."""
    table = Table(title=benchmark)
    for heading in ("case", "metric", "ours", "peer", "theirs", "ratio"):
        table.add_column(heading, justify="left" if heading in ("case", "metric", "peer") else "right")
    for row in rows:
        table.add_row(row.case, row.metric, _number(row.ours), row.peer, _number(row.theirs), _number(row.ratio))
    console = Console(soft_wrap=True, width=None if sys.stdout.isatty() else 160)
    console.print(table)
    for name, value in ceilings.items():
        console.print(f"ceiling {name}: {_number(value)}")
    versions = {"headwater": headwater.__version__, "python": platform.python_version(), "machine": platform.machine(),
                **{name: installed(name) or "not installed" for name in packages}}
    print(json.dumps({"benchmark": benchmark, "rows": [asdict(row) for row in rows], "ceilings": ceilings,
                      "versions": versions}, ensure_ascii=False))


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:,.4g}"
