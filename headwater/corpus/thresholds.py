"""Thresholds of quality rules from clean texts: what the statistics of such texts are, and how far they reach.

    python -m headwater.corpus.thresholds FOLDER [--language zh] [--quantile 0.995]

Every folder (or file) inside FOLDER is one source of clean texts in any format the corpus stage reads. Texts are
split in halves by the SHA-1 of their name: thresholds come from the first half, the share of texts within all of them
from the second.
"""

from __future__ import annotations

import argparse
import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from headwater.corpus.extraction.extract import extract
from headwater.corpus.judging.statistics import Statistics, measure
from headwater.corpus.reading.encodings import declared_charset, decode
from headwater.corpus.reading.readers import read
from headwater.corpus.reading.sources import Source, list_shards
from headwater.corpus.reading.tidying import tidy
from headwater.errors import InputError

LOWER = ("words", "stop_words", "sentences", "letters", "han", "marks", "function_words", "punctuated_lines")
"""Statistics of which clean text has at least so much."""
UPPER = ("hashes", "ellipses", "bullet_lines", "ellipsis_lines", "dup_lines", "dup_line_chars", "dup_paragraphs",
         "dup_paragraph_chars", "top_2gram_chars", "top_3gram_chars", "top_4gram_chars", "dup_5gram_chars",
         "dup_6gram_chars", "dup_7gram_chars", "dup_8gram_chars", "dup_9gram_chars", "dup_10gram_chars",
         "curly_brackets", "short_lines", "newlines", "digits", "symbols", "marks", "unpunctuated", "broken")
"""Statistics of which clean text has at most so much."""
SMALLEST_SOURCE = 20
"""Texts a source must have in the first half; a quantile of fewer says little."""


@dataclass(frozen=True)
class Threshold:
    """A derived limit: `rule` is its name in the settings, `typical` the median over sources of their medians."""

    rule: str
    typical: float
    limit: float

    def holds(self, statistics: Statistics) -> bool:
        value = getattr(statistics, self.rule[4:])
        return value >= self.limit if self.rule.startswith("min_") else value <= self.limit


def derive(sources: Mapping[str, Sequence[Statistics]], quantile: float = 0.995) -> list[Threshold]:
    """The limit of every statistic that keeps a share `quantile` of each source's texts.

    That of the source which reaches furthest is taken and rounded outwards to one significant digit: the samples do
    not support a second one. Sources with fewer than 20 texts are left out; `InputError` when none is left.
    """
    large = [texts for texts in sources.values() if len(texts) >= SMALLEST_SOURCE]
    if not large:
        raise InputError(f"no source has {SMALLEST_SOURCE} clean texts", fix="give more texts")
    found = []
    for side, names in (("min", LOWER), ("max", UPPER)):
        for name in names:
            values = [np.array([getattr(text, name) for text in texts], np.float64) for texts in large]
            reach = [float(np.quantile(each, 1 - quantile if side == "min" else quantile)) for each in values]
            limit = min(reach) if side == "min" else max(reach)
            typical = float(np.median([np.median(each) for each in values]))
            found.append(Threshold(f"{side}_{name}", typical, _outwards(limit, down=side == "min")))
    return found


def _outwards(value: float, *, down: bool) -> float:
    if value <= 0:
        return 0.0
    unit = 10.0 ** math.floor(math.log10(value))
    steps = round(value / unit, 6)
    return float(f"{(math.floor(steps) if down else math.ceil(steps)) * unit:.6g}")


def first_half(key: str) -> bool:
    """Which half of the texts one belongs to, by its name."""
    return hashlib.sha1(key.encode("utf-8", "surrogatepass")).digest()[0] < 128


def _texts(path: Path) -> Iterable[tuple[str, str]]:
    for shard in list_shards([Source(path=path)]):
        for number, raw in enumerate(read(shard)):
            if raw.problem:
                continue
            text, _ = decode(raw.content, *([declared_charset(raw.content)] if raw.html else [raw.charset]))
            yield f"{raw.url} {number}", extract(text) if raw.html else tidy(text)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the derived thresholds, then each source's share of held-out texts within all of them."""
    parser = argparse.ArgumentParser(prog="python -m headwater.corpus.thresholds", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--language", default="zh", choices=("en", "zh"))
    parser.add_argument("--quantile", type=float, default=0.995)
    chosen = parser.parse_args(arguments)
    if not chosen.folder.is_dir():
        raise InputError("no such folder", where=chosen.folder, fix="give a folder of clean texts")
    halves: tuple[dict[str, list[Statistics]], dict[str, list[Statistics]]] = ({}, {})
    for source in sorted(chosen.folder.iterdir()):
        for key, text in _texts(source):
            half = halves[0] if first_half(key) else halves[1]
            half.setdefault(source.name, []).append(measure(text, chosen.language))
    thresholds = derive(halves[0], chosen.quantile)
    for threshold in thresholds:
        print(f"{threshold.rule}: {threshold.limit:g}  # typical {threshold.typical:.3g}")
    for name, held_out in halves[1].items():
        within = [all(threshold.holds(text) for threshold in thresholds) for text in held_out]
        print(f"# {name}: {np.mean(within):.3f} of {len(within)} held-out texts within all")


if __name__ == "__main__":
    main()
