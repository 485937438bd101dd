"""Whole sequences packed into rows: dialogues as one causal sequence each, or as one prefix sample a turn."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from headwater.errors import InputError
from headwater.model import ModelConfig
from headwater.train.batches import IGNORE, Batch, Ints, Sample, counted, last_seen, lay, own_rows, permutation

OPEN_ROWS = 64
"""Rows searched for room; older ones are nearly full."""
Supervised = tuple[Sequence[int], Sequence[bool]]
"""Ids, and the loss mask: true on those that must be learned."""


class PrefixSample(NamedTuple):
    """A sequence whose first `prefix` tokens are read both ways."""

    ids: Sequence[int]
    loss_mask: Sequence[bool]
    prefix: int = 0
    targets: Sequence[int] | None = None
    """What is asked at each token; the next one where the loss mask has it when None."""
    positions: Ints | None = None
    """[axes, n]; counted when None."""


class Work(NamedTuple):
    """What reading sequences once costs and gives; padding is not counted."""

    tokens: int
    """Processed."""
    targets: int
    """Tokens that a loss is taken on."""


def separate_turns(dialogues: Iterable[Supervised]) -> list[PrefixSample]:
    """ChatGLM's way: every run of learned tokens (a turn of the assistant) as a sample of its own, whose whole history
    is a prefix read both ways. A dialogue of k turns is so processed about k/2 times as often as in one sequence."""
    samples = []
    for ids, loss_mask in dialogues:
        edges = np.diff(np.concatenate([[0], np.asarray(loss_mask, dtype=np.int8), [0]]))
        for begin, end in zip(np.flatnonzero(edges == 1).tolist(), np.flatnonzero(edges == -1).tolist()):
            spoken = [False] * begin + [True] * (end - begin)
            samples.append(PrefixSample(ids[:end], spoken, begin))
    return samples


def work(sequences: Iterable[Supervised | PrefixSample]) -> Work:
    """Of two ways to pack the same dialogues with equal `targets`, the ratio of `tokens` is that of their costs."""
    sizes = [(len(one[0]), sum(one[1][1:])) for one in sequences]
    return Work(sum(tokens for tokens, _ in sizes), sum(targets for _, targets in sizes))


def as_read(sequence: Supervised | PrefixSample, config: ModelConfig) -> Supervised | PrefixSample:
    """A sequence as its model's official code reads it. ChatGLM-6B sees all before <sop> both ways, and counts what
    comes from it on at the place of the mask; all others read it as it is."""
    if not config.prefix_ids:
        return sequence
    one = PrefixSample(*sequence)
    *masks, start = config.prefix_ids
    ids = list(one.ids)
    begin = ids.index(start)
    place = ids.index(next(mask for mask in masks if mask in ids))
    positions = counted(len(ids), 2)
    positions[0, begin:], positions[1, begin:] = place, np.arange(1, len(ids) - begin + 1)
    return one._replace(prefix=begin, positions=positions)


def first_fit(order: Iterable[int], sizes: Sequence[int], length: int) -> list[list[int]]:
    """Numbers, in this order, in rows of `length`, each in the first that has room for its size."""
    space: list[int] = []
    rows: list[list[int]] = []
    first_open = 0
    for number in order:
        size = sizes[number]
        chosen = next((i for i in range(first_open, len(rows)) if space[i] >= size), None)
        if chosen is None:
            rows.append([])
            space.append(length)
            chosen = len(rows) - 1
            first_open = max(first_open, len(rows) - OPEN_ROWS)
        rows[chosen].append(number)
        space[chosen] -= size
    return rows


class PackedBatches:
    """Whole sequences packed first-fit into rows, in a new random order every epoch; none is ever cut.

    sequences: (ids, loss mask) pairs, or `PrefixSample`s, no longer than `length`. The loss is taken on tokens whose
    mask is true. Raises `InputError` for a sequence that is too long or asks for a token inside its prefix.
    """

    def __init__(self, sequences: Sequence[Supervised | PrefixSample], *, rows: int, length: int, seed: int, pad: int,
                 axes: int = 1, together: int = 1) -> None:
        """together: so many neighbours share a row, in their order, and are drawn as one."""
        self.sequences = [PrefixSample(*one) for one in sequences]
        self.rows, self.length, self.seed, self.pad, self.axes = rows, length, seed, pad, axes
        self.together = together
        self._sizes = np.array([len(one.ids) for one in self.sequences]).reshape(-1, together).sum(1).tolist()
        longest = max(self._sizes, default=0)
        if longest == 0:
            raise InputError("there are no sequences to train on", fix="give at least one conversation")
        if longest > length:
            raise InputError(f"{'a sequence has' if together == 1 else f'{together} sequences have'} {longest} tokens, "
                             f"more than a row of {length}", fix="raise sequence_length or shorten the conversation")
        if any(any(one.loss_mask[1 : one.prefix]) for one in self.sequences):
            raise InputError("a loss is asked on a token of a prefix, which the tokens before it see",
                             fix="end the prefix where the learned tokens begin")
        self._places = np.concatenate([[0], np.cumsum([len(one.ids) for one in self.sequences])])
        self._ends: list[int] = [0]  # cumulative batches of the epochs planned so far

    @property
    def batches_per_epoch(self) -> int:
        """Batches of the first epoch; later ones differ by a row or two."""
        return len(self._plan(0))

    @lru_cache(maxsize=2)  # noqa: B019 (one object lives per training run)
    def _plan(self, epoch: int) -> list[list[list[int]]]:
        """The epoch's batches, each a list of rows, each a list of sequence numbers."""
        bins = first_fit(permutation(len(self._sizes), self.seed, epoch).tolist(), self._sizes, self.length)
        if self.together > 1:
            bins = [[self.together * one + other for one in row for other in range(self.together)] for row in bins]
        return [bins[start : start + self.rows] for start in range(0, len(bins), self.rows)]

    def batch(self, step: int, rank: int = 0, ranks: int = 1) -> Batch:
        own = own_rows(self.rows, rank, ranks)
        while step >= self._ends[-1]:
            self._ends.append(self._ends[-1] + len(self._plan(len(self._ends) - 1)))
        epoch = int(np.searchsorted(self._ends, step, side="right")) - 1
        rows = self._plan(epoch)[step - self._ends[epoch]]
        filled = [[self._sample(number) for number in rows[row]] if row < len(rows) else [] for row in own]
        return lay(filled, self.length, pad=self.pad, axes=self.axes)

    def _sample(self, number: int) -> Sample:
        return as_sample(self.sequences[number], int(self._places[number]), self.axes)


def as_sample(one: PrefixSample, place: int, axes: int) -> Sample:
    """A sequence as it stands in a row; `place` is its first token's."""
    tokens, size = np.array(one.ids, dtype=np.int64), len(one.ids)
    targets = np.full(size, IGNORE)
    targets[:-1] = np.where(one.loss_mask[1:], tokens[1:], IGNORE)
    if one.targets is not None:
        targets = np.array(one.targets)
    positions = counted(size, axes) if one.positions is None else one.positions
    return Sample(tokens, targets, positions, last_seen(size, one.prefix), place + np.arange(size))
