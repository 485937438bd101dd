"""Document deduplication of generated short documents, streamed through Parquet: seconds, recall, peak memory.

    python benchmarks/_million.py COUNT
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from headwater.corpus.spill import SketchFile, SpillWriter, read_column

from headwater.corpus.clusters import estimate_from, representatives
from headwater.corpus.minhash import MinHashSettings, band_keys

BATCH = 512
COPIES = 0.2
"""Share of the documents that are copies of an earlier one of the same batch of 512, a few words of each changed."""
EDITS = 0.05


def generate(count: int, seed: int = 0) -> Iterator[tuple[list[str], np.ndarray]]:
    """Batches of (texts, index of each one's original, its own for an original); words follow Zipf's law."""
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


def main() -> None:
    count, settings, start = int(sys.argv[1]), MinHashSettings(), time.process_time()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        truth, lengths, found = [], [], 0.0
        with (SpillWriter(folder, settings.all_bands, settings.sketch_bytes) as spill,
              pq.ParquetWriter(folder / "text.parquet", pa.schema([("text", pa.string())])) as texts):
            for batch, originals in generate(count):
                texts.write_batch(pa.record_batch({"text": batch}))
                began = time.process_time()
                spill.write(band_keys(batch, settings))
                found += time.process_time() - began
                truth.append(originals)
                lengths.append(np.array([len(text) for text in batch]))
        began = time.process_time()
        kept = representatives((read_column(folder, band) for band in range(settings.all_bands)),
                               estimate_from(SketchFile(folder, settings.sketch_bytes)), np.concatenate(lengths),
                               settings.similarity).representative
        clustering = time.process_time() - began
        disk = sum(file.stat().st_size for file in folder.iterdir() if file.name != "text.parquet")
    family = np.concatenate(truth)
    copies = np.flatnonzero(family != np.arange(count))
    removed = np.flatnonzero(kept != np.arange(count))
    print(json.dumps({
        "recall": float((kept[copies] == kept[family[copies]]).mean()),
        "precision": float((family[kept[removed]] == family[removed]).mean()),
        "band keys CPU s": found, "clustering CPU s": clustering, "whole CPU s": time.process_time() - start,
        "bytes on disk per document": disk / count,
        "peak memory GB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9}))


if __name__ == "__main__":
    main()
