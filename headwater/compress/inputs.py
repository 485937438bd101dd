"""What goes into a block's linear layers, gathered block by block behind those that are packed already."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from headwater.model import Decoder
from headwater.model.batch import Batch
from headwater.model.context import Context, make_context
from headwater.model.decoder import Block
from headwater.progress import track

TOKENS = 4096
"""Read in one pass."""


class Inputs:
    """Of one linear layer, over all tokens that it was given."""

    def __init__(self, columns: int, device: torch.device) -> None:
        self.hessian = torch.zeros(columns, columns, device=device)
        """2 X^T X, float32 [I,I]: the second derivative of the squared error of a row's outputs by its weights."""
        self.sizes = torch.zeros(columns, device=device)
        """The sum of |x|, [I]."""
        self.tokens = 0

    def add(self, x: Tensor) -> None:
        flat = x.detach().reshape(-1, x.shape[-1]).float()
        self.hessian.addmm_(flat.t(), flat, alpha=2)
        self.sizes += flat.abs().sum(0)
        self.tokens += len(flat)

    def divide(self, by: Tensor) -> None:
        """As if every x had been divided by [I]."""
        self.hessian /= by * by[:, None]
        self.sizes /= by

    def error(self, difference: Tensor) -> float:
        """The mean square of what a difference of weights [O,I] changes in the outputs, summed over them."""
        return float((difference @ self.hessian * difference).sum()) / (2 * max(1, self.tokens))


Packing = Callable[[int, Block, dict[str, Inputs]], None]
"""Packs the linear layers of the block of a number, by their names in it."""


@torch.no_grad()
def pack_blocks(model: Decoder, rows: Tensor, pack: Packing) -> None:
    """Every block in turn sees rows of ids [N,T] through the packed blocks before it, is packed, and reads them again.

    A block is float32 while it is worked on; in memory are one block's inputs and the stream between two blocks.
    """
    batches = rows.to(model.device).split(max(1, TOKENS // rows.shape[1]))
    started = [_start(model, ids) for ids in batches]
    stream = [x.float() for x, _ in started]
    contexts = [context for _, context in started]
    for layer, block in enumerate(track(model.blocks, "quantizing blocks", len(model.blocks))):
        assert isinstance(block, Block)
        kind = next(block.parameters()).dtype
        block.float()
        with _watched(block) as inputs:
            for x, context in zip(stream, contexts, strict=True):
                block(x, context)
        pack(layer, block, inputs)
        stream = [block(x, context) for x, context in zip(stream, contexts, strict=True)]
        block.to(kind)


def _start(model: Decoder, ids: Tensor) -> tuple[Tensor, Context]:
    """What the first block is given."""
    context, positions = make_context(model.config, model.positions, Batch(ids, None, None, None, None, None))
    return model.positions.embed(model.embedding(ids), positions), context


@contextmanager
def _watched(block: Block) -> Iterator[dict[str, Inputs]]:
    linears = {name: one for name, one in block.named_modules() if isinstance(one, nn.Linear)}
    inputs = {name: Inputs(one.in_features, one.weight.device) for name, one in linears.items()}

    def watching(own: Inputs) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        return lambda _, given: own.add(given[0])

    hooks = [one.register_forward_pre_hook(watching(inputs[name])) for name, one in linears.items()]
    try:
        yield inputs
    finally:
        for hook in hooks:
            hook.remove()
