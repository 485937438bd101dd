"""Clean text in Parquet files: what the corpus stage writes and later stages read."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from headwater.artifacts import read_json
from headwater.errors import InputError
from headwater.storage import Store

PARTS = "parts.json"
"""In a corpus folder: the store and, per split, the files that count."""
LEAKS = "leaks.json"
"""In a corpus folder: the benchmarks' questions that were found in its documents."""
BYTES_AT_ONCE = 1 << 24
"""What a batch of rows may hold, so that long documents do not fill the memory."""


@dataclass(frozen=True)
class CorpusFile:
    """One Parquet file of a split, or some row groups of it (None: all)."""

    store: Store
    name: str
    rows: int
    groups: tuple[int, ...] | None = None

    def batches(self, columns: list[str], rows: int = 512, *, optional: Sequence[str] = ()
                ) -> Iterator[pa.RecordBatch]:
        """Its rows, so many at a time, with the `optional` columns that it has. Raises `InputError` when it is missing,
        damaged or lacks a column."""
        try:
            with self.store.open(self.name) as stream:
                file = pq.ParquetFile(stream)
                self._require(columns, file.schema_arrow.names)
                wanted = [*columns, *(name for name in optional if name in file.schema_arrow.names)]
                groups = list(range(file.num_row_groups) if self.groups is None else self.groups)
                for batch in file.iter_batches(min(rows, _rows_at_once(file.metadata, groups)), row_groups=groups,
                                               columns=wanted):
                    if empty := [name for name in columns if batch[name].null_count]:
                        raise InputError(f"a row without a value in the column '{empty[0]}'",
                                         where=self.store.uri(self.name), fix="leave such rows out")
                    yield batch
        except (OSError, ValueError, pa.ArrowException) as error:
            raise InputError(f"the corpus file cannot be read: {error}", where=self.store.uri(self.name),
                             fix="run the corpus stage again") from None

    def fingerprint(self) -> str:
        """Tells the file from another of its name and rows, by its footer alone. Raises `InputError`."""
        return hashlib.sha256(repr(self._metadata().to_dict()).encode()).hexdigest()

    def _metadata(self) -> pq.FileMetaData:
        try:
            with self.store.open(self.name) as stream:
                return pq.read_metadata(stream)
        except (OSError, ValueError, pa.ArrowException) as error:
            raise InputError(f"the corpus file cannot be read: {error}", where=self.store.uri(self.name),
                             fix="run the corpus stage again") from None

    def _require(self, columns: list[str], names: list[str]) -> None:
        if missing := [name for name in columns if name not in names]:
            raise InputError(f"the table has no column '{missing[0]}' (it has: {', '.join(names)})",
                             where=self.store.uri(self.name), fix=f"give one with {' and '.join(columns)}")

    def pieces(self, rows: int) -> list[CorpusFile]:
        """The file in pieces of whole row groups, each of about so many rows at most. Raises `InputError`."""
        metadata = self._metadata()
        sizes = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
        found: list[list[int]] = []
        for group, size in enumerate(sizes):
            if not found or sum(sizes[one] for one in found[-1]) + size > rows:
                found.append([])
            found[-1].append(group)
        return [replace(self, rows=sum(sizes[one] for one in groups), groups=tuple(groups)) for groups in found]


def _rows_at_once(metadata: pq.FileMetaData, groups: list[int]) -> int:
    """Rows that hold about `BYTES_AT_ONCE` in the row group of the largest."""
    found = [metadata.row_group(group) for group in groups]
    largest = max((group.total_byte_size // max(1, group.num_rows) for group in found), default=0)
    return max(1, BYTES_AT_ONCE // max(1, largest))


def corpus_files(corpus: Path, split: str) -> list[CorpusFile]:
    """A split's files in order: those that `parts.json` names, or every Parquet file of a folder without one.

    Raises `InputError` when there are none.
    """
    if (Path(corpus) / PARTS).exists():
        named = read_json(Path(corpus) / PARTS)
        store = Store(corpus if named["store"] is None else named["store"])
        if split in named["splits"]:
            return [CorpusFile(store, file["name"], file["rows"]) for file in named["splits"][split]]
        files = []
    else:
        files = [CorpusFile(Store(corpus), f"{split}/{file.name}", _rows(file))
                 for file in sorted((Path(corpus) / split).glob("*.parquet"))]
    if not Path(corpus).is_dir():
        raise InputError("a file, and not a corpus folder" if Path(corpus).exists() else "no such folder", where=corpus,
                         fix="give the folder that a corpus stage wrote")
    if not files:
        raise InputError(f"no document in its split '{split}'", where=corpus,
                         fix="give the folder a corpus stage wrote, or one whose train/ and validation/ hold Parquet")
    return files


def _rows(file: Path) -> int:
    try:
        return pq.read_metadata(file).num_rows
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"the corpus file cannot be read: {error}", where=file,
                         fix="run the corpus stage again") from None


def read_documents(files: list[CorpusFile], columns: list[str]) -> Iterator[dict[str, Any]]:
    """Those columns of every document, streaming."""
    for file in files:
        for batch in file.batches(columns):
            yield from batch.to_pylist()


def read_texts(files: list[CorpusFile]) -> Iterator[tuple[str, str]]:
    """(text, language) of every document, streaming."""
    for file in files:
        for batch in file.batches(["text", "language"]):
            yield from zip(batch["text"].to_pylist(), batch["language"].to_pylist(), strict=True)


def count_texts(files: list[CorpusFile]) -> int:
    """Documents in the files."""
    return sum(file.rows for file in files)
