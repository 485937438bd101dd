"""Linear layers whose weights are four bits each and stay as they are (QLoRA, 2305.14314)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from headwater.model.few_rows import unpacked
from headwater.model.linear import as_multiplied
from headwater.model.native.four_bits import Levels, pack, unpack
from headwater.model.native.weights import Weights
from headwater.plan.finetuning import FLOAT_BYTES, GROUP

NF4: Levels = (-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635,
               -0.18477343022823334, -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725,
               0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941, 0.7229568362236023,
               1.0)
"""Quantiles of the normal distribution, with zero among them (section 3); these are bitsandbytes' float32 numbers."""
INT4: Levels = tuple(step / 7 for step in range(-8, 8))
"""Whole steps of a seventh of the largest weight; the lowest is never used."""


class FourBitLinear(nn.Module):
    """y = x W^T + b with W = level times scale: codes of levels [O,G*32], two a byte, and bfloat16 scales [O,G].

    Nothing here is trained: gradients reach x alone, and the backward pass unpacks the weights again. `levels` say what
    the codes mean.
    """

    weight: Tensor
    """uint8; rows whose length 64 does not divide end with codes of zeros."""
    scale: Tensor
    bias: Tensor | None

    def __init__(self, in_features: int, out_features: int, *, bias: bool, levels: Levels = NF4) -> None:
        super().__init__()
        self.in_features, self.out_features, self.levels = in_features, out_features, levels
        groups = -(-in_features // GROUP)
        self.register_buffer("weight", torch.zeros(out_features, groups * GROUP // 2, dtype=torch.uint8))
        self.register_buffer("scale", torch.ones(out_features, groups, dtype=torch.bfloat16))
        self.register_buffer("bias", torch.zeros(out_features) if bias else None)

    @classmethod
    def like(cls, linear: nn.Linear, levels: Levels = NF4) -> FourBitLinear:
        """An empty layer in the place of a float one."""
        return cls(linear.in_features, linear.out_features, bias=linear.bias is not None, levels=levels)

    @classmethod
    def pack(cls, linear: nn.Linear, levels: Levels = NF4) -> FourBitLinear:
        """The four-bit form of a float layer."""
        packed = cls.like(linear, levels)
        packed.quantize(linear.weight)
        if linear.bias is not None:
            packed.bias = linear.bias.detach().clone()
        return packed

    def quantize(self, weight: Tensor) -> None:
        """Take the weights of a float matrix [O,I], some rows at a time."""
        self.weight, self.scale = pack(weight, self.levels)

    def unpacked(self, dtype: torch.dtype) -> Tensor:
        """W [O,I]."""
        return unpack(self.weight, self.scale, self.levels, dtype)[:, : self.in_features]

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = product(as_multiplied(x), self.weight, self.scale, None, list(self.levels), self.bias)
        return y


def unpack_steps(codes: Tensor, scale: Tensor, zero: Tensor, dtype: torch.dtype) -> Tensor:
    """The matrix of some rows and groups whose codes count steps of their group's scale from its zero, rounded once.

    codes: uint8, the even column's in a byte's low bits; scale float16 and zero uint8 [r,G].
    """
    found = unpacked(Weights(codes, scale, zero), dtype)
    if found is not None:
        return found
    whole = torch.stack([codes & 15, codes >> 4], -1).view(*scale.shape, -1)
    return ((whole - zero[..., None].float()) * scale[..., None]).to(dtype).flatten(1)


def _matrix(codes: Tensor, scale: Tensor, zero: Tensor | None, levels: list[float], dtype: torch.dtype) -> Tensor:
    if zero is None:
        return unpack(codes, scale, tuple(levels), dtype)
    return unpack_steps(codes, scale, zero, dtype)


@torch.library.custom_op("headwater::four_bit_product", mutates_args=())
def product(x: Tensor, codes: Tensor, scale: Tensor, zero: Tensor | None, levels: list[float],
            bias: Tensor | None) -> Tensor:
    """Some columns of y after the others, each from its rows of W: of levels, or with a zero of whole steps."""
    y = x.new_empty((*x.shape[:-1], len(codes)))
    flat, columns = x.reshape(-1, x.shape[-1]), y.view(-1, len(codes))
    step = max(1, _numbers(x) // (2 * codes.shape[1]))
    for start in range(0, len(codes), step):
        rows = slice(start, start + step)
        zeros = None if zero is None else zero[rows]
        matrix = _matrix(codes[rows], scale[rows], zeros, levels, x.dtype)[:, : x.shape[-1]].t()
        if bias is None:
            torch.mm(flat, matrix, out=columns[:, rows])
        else:
            torch.addmm(bias[rows].to(x.dtype), flat, matrix, out=columns[:, rows])
    return y


@torch.library.custom_op("headwater::four_bit_gradient", mutates_args=())
def _gradient(gradient: Tensor, codes: Tensor, scale: Tensor, zero: Tensor | None, levels: list[float],
              columns: int) -> Tensor:
    """Of x: some columns after the others, each from all of W's rows, so that no sum is rounded half-way."""
    found = gradient.new_empty((*gradient.shape[:-1], columns))
    flat, into = gradient.reshape(-1, len(codes)), found.view(-1, columns)
    group = 2 * codes.shape[1] // scale.shape[1]
    step = max(1, _numbers(gradient) // (len(codes) * group))
    for start in range(0, scale.shape[1], step):
        groups, here = slice(start, start + step), slice(start * group, min((start + step) * group, columns))
        bytes_ = slice(start * group // 2, (start + step) * group // 2)
        zeros = None if zero is None else zero[:, groups]
        matrix = _matrix(codes[:, bytes_], scale[:, groups], zeros, levels, gradient.dtype)
        torch.mm(flat, matrix[:, : here.stop - here.start], out=into[:, here])
    return found


def _numbers(x: Tensor) -> int:
    """How many weights of x's type there may be at once."""
    return FLOAT_BYTES["cpu" if x.device.type == "cpu" else "cuda"] // x.element_size()


@product.register_fake
def _product_shape(x: Tensor, codes: Tensor, scale: Tensor, zero: Tensor | None, levels: list[float],
                   bias: Tensor | None) -> Tensor:
    return x.new_empty((*x.shape[:-1], codes.shape[0]))


@_gradient.register_fake
def _gradient_shape(gradient: Tensor, codes: Tensor, scale: Tensor, zero: Tensor | None, levels: list[float],
                    columns: int) -> Tensor:
    return gradient.new_empty((*gradient.shape[:-1], columns))


def _keep(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor, Tensor | None, list[float], Tensor | None],
          output: Tensor) -> None:
    x, codes, scale, zero, ctx.levels, _ = inputs
    ctx.columns = x.shape[-1]
    ctx.save_for_backward(codes, scale, zero)


def _back(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    found = _gradient(gradient, *ctx.saved_tensors, ctx.levels, ctx.columns)
    return found, None, None, None, None, None


product.register_autograd(_back, setup_context=_keep)
