"""datatrove's local pipeline with the steps of ours that it has: extraction, language, quality, MinHash, private data.

    python benchmarks/_datatrove.py INPUT OUTPUT WORKERS

INPUT holds pages/*.jsonl (HTML) and texts/*.jsonl, each line with "id" and "text". datatrove reads no folder of HTML
files and its language filter downloads its model; it gets the pages decoded, and our identification in a function of
its own. Thresholds are its own in English; in Chinese, where it has none, those that let Chinese through.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.dedup import MinhashDedupBuckets, MinhashDedupCluster, MinhashDedupFilter, MinhashDedupSignature
from datatrove.pipeline.dedup.minhash import MinhashConfig
from datatrove.pipeline.extractors import Trafilatura
from datatrove.pipeline.filters import (
    C4QualityFilter,
    FineWebQualityFilter,
    GopherQualityFilter,
    GopherRepetitionFilter,
)
from datatrove.pipeline.formatters import PIIFormatter
from datatrove.pipeline.readers import JsonlReader
from datatrove.pipeline.writers import JsonlWriter

from headwater.corpus.judging.language import identify
from headwater.corpus.judging.statistics import FUNCTION_CHARACTERS

LANGUAGES = ("en", "zh")
_TIMEOUT = 20
"""Seconds for a page; its default of 1 does not suffice to start its extraction process on a busy machine."""


def label(data: Iterable[Any], rank: int = 0, world_size: int = 1) -> Iterator[Any]:
    """Put the language into the metadata."""
    for document in data:
        document.metadata["language"] = identify(document.text).code
        yield document


def quality(language: str) -> list[Any]:
    """Its filters without the line rules and the rule against braces, which ours leave off too."""
    # Its words of Chinese include the punctuation marks, which hold no letter.
    chinese = {"min_avg_word_length": 1, "max_non_alpha_words_ratio": 0.5, "stop_words": sorted(FUNCTION_CHARACTERS)}
    return [GopherRepetitionFilter(language=language),
            GopherQualityFilter(language=language, **(chinese if language == "zh" else {})),
            C4QualityFilter(language=language, filter_no_terminal_punct=False, min_words_per_line=-1,
                            filter_javascript=False, filter_curly_bracket=False, filter_policy=False),
            FineWebQualityFilter(language=language, char_duplicates_ratio=0.1,
                                 short_line_length=10 if language == "zh" else 30)]


def run(source: Path, out: Path, workers: int) -> None:
    config = MinhashConfig(n_grams=5, num_buckets=14, hashes_per_bucket=8)

    def execute(name: str, steps: list[Any], tasks: int = workers) -> None:
        LocalPipelineExecutor(steps, tasks=tasks, workers=workers, logging_dir=str(out / "logs" / name)).run()

    extracted = str(out / "extracted")
    for kind, extraction in (("pages", [Trafilatura(timeout=_TIMEOUT)]), ("texts", [])):
        if (source / kind).is_dir():
            execute(kind, [JsonlReader(str(source / kind)), *extraction, label,
                           JsonlWriter(extracted, f"${{language}}/{kind}-${{rank}}.jsonl", compression=None)])
    for language in LANGUAGES:
        filtered, place = str(out / "filtered" / language), out / "minhash" / language
        execute(f"filter-{language}", [JsonlReader(f"{extracted}/{language}"), *quality(language),
                                       JsonlWriter(filtered, compression=None)])
        signatures, buckets, removed = (str(place / name) for name in ("signatures", "buckets", "removed"))
        execute(f"signatures-{language}",
                [JsonlReader(filtered), MinhashDedupSignature(signatures, config=config, language=language)])
        execute(f"buckets-{language}", [MinhashDedupBuckets(signatures, buckets, config=config)], config.num_buckets)
        execute(f"cluster-{language}", [MinhashDedupCluster(buckets, removed, config=config)], 1)
        execute(f"write-{language}", [JsonlReader(filtered), MinhashDedupFilter(removed), PIIFormatter(),
                                      JsonlWriter(str(out / "written" / language), compression=None)])


if __name__ == "__main__":
    run(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
    lines = sum(file.read_bytes().count(b"\n") for file in (Path(sys.argv[2]) / "written").rglob("*.jsonl"))
    print(f"kept {lines}")
