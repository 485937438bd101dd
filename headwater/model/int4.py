"""Linear layers whose weights are whole numbers of four bits, each group of a row with a scale and a zero (W4A16)."""

from __future__ import annotations

from typing import Literal, Self, get_args

import torch
from torch import Tensor, nn

from headwater.model.few_rows import few_rows
from headwater.model.four_bits import product, unpack_steps
from headwater.model.linear import AT_ONCE, ExactScale, as_multiplied
from headwater.model.native.weights import Weights

Group = Literal[32, 64, 128]
GROUPS: tuple[int, ...] = get_args(Group)
STEPS = 15
"""The largest code."""
MIDDLE = 8
"""The zero of symmetric groups, whose codes are 8 above -8 to 7."""
_LEAST = 2.0 ** -24
"""The smallest positive float16: what a scale is at least."""


def ranges(weight: Tensor, group: int, *, symmetric: bool, share: float = 1.0) -> tuple[Tensor, Tensor]:
    """Scales float16 and zeros uint8 [O,G] of a float matrix [O,I], from the largest and smallest weight of a group.

    symmetric: s = max|w| / 7.5 and the zero is 8. Else s = (max - min) / 15 with min <= 0 <= max, so that a weight of
    nought stays one, and the zero is round(-min / s). share: of max and min, what is beyond being cut. What is not
    finite makes its group's scale NaN.
    """
    grouped = weight.float().unflatten(1, (-1, group))
    low, high = share * grouped.amin(2).clamp_(max=0), share * grouped.amax(2).clamp_(min=0)
    scale = torch.maximum(-low, high) / (STEPS / 2) if symmetric else (high - low) / STEPS
    scale = (scale + (scale - scale)).half()
    scale = torch.where(scale < _LEAST, _LEAST, scale)
    zero = torch.full_like(scale, MIDDLE) if symmetric else torch.round(-low / scale.float()).clamp_(0, STEPS)
    return scale, zero.nan_to_num_(MIDDLE).to(torch.uint8)


def nearest(weight: Tensor, scale: Tensor, zero: Tensor) -> Tensor:
    """The code uint8 of every weight [O,I] under its group's scale and zero [O,G]."""
    grouped = weight.float().unflatten(1, (scale.shape[1], -1)) / scale.float()[..., None]
    return (torch.round(grouped) + zero[..., None]).clamp_(0, STEPS).nan_to_num_(MIDDLE).to(torch.uint8).flatten(1)


def joined(codes: Tensor) -> Tensor:
    """Codes [O,I] two to a byte [O,I/2], the even column's in the low bits."""
    return codes[:, ::2] | codes[:, 1::2] << 4


def apart(codes: Tensor) -> Tensor:
    """The other way round."""
    return torch.stack([codes & 15, codes >> 4], -1).flatten(1)


class Int4Linear(ExactScale):
    """y = x W^T + b with W[o,i] = scale[o,g] (code[o,i] - zero[o,g]), g = i // group; activations stay floats.

    Nothing here is trained: gradients reach x alone, and the backward pass unpacks the weights again.
    """

    codes: Tensor
    """uint8 [O,I/2]: byte j of a row holds column 2j in its low bits and column 2j+1 in its high ones; `scale` is
    float16 [O,G]."""
    zero: Tensor
    """uint8 [O,G] of 0 to 15."""
    bias: Tensor | None

    def __init__(self, in_features: int, out_features: int, *, bias: bool, group: int = 128, symmetric: bool = False
                 ) -> None:
        super().__init__()
        assert group in GROUPS
        assert in_features % group == 0
        self.in_features, self.out_features, self.group, self.symmetric = in_features, out_features, group, symmetric
        groups = in_features // group
        self.register_buffer("codes", torch.zeros(out_features, in_features // 2, dtype=torch.uint8))
        self.register_buffer("scale", torch.ones(out_features, groups, dtype=torch.float16))
        self.register_buffer("zero", torch.full((out_features, groups), MIDDLE, dtype=torch.uint8))
        self.register_buffer("bias", torch.zeros(out_features) if bias else None)

    @classmethod
    def like(cls, linear: nn.Linear, group: int = 128, *, symmetric: bool = False) -> Self:
        """An empty layer in the place of a float one."""
        return cls(linear.in_features, linear.out_features, bias=linear.bias is not None, group=group,
                   symmetric=symmetric)

    @classmethod
    def pack(cls, linear: nn.Linear, group: int = 128, *, symmetric: bool = False) -> Self:
        """The INT4 form of a float layer."""
        packed = cls.like(linear, group, symmetric=symmetric)
        packed.quantize(linear.weight)
        if linear.bias is not None:
            packed.bias = linear.bias.detach().clone()
        return packed

    def quantize(self, weight: Tensor) -> None:
        """Take the weights of a float matrix [O,I], each rounded to the nearest, some rows at a time."""
        found = []
        for some in weight.detach().split(max(1, AT_ONCE // self.in_features)):
            scale, zero = ranges(some, self.group, symmetric=self.symmetric)
            found.append((joined(nearest(some, scale, zero)), scale, zero))
        self.codes, self.scale, self.zero = (torch.cat(parts) for parts in zip(*found, strict=True))

    def unpacked(self, dtype: torch.dtype) -> Tensor:
        """W [O,I]."""
        return unpack_steps(self.codes, self.scale, self.zero, dtype)

    def forward(self, x: Tensor) -> Tensor:
        x = as_multiplied(x)
        few = few_rows(x, Weights(self.codes, self.scale, self.zero))
        if few is not None:
            return few if self.bias is None else few + self.bias.to(few.dtype)
        y: Tensor = product(x, self.codes, self.scale, self.zero, [], self.bias)
        return y
