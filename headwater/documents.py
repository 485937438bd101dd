"""Clean text on disk: the Parquet files that the corpus stage writes and later stages read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet

from headwater.errors import InputError


def corpus_files(corpus: Path, split: str) -> list[Path]:
    """A split's Parquet files in order. Raises `InputError` when there are none."""
    files = sorted((Path(corpus) / split).glob("*.parquet"))
    if not files:
        raise InputError(f"no Parquet files in {split}/", where=corpus, fix="give the folder a corpus stage wrote")
    return files


def read_texts(files: list[Path]) -> Iterator[tuple[str, str]]:
    """(text, language) of every document, streaming."""
    for file in files:
        with pyarrow.parquet.ParquetFile(file) as table:
            for batch in table.iter_batches(batch_size=512, columns=["text", "language"]):
                yield from zip(batch["text"].to_pylist(), batch["language"].to_pylist(), strict=True)


def count_texts(files: list[Path]) -> int:
    """Documents in the files, from their footers."""
    return sum(pyarrow.parquet.read_metadata(file).num_rows for file in files)
