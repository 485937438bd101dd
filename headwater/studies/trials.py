"""What studies share: settings kept with what they gave, work done once, spreads over seeds, verdicts, timings."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from rich.table import Table

from headwater.artifacts import claim, read_json, write_json, write_text
from headwater.progress import print_result
from headwater.settings import Settings


class Estimate(NamedTuple):
    """A mean and its standard error, 0 where there is one value or no chance in it."""

    mean: float
    error: float
    number: int = 1
    """Of values."""

    @classmethod
    def of(cls, values: Iterable[float]) -> Self:
        found = np.fromiter(values, dtype=np.float64)
        error = float(found.std(ddof=1)) / math.sqrt(len(found)) if len(found) > 1 else 0.0
        return cls(float(found.mean()), error, len(found))

    def minus(self, other: Estimate) -> Estimate:
        """The difference of two independent estimates."""
        return Estimate(self.mean - other.mean, math.hypot(self.error, other.error), min(self.number, other.number))

    @property
    def deviation(self) -> float:
        """Of one value."""
        return self.error * math.sqrt(self.number)

    def words(self, form: str = ".3f") -> str:
        return f"{self.mean:{form}}" + (f" ± {2 * self.error:{form.removeprefix('+')}}" if self.error else "")


class Verdict(NamedTuple):
    """What was seen of a claim."""

    claim: str
    """The inequality, in words and numbers."""
    margin: float
    """By how much it holds; below 0 it does not."""
    two_errors: float
    word: str

    def sentence(self) -> str:
        told = f", two standard errors {self.two_errors:.4g}" if self.two_errors else ""
        return f"{self.claim}: {self.word} (margin {self.margin:+.4g}{told})"


def judge(claim: str, margins: Iterable[float] | Estimate) -> Verdict:
    """The verdict on a claim that holds where the margins, one for each seed, are above 0: shown or refuted where their
    mean is two standard errors away from it. One margin tells no chance."""
    margin = margins if isinstance(margins, Estimate) else Estimate.of(margins)
    if margin.number < 2:
        word = "not tested: one model tells no chance"
    else:
        word = ("shown" if margin.mean > 2 * margin.error else "refuted" if margin.mean < -2 * margin.error
                else "neither shown nor refuted")
    return Verdict(claim, margin.mean, 2 * margin.error, word)


def fact(claim: str, margin: float) -> Verdict:
    """The verdict on a claim in which there is no chance: shown where the margin is not below 0."""
    return Verdict(claim, margin, 0.0, "shown" if margin >= 0 else "refuted")


def keep(out: Path, settings: Settings) -> None:
    """Note the settings, so that results of others are not taken for these. Raises `InputError` for a folder that
    holds a study with other settings."""
    claim(out, settings.model_dump(mode="json"), "study")


def once(path: Path, make: Callable[[], Any]) -> Any:
    """What `make` gives, kept as JSON: what is there is not made again."""
    if not path.exists():
        write_json(path, make())
    return read_json(path)


def tell(out: Path, name: str, results: Any, table: Table, verdicts: Sequence[Verdict], plot: str) -> None:
    """Print the table and the verdicts; write `NAME.json` and `NAME.svg` into `out`."""
    write_json(out / f"{name}.json", {"results": results, "verdicts": [verdict._asdict() for verdict in verdicts]})
    write_text(out / f"{name}.svg", plot)
    print_result(table)
    for verdict in verdicts:
        print_result(verdict.sentence())


def make_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """The first column names the rows, the others hold figures."""
    table = Table(title=title)
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left")
    for row in rows:
        table.add_row(*row)
    return table


def interleaved(tasks: Mapping[str, Callable[[], object]], rounds: int, repeats: int = 3) -> dict[str, list[float]]:
    """Seconds of every task in each of the rounds, the fastest of `repeats`: the tasks take turns, each round begins
    with another one, so that what slows the machine for a while slows them alike. Two rounds more go before, untimed.
    """
    names = list(tasks)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for number in range(-2, rounds):
        shift = number % len(names)
        for name in names[shift:] + names[:shift]:
            best = math.inf
            for _ in range(repeats):
                start = time.perf_counter()
                tasks[name]()
                best = min(best, time.perf_counter() - start)
            if number >= 0:
                seconds[name].append(best)
    return seconds


def ratio(numerators: Sequence[float], denominators: Sequence[float]) -> Estimate:
    """Of two tasks timed together: the median over the rounds of the ratio of their seconds. Two standard errors are
    half the way between the values sqrt(n) ranks below and above it, whatever the ratios' distribution: other work on
    the machine makes a few of them enormous."""
    found = np.sort(np.array(numerators) / np.array(denominators))
    reach, middle = math.sqrt(len(found)), (len(found) - 1) / 2
    low, high = (found[int(min(len(found) - 1, max(0, round(middle + side * reach))))] for side in (-1, 1))
    return Estimate(float(np.median(found)), float(high - low) / 4, len(found))
