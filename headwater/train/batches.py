"""Token-packed batches as a pure function of the step, so that resuming needs no replay and skips nothing."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from headwater.errors import InputError
from headwater.tokenizer.shards import Documents

IGNORE = -100
"""Target of a position that no loss is taken on."""


class Batch(NamedTuple):
    """Packed rows: tokens, targets, positions and document numbers, int64 [B,T] each; document -1 is padding."""

    tokens: Tensor
    targets: Tensor
    positions: Tensor
    documents: Tensor

    def mask(self) -> Tensor:
        """bool [B,1,T,T], True where a query may see a key: the same document, not later."""
        length = self.tokens.shape[1]
        same = self.documents[:, None, :, None] == self.documents[:, None, None, :]
        return same & torch.ones(length, length, dtype=torch.bool, device=same.device).tril()

    def to(self, device: torch.device | str) -> Batch:
        return Batch(*(tensor.to(device) for tensor in self))


class Batches(Protocol):
    """What the trainer reads from."""

    @property
    def batches_per_epoch(self) -> float:
        """Batches that read the data once."""
        ...

    def batch(self, step: int, rank: int = 0, ranks: int = 1) -> Batch:
        """The batch of a step, 0-based, as a function of the step alone; of several readers each gets its own rows:
        the row `rank` and every one `ranks` after it. So their number may change between two steps."""
        ...


def _own(rows: int, rank: int, ranks: int) -> range:
    """Which rows of a batch one reader gets. Raises `InputError` for a reader that would get none."""
    if not 0 <= rank < ranks <= rows:
        raise InputError(f"reader {rank} of {ranks} has no row in batches of {rows}",
                         fix="number readers from 0 and have at most as many as rows")
    return range(rank, rows, ranks)


def _permutation(count: int, *seeds: int) -> np.ndarray:
    return np.random.default_rng(seeds).permutation(count)


class StreamBatches:
    """Documents in a new random order every epoch, laid end to end and cut into rows of `length` tokens.

    The rows are shuffled again, so that one long document does not fill whole batches. A document that is cut goes on
    in another row with positions from 0. No token is dropped but the last partial row of an epoch. Targets stop at a
    document's end: nothing is asked about the next document's first token.
    """

    def __init__(self, shards: Documents, *, rows: int, length: int, seed: int) -> None:
        self.shards, self.rows, self.length, self.seed = shards, rows, length, seed
        self.rows_per_epoch = shards.total // length
        if self.rows_per_epoch == 0:
            raise InputError(f"the corpus has {shards.total} tokens, fewer than one row of {length}",
                             fix="give more text or a shorter sequence_length")

    @property
    def batches_per_epoch(self) -> float:
        return self.rows_per_epoch / self.rows

    @lru_cache(maxsize=2)  # noqa: B019 (one object lives per training run)
    def _epoch(self, epoch: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The epoch's document order, where each of its documents starts in its stream, and the order of its rows."""
        sizes = np.diff(self.shards.offsets)
        order = _permutation(len(sizes), self.seed, epoch)
        sizes = sizes[order]
        return order, np.concatenate([[0], np.cumsum(sizes)]), _permutation(self.rows_per_epoch, self.seed, epoch, 1)

    def batch(self, step: int, rank: int = 0, ranks: int = 1) -> Batch:
        rows = [self._row(step * self.rows + row) for row in _own(self.rows, rank, ranks)]
        return Batch(*(torch.from_numpy(np.stack(part)) for part in zip(*rows, strict=True)))

    def _row(self, index: int) -> tuple[np.ndarray, ...]:
        epoch, number = divmod(index, self.rows_per_epoch)
        order, starts, shuffled = self._epoch(epoch)
        row = int(shuffled[number])
        begin, end = row * self.length, (row + 1) * self.length
        first = int(np.searchsorted(starts, begin, side="right")) - 1
        parts: list[list[np.ndarray]] = [[], [], [], []]
        place = begin
        while place < end:
            document = self.shards.document(int(order[first]))
            inside = place - int(starts[first])
            piece = document[inside : inside + end - place].astype(np.int64)
            following = document[inside + 1 : inside + 1 + len(piece)].astype(np.int64)
            targets = np.full(len(piece), IGNORE, dtype=np.int64)
            targets[: len(following)] = following
            row_parts = (piece, targets, np.arange(len(piece)), np.full(len(piece), first))
            for kept, part in zip(parts, row_parts, strict=True):
                kept.append(part)
            place, first = place + len(piece), first + 1
        return tuple(np.concatenate(part).astype(np.int64) for part in parts)


class PackedBatches:
    """Whole sequences packed first-fit into rows, in a new random order every epoch; none is ever cut.

    sequences: (ids, loss mask) pairs no longer than `length`. The loss is taken on tokens whose mask is true.
    """

    def __init__(self, sequences: Sequence[tuple[Sequence[int], Sequence[bool]]], *, rows: int, length: int, seed: int,
                 pad: int) -> None:
        self.sequences, self.rows, self.length, self.seed, self.pad = sequences, rows, length, seed, pad
        longest = max((len(ids) for ids, _ in sequences), default=0)
        if longest == 0:
            raise InputError("there are no sequences to train on", fix="give at least one conversation")
        if longest > length:
            raise InputError(f"a sequence has {longest} tokens, more than a row of {length}",
                             fix="raise sequence_length or shorten the conversation")
        self._ends: list[int] = [0]  # cumulative batches of the epochs planned so far

    @property
    def batches_per_epoch(self) -> int:
        """Batches of the first epoch; later ones differ by a row or two."""
        return len(self._plan(0))

    @lru_cache(maxsize=2)  # noqa: B019 (one object lives per training run)
    def _plan(self, epoch: int) -> list[list[list[int]]]:
        """The epoch's batches, each a list of rows, each a list of sequence numbers."""
        space: list[int] = []
        bins: list[list[int]] = []
        first_open = 0
        for number in _permutation(len(self.sequences), self.seed, epoch).tolist():
            size = len(self.sequences[number][0])
            chosen = next((i for i in range(first_open, len(bins)) if space[i] >= size), None)
            if chosen is None:
                bins.append([])
                space.append(self.length)
                chosen = len(bins) - 1
                first_open = max(first_open, len(bins) - 64)  # bounds the search; old bins are nearly full
            bins[chosen].append(number)
            space[chosen] -= size
        return [bins[start : start + self.rows] for start in range(0, len(bins), self.rows)]

    def batch(self, step: int, rank: int = 0, ranks: int = 1) -> Batch:
        own = _own(self.rows, rank, ranks)
        while step >= self._ends[-1]:
            self._ends.append(self._ends[-1] + len(self._plan(len(self._ends) - 1)))
        epoch = int(np.searchsorted(self._ends, step, side="right")) - 1
        rows = self._plan(epoch)[step - self._ends[epoch]]
        filled = [self._fill(rows[row] if row < len(rows) else []) for row in own]
        return Batch(*(torch.from_numpy(np.stack(part)) for part in zip(*filled, strict=True)))

    def _fill(self, numbers: list[int]) -> tuple[np.ndarray, ...]:
        tokens, targets = np.full(self.length, self.pad), np.full(self.length, IGNORE)
        positions, documents = np.zeros(self.length, dtype=np.int64), np.full(self.length, -1)
        place = 0
        for document, number in enumerate(numbers):
            ids, spoken = self.sequences[number]
            here = slice(place, place + len(ids))
            tokens[here], positions[here], documents[here] = ids, np.arange(len(ids)), document
            targets[place : place + len(ids) - 1] = np.where(spoken[1:], ids[1:], IGNORE)
            place += len(ids)
        return tokens.astype(np.int64), targets.astype(np.int64), positions, documents.astype(np.int64)
