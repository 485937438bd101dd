"""Documents laid end to end and cut into rows, each row written as an objective asks."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from headwater.errors import InputError
from headwater.tokenizer.shards import Documents
from headwater.train.batches import IGNORE, Batch, Ints, Sample, lay, own_rows, permutation
from headwater.train.layouts import Causal, Layout, Piece

GOLDEN = (5**0.5 - 1) / 2
"""Multiples of it, without their whole parts, fill the unit interval evenly from the first on."""
MEASURED_ROWS = 64


class Epoch(NamedTuple):
    """One reading of the data."""

    documents: Ints
    """Their order."""
    starts: Ints
    """[documents + 1]: where each begins in the stream."""
    kinds: NDArray[np.uint8]
    """[rows]: what each row of the stream is, as `Layout` numbers its kinds."""
    bounds: Ints
    """[rows + 1]: where each row's text begins."""
    rows: Ints
    """The order in which the rows are read."""


class StreamBatches:
    """Documents in a new random order every epoch, laid end to end and cut into rows of `length` tokens.

    The rows are shuffled again, so that one long document does not fill whole batches. A document that is cut goes on
    in another row with positions from 0. No token is left out or read twice but the last partial row of an epoch, which
    is left out. Targets stop at a document's end: nothing is asked about the next document's first token.

    layout: how a row's text is written, causal by default. Where it adds tokens of its own a row holds less text: the
    length less the most that the layout added to any of `MEASURED_ROWS` rows of the data. A row that needs still more
    gets fewer of them, one that needs fewer is filled up with `pad`.
    """

    def __init__(self, shards: Documents, *, rows: int, length: int, seed: int, layout: Layout | None = None,
                 pad: int = 0) -> None:
        self.shards, self.rows, self.length, self.seed, self.pad = shards, rows, length, seed, pad
        self.layout: Layout = layout or Causal()
        if shards.total < length:
            raise InputError(f"the corpus has {shards.total} tokens, fewer than one row of {length}",
                             fix="give more text or a shorter sequence_length")
        self._kinds, self._text = self._plan()
        self.rows_per_epoch = len(self._kinds)

    @property
    def batches_per_epoch(self) -> float:
        return self.rows_per_epoch / self.rows

    def batch(self, step: int, rank: int = 0, ranks: int = 1) -> Batch:
        rows = [self.row(step * self.rows + row) for row in own_rows(self.rows, rank, ranks)]
        return lay(rows, self.length, pad=self.pad, axes=self.layout.axes)

    def _plan(self) -> tuple[NDArray[np.uint8], Ints]:
        """The kinds of an epoch's rows, as many of each as its share says, and the text of a row of each kind."""
        order, starts = self._stream(0)
        text = np.array([self._text_of(kind, order, starts) if share else self.length
                         for kind, share in enumerate(self.layout.shares)])
        most = self.shards.total // int(text.min()) + 1
        bounds = np.cumsum(self.layout.shares)
        kinds = np.searchsorted(bounds[:-1] / bounds[-1], np.arange(1, most + 1) * GOLDEN % 1, side="right")
        rows = int(np.searchsorted(np.cumsum(text[kinds]), self.shards.total, side="right"))
        return kinds[:rows].astype(np.uint8), text

    def _text_of(self, kind: int, order: Ints, starts: Ints) -> int:
        """Tokens of text in a row, such that what the layout adds has room."""
        added, draw = 0, np.random.default_rng((self.seed, kind))
        for begin in np.linspace(0, self.shards.total - self.length, MEASURED_ROWS).astype(int).tolist():
            samples = self.layout.samples(self._pieces(order, starts, begin, begin + self.length), kind,
                                          2 * self.length, draw)
            added = max(added, sum(len(sample.tokens) for sample in samples) - self.length)
        return self.length**2 // (self.length + added)  # what is added is taken to grow with the text

    def _stream(self, epoch: int) -> tuple[Ints, Ints]:
        sizes = np.diff(self.shards.offsets)
        order = permutation(len(sizes), self.seed, epoch)
        return order, np.concatenate([[0], np.cumsum(sizes[order])])

    @lru_cache(maxsize=2)  # noqa: B019 (one object lives per training run)
    def _epoch(self, epoch: int) -> Epoch:
        kinds = self._kinds[permutation(len(self._kinds), self.seed, epoch, 2)]
        bounds = np.concatenate([[0], np.cumsum(self._text[kinds])])
        return Epoch(*self._stream(epoch), kinds, bounds, permutation(self.rows_per_epoch, self.seed, epoch, 1))

    def row(self, index: int) -> list[Sample]:
        """A row of all epochs', counted from the first one's first."""
        number, place = divmod(index, self.rows_per_epoch)
        epoch = self._epoch(number)
        row = int(epoch.rows[place])
        begin, end = int(epoch.bounds[row]), int(epoch.bounds[row + 1])
        pieces = self._pieces(epoch.documents, epoch.starts, begin, end)
        draw = np.random.default_rng((self.seed, number, 3, row))
        return self.layout.samples(pieces, int(epoch.kinds[row]), self.length - (end - begin), draw)

    def _pieces(self, order: Ints, starts: Ints, begin: int, end: int) -> list[Piece]:
        """The documents' parts in `begin` to `end` of the stream."""
        pieces = []
        document = int(np.searchsorted(starts, begin, side="right")) - 1
        while begin < end:
            inside, number = begin - int(starts[document]), int(order[document])
            size = min(end, int(starts[document + 1])) - begin
            if size:  # a document may be empty
                pieces.append(piece_of(self.shards, number, inside, size))
            begin, document = begin + size, document + 1
        return pieces


def piece_of(documents: Documents, number: int, inside: int, size: int) -> Piece:
    """`size` tokens of a document, from its token `inside` on."""
    ids = documents.document(number)[inside : inside + size + 1].astype(np.int64)
    following = int(ids[size]) if len(ids) > size else IGNORE
    return Piece(ids[:size], following, int(documents.offsets[number]) + inside, inside == 0)
