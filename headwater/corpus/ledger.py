"""What is known of every document without its text: enough to deduplicate, to split and to count."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from headwater.corpus.duplicates import first_in_cluster, first_with_key
from headwater.corpus.minhash import U32, MinHashSettings, estimated_jaccard
from headwater.corpus.steps import EXACT, EXTRACT, NEAR, StepSettings

NO_TWIN = -1
_COLUMNS = ["step", "reason", "language", "tokens", "raw_characters", "characters", "id", "key", "signature"]


def staged_batches(groups: list[Path], columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
    """The examined documents of all groups in order."""
    for group in groups:
        for part in sorted(group.glob("*.parquet")):
            yield from pq.ParquetFile(part).iter_batches(1024, columns=columns)


class Ledger:
    """One entry per document, in order.

    `step` [N] is the index in `steps` of the step that removed it, len(steps) for a kept one; `reason`, `language`
    and `id` [N] are strings, `tokens`, `raw_characters`, `characters` [N] counts; `keys` and `signatures` stand
    for the documents listed in `alive` (those no document step removed). `twin` [N] is the earlier document of
    which this one is a copy (a kept one), `similarity` [N] how similar near copies were estimated to be.
    """

    def __init__(self, groups: list[Path], settings: StepSettings) -> None:
        self.settings, self.steps = settings, settings.steps()
        batches = list(staged_batches(groups, _COLUMNS))
        table = pa.Table.from_batches(batches) if batches else pa.table({name: [] for name in _COLUMNS})
        columns = {name: table[name].to_numpy() for name in _COLUMNS if name not in ("key", "signature")}
        number = {step: index for index, step in enumerate(self.steps)} | {"": len(self.steps)}
        # A step that is off still labels documents; an error there is counted with the extraction.
        self.step = np.array([number.get(step, self.steps.index(EXTRACT)) for step in columns["step"]], np.int64)
        self.reason, self.language, self.id = columns["reason"], columns["language"], columns["id"]
        self.tokens, self.characters = columns["tokens"].astype(np.int64), columns["characters"]
        self.raw_characters = columns["raw_characters"]
        self.alive = np.flatnonzero(self.step == len(self.steps))
        chosen = table.select(["key", "signature"]).take(self.alive)
        self.keys = _blobs(chosen["key"], np.dtype("V16"))
        self._signatures = chosen["signature"]
        self.twin = np.full(len(self.step), NO_TWIN, np.int64)
        self.similarity = np.zeros(len(self.step))

    @property
    def kept(self) -> NDArray[np.int64]:
        """Indices of the documents that no step has removed so far."""
        return np.flatnonzero(self.step == len(self.steps))

    def deduplicate(self) -> None:
        """Mark the copies: exact ones first, then near ones among the rest; of each cluster the first stays."""
        if self.settings.exact_duplicates:
            first = first_with_key(self.keys)
            copies = np.flatnonzero(first != np.arange(len(first)))
            self._remove(EXACT, "exact copy", self.alive[copies], self.alive[first[copies]])
        if self.settings.near_duplicates is not None:
            self._remove_near(self.settings.near_duplicates)
            copies = np.flatnonzero(self.twin != NO_TWIN)  # the original of an exact copy may be a near copy itself
            beyond = self.twin[self.twin[copies]]
            self.twin[copies] = np.where(beyond == NO_TWIN, self.twin[copies], beyond)

    def _remove_near(self, settings: MinHashSettings) -> None:
        blobs = self._signatures.to_numpy()
        rows = np.array([row for row, index in enumerate(self.alive)
                         if self.step[index] == len(self.steps) and len(blobs[row])], np.int64)
        signatures: U32 = np.frombuffer(b"".join(blobs[rows]), np.uint32).reshape(len(rows), settings.permutations)
        first = first_in_cluster(signatures, settings)
        copies = np.flatnonzero(first != np.arange(len(first)))
        self._remove(NEAR, "near copy", self.alive[rows[copies]], self.alive[rows[first[copies]]])
        for copy in copies:
            self.similarity[self.alive[rows[copy]]] = estimated_jaccard(signatures[copy], signatures[first[copy]])

    def _remove(self, step: str, reason: str, copies: NDArray[np.int64], originals: NDArray[np.int64]) -> None:
        self.step[copies] = self.steps.index(step)
        self.reason[copies] = reason
        self.twin[copies] = originals

    def validation(self, share: float, at_least_from: int = 20) -> NDArray[np.bool_]:
        """Which documents [N] are held out: those whose key, read as a number in [0, 1), is below `share`.

        The key depends on the normalised text alone, so copies fall on the same side and a document stays where it
        is when the corpus grows. A language of at least `at_least_from` documents gets at least one.
        """
        draw = np.ones(len(self.step))
        draw[self.alive] = self.keys.view(np.uint64).reshape(-1, 2)[:, 0] / 2.0**64
        chosen = np.zeros(len(self.step), np.bool_)
        kept = self.kept
        chosen[kept] = draw[kept] < share
        for language in sorted(set(self.language[kept])) if share > 0 else []:
            own = kept[self.language[kept] == language]
            if len(own) >= at_least_from and not chosen[own].any():
                chosen[own[np.argmin(draw[own])]] = True
        return chosen


def _blobs(column: pa.ChunkedArray, dtype: np.dtype) -> NDArray:
    return np.frombuffer(b"".join(column.to_pylist()), dtype)
