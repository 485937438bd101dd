"""Rows longer than a model was trained on: long documents packed by length, and short text read again."""

from __future__ import annotations

from bisect import bisect_left, insort
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from headwater.errors import InputError
from headwater.tokenizer.shards import Documents
from headwater.train.batches import Batch, Ints, Sample, lay, own_rows, permutation
from headwater.train.layouts import continued
from headwater.train.streams import StreamBatches, piece_of


class Pieces(NamedTuple):
    """Parts of documents, those of a row side by side."""

    documents: Ints
    """[pieces]: which one each is of."""
    inside: Ints
    """[pieces]: its first token in the document."""
    sizes: Ints
    rows: Ints
    """[rows + 1]: row r has pieces rows[r] to rows[r + 1]."""


class LongBatches:
    """Rows of `length` tokens for a model that was trained on rows of `trained`.

    A document is cut into whole rows. What is left of it, or all of a shorter one, shares a row with others where it is
    longer than `trained`, by best fit. A share `replay` of the tokens is text as it was read before: the data laid end
    to end and cut at `trained` tokens (`StreamBatches`), as many cuts in a row as it holds; what is short is read there
    alone. No text sees another, and every text's positions begin at 0. Long rows come in a new random order every
    epoch. Memory holds the pieces' numbers, not their tokens. Raises `InputError` where no document is longer than
    `trained`.
    """

    def __init__(self, documents: Documents, *, rows: int, length: int, trained: int, replay: float, seed: int,
                 pad: int) -> None:
        self.documents, self.rows, self.length, self.seed, self.pad = documents, rows, length, seed, pad
        self.pieces = long_pieces(np.diff(documents.offsets), length, trained)
        self.long_rows = len(self.pieces.rows) - 1
        if not self.long_rows:
            raise InputError(f"none of {len(documents.offsets) - 1:,} documents is longer than the {trained:,} tokens "
                             f"that the model was trained on; the longest has {np.diff(documents.offsets).max():,}",
                             where="corpus", fix="give a corpus of longer documents")
        self.cuts = length // trained
        self.replayed = StreamBatches(documents, rows=self.cuts, length=trained, seed=seed, pad=pad)
        full = replay * self.fill, (1 - replay) * self.cuts * trained / length
        self.replay_rows = full[0] / sum(full)

    @property
    def fill(self) -> float:
        """Share of the long rows that is text."""
        return float(self.pieces.sizes.sum()) / (self.long_rows * self.length)

    @property
    def batches_per_epoch(self) -> float:
        """Batches that read the long documents once."""
        return self.long_rows / (1 - self.replay_rows) / self.rows

    def batch(self, step: int, rank: int = 0, ranks: int = 1) -> Batch:
        rows = [self._row(step * self.rows + row) for row in own_rows(self.rows, rank, ranks)]
        return lay(rows, self.length, pad=self.pad)

    def _row(self, index: int) -> list[Sample]:
        """Row `index` of the run: replay comes as evenly as whole rows allow."""
        replayed = int(index * self.replay_rows)
        if int((index + 1) * self.replay_rows) == replayed:
            return self._long_row(index - replayed)
        cuts = range(replayed * self.cuts, (replayed + 1) * self.cuts)
        return [sample for cut in cuts for sample in self.replayed.row(cut)]

    def _long_row(self, index: int) -> list[Sample]:
        epoch, place = divmod(index, self.long_rows)
        row = int(self._order(epoch)[place])
        chosen = slice(int(self.pieces.rows[row]), int(self.pieces.rows[row + 1]))
        pieces = zip(*(one[chosen].tolist() for one in self.pieces[:3]), strict=True)
        return [continued(piece_of(self.documents, *piece), 0, 1) for piece in pieces]

    @lru_cache(maxsize=2)  # noqa: B019 (one object lives per training run)
    def _order(self, epoch: int) -> Ints:
        return permutation(self.long_rows, self.seed, epoch, 4)


def long_pieces(sizes: Ints, length: int, trained: int) -> Pieces:
    """Documents of these sizes as rows of `length` tokens: first those that one piece fills, then what was left of more
    than `trained` tokens."""
    whole = sizes // length
    cut = np.repeat(np.arange(len(sizes)), whole)
    inside = length * (np.arange(len(cut)) - np.repeat(np.cumsum(whole) - whole, whole))
    rest = np.flatnonzero(sizes - whole * length > trained)
    left = sizes[rest] - whole[rest] * length
    rows = np.concatenate([np.arange(len(cut)), len(cut) + best_fit(left, length)])
    order = np.argsort(rows, kind="stable")
    count = int(rows.max(initial=-1)) + 1
    return Pieces(np.concatenate([cut, rest])[order], np.concatenate([inside, whole[rest] * length])[order],
                  np.concatenate([np.full(len(cut), length), left])[order],
                  np.searchsorted(rows[order], np.arange(count + 1)))


def best_fit(sizes: Ints, length: int) -> Ints:
    """The row of every piece [n]: from the longest on, each in the row that it fills best (best-fit decreasing; so
    documents are packed in 2404.10830)."""
    found = np.zeros(len(sizes), dtype=np.int64)
    rooms: list[int] = []
    """Of all rows, each once, ascending."""
    with_room: dict[int, list[int]] = {}
    rows = 0
    for piece in np.argsort(-sizes, kind="stable").tolist():
        size = int(sizes[piece])
        least = bisect_left(rooms, size)
        if least == len(rooms):
            room, row, rows = length, rows, rows + 1
        else:
            room = rooms[least]
            row = with_room[room].pop()
            if not with_room[room]:
                del with_room[room], rooms[least]
        found[piece] = row
        if room - size not in with_room:
            insort(rooms, room - size)
        with_room.setdefault(room - size, []).append(row)
    return found
