"""Band keys and sketches on disk: Parquet files with a column per band, read one column at a time."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from headwater.corpus.minhash import I64, U8, U64, BandKeys

ROWS = 1 << 16
"""Rows gathered before a row group is written: 25 MB of documents at the default settings."""
_KEYS, _SKETCHES = "keys.parquet", "sketches.bin"


def column_name(band: int) -> str:
    return f"band_{band:03}"


class SpillWriter:
    """Writes the band keys of documents, batch by batch, to `folder`: `keys.parquet` and, beside it, the sketches.

    Sketches are looked up by document while a band is read, so they lie in a plain file that can be mapped.
    """

    def __init__(self, folder: Path, bands: int, sketch_bytes: int) -> None:
        self.schema = pa.schema([(column_name(band), pa.uint64()) for band in range(bands)])
        self.sketch_bytes = sketch_bytes
        self._keys = pq.ParquetWriter(folder / _KEYS, self.schema, use_dictionary=False, compression="none")
        self._sketches = (folder / _SKETCHES).open("wb")
        self._waiting: list[U64] = []

    def write(self, found: BandKeys) -> None:
        """Add the documents of `found`, in order."""
        self._waiting.append(found.keys)
        self._sketches.write(found.sketch.tobytes())
        if sum(map(len, self._waiting)) >= ROWS:
            self._flush()

    def _flush(self) -> None:
        if self._waiting:
            keys = np.concatenate(self._waiting)
            self._keys.write_table(pa.table([pa.array(np.ascontiguousarray(column)) for column in keys.T], self.schema))
            self._waiting = []

    def __enter__(self) -> SpillWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._flush()
        self._keys.close()
        self._sketches.close()


def read_column(folder: Path, band: int) -> U64:
    """One band's keys [N] of what `SpillWriter` wrote, filled row group by row group."""
    with pq.ParquetFile(folder / _KEYS) as file:
        result, start = np.empty(file.metadata.num_rows, np.uint64), 0
        for batch in file.iter_batches(ROWS, columns=[column_name(band)]):
            result[start:start + batch.num_rows] = batch.column(0).to_numpy()
            start += batch.num_rows
    return result


class SketchFile:
    """The sketches that `SpillWriter` wrote, mapped: called with documents [n] it gives their sketches [n, bytes]."""

    def __init__(self, folder: Path, sketch_bytes: int) -> None:
        path = folder / _SKETCHES
        values = np.memmap(path, np.uint8, "r") if path.stat().st_size else np.zeros(0, np.uint8)
        self._values = values.reshape(-1, sketch_bytes)

    def __call__(self, documents: I64) -> U8:
        return np.asarray(self._values[documents])
