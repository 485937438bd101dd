"""Attention over intervals: what a query sees is one run of keys, so nothing of T x T is ever made.

On a CPU the project's own kernel (`native`), or pieces of PyTorch's where there is no compiler; on a GPU FlexAttention.
"""

from __future__ import annotations

import torch
from torch import Tensor

from headwater.model import attention_pieces as pieces
from headwater.model.intervals import Intervals
from headwater.model.native import kernel


def interval_attention(query: Tensor, key: Tensor, value: Tensor, intervals: Intervals,
                       slopes: Tensor | None = None, *, way: str = "auto") -> Tensor:
    """softmax(q k^T / sqrt(d) - slopes |q - k|) v over the keys that `intervals` shows to each query.

    query [B,H,T,d], key and value [B,K,T,d] with K dividing H (2305.13245); slopes float32 [H] for ALiBi (2108.12409)
    or None. Returns [B,H,T,d] in the query's dtype, its memory laid out [B,T,H,d]. Differentiable in query, key and
    value; two runs with as many threads give the same bits.
    way: "auto", or on a CPU "native" or "pieces" to have one or the other.
    """
    return _attend(query, key, value, intervals.first, intervals.last, slopes, way)[0]


@torch.library.custom_op("headwater::interval_attention", mutates_args=(), device_types="cpu")
def _attend(query: Tensor, key: Tensor, value: Tensor, first: Tensor, last: Tensor, slopes: Tensor | None,
            way: str) -> tuple[Tensor, Tensor]:
    """The mixed values, and the log-sum-exps float32 [B,H,T] that the backward pass starts from."""
    own = way == "native" or (way == "auto" and kernel.takes(query))
    return (kernel if own else pieces).forward(query, key, value, first, last, slopes)


@_attend.register_fake
def _attend_fake(query: Tensor, key: Tensor, value: Tensor, first: Tensor, last: Tensor, slopes: Tensor | None,
                 way: str) -> tuple[Tensor, Tensor]:
    return pieces.empty_like_heads(query), query.new_empty(query.shape[:3], dtype=torch.float32)


@torch.library.custom_op("headwater::interval_attention_backward", mutates_args=(), device_types="cpu")
def _differentiate(gradient: Tensor, query: Tensor, key: Tensor, value: Tensor, out: Tensor, normalizer: Tensor,
                   first: Tensor, last: Tensor, slopes: Tensor | None, way: str) -> tuple[Tensor, Tensor, Tensor]:
    own = way == "native" or (way == "auto" and kernel.takes(query))
    return (kernel if own else pieces).backward(gradient, query, key, value, out, normalizer, first, last, slopes)


@_differentiate.register_fake
def _differentiate_fake(gradient: Tensor, query: Tensor, key: Tensor, value: Tensor, out: Tensor, normalizer: Tensor,
                        first: Tensor, last: Tensor, slopes: Tensor | None,
                        way: str) -> tuple[Tensor, Tensor, Tensor]:
    return pieces.empty_like_heads(query), pieces.empty_like_heads(key), pieces.empty_like_heads(value)


def _keep(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    *tensors, ctx.way = inputs
    ctx.save_for_backward(*tensors, *output)


def _backward(ctx, gradient, _):  # type: ignore[no-untyped-def]
    query, key, value, first, last, slopes, out, normalizer = ctx.saved_tensors
    grads = _differentiate(gradient, query, key, value, out, normalizer, first, last, slopes, ctx.way)
    return *grads, None, None, None, None


_attend.register_autograd(_backward, setup_context=_keep)
