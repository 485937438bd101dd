"""What is kept of documents and sentences to compare them with all others: in Parquet files while the workers examine,
in one flat file per column while they are compared, so that a column at a time is in memory."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from headwater.artifacts import storage_errors
from headwater.corpus.commits import File, read_batches
from headwater.corpus.deduplication.minhash import I64, U8, MinHashSettings, band_keys
from headwater.corpus.deduplication.repeated import SentenceSettings, sentence_keys
from headwater.storage import Store

DOCUMENT_KEYS, SENTENCE_KEYS = "document_keys", "sentence_keys"
SKETCH = "sketch"
_BATCH = 64
"""Documents whose keys are computed together."""


def band(number: int) -> str:
    """The column of a band's keys."""
    return f"band_{number:03}"


def document_keys(texts: list[str], settings: MinHashSettings) -> pa.Table:
    """A row for each text: `band_000`, ... (uint64) and `sketch`."""
    found = [band_keys(texts[start:start + _BATCH], settings) for start in range(0, len(texts), _BATCH)]
    columns = {band(number): _joined([one.keys[:, number] for one in found], np.uint64)
               for number in range(settings.all_bands)}
    return pa.table({**columns, SKETCH: _rows_of_bytes([one.sketch for one in found], settings.sketch_bytes)})


def sentence_table(texts: list[str], settings: SentenceSettings) -> pa.Table:
    """A row for each sentence of each text: `document` (its text's number), `exact`, `figures`, bands, `sketch`."""
    found = [sentence_keys(texts[start:start + _BATCH], settings) for start in range(0, len(texts), _BATCH)]
    documents = [np.repeat(np.arange(len(one.bounds) - 1) + number * _BATCH, np.diff(one.bounds))
                 for number, one in enumerate(found)]
    columns = {"document": _joined(documents, np.int64), "exact": _joined([one.exact for one in found], np.uint64),
               "figures": _joined([one.figures for one in found], np.uint32)}
    bands = found[0].keys.shape[1] if found else 0
    columns |= {band(number): _joined([one.keys[:, number] for one in found], np.uint64) for number in range(bands)}
    width = found[0].sketch.shape[1] if found else 1
    return pa.table({**columns, SKETCH: _rows_of_bytes([one.sketch for one in found], width)})


def _joined(arrays: list[NDArray], dtype: type) -> pa.Array:
    return pa.array(np.concatenate([*arrays, np.zeros(0, dtype)]).astype(dtype, copy=False))


def _rows_of_bytes(arrays: list[U8], width: int) -> pa.Array:
    values = np.ascontiguousarray(np.concatenate([*arrays, np.zeros((0, width), np.uint8)]))
    return pa.Array.from_buffers(pa.binary(width), len(values), [None, pa.py_buffer(values)])


class Columns:
    """The columns of Parquet files, laid out flat in a local folder and mapped. N rows in all."""

    def __init__(self, folder: Path, store: Store, files: list[File]) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._types: dict[str, np.dtype] = {}
        with storage_errors(folder), ExitStack() as stack:
            streams = {}
            for batch in read_batches(store, files, rows=1 << 14):
                for name in batch.schema.names:
                    values = _flat(batch[name])
                    if name not in streams:
                        streams[name] = stack.enter_context(open(folder / name, "wb"))
                        self._types[name] = values.dtype
                    streams[name].write(values.tobytes())

    def __getitem__(self, name: str) -> NDArray:
        """The column [N], mapped: read where it is touched."""
        if name not in self._types:
            return np.zeros(0, np.uint64)
        return np.memmap(self.folder / name, self._types[name], "r")

    def sketches(self, rows: I64) -> U8:
        """The sketches [n, bytes] of those rows."""
        values = self[SKETCH]
        return np.asarray(values[rows]).view(np.uint8).reshape(len(rows), values.dtype.itemsize)


def _flat(column: pa.Array) -> NDArray:
    if not pa.types.is_fixed_size_binary(column.type):
        return column.to_numpy()
    width = column.type.byte_width
    return np.frombuffer(column.buffers()[1], f"V{width}")[column.offset:column.offset + len(column)]
