"""Tensors handed to the compiled attention kernel."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from headwater.model.attention_pieces import empty_like_heads
from headwater.model.native.build import library

_NAMES = {torch.float32: "float32", torch.bfloat16: "bfloat16"}
_WIDEST = 256


class _Heads(ctypes.Structure):
    """A tensor [B, heads, T, d] as `problem.h` describes it."""

    _fields_ = (("data", ctypes.c_void_p), ("by_row", ctypes.c_int64), ("by_head", ctypes.c_int64),
                ("by_token", ctypes.c_int64))

    @classmethod
    def of(cls, x: Tensor) -> _Heads:
        return cls(x.data_ptr(), *x.stride()[:3])


class _Problem(ctypes.Structure):
    _fields_ = (*((name, _Heads) for name in ("query", "key", "value", "out", "out_gradient", "query_gradient",
                                              "key_gradient", "value_gradient")),
                *((name, ctypes.c_void_p) for name in ("normalizer", "first", "last", "slopes")),
                *((name, ctypes.c_int64) for name in ("rows", "heads", "kv_heads", "length", "width")),
                ("threads", ctypes.c_int32))


def takes(query: Tensor) -> bool:
    """Whether the kernel is there for tensors like this one; the first time it is compiled."""
    return query.dtype in _NAMES and query.shape[-1] % 16 == 0 and query.shape[-1] <= _WIDEST and library() is not None


def forward(query: Tensor, key: Tensor, value: Tensor, first: Tensor, last: Tensor,
            slopes: Tensor | None) -> tuple[Tensor, Tensor]:
    """The mixed values [B,H,T,d] and the scores' log-sum-exps, float32 [B,H,T]."""
    out, normalizer = empty_like_heads(query), query.new_empty(query.shape[:3], dtype=torch.float32)
    _run("forward", {"query": query, "key": key, "value": value, "out": out}, normalizer, first, last, slopes)
    return out, normalizer


def backward(gradient: Tensor, query: Tensor, key: Tensor, value: Tensor, out: Tensor, normalizer: Tensor,
             first: Tensor, last: Tensor, slopes: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of query, key and value."""
    grads = empty_like_heads(query), empty_like_heads(key), empty_like_heads(value)
    names = ("query_gradient", "key_gradient", "value_gradient")
    _run("backward", {"query": query, "key": key, "value": value, "out": out, "out_gradient": gradient,
                      **dict(zip(names, grads))}, normalizer, first, last, slopes)
    return grads


def _run(direction: str, heads: dict[str, Tensor], normalizer: Tensor, first: Tensor, last: Tensor,
         slopes: Tensor | None) -> None:
    query, native = heads["query"], library()
    assert native is not None
    kept = {name: x if x.stride(-1) == 1 else x.contiguous() for name, x in heads.items()}
    plain = {"normalizer": normalizer, "first": first.contiguous(), "last": last.contiguous()}
    if slopes is not None:
        plain["slopes"] = slopes.float().contiguous()
    rows, count, length, width = query.shape
    problem = _Problem(**{name: _Heads.of(x) for name, x in kept.items()},
                       **{name: x.data_ptr() for name, x in plain.items()}, rows=rows, heads=count,
                       kv_heads=heads["key"].shape[1], length=length, width=width, threads=torch.get_num_threads())
    if not native[f"interval_attention_{direction}_{_NAMES[query.dtype]}"](ctypes.byref(problem)):
        raise MemoryError(f"no memory for the {direction} pass of attention over {rows} x {count} x {length} queries")
