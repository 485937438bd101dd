"""Token shards: the corpus as ids in memory-mapped files, with document boundaries."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from headwater.artifacts import atomic_folder, read_json, write_json
from headwater.errors import InputError
from headwater.progress import bar
from headwater.tokenizer.vocabulary import Tokenizer

BATCH = 256
"""Documents encoded at a time."""


@dataclass(frozen=True)
class Shard:
    """One split as ids: `tokens` uint32 [N], and document i at tokens[offsets[i] : offsets[i+1]], offsets int64."""

    tokens: np.ndarray
    offsets: np.ndarray
    languages: list[str]
    utf8_bytes: np.ndarray
    """Bytes of each document's text, int64; what bits per byte are counted in."""

    @property
    def documents(self) -> int:
        return len(self.offsets) - 1

    def document(self, index: int) -> np.ndarray:
        return self.tokens[self.offsets[index] : self.offsets[index + 1]]


def write_shard(documents: Iterable[tuple[str, str]], tokenizer: Tokenizer, folder: Path, *,
                total: int | None = None) -> None:
    """Encode (text, language) documents as `<bos> text <eos>` into `folder`, which appears whole or not at all."""
    offsets, languages, sizes = [0], [], []
    with atomic_folder(folder) as staging, bar("encoding documents", total) as shown:
        with open(staging / "tokens.bin", "wb") as stream:
            for batch in _batches(documents):
                for ids in tokenizer.encode_batch([text for text, _ in batch]):
                    framed = np.array([tokenizer.bos, *ids, tokenizer.eos], dtype="<u4")
                    stream.write(framed.tobytes())
                    offsets.append(offsets[-1] + len(framed))
                languages += [language for _, language in batch]
                sizes += [len(text.encode()) for text, _ in batch]
                shown.advance(len(batch))
        np.save(staging / "offsets.npy", np.array(offsets, dtype="<i8"))
        np.save(staging / "bytes.npy", np.array(sizes, dtype="<i8"))
        write_json(staging / "index.json", {"documents": len(languages), "tokens": offsets[-1], "languages": languages})


def _batches(documents: Iterable[tuple[str, str]]) -> Iterable[list[tuple[str, str]]]:
    batch: list[tuple[str, str]] = []
    for document in documents:
        batch.append(document)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def read_shard(folder: Path) -> Shard:
    """Open a shard without reading it into memory. Raises `InputError` when its files do not agree."""
    index = read_json(folder / "index.json")
    offsets = np.load(folder / "offsets.npy", allow_pickle=False)
    sizes = np.load(folder / "bytes.npy", allow_pickle=False)
    size = (folder / "tokens.bin").stat().st_size
    if index["tokens"] == 0 or size != 4 * index["tokens"] or index["tokens"] != int(offsets[-1]):
        raise InputError("the shard is empty or truncated", where=folder, fix="delete the folder and run again")
    tokens = np.memmap(folder / "tokens.bin", dtype="<u4", mode="r")
    return Shard(tokens, offsets, index["languages"], sizes)
