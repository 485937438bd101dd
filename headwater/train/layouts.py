"""How the text of a row becomes training samples: causal language modelling and its prefix form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, Protocol

import numpy as np

from headwater.train.batches import IGNORE, Ints, Sample, counted, last_seen


class Piece(NamedTuple):
    """As much of a document as a row holds."""

    ids: Ints
    """[n], n >= 1."""
    following: int
    """The document's next token, `IGNORE` at its end."""
    place: int
    """Of its first token, among all tokens of the data."""
    opens: bool
    """Whether the document begins here."""


class Layout(Protocol):
    """How an objective writes a row."""

    @property
    def shares(self) -> Sequence[float]:
        """Of the rows, by kind; kinds are numbered from 0."""
        ...

    @property
    def axes(self) -> int:
        """Numbers in a position, 1 or 2."""
        ...

    def samples(self, pieces: Sequence[Piece], kind: int, room: int, draw: np.random.Generator) -> list[Sample]:
        """The row's samples, which together hold every token of the pieces once and at most `room` tokens more."""
        ...


@dataclass(frozen=True)
class Causal:
    """Every token is predicted from those before it in its document."""

    axes: int = 1
    shares: ClassVar[Sequence[float]] = (1.0,)

    def samples(self, pieces: Sequence[Piece], kind: int, room: int, draw: np.random.Generator) -> list[Sample]:
        return [continued(piece, 0, self.axes) for piece in pieces]


@dataclass(frozen=True)
class Prefix:
    """Prefix language modelling: the first tokens of each piece, 1 to n - 1 of n with equal chance, are read both ways
    and not asked for; the rest is predicted as in causal modelling (T5, 1910.10683, section 3.2.1)."""

    axes: int = 1
    shares: ClassVar[Sequence[float]] = (1.0,)

    def samples(self, pieces: Sequence[Piece], kind: int, room: int, draw: np.random.Generator) -> list[Sample]:
        return [continued(piece, int(draw.integers(1, max(2, len(piece.ids)))), self.axes) for piece in pieces]


def continued(piece: Piece, prefix: int, axes: int) -> Sample:
    """A piece whose tokens after the first `prefix` are asked for, the first of them by the last of the prefix."""
    size = len(piece.ids)
    targets = np.append(piece.ids[1:], piece.following)
    targets[: max(0, prefix - 1)] = IGNORE
    return Sample(piece.ids, targets, counted(size, axes), last_seen(size, prefix), piece.place + np.arange(size))
