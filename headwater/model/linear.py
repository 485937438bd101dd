"""Linear layers with packed weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

FEW_ROWS = 16
"""Up to this many rows PyTorch's INT8 kernel reads a quarter of the bytes and wins; past it, unpacking once and a
plain matrix product does (measured at 256 and 4096 columns, see docs/decisions.md)."""


_STEP = 16
"""Columns that the kernel reads at once: over others it reads past a row's end, for wrong sums or a crash."""


def _aligned(tensor: Tensor) -> Tensor:
    """The tensor at an address that is a multiple of 64: PyTorch's INT8 kernel crashes at others."""
    return tensor if tensor.data_ptr() % 64 == 0 else tensor.clone()


def quantize_rows(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Symmetric INT8 per output row: q = round(w / s), s = max|w| / 127 (ChatGLM's scheme).

    weight float [O,I] gives int8 [O,I] and float32 scales [O]; a row of zeros gets scale 1.
    """
    largest = weight.detach().float().abs().amax(dim=1)
    scale = torch.where(largest > 0, largest / 127.0, torch.ones_like(largest))
    return torch.round(weight.detach().float() / scale[:, None]).clamp_(-127, 127).to(torch.int8), scale


class Int8Linear(nn.Module):
    """y = (x W_q^T) * s + b with INT8 weights [O,I], float32 row scales [O] and activations left as they are."""

    weight: Tensor
    scale: Tensor

    def __init__(self, in_features: int, out_features: int, *, bias: bool) -> None:
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        self.register_buffer("weight", torch.zeros(out_features, in_features, dtype=torch.int8))
        self.register_buffer("scale", torch.ones(out_features))
        self.bias = nn.Parameter(torch.zeros(out_features)) if bias else None

    @classmethod
    def pack(cls, linear: nn.Linear) -> Int8Linear:
        """The INT8 form of a float layer."""
        packed = cls(linear.in_features, linear.out_features, bias=linear.bias is not None)
        packed.weight, packed.scale = quantize_rows(linear.weight)
        if linear.bias is not None:
            assert packed.bias is not None
            packed.bias.data.copy_(linear.bias.data)
        return packed

    def forward(self, x: Tensor) -> Tensor:
        rows = x.numel() // self.in_features
        if (x.dtype == torch.bfloat16 and x.device.type == "cpu" and rows <= FEW_ROWS
                and self.in_features % _STEP == 0):
            self.weight = _aligned(self.weight)  # once: a file's mapped memory may lie anywhere
            flat = torch._weight_int8pack_mm(_aligned(x.reshape(rows, self.in_features)), self.weight,
                                             _aligned(self.scale.to(x.dtype)))
            y = flat.view(*x.shape[:-1], self.out_features)
        else:
            y = F.linear(x, self.weight.to(x.dtype)) * self.scale.to(x.dtype)
        return y if self.bias is None else y + self.bias
