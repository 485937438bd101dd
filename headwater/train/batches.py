"""What training reads: packed rows as a pure function of the step, so that resuming needs no replay and skips
nothing."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from headwater.errors import InputError
from headwater.model import Decoder
from headwater.model.intervals import Intervals

IGNORE = -100
"""Target of a position that no loss is taken on."""
Ints = NDArray[np.int64]


class Batch(NamedTuple):
    """Packed rows, int64. Padding sees itself alone and has no target."""

    tokens: Tensor
    """[B,T]."""
    targets: Tensor
    """[B,T], `IGNORE` where no loss is taken."""
    positions: Tensor
    """[B,T], or [B,2,T] for models whose positions are two numbers (position, block position)."""
    first: Tensor
    """[B,T], with `last` the keys a query sees (see `Intervals`)."""
    last: Tensor
    places: Tensor
    """[B,T]: which token of the data each one is, counted over all its documents; -1 for those that no text holds
    (padding, [MASK], <sop>)."""

    @property
    def intervals(self) -> Intervals:
        return Intervals(self.first, self.last)

    def to(self, device: torch.device | str) -> Batch:
        return Batch(*(tensor.to(device) for tensor in self))

    def split(self, rows: int) -> list[Batch]:
        """The batch in parts of so many rows."""
        return [Batch(*parts) for parts in zip(*(tensor.split(rows) for tensor in self), strict=True)]


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


class Learner(Protocol):
    """A training under way, as it is seen by batches that its own model makes."""

    def whole(self) -> Decoder:
        """The model as it is now, to generate with."""
        ...

    def ask(self, ask: Any, *arguments: Any) -> Any:
        """ask(model, *arguments), computed as in a step, without gradients."""
        ...


class OnPolicy(ABC):
    """`Batches` that the learning model makes itself: none is made before the step ahead of it is done. A batch is a
    function of the step and of the weights."""

    @abstractmethod
    def begin(self, learner: Learner) -> None:
        """Called before the first batch of a run, or of one that goes on."""


class Sample(NamedTuple):
    """One text of a row as if it were alone: int64 [n] each, positions [A,n] for A numbers a token."""

    tokens: Ints
    targets: Ints
    positions: Ints
    last: Ints
    """The last token that each one sees; all see from the sample's first on."""
    places: Ints


def read_ahead(batches: Batches, steps: range, rank: int, ranks: int) -> Generator[Batch]:
    """One reader's batches of these steps, each made in a thread while the one before is used."""
    with ThreadPoolExecutor(1) as thread:
        coming = thread.submit(batches.batch, steps[0], rank, ranks)
        for step in steps:
            found = coming.result()
            if step != steps[-1]:
                coming = thread.submit(batches.batch, step + steps.step, rank, ranks)
            yield found


def own_rows(rows: int, rank: int, ranks: int) -> range:
    """Which rows of a batch one reader gets. Raises `InputError` for a reader that would get none."""
    if not 0 <= rank < ranks <= rows:
        raise InputError(f"reader {rank} of {ranks} has no row in batches of {rows}",
                         fix="number readers from 0 and have at most as many as rows")
    return range(rank, rows, ranks)


def permutation(count: int, *seeds: int) -> Ints:
    return np.random.default_rng(seeds).permutation(count)


def last_seen(size: int, prefix: int) -> Ints:
    """`Sample.last` of a text whose first `prefix` tokens are read both ways and whose others see those before them."""
    last = np.arange(size)
    last[:prefix] = prefix - 1
    return last


def counted(size: int, axes: int) -> Ints:
    """Positions [A,size] that count a text's tokens; a second number, of blocks to be generated, is 0."""
    positions = np.zeros((axes, size), dtype=np.int64)
    positions[0] = np.arange(size)
    return positions


def lay(rows: Sequence[Sequence[Sample]], length: int, *, pad: int, axes: int = 1) -> Batch:
    """Rows [B,T] of samples end to end, filled up with `pad`; no row's samples have more than `length` tokens."""
    shape = (len(rows), length)
    tokens, targets, places = np.full(shape, pad), np.full(shape, IGNORE), np.full(shape, -1)
    first, positions = np.tile(np.arange(length), (len(rows), 1)), np.zeros((len(rows), axes, length), dtype=np.int64)
    last = first.copy()
    for row, samples in enumerate(rows):
        begin = 0
        for sample in samples:
            here = slice(begin, begin + len(sample.tokens))
            tokens[row, here], targets[row, here], places[row, here] = sample.tokens, sample.targets, sample.places
            positions[row, :, here], first[row, here], last[row, here] = sample.positions, begin, sample.last + begin
            begin = here.stop
    parts = tokens, targets, positions[:, 0] if axes == 1 else positions, first, last, places
    return Batch(*(torch.from_numpy(np.ascontiguousarray(part)) for part in parts))
