"""What goes into a block's linear layers, gathered block by block behind those that are packed already."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from contextlib import suppress

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
        self.drift: Tensor | None = None
        """2 (X_f - X)^T X with X_f what the float model is given, float32 [I,I]; where that was read too."""
        self.tokens = 0

    def add(self, x: Tensor, floats: Tensor | None = None) -> None:
        """Of some tokens [..,I]; floats: what the float model is given for them."""
        flat = x.detach().reshape(-1, x.shape[-1]).float()
        self.hessian.addmm_(flat.t(), flat, alpha=2)
        if floats is not None:
            self.drift = torch.zeros_like(self.hessian) if self.drift is None else self.drift
            self.drift.addmm_((floats.detach().reshape(flat.shape).float() - flat).t(), flat, alpha=2)
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
"""Packs linear layers of the block of a number, by their names in it."""
Stream = list[Tensor]
"""What goes from a block to the next, of every pass."""


@torch.no_grad()
def pack_blocks(model: Decoder, rows: Tensor, pack: Packing, *, in_turn: bool = False) -> None:
    """Every block in turn sees rows of ids [N,T] through the packed blocks before it, is packed, and reads them again.

    in_turn: its layers too are packed one behind the other, and the float model reads beside. A block is float32 while
    it is worked on; in memory are its inputs (in_turn: one layer's, and the block again) and the streams behind it.
    """
    batches = rows.to(model.device).split(max(1, TOKENS // rows.shape[1]))
    started = [_start(model, ids) for ids in batches]
    stream = floats = [x.float() for x, _ in started]
    contexts = [context for _, context in started]
    for layer, block in enumerate(track(model.blocks, "quantizing blocks", len(model.blocks))):
        assert isinstance(block, Block)
        kind = next(block.parameters()).dtype
        block.float()
        whole = copy.deepcopy(block) if in_turn else None
        names = [name for name, one in block.named_modules() if isinstance(one, nn.Linear)]
        for some in ([name] for name in names) if in_turn else [names]:
            pack(layer, block, _gathered(some, (block, stream), None if whole is None else (whole, floats), contexts))
        stream = _read(block, stream, contexts)
        floats = stream if whole is None else _read(whole, floats, contexts)
        block.to(kind)


def _start(model: Decoder, ids: Tensor) -> tuple[Tensor, Context]:
    """What the first block is given."""
    context, positions = make_context(model.config, model.positions, Batch(ids, None, None, None, None, None))
    return model.positions.embed(model.embedding(ids), positions), context


def _read(block: Block, stream: Stream, contexts: Sequence[Context]) -> Stream:
    return [block(x, context) for x, context in zip(stream, contexts, strict=True)]


def _gathered(names: list[str], packed: tuple[Block, Stream], floats: tuple[Block, Stream] | None,
              contexts: Sequence[Context]) -> dict[str, Inputs]:
    """Of these layers of a block, and beside it of the same block of floats."""
    found: dict[str, Inputs] = {}
    for number, context in enumerate(contexts):
        given = _given(names, packed[0], packed[1][number], context)
        beside = {} if floats is None else _given(names, floats[0], floats[1][number], context)
        for name, x in given.items():
            found.setdefault(name, Inputs(x.shape[-1], x.device)).add(x, beside.get(name))
    return found


class _Enough(Exception):
    """The last layer that is watched has its input; the rest of the block need not run."""


def _given(names: list[str], block: Block, x: Tensor, context: Context) -> dict[str, Tensor]:
    """What goes into these layers in one pass."""
    found: dict[str, Tensor] = {}

    def watching(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def watch(_: nn.Module, given: tuple[Tensor, ...]) -> None:
            found[name] = given[0]
            if len(found) == len(names):
                raise _Enough
        return watch

    hooks = [block.get_submodule(name).register_forward_pre_hook(watching(name)) for name in names]
    try:
        with suppress(_Enough):
            block(x, context)
    finally:
        for hook in hooks:
            hook.remove()
    return found
