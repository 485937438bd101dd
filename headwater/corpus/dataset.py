"""The corpus on disk: Parquet parts of fixed layout, written as a stream and read as a stream."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from headwater.errors import InputError

ROW_GROUP = 1024
PART_BYTES = 256 << 20
"""A new part is begun after this much text (uncompressed)."""

KEPT = pa.schema([("text", pa.large_string()), ("language", pa.string()), ("url", pa.string()),
                  ("source", pa.string()), ("licence", pa.string()), ("id", pa.string()), ("tokens", pa.int32())])
REMOVED = pa.schema([("id", pa.string()), ("url", pa.string()), ("source", pa.string()), ("step", pa.string()),
                     ("reason", pa.string()), ("detail", pa.string()), ("excerpt", pa.string())])


@dataclass(frozen=True, slots=True)
class Document:
    """One document of a corpus. `url` is where it was found, `id` a hash of its text."""

    text: str
    language: str
    url: str
    source: str
    id: str


def iter_documents(folder: Path, split: str) -> Iterator[Document]:
    """The documents of `folder/split` ("train" or "validation") in order, a few at a time in memory.

    Raises `InputError` when the split is missing or a part cannot be read.
    """
    parts = sorted((Path(folder) / split).glob("*.parquet"))
    if not parts:
        raise InputError(f"no corpus split '{split}' (no Parquet file)", where=Path(folder) / split,
                         fix="give the folder that the corpus stage wrote")
    columns = ["text", "language", "url", "source", "id"]
    for part in parts:
        try:
            for batch in pq.ParquetFile(part).iter_batches(256, columns=columns):
                for row in batch.to_pylist():
                    yield Document(**row)
        except (OSError, pa.ArrowException) as error:
            raise InputError(f"the corpus part cannot be read: {error}", where=part,
                             fix="run the corpus stage again") from None


class PartWriter:
    """Writes tables as `part-00000.parquet`, ... below a folder, at least one part.

    Row groups and parts are cut by content alone, so the bytes do not depend on how the rows arrive.
    """

    def __init__(self, folder: Path, schema: pa.Schema) -> None:
        self.folder, self.schema = folder, schema
        self._waiting: list[pa.Table] = []
        self._rows = self._bytes = self._parts = 0
        self._writer: pq.ParquetWriter | None = None

    def write(self, table: pa.Table) -> None:
        self._waiting.append(table.cast(self.schema))
        self._rows += table.num_rows
        while self._rows >= ROW_GROUP:
            self._write_group(ROW_GROUP)

    def close(self) -> None:
        if self._rows or not self._parts:
            self._write_group(self._rows)
        self._end_part()

    def _write_group(self, rows: int) -> None:
        table = pa.concat_tables(self._waiting) if self._waiting else self.schema.empty_table()
        group = table.slice(0, rows).combine_chunks()
        self._waiting = [table.slice(rows)]
        self._rows -= rows
        if self._writer is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            path = self.folder / f"part-{self._parts:05}.parquet"
            self._writer = pq.ParquetWriter(path, self.schema, compression="zstd")
            self._parts += 1
        self._writer.write_table(group, row_group_size=max(rows, 1))
        self._bytes += group.nbytes
        if self._bytes >= PART_BYTES:
            self._end_part()

    def _end_part(self) -> None:
        if self._writer is not None:
            self._writer.close()
        self._writer, self._bytes = None, 0
