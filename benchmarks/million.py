"""Document deduplication of generated short documents by the corpus stage itself: seconds, memory, recall, precision.

    python benchmarks/million.py [--full] [--documents N]

Each document is 60 to 120 words drawn by Zipf's law; one in five is a copy of an earlier one, one word in twenty of it
changed. --quick runs 20,000, --full a million (some minutes, 3 GB of disk).
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from _harness import Case, arguments, report
from _processes import run_measured

BATCH, PART = 512, 50_000
COPIES = 0.2
"""Share of the documents that are copies of an earlier one of the same batch of 512."""
EDITS = 0.05
LIMIT_GB = 4.0
OFF = {"languages": None, "min_tokens": 0, "quality": None, "machine_text": None, "toxicity": None,
       "private_data": None, "repeated_sentences": None}
PROGRAM = """
import json, sys
from pathlib import Path
from headwater.corpus.stage import CorpusSettings, run
if __name__ == "__main__":
    run(CorpusSettings.parse(json.loads(sys.argv[1])), Path(sys.argv[2]))
"""


def generate(count: int, seed: int = 0) -> Iterator[tuple[list[str], np.ndarray]]:
    """Batches of (texts, index of each one's original, its own for an original)."""
    draw = np.random.default_rng(seed)
    words = np.array([f"{number:x}" for number in range(50_000)], object)
    weights = 1 / np.arange(10, 50_010)
    steps = np.cumsum(weights / weights.sum())
    for start in range(0, count, BATCH):
        size = min(BATCH, count - start)
        lengths = draw.integers(60, 121, size)
        rows = np.split(np.searchsorted(steps, draw.random(lengths.sum())), np.cumsum(lengths)[:-1])
        originals = np.arange(start, start + size)
        for place in np.flatnonzero(draw.random(size) < COPIES):
            if place and originals[source := draw.integers(place)] == start + source:
                rows[place] = rows[source].copy()
                rows[place][draw.random(len(rows[place])) < EDITS] = draw.integers(50_000)
                originals[place] = start + source
        yield [" ".join(words[row]) for row in rows], originals


def write(folder: Path, count: int) -> np.ndarray:
    """The documents as JSON lines in parts; returns the index of each one's original."""
    truth, number = [], 0
    with ExitStack() as stack:
        streams = [stack.enter_context(open(folder / f"part-{part:04}.jsonl", "w"))
                   for part in range(-(-count // PART))]
        for texts, originals in generate(count):
            for text in texts:
                streams[number // PART].write(json.dumps({"text": text, "url": str(number)}) + "\n")
                number += 1
            truth.append(originals)
    return np.concatenate(truth)


def removed_copies(out: Path, count: int) -> np.ndarray:
    """For each document the one it was removed as a copy of, its own number when it was kept."""
    kept = np.arange(count)
    for file in (out / "removed").glob("*.parquet"):
        table = pq.read_table(file, columns=["url", "detail"])
        for url, detail in zip(table["url"].to_pylist(), table["detail"].to_pylist()):
            kept[int(url)] = int(re.match("copy of ([0-9]+)", detail)[1])
    return kept


def main() -> None:
    options = arguments(__doc__, ("--documents", {"type": int, "help": "how many"}),
                        ("--folder", {"type": Path, "help": "where to work (a temporary folder)"}))
    count = options.documents or (1_000_000 if options.full else 20_000)
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        pages, out = Path(name) / "pages", Path(name) / "out"
        pages.mkdir()
        family = write(pages, count)
        settings = json.dumps({"sources": [{"path": str(pages)}], **OFF})
        cost = run_measured([sys.executable, "-c", PROGRAM, settings, str(out)])
        kept = removed_copies(out, count)
    copies, removed = np.flatnonzero(family != np.arange(count)), np.flatnonzero(kept != np.arange(count))
    case = f"{count:,} short documents"
    report("million", [
        Case(case, "documents/s", count / cost.seconds, ""),
        Case(case, "documents/CPU s", count / cost.cpu_seconds, ""),
        Case.compare(case, "peak memory GB", cost.peak_gb, "limit", LIMIT_GB, more_is_better=False),
        Case(case, "recall", float((kept[copies] == kept[family[copies]]).mean()), ""),
        Case(case, "precision", float((family[kept[removed]] == family[removed]).mean()), "")], {})


if __name__ == "__main__":
    main()
