"""Products of few rows with matrices as they are stored, by code of ours that reads every weight once."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from headwater.model.gpu import has_triton
from headwater.model.native.build import library
from headwater.model.native.weights import FEW, FORMS, Matrix, Weights


class _Product(ctypes.Structure):
    _fields_ = (("matrix", Matrix), ("x", ctypes.c_void_p), ("y", ctypes.c_void_p), ("count", ctypes.c_int64),
                ("stored", ctypes.c_int32), ("threads", ctypes.c_int32))


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
