"""What is known of every document without its text: enough to deduplicate, to mix, to split and to count."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from headwater.corpus.commits import File, Pass, read_batches
from headwater.corpus.deduplication.clusters import estimate_from, representatives
from headwater.corpus.deduplication.duplicates import first_with_key
from headwater.corpus.deduplication.keys import DOCUMENT_KEYS, Columns, band
from headwater.corpus.deduplication.minhash import MinHashSettings
from headwater.corpus.steps import EXACT, EXTRACT, MIX, NEAR, SENTENCES, StepSettings
from headwater.storage import Store

NO_TWIN = -1


class Coded:
    """A column of few different strings: `codes` [N] number the entries of `names`."""

    def __init__(self, column: pa.ChunkedArray) -> None:
        encoded = column.combine_chunks().dictionary_encode()
        self.names: list[str] = encoded.dictionary.to_pylist()
        self.codes: NDArray[np.int32] = encoded.indices.to_numpy(zero_copy_only=False).astype(np.int32)

    def code(self, name: str) -> int:
        """The number of `name`, which is added where it is new."""
        if name not in self.names:
            self.names.append(name)
        return self.names.index(name)

    def is_(self, name: str) -> NDArray[np.bool_]:
        return self.codes == (self.names.index(name) if name in self.names else -1)


class Cuts(NamedTuple):
    """By how many `tokens` and `bytes` (UTF-8) a step made the documents `rows` shorter: int64 [n] each."""

    rows: NDArray[np.int64]
    tokens: NDArray[np.int64]
    bytes: NDArray[np.int64]


def _as_cuts(rows: list[tuple[int, int, int]]) -> Cuts:
    return Cuts(*np.array(rows, np.int64).reshape(-1, 3).T)


class Ledger:
    """One entry per document, in order; about 100 bytes each beside the signatures.

    `step` [N] is the index in `steps` of the step that removed it, len(steps) for a kept one; `reason`, `language`,
    `source` are coded strings; `tokens`, `raw_bytes`, `text_bytes`, `characters` counts; `key` and `id` 16 bytes.
    `twin` [N] is the kept document of which this one is a copy, `similarity` [N] how similar a near copy was estimated,
    `addresses` has the addresses of those kept documents. `cuts` has for each step that shortened documents (index in
    `steps`) their rows, and by how many tokens and bytes.
    """

    def __init__(self, store: Store, files: list[File], settings: StepSettings) -> None:
        self.store, self.files, self.settings, self.steps = store, files, settings, settings.steps()
        step = Coded(self._column("step", pa.string()))
        number = {name: index for index, name in enumerate(self.steps)} | {"": len(self.steps)}
        # A step that is off still labels documents; an error there is counted with the extraction.
        numbers = [number.get(name, self.steps.index(EXTRACT)) for name in step.names]
        self.step = np.array([*numbers, 0], np.int16)[step.codes]
        self.reason, self.language, self.source = (Coded(self._column(name, pa.string()))
                                                   for name in ("reason", "language", "source"))
        self.tokens, self.raw_bytes, self.text_bytes, self.characters = (
            self._numbers(name) for name in ("tokens", "raw_bytes", "text_bytes", "characters"))
        self.score = self._column("score", pa.float32()).to_numpy().astype(np.float64)
        self.key, self.id = self._blobs("key"), self._blobs("id")
        self.twin = np.full(len(self), NO_TWIN, np.int64)
        self.similarity = np.zeros(len(self), np.float32)
        self.addresses: dict[int, str] = {}
        self.cuts = self._cuts_of_examination()

    def __len__(self) -> int:
        return len(self.step)

    @property
    def kept(self) -> NDArray[np.int64]:
        """Indices of the documents that no step has removed so far."""
        return np.flatnonzero(self.step == len(self.steps))

    def deduplicate(self, examined: Pass, scratch: Path) -> None:
        """Mark the copies: exact ones first, then near ones among the rest; of each cluster the longest stays, of
        equally long ones the first. The band keys are laid out in the local folder `scratch`."""
        if self.settings.exact_duplicates:
            alive = self.kept
            alive = alive[np.argsort(-self.characters[alive], kind="stable")]
            first = first_with_key(self.key[alive])
            copies = np.flatnonzero(first != np.arange(len(first)))
            self._remove(EXACT, "exact copy", alive[copies], alive[first[copies]])
        if self.settings.near_duplicates is not None:
            columns = Columns(scratch / DOCUMENT_KEYS, self.store, examined.files(DOCUMENT_KEYS))
            self._remove_near(self.settings.near_duplicates, columns)
            copies = np.flatnonzero(self.twin != NO_TWIN)  # the original of an exact copy may be a near copy itself
            beyond = self.twin[self.twin[copies]]
            self.twin[copies] = np.where(beyond == NO_TWIN, self.twin[copies], beyond)
        self.addresses = dict(self._addresses(np.unique(self.twin[self.twin != NO_TWIN])))

    def _remove_near(self, settings: MinHashSettings, columns: Columns) -> None:
        gone = self.step != len(self.steps)
        bands = (np.where(gone, np.uint64(0), columns[band(number)]) for number in range(settings.all_bands))
        clusters = representatives(bands, estimate_from(columns.sketches), self.characters, settings.similarity)
        copies = np.flatnonzero(clusters.representative != np.arange(len(self)))
        self._remove(NEAR, "near copy", copies, clusters.representative[copies])
        self.similarity[copies] = clusters.similarity[copies]

    def apply_cuts(self, cuts: Iterator[tuple[int, dict[str, Any]]], min_tokens: int) -> None:
        """Take over what the documents [row] are without their repeated sentences; too short ones are removed."""
        shorter = []
        for row, cut in cuts:
            shorter.append((row, self.tokens[row] - cut["tokens"], self.text_bytes[row] - cut["text_bytes"]))
            self.tokens[row], self.characters[row], self.text_bytes[row] = (
                cut["tokens"], cut["characters"], cut["text_bytes"])
            if cut["tokens"] < max(1, min_tokens):
                self.step[row] = self.steps.index(SENTENCES)
                self.reason.codes[row] = self.reason.code("too short without repeated sentences")

        self.cuts[self.steps.index(SENTENCES)] = _as_cuts(shorter)

    def _cuts_of_examination(self) -> dict[int, Cuts]:
        found: dict[str, list[tuple[int, int, int]]] = {}
        first = 0
        for batch in read_batches(self.store, self.files, ["tokens_cut", "bytes_cut"], 1 << 16):
            both = zip(batch["tokens_cut"].to_pylist(), batch["bytes_cut"].to_pylist())
            for row, (tokens, sizes) in enumerate(both, first):
                for (name, count), (_, size) in zip(tokens, sizes):
                    found.setdefault(name, []).append((row, count, size))
            first += batch.num_rows
        return {self.steps.index(name): _as_cuts(rows) for name, rows in found.items() if name in self.steps}

    def _remove(self, step: str, reason: str, copies: NDArray[np.int64], originals: NDArray[np.int64]) -> None:
        self.step[copies] = self.steps.index(step)
        self.reason.codes[copies] = self.reason.code(reason)
        self.twin[copies] = originals

    def leave_out(self, rows: NDArray[np.int64]) -> None:
        """Mark documents that the mix does not take."""
        self.step[rows] = self.steps.index(MIX)
        self.reason.codes[rows] = self.reason.code("not drawn")

    def draw(self) -> NDArray[np.float64]:
        """A number in [0, 1) per document that depends on its normalised text alone."""
        return self.key.view(np.uint64).reshape(-1, 2)[:, 0] / 2.0**64

    def validation(self, share: float, at_least_from: int = 20) -> NDArray[np.bool_]:
        """Which documents [N] are held out: those whose draw is below `share`.

        So copies fall on the same side and a document stays where it is when the corpus grows. A language of at
        least `at_least_from` documents gets at least one.
        """
        draw, kept = self.draw(), self.kept
        chosen = np.zeros(len(self), np.bool_)
        chosen[kept] = draw[kept] < share
        for code in np.unique(self.language.codes[kept]) if share > 0 else []:
            own = kept[self.language.codes[kept] == code]
            if len(own) >= at_least_from and not chosen[own].any():
                chosen[own[np.argmin(draw[own])]] = True
        return chosen

    def _addresses(self, rows: NDArray[np.int64]) -> Iterator[tuple[int, str]]:
        """Where the documents [rows], ascending, came from."""
        for file, own in slices(self.files):
            chosen = rows[np.searchsorted(rows, own.start):np.searchsorted(rows, own.stop)]
            if len(chosen):
                urls = pa.chunked_array([batch["url"] for batch in read_batches(self.store, [file], ["url"])])
                yield from zip(chosen.tolist(), urls.take(pa.array(chosen - own.start)).to_pylist())

    def detail(self, row: int) -> str:
        """Of a copy: which document it copies, and how nearly; "" for others."""
        if self.twin[row] == NO_TWIN:
            return ""
        text = f"copy of {self.addresses[int(self.twin[row])]}"
        near = self.steps[self.step[row]] == NEAR
        return f"{text}, estimated similarity {self.similarity[row]:.2f}" if near else text

    def _column(self, name: str, kind: pa.DataType) -> pa.ChunkedArray:
        arrays = [batch[name] for batch in read_batches(self.store, self.files, [name], 1 << 16)]
        return pa.chunked_array(arrays, kind)

    def _numbers(self, name: str) -> NDArray[np.int64]:
        return self._column(name, pa.int64()).to_numpy().copy()

    def _blobs(self, name: str) -> NDArray[np.void]:
        parts = [np.frombuffer(array.buffers()[1], np.dtype("V16"))[array.offset:array.offset + len(array)]
                 for array in self._column(name, pa.binary(16)).chunks]
        return np.concatenate([*parts, np.zeros(0, "V16")])


def slices(files: list[File]) -> Iterator[tuple[File, slice]]:
    """Each file with the rows of the ledger that stand for it."""
    first = 0
    for file in files:
        yield file, slice(first, first + file.rows)
        first += file.rows


