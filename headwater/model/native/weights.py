"""A matrix as code of ours multiplies it, on either device."""

from __future__ import annotations

import ctypes
from typing import NamedTuple

import torch
from torch import Tensor

FEW = 16
"""Rows; with more, a product of whole matrices is quicker."""
FORMS = {torch.float32: 0, torch.bfloat16: 1, torch.int8: 2, torch.uint8: 3}
MULTIPLIED = {"cpu": (torch.float32, torch.bfloat16), "cuda": (torch.float32, torch.bfloat16, torch.float16)}
"""Types of rows that are multiplied, by device."""


class Matrix(ctypes.Structure):
    """As `products.h` describes it."""

    _fields_ = (*((name, ctypes.c_void_p) for name in ("weights", "scale", "zero", "bias", "divisor")),
                ("rows", ctypes.c_int64), ("columns", ctypes.c_int64), ("form", ctypes.c_int32),
                ("group", ctypes.c_int32))


class Weights(NamedTuple):
    """A matrix [O,I] of floats; of int8 with float32 scales [O]; or of four-bit codes, uint8 [O,I/2], whose groups have
    scales in float16 and zeros in uint8, [O,G]."""

    weight: Tensor
    scale: Tensor | None = None
    zero: Tensor | None = None
    bias: Tensor | None = None
    """float32 [O]; on a GPU of any type."""
    divisor: Tensor | None = None
    """float32 [O]: products are divided by it."""

    def usable(self, dtype: torch.dtype) -> bool:
        """Whether code of ours for its device can multiply it with rows of this type."""
        device, tensors = self.weight.device, [tensor for tensor in self if tensor is not None]
        return (dtype in MULTIPLIED.get(device.type, ()) and self.weight.dtype in (dtype, torch.int8, torch.uint8)
                and all(one.device == device for one in tensors)
                and all(type(one) in (Tensor, torch.nn.Parameter) and one.is_contiguous() for one in tensors))

    def matrix(self) -> Matrix:
        """Pointers, which are good for as long as these tensors are."""
        rows, columns = self.weight.shape
        if self.zero is not None:
            columns *= 2
        pointers = {name: None if tensor is None else tensor.data_ptr()
                    for name, tensor in zip(("weights", "scale", "zero", "bias", "divisor"), self, strict=True)}
        group = 0 if self.zero is None else columns // self.zero.shape[1]
        return Matrix(**pointers, rows=rows, columns=columns, form=FORMS[self.weight.dtype], group=group)
