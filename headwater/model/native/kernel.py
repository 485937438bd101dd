"""Tensors handed to the compiled attention kernel."""

from __future__ import annotations

import ctypes
from typing import NamedTuple

import torch
from torch import Tensor

from headwater.model.attention_pieces import empty_like_heads
from headwater.model.native.build import library

_NAMES = {torch.float32: "float32", torch.bfloat16: "bfloat16"}
_WIDEST = 256


class _Heads(ctypes.Structure):
    """A tensor [B, heads, T, d] as `problem.h` describes it."""

    _fields_ = (("data", ctypes.c_void_p), ("by_row", ctypes.c_int64), ("by_head", ctypes.c_int64),
                ("by_token", ctypes.c_int64), ("tokens", ctypes.c_int64))

    @classmethod
    def of(cls, x: Tensor) -> _Heads:
        return cls(x.data_ptr(), *x.stride()[:3], x.shape[2])


class _Problem(ctypes.Structure):
    _fields_ = (*((name, _Heads) for name in ("query", "key", "value", "out", "out_gradient", "query_gradient",
                                              "key_gradient", "value_gradient")),
                *((name, ctypes.c_void_p) for name in ("normalizer", "first", "last", "slopes", "cosines", "sines")),
                *((name, ctypes.c_int64) for name in ("tables_by_row", "rotated", "rows", "heads", "kv_heads",
                                                      "length", "width", "before")),
                ("interleaved", ctypes.c_int32), ("threads", ctypes.c_int32))


def takes(dtype: torch.dtype, width: int) -> bool:
    """Whether the kernel is there for heads like these; the first time it is compiled."""
    return dtype in _NAMES and width % 16 == 0 and width <= _WIDEST and library("attention") is not None


class Call(NamedTuple):
    """What both passes are given."""

    query: Tensor
    key: Tensor
    value: Tensor
    first: Tensor
    last: Tensor
    slopes: Tensor | None
    cosines: Tensor | None = None
    """With `sines`, the tables of a rotation that queries and keys have not been through: float32 [B or 1,1,T,r]."""
    sines: Tensor | None = None
    interleaved: bool = False


def forward(call: Call) -> tuple[Tensor, Tensor]:
    """The mixed values [B,H,T,d] and the scores' log-sum-exps, float32 [B,H,T]."""
    out = empty_like_heads(call.query)
    normalizer = call.query.new_empty(call.query.shape[:3], dtype=torch.float32)
    _run("forward", call, normalizer, {"out": out})
    return out, normalizer


def backward(gradient: Tensor, out: Tensor, normalizer: Tensor, call: Call) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of query, key and value."""
    grads = empty_like_heads(call.query), empty_like_heads(call.key), empty_like_heads(call.value)
    names = ("query_gradient", "key_gradient", "value_gradient")
    _run("backward", call, normalizer, {"out": out, "out_gradient": gradient, **dict(zip(names, grads))})
    return grads


def _run(direction: str, call: Call, normalizer: Tensor, others: dict[str, Tensor]) -> None:
    query, key, native = call.query, call.key, library("attention")
    assert native is not None
    heads = {"query": query, "key": key, "value": call.value, **others}
    heads = {name: x if x.stride(-1) == 1 else x.contiguous() for name, x in heads.items()}
    plain = {"normalizer": normalizer, "first": call.first, "last": call.last}
    if call.slopes is not None:
        plain["slopes"] = call.slopes.float()
    sizes = dict(zip(("rows", "heads", "length", "width"), query.shape), kv_heads=key.shape[1],
                 before=key.shape[2] - query.shape[2])
    if call.cosines is not None and call.sines is not None:
        plain |= {"cosines": call.cosines.float(), "sines": call.sines.float()}
        rows, _, length, rotated = call.cosines.shape
        sizes |= {"tables_by_row": length * rotated if rows > 1 else 0, "rotated": rotated}
    plain = {name: x.contiguous() for name, x in plain.items()}
    problem = _Problem(**{name: _Heads.of(x) for name, x in heads.items()},
                       **{name: x.data_ptr() for name, x in plain.items()}, **sizes,
                       interleaved=call.interleaved, threads=torch.get_num_threads())
    if not native[f"interval_attention_{direction}_{_NAMES[query.dtype]}"](ctypes.byref(problem)):
        raise MemoryError(f"no memory for the {direction} pass of attention over {list(query.shape)} queries")
