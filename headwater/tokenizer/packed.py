"""The ids of many texts in one array."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Packed(NamedTuple):
    """`ids` uint32 [N] of all texts, one after the other; text i owns ids[offsets[i]:offsets[i + 1]], offsets int64."""

    ids: NDArray[np.uint32]
    offsets: NDArray[np.int64]

    def rows(self) -> Iterator[NDArray[np.uint32]]:
        for start, end in zip(self.offsets[:-1], self.offsets[1:]):
            yield self.ids[start:end]


def pack(rows: Sequence[Sequence[int]]) -> Packed:
    """Lists of ids in one array."""
    return join([np.array(row, np.uint32) for row in rows])


def join(rows: Sequence[NDArray[np.uint32]]) -> Packed:
    """Arrays of ids in one."""
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)
    return Packed(np.concatenate([np.zeros(0, np.uint32), *rows]), offsets)


def replaced(packed: Packed, places: Iterable[int], rows: Iterable[NDArray[np.uint32]]) -> Packed:
    """With other ids for the texts at these places."""
    found = list(packed.rows())
    for place, row in zip(places, rows):
        found[place] = row
    return join(found)
