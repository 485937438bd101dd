"""AWQ (2306.00978): columns that see large inputs are scaled up before they are rounded, and what makes those inputs
is scaled down, so that the model stays an ordinary one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from headwater.compress.inputs import Inputs
from headwater.model.decoder import Block
from headwater.model.four_bits import unpack_steps
from headwater.model.int4 import joined, nearest, ranges
from headwater.model.packed import Form

GRID = 20
"""Exponents that are tried, from 0 on."""


class Fold(NamedTuple):
    """A linear layer, and how what goes into it is divided where it is made."""

    name: str
    divide: Callable[[Tensor], None]


def folds(block: Block) -> Iterator[Fold]:
    """The layers of a block whose inputs can be divided: behind a norm that feeds nothing else, behind the values
    where every query head has its own, behind a gated product."""
    attention, feedforward = block.attention, block.feedforward
    if block.placement != "scaled_residual":
        yield Fold("attention.qkv", lambda by: _divide(block.attention_norm, slice(None), by))
    if attention.heads == attention.kv_heads:
        values = slice(-attention.kv_heads * attention.head_dim, None)
        yield Fold("attention.out", lambda by: _divide(attention.qkv, values, by))
    if block.placement != "scaled_residual":
        yield Fold("feedforward.up", lambda by: _divide(block.feedforward_norm, slice(None), by))
    if feedforward.gated:
        products = slice(len(_weight(feedforward.up)) // 2, None)
        yield Fold("feedforward.down", lambda by: _divide(feedforward.up, products, by))


def smooth(block: Block, inputs: dict[str, Inputs], forms: dict[str, Form]) -> None:
    """Scale the columns of what will be INT4, each layer by the exponent that changes its outputs least."""
    for name, divide in folds(block):
        if forms[name].base == "int4":
            weight = _weight(block.get_submodule(name))
            best = search(weight, inputs[name], forms[name])
            weight.mul_(best)
            divide(best)
            inputs[name].divide(best)


def search(weight: Tensor, inputs: Inputs, form: Form) -> Tensor:
    """The scales s [I] = mean|x|^alpha, over their middle, of the alpha with which Q(W s) / s is nearest to W in the
    outputs. At 0 they are ones, so rounding to the nearest is never beaten by nothing."""
    mean = (inputs.sizes / max(1, inputs.tokens)).clamp(min=1e-4)
    tried = []
    for step in range(GRID):
        scales = mean ** (step / GRID)
        scales = scales / (scales.max() * scales.min()).sqrt()
        tried.append((inputs.error(_rounded(weight * scales, form) / scales - weight), step, scales))
    return min(tried, key=lambda one: one[:2])[2]


def _rounded(weight: Tensor, form: Form) -> Tensor:
    scale, zero = ranges(weight, form.group, symmetric=form.symmetric)
    return unpack_steps(joined(nearest(weight, scale, zero)), scale, zero, torch.float32)


def _weight(module: nn.Module) -> Tensor:
    found = module.weight
    assert isinstance(found, Tensor)
    return found.data


def _divide(module: nn.Module, rows: slice, by: Tensor) -> None:
    """Rows of a matrix or of a norm's gain, and of the bias beside it."""
    weight = _weight(module)[rows]
    weight /= by if weight.dim() == 1 else by[:, None]
    bias = getattr(module, "bias", None)
    if isinstance(bias, Tensor):
        bias.data[rows] /= by
