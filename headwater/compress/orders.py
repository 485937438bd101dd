"""In which order blocks are removed: by their influence, and the orders it is held against."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import numpy as np
from torch import Tensor

from headwater.compress.influence import Influence, block_influences
from headwater.model import Decoder
from headwater.model.removal import without_blocks

Order = Literal["influence", "sequential", "magnitude", "last_first", "random"]


class Removal(NamedTuple):
    """The next block to go."""

    layer: int
    """As it is numbered in the whole model, from 0."""
    influence: float
    """As it was measured last."""


def removals(order: Order, found: Sequence[Influence], model: Decoder, rows: Tensor, seed: int) -> Iterator[Removal]:
    """All blocks but the last to stay, one after the other.

    influence: the lowest first, as measured once (`found`), which is ShortGPT's. sequential: the same, measured anew
    on `rows` without those that went before. magnitude: the lowest relative magnitude first. last_first: from the end.
    random: drawn by the seed.
    """
    if order == "sequential":
        yield from _sequential(found, model, rows)
        return
    layers = {"influence": ascending([one.influence for one in found]),
              "magnitude": ascending([one.magnitude for one in found]),
              "last_first": list(reversed(range(len(found)))),
              "random": np.random.default_rng(seed).permutation(len(found)).tolist()}[order]
    yield from (Removal(layer, found[layer].influence) for layer in layers[:-1])


def ascending(values: Sequence[float]) -> list[int]:
    """Places of the values, the lowest first; of equal ones the first."""
    return sorted(range(len(values)), key=values.__getitem__)


def _sequential(found: Sequence[Influence], model: Decoder, rows: Tensor) -> Iterator[Removal]:
    left = list(range(len(found)))
    while len(left) > 1:
        place = ascending([one.influence for one in found])[0]
        yield Removal(left.pop(place), found[place].influence)
        if len(left) > 1:
            with without_blocks(model, set(range(len(model.blocks))) - set(left)):
                found = block_influences(model, rows)
