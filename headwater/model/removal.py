"""A decoder with fewer blocks, the others renumbered; nothing else of it changes."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager

from torch import nn

from headwater.errors import InputError
from headwater.model.decoder import Block, Decoder


def remove_blocks(model: Decoder, layers: Collection[int]) -> Decoder:
    """The model, changed in place, without the blocks of these numbers, from 0.

    Every other field of its configuration stays, `residual_scale` too: it was learned with, whatever number of layers
    it once came from. Raises `InputError` for blocks that are not there, and for all of them.
    """
    count = len(model.blocks)
    absent = sorted(layer for layer in layers if not 0 <= layer < count)
    if absent:
        raise InputError(f"block {absent[0]} of {count}", fix=f"give numbers from 0 to {count - 1}")
    if len(set(layers)) == count:
        raise InputError(f"all {count} blocks are to be removed", fix="leave at least one")
    assert model.prefix is None, "a prefix has keys and values for every layer"
    _hold(model, [block for layer, block in enumerate(model.blocks) if layer not in layers])
    return model


@contextmanager
def without_blocks(model: Decoder, layers: Collection[int]) -> Iterator[Decoder]:
    """The model while these blocks are out of it."""
    whole = list(model.blocks)
    try:
        yield remove_blocks(model, layers)
    finally:
        _hold(model, whole)


def _hold(model: Decoder, blocks: list[nn.Module]) -> None:
    for layer, block in enumerate(blocks):
        assert isinstance(block, Block)
        block.attention.layer = layer  # its place in a cache
    model.blocks = nn.ModuleList(blocks)
    model.config = model.config.model_copy(update={"num_hidden_layers": len(blocks)})
