"""Products of few rows with matrices as they are stored, by code of ours that reads every weight once."""

from __future__ import annotations

import ctypes
from typing import NamedTuple

import torch
from torch import Tensor

from headwater.model.gpu import has_triton
from headwater.model.native.build import library

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


class _Product(ctypes.Structure):
    _fields_ = (("matrix", Matrix), ("x", ctypes.c_void_p), ("y", ctypes.c_void_p), ("count", ctypes.c_int64),
                ("stored", ctypes.c_int32), ("threads", ctypes.c_int32))


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


def few_rows(x: Tensor, weights: Weights) -> Tensor | None:
    """x W^T for x [..,I] of few rows, sums in float32; None where there is no code for it."""
    count = x.numel() // x.shape[-1]
    if count > FEW or torch.compiler.is_compiling() or (x.requires_grad and torch.is_grad_enabled()):
        return None
    if x.device != weights.weight.device or not weights.usable(x.dtype):
        return None
    if x.is_cuda:
        return _on_gpu(x, weights)
    native = library("decode")
    if native is None:
        return None
    x, y = x.contiguous(), x.new_empty((*x.shape[:-1], len(weights.weight)))
    product = _Product(weights.matrix(), x.data_ptr(), y.data_ptr(), count, FORMS[x.dtype], torch.get_num_threads())
    native.few_rows(ctypes.byref(product))
    return y


def _on_gpu(x: Tensor, weights: Weights) -> Tensor | None:
    if not has_triton():
        return None
    from headwater.model.gpu import products

    return products.few_rows(x, weights)


def unpacked(weights: Weights, dtype: torch.dtype) -> Tensor | None:
    """A matrix of four-bit codes as floats [O,I], rounded once; None where there is no code for it."""
    on_cpu = weights.weight.device.type == "cpu"
    native = library("decode") if on_cpu and weights.usable(dtype) else None
    run = getattr(native, "unpack_steps", None)
    if run is None:
        return None
    matrix = weights.matrix()
    y = torch.empty(matrix.rows, matrix.columns, dtype=dtype)
    run(ctypes.byref(_Product(matrix, None, y.data_ptr(), 0, FORMS[dtype], torch.get_num_threads())))
    return y
