"""Linear layers with INT8 weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from headwater.model.few_rows import few_rows
from headwater.model.native.weights import FEW, Weights

AT_ONCE = 1 << 20
"""Weights that are packed or unpacked at once."""
_STEP = 16
"""Columns that the kernel reads at once: over others it reads past a row's end, for wrong sums or a crash."""


def as_multiplied(x: Tensor) -> Tensor:
    """x in the type in which matrix products are taken: its own, or autocast's."""
    kind = x.device.type
    return x.to(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else x


def _aligned(tensor: Tensor) -> Tensor:
    """The tensor at an address that is a multiple of 64: PyTorch's INT8 kernel crashes at others."""
    return tensor if tensor.data_ptr() % 64 == 0 else tensor.clone()


def quantize_rows(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Symmetric INT8 per output row: q = round(w / s), s = max|w| / 127 (ChatGLM's scheme).

    weight float [O,I] gives int8 [O,I] and float32 scales [O]; a row of zeros gets scale 1, and one with a number that
    is not finite a scale that is not.
    """
    packed = torch.empty(weight.shape, dtype=torch.int8, device=weight.device)
    scale = torch.empty(len(weight), device=weight.device)
    step = len(weight) if weight.is_meta else max(1, AT_ONCE // weight.shape[1])
    for some, some_packed, some_scales in zip(weight.detach().split(step), packed.split(step), scale.split(step)):
        wide = some.float()
        largest = wide.abs().amax(dim=1)
        some_scales.copy_(torch.where(largest == 0, 1.0, largest / 127.0))
        some_packed.copy_(torch.round(wide / some_scales[:, None]).clamp_(-127, 127))
    return packed, scale


class ExactScale(nn.Module):
    """A packed layer: a cast of the model leaves its scales as they are, bfloat16 would round all of a row alike."""

    scale: Tensor

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        exact = self.scale
        super()._apply(fn, recurse)
        if not exact.is_meta:
            self.scale = exact.to(self.scale.device)
        return self


class Int8Linear(ExactScale):
    """y = (x W_q^T) * s + b with INT8 weights [O,I], float32 row scales [O] and activations left as they are."""

    weight: Tensor

    def __init__(self, in_features: int, out_features: int, *, bias: bool) -> None:
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        self.register_buffer("weight", torch.zeros(out_features, in_features, dtype=torch.int8))
        self.register_buffer("scale", torch.ones(out_features))
        self.bias = nn.Parameter(torch.zeros(out_features)) if bias else None

    @classmethod
    def like(cls, linear: nn.Linear) -> Int8Linear:
        """An empty layer in the place of a float one."""
        return cls(linear.in_features, linear.out_features, bias=linear.bias is not None)

    @classmethod
    def pack(cls, linear: nn.Linear) -> Int8Linear:
        """The INT8 form of a float layer."""
        packed = cls.like(linear)
        packed.quantize(linear.weight)
        if linear.bias is not None:
            assert packed.bias is not None
            packed.bias.data = linear.bias.detach().clone()
        return packed

    def quantize(self, weight: Tensor) -> None:
        """Take the weights of a float matrix [O,I], some rows at a time."""
        self.weight, self.scale = quantize_rows(weight)

    def forward(self, x: Tensor) -> Tensor:
        x = as_multiplied(x)
        y = few_rows(x, Weights(self.weight, self.scale.float()))
        if y is None:
            y = self._by_pytorch(x)
        return y if self.bias is None else y + self.bias.to(y.dtype)

    def _by_pytorch(self, x: Tensor) -> Tensor:
        rows, learns = x.numel() // self.in_features, x.requires_grad and torch.is_grad_enabled()
        if (x.dtype == torch.bfloat16 and x.device.type == "cpu" and rows <= FEW and self.in_features % _STEP == 0
                and not learns):
            self.weight = _aligned(self.weight)  # once: a file's mapped memory may lie anywhere
            flat = torch._weight_int8pack_mm(_aligned(x.reshape(rows, self.in_features)), self.weight,
                                             _aligned(self.scale.to(x.dtype)))
            return flat.view(*x.shape[:-1], self.out_features)
        y: Tensor = _Product.apply(x, self.weight, self.scale)
        return y


class _Product(torch.autograd.Function):
    """(x W_q^T) * s, some columns after the others; the backward pass unpacks the weights again instead of keeping
    them as floats."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, scale: Tensor) -> Tensor:
        ctx.save_for_backward(weight, scale)
        flat, y = x.reshape(-1, x.shape[-1]), x.new_empty(*x.shape[:-1], len(weight))
        into = y.view(-1, len(weight))
        step = max(1, AT_ONCE // weight.shape[1])
        for some, columns in zip(weight.split(step), into.split(step, dim=1), strict=True):
            torch.mm(flat, some.to(x.dtype).t(), out=columns)
        return y.mul_(scale.to(x.dtype))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        weight, scale = ctx.saved_tensors
        return (gradient * scale.to(gradient.dtype)) @ weight.to(gradient.dtype), None, None
