"""Token shards: a split of the corpus as ids in memory-mapped files, with its documents' boundaries and origin."""

from __future__ import annotations

import hashlib
import io
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from headwater.artifacts import atomic_write, hash_file, hash_json, read_json, sweep_temporaries, write_json
from headwater.documents import CorpusFile
from headwater.errors import InputError
from headwater.progress import bar, say, track
from headwater.tokenizer.packed import Packed
from headwater.tokenizer.vocabulary import Tokenizer
from headwater.workers import worker_processes

INDEX, PLAN = "index.json", "plan.json"
PART_ROWS = 16_384
"""Documents of a part at most, unless a row group has more: what one worker encodes and what a killed run loses."""
BATCH = 256
"""Documents encoded at a time."""
AGAIN = "delete the folder, and the shards are written again"
DOCUMENTS = pa.schema([("tokens", pa.int64()), ("bytes", pa.int64()), ("language", pa.string()),
                       ("source", pa.string()), ("id", pa.string())])
"""Per document its ids (`<bos>` and `<eos>` included), the bytes of its text in UTF-8, and where it comes from: the
source's name and the hash that the corpus gave it ("" where the corpus has none)."""
Ids = NDArray[np.uint16] | NDArray[np.uint32]


@dataclass(frozen=True)
class Part:
    """Files `NAME.bin` (ids, little-endian) and `NAME.parquet` (`DOCUMENTS`)."""

    name: str
    documents: int
    tokens: int
    sha256: str
    """Of the ids."""
    table_sha256: str
    """Of the table."""


class Documents(Protocol):
    """What training and validation read: documents as ids, end to end."""

    @property
    def total(self) -> int:
        """Tokens of all documents."""
        ...

    @property
    def offsets(self) -> NDArray[np.int64]:
        """int64 [documents + 1]: document i owns tokens offsets[i] to offsets[i + 1]."""
        ...

    @property
    def languages(self) -> list[str]:
        """Of every document."""
        ...

    @property
    def utf8_bytes(self) -> NDArray[np.int64]:
        """Of every document's text; what bits per byte are counted in."""
        ...

    def document(self, index: int) -> Ids: ...


@dataclass(frozen=True)
class Loaded:
    """Documents in memory: `ids` [total] and what `Documents` says of them."""

    ids: Ids
    offsets: NDArray[np.int64]
    languages: list[str]
    utf8_bytes: NDArray[np.int64]

    @property
    def total(self) -> int:
        return len(self.ids)

    def document(self, index: int) -> Ids:
        return self.ids[self.offsets[index] : self.offsets[index + 1]]


class Shards:
    """A split as one sequence of `total` tokens, of which nothing is in memory but the documents' boundaries.

    `offsets` int64 [documents + 1]: document i owns tokens offsets[i] to offsets[i + 1]. Raises `InputError` for files
    that do not agree, and for a `tokenizer` other than the one that wrote them.
    """

    def __init__(self, folder: Path, tokenizer: Tokenizer | None = None) -> None:
        self.folder = Path(folder)
        index = read_json(self.folder / INDEX)
        try:
            writer, self.dtype = index["tokenizer"], np.dtype(index["dtype"])
            self.parts = [Part(**part) for part in index["parts"]]
        except (KeyError, TypeError) as error:
            raise InputError(f"not an index of token shards ({error})", where=self.folder / INDEX,
                             fix=AGAIN) from None
        if tokenizer is not None and writer != identity(tokenizer):
            raise InputError("these token shards were written by another tokenizer", where=self.folder,
                             fix=AGAIN)
        self.total = sum(part.tokens for part in self.parts)
        sizes = [_size(self.folder / f"{part.name}.bin") for part in self.parts]
        if not self.total or sizes != [part.tokens * self.dtype.itemsize for part in self.parts]:
            raise InputError("the token shards are empty or truncated", where=self.folder,
                             fix=AGAIN)
        self._starts = np.cumsum([0, *(part.tokens for part in self.parts)]).tolist()

    @cached_property
    def table(self) -> pa.Table:
        """`DOCUMENTS` of all parts, in order. Raises `InputError` for tables that do not fit their ids."""
        return pa.concat_tables(map(self._table, self.parts))

    def _table(self, part: Part) -> pa.Table:
        path = self.folder / f"{part.name}.parquet"
        try:
            table = pq.read_table(path, schema=DOCUMENTS)
        except (OSError, ValueError, pa.ArrowException) as error:
            raise InputError(f"the table of a part cannot be read: {error}", where=path, fix=AGAIN) from None
        if (table.num_rows, np.sum(table["tokens"].to_numpy())) != (part.documents, part.tokens):
            raise InputError("the table of a part is not that of its ids", where=path, fix=AGAIN)
        return table

    @cached_property
    def offsets(self) -> NDArray[np.int64]:
        return np.concatenate([[0], np.cumsum(self.table["tokens"].to_numpy())]).astype(np.int64)

    @cached_property
    def languages(self) -> list[str]:
        """Of every document."""
        return self.table["language"].to_pylist()

    @cached_property
    def utf8_bytes(self) -> NDArray[np.int64]:
        """Of every document's text; what bits per byte are counted in."""
        return self.table["bytes"].to_numpy()

    @property
    def documents(self) -> int:
        return len(self.offsets) - 1

    def document(self, index: int) -> Ids:
        if not 0 <= index < self.documents:
            raise IndexError(f"document {index} of {self.documents}")
        return self.tokens(int(self.offsets[index]), int(self.offsets[index + 1]))

    def tokens(self, begin: int, end: int) -> Ids:
        """Tokens `begin` to `end` of the whole split: a view of the file, a copy where they lie in several. Raises
        `IndexError` past either end."""
        if not 0 <= begin <= end <= self.total:
            raise IndexError(f"tokens {begin} to {end} of {self.total}")
        found = []
        place = bisect_right(self._starts, begin) - 1
        while begin < end:
            start, stop = self._starts[place], min(end, self._starts[place + 1])
            found.append(self._maps[place][begin - start : stop - start])
            begin, place = stop, place + 1
        return found[0] if len(found) == 1 else np.concatenate([np.zeros(0, self.dtype), *found])

    @cached_property
    def _maps(self) -> list[Ids]:
        return [np.memmap(self.folder / f"{part.name}.bin", dtype=self.dtype, mode="r") if part.tokens
                else np.zeros(0, self.dtype) for part in self.parts]


def write_shards(files: Sequence[CorpusFile], tokenizer: Tokenizer, source: Path, folder: Path, *,
                 processes: int = 1) -> Shards:
    """Encode a split's documents as `<bos> text <eos>` into `folder`, `processes` parts at a time.

    `source` is the folder or file that `tokenizer` was loaded from. A part counts when its record is written and its
    ids still have the record's hash; called again after a kill, what counts is not done again, and the files' bytes are
    the same. Parts of another tokenizer or other files are removed.
    """
    plan = {"tokenizer": identity(tokenizer), "files": [file.fingerprint() for file in files]}
    folder.mkdir(parents=True, exist_ok=True)
    _start(folder, hash_json(plan))
    pieces = [piece for file in files for piece in file.pieces(PART_ROWS)]
    records = [folder / f"part-{number:06}.json" for number in range(len(pieces))]
    with ThreadPoolExecutor(processes) as checkers:  # hashing leaves Python's lock
        done = list(track(checkers.map(_counts, records), "checking parts", len(records)))
    left = [number for number, counts in enumerate(done) if not counts]
    with bar("encoding documents", sum(piece.rows for piece in pieces),
             start=sum(piece.rows for piece, counts in zip(pieces, done) if counts)) as shown:
        for number in _written(left, pieces, tokenizer, source, folder, processes):
            shown.advance(pieces[number].rows)
    write_json(folder / INDEX, {"tokenizer": plan["tokenizer"], "dtype": _dtype(tokenizer).str,
                                "parts": [read_json(record) for record in records]})
    return Shards(folder)


def identity(tokenizer: Tokenizer) -> str:
    """What tells a tokenizer from every other: the hash of its pieces and special ids."""
    specials = [tokenizer.bos, tokenizer.eos, sorted(tokenizer.specials.items())]
    return hash_json([hashlib.sha256(tokenizer.to_bytes()).hexdigest(), specials])


def _start(folder: Path, plan: str) -> None:
    """Forget what was written from another plan."""
    sweep_temporaries(folder)
    if not (folder / PLAN).exists() or read_json(folder / PLAN) != plan:
        for file in [*folder.glob("part-*"), folder / INDEX]:
            file.unlink(missing_ok=True)
        write_json(folder / PLAN, plan)


def _counts(record: Path) -> bool:
    """Whether a part is there, as it was written."""
    if not record.exists():
        return False
    ids, table = record.with_suffix(".bin"), record.with_suffix(".parquet")
    try:
        part = Part(**read_json(record))
        counts = (hash_file(ids), hash_file(table)) == (part.sha256, part.table_sha256)
    except (InputError, TypeError, OSError):  # a damaged record, a missing file
        counts = False
    if not counts:
        say(f"{record.with_suffix('')} is not what was written: it is written again")
    return counts


def _written(left: list[int], pieces: list[CorpusFile], tokenizer: Tokenizer, source: Path, folder: Path,
             processes: int) -> Iterator[int]:
    """Write these parts; yields each one's number when it is done."""
    if processes == 1 or len(left) < 2:
        for number in left:
            _write_part(pieces[number], tokenizer, folder, number)
            yield number
        return
    with worker_processes(processes, _open, source) as pool:
        futures = [pool.submit(_write_with_opened, pieces[number], folder, number) for number in left]
        for number, future in zip(left, futures):
            future.result()
            yield number


_opened: list[Tokenizer] = []
"""The tokenizer of a worker process."""


def _open(source: Path) -> None:
    _opened.append(Tokenizer.load(source))


def _write_with_opened(piece: CorpusFile, folder: Path, number: int) -> None:
    _write_part(piece, _opened[0], folder, number)


def _write_part(piece: CorpusFile, tokenizer: Tokenizer, folder: Path, number: int) -> None:
    """The ids, the table, and last the record that makes them count."""
    name = f"part-{number:06}"
    tables, dtype = [], _dtype(tokenizer)
    with atomic_write(folder / f"{name}.bin") as stream:
        for batch in piece.batches(["text", "language"], BATCH, optional=["source", "id"]):
            texts = batch["text"].to_pylist()
            framed = _framed(tokenizer.encode_packed(texts), tokenizer)
            stream.write(framed.ids.astype(dtype).tobytes())
            tables.append(_table(batch, texts, framed))
    table = pa.concat_tables(tables) if tables else DOCUMENTS.empty_table()
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd")
    with atomic_write(folder / f"{name}.parquet") as stream:
        stream.write(sink.getvalue())
    tokens = int(np.sum(table["tokens"].to_numpy()))
    hashes = hash_file(folder / f"{name}.bin"), hash_file(folder / f"{name}.parquet")
    write_json(folder / f"{name}.json", asdict(Part(name, table.num_rows, tokens, *hashes)))


def _dtype(tokenizer: Tokenizer) -> np.dtype[Any]:
    """Two bytes a token where they are enough."""
    return np.dtype("<u2" if tokenizer.vocab_size <= 1 << 16 else "<u4")


def _framed(packed: Packed, tokenizer: Tokenizer) -> Packed:
    """With `<bos>` before and `<eos>` behind every text."""
    starts, ends = packed.offsets[:-1], packed.offsets[1:]
    places = np.stack([starts, ends], 1).reshape(-1)
    ids = np.insert(packed.ids, places, np.tile(np.array([tokenizer.bos, tokenizer.eos], np.uint32), len(starts)))
    return Packed(ids, packed.offsets + 2 * np.arange(len(packed.offsets)))


def _table(batch: pa.RecordBatch, texts: list[str], framed: Packed) -> pa.Table:
    empty = [""] * len(texts)
    columns = {"tokens": np.diff(framed.offsets), "bytes": [len(text.encode()) for text in texts],
               "language": batch["language"],
               **{name: batch[name] if name in batch.schema.names else empty for name in ("source", "id")}}
    return pa.table(columns).cast(DOCUMENTS)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else -1
