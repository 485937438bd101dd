"""RMSNorm and SwiGLU in one pass each, for training that is not compiled on a processor.

PyTorch's own operations there are a dozen passes over the activations, some of them in float32 and kept for the
backward pass; these keep their input and, of a norm, a number a row. Compiled training fuses PyTorch's itself.
"""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from torch import Tensor

from headwater.model.native.build import library

_NAMES = {torch.float32: "float32", torch.bfloat16: "bfloat16"}


class _Rows(ctypes.Structure):
    _fields_ = (*((name, ctypes.c_void_p) for name in ("x", "gradient", "out")), ("rows", ctypes.c_int64),
                ("columns", ctypes.c_int64), *((name, ctypes.c_void_p) for name in ("gain", "inverses", "gain_sums")),
                ("eps", ctypes.c_float), ("threads", ctypes.c_int32))


def serves(x: Tensor) -> bool:
    """Whether these are the ones to take: x learns on a processor, uncompiled, and there is a compiler for them."""
    return (x.requires_grad and torch.is_grad_enabled() and x.device.type == "cpu" and x.dtype in _NAMES
            and not torch.compiler.is_compiling() and library("fused") is not None)


def rms_norm(x: Tensor, gain: Tensor, eps: float) -> Tensor:
    """x / sqrt(mean(x^2) + eps) * gain over the last dimension (1910.07467), gain in x's dtype; sums in float32."""
    out: Tensor = _rms_norm(x, gain, eps)[0]
    return out


def swiglu(both: Tensor) -> Tensor:
    """silu(gate) * up (2002.05202) of [.., gate | up], each half of the last dimension."""
    out: Tensor = _swiglu(both)
    return out


@torch.library.custom_op("headwater::rms_norm", mutates_args=(), device_types="cpu")
def _rms_norm(x: Tensor, gain: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    x, out, inverses = x.contiguous(), torch.empty(x.shape, dtype=x.dtype), torch.empty(x.shape[:-1])
    _run("rms_norm_forward", x.shape[-1], eps, x=x, out=out, gain=gain.contiguous(), inverses=inverses)
    return out, inverses


@torch.library.custom_op("headwater::rms_norm_backward", mutates_args=(), device_types="cpu")
def _rms_norm_backward(gradient: Tensor, x: Tensor, gain: Tensor, inverses: Tensor) -> tuple[Tensor, Tensor]:
    sums = torch.zeros(torch.get_num_threads(), x.shape[-1])
    out = torch.empty(x.shape, dtype=x.dtype)
    _run("rms_norm_backward", x.shape[-1], 0.0, x=x.contiguous(), gradient=gradient.contiguous(), out=out,
         gain=gain.contiguous(), inverses=inverses, gain_sums=sums)
    return out, sums.sum(0).to(gain.dtype)


@torch.library.custom_op("headwater::swiglu", mutates_args=(), device_types="cpu")
def _swiglu(both: Tensor) -> Tensor:
    columns = both.shape[-1] // 2
    out = torch.empty((*both.shape[:-1], columns), dtype=both.dtype)
    _run("swiglu_forward", columns, 0.0, x=both.contiguous(), out=out)
    return out


@torch.library.custom_op("headwater::swiglu_backward", mutates_args=(), device_types="cpu")
def _swiglu_backward(gradient: Tensor, both: Tensor) -> Tensor:
    out = torch.empty(both.shape, dtype=both.dtype)
    _run("swiglu_backward", both.shape[-1] // 2, 0.0, x=both.contiguous(), gradient=gradient.contiguous(), out=out)
    return out


def _run(what: str, columns: int, eps: float, **tensors: Tensor) -> None:
    native, x = library("fused"), tensors["x"]
    assert native is not None
    rows = tensors["out"].numel() // max(1, tensors["out"].shape[-1])
    problem = _Rows(**{name: tensor.data_ptr() for name, tensor in tensors.items()}, rows=rows, columns=columns,
                    eps=eps, threads=torch.get_num_threads())
    native[f"{what}_{_NAMES[x.dtype]}"](ctypes.byref(problem))


def _keep_norm(ctx: Any, inputs: tuple[Tensor, Tensor, float], output: tuple[Tensor, Tensor]) -> None:
    ctx.save_for_backward(inputs[0], inputs[1], output[1])


def _norm_back(ctx: Any, gradient: Tensor, _: Tensor | None) -> tuple[Tensor, Tensor, None]:
    return *_rms_norm_backward(gradient, *ctx.saved_tensors), None


def _keep_both(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
    ctx.save_for_backward(inputs[0])


def _swiglu_back(ctx: Any, gradient: Tensor) -> Tensor:
    found: Tensor = _swiglu_backward(gradient, *ctx.saved_tensors)
    return found


_rms_norm.register_autograd(_norm_back, setup_context=_keep_norm)
_swiglu.register_autograd(_swiglu_back, setup_context=_keep_both)
