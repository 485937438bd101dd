"""Attention over intervals: what a query sees is one run of keys, so nothing of T x T is ever made.

On a CPU the project's own kernel (`native`), or pieces of PyTorch's where it cannot be had; on a GPU FlexAttention.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from headwater.model import attention_blocks, attention_pieces
from headwater.model.attention_pieces import empty_like_heads
from headwater.model.intervals import Intervals
from headwater.model.native import kernel

if TYPE_CHECKING:
    from torch.nn.attention.flex_attention import BlockMask


def interval_attention(query: Tensor, key: Tensor, value: Tensor, intervals: Intervals, slopes: Tensor | None = None,
                       *, blocks: BlockMask | None = None, way: str = "auto") -> Tensor:
    """softmax(q k^T / sqrt(d) - slopes |q - k|) v over the keys that `intervals` shows to each query.

    query [B,H,T,d], key and value [B,K,T,d] with K dividing H (2305.13245); slopes float32 [H] for ALiBi (2108.12409)
    or None. Returns [B,H,T,d] in the query's dtype, its memory laid out [B,T,H,d]. Differentiable in query, key and
    value; two runs with as many threads give the same bits.
    blocks: on a GPU, `attention_blocks.blocks_of(intervals)`, so that layers share it. way: "auto"; on a CPU also
    "native" or "pieces", to have one or the other.
    """
    assert query.shape[1] % key.shape[1] == 0
    assert intervals.first.dtype == torch.int64
    if query.is_cuda:
        blocks = attention_blocks.blocks_of(intervals) if blocks is None else blocks
        return attention_blocks.attend(query, key, value, blocks, slopes)
    out: Tensor = _attend(query, key, value, intervals.first, intervals.last, slopes, way)[0]
    return out


def _chosen(way: str, query: Tensor) -> Any:
    return kernel if way == "native" or (way == "auto" and kernel.takes(query)) else attention_pieces


@torch.library.custom_op("headwater::interval_attention", mutates_args=(), device_types="cpu",
                         tags=torch.Tag.flexible_layout)
def _attend(query: Tensor, key: Tensor, value: Tensor, first: Tensor, last: Tensor, slopes: Tensor | None,
            way: str) -> tuple[Tensor, Tensor]:
    """The mixed values, and the log-sum-exps float32 [B,H,T] that the backward pass starts from."""
    out, normalizer = _chosen(way, query).forward(query, key, value, first, last, slopes)
    return out, normalizer


@_attend.register_fake
def _attend_shapes(query: Tensor, key: Tensor, value: Tensor, first: Tensor, last: Tensor, slopes: Tensor | None,
                   way: str) -> tuple[Tensor, Tensor]:
    return empty_like_heads(query), query.new_empty(query.shape[:3], dtype=torch.float32)


@torch.library.custom_op("headwater::interval_attention_backward", mutates_args=(), device_types="cpu",
                         tags=torch.Tag.flexible_layout)
def _differentiate(gradient: Tensor, query: Tensor, key: Tensor, value: Tensor, out: Tensor, normalizer: Tensor,
                   first: Tensor, last: Tensor, slopes: Tensor | None, way: str) -> tuple[Tensor, Tensor, Tensor]:
    one, two, three = _chosen(way, query).backward(gradient, query, key, value, out, normalizer, first, last, slopes)
    return one, two, three


@_differentiate.register_fake
def _gradient_shapes(gradient: Tensor, query: Tensor, key: Tensor, value: Tensor, out: Tensor, normalizer: Tensor,
                     first: Tensor, last: Tensor, slopes: Tensor | None, way: str) -> tuple[Tensor, Tensor, Tensor]:
    return empty_like_heads(query), empty_like_heads(key), empty_like_heads(value)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    *tensors, ctx.way = inputs
    ctx.save_for_backward(*tensors, *output)


def _backward(ctx: Any, gradient: Tensor, _: Tensor | None) -> tuple[Tensor | None, ...]:
    query, key, value, first, last, slopes, out, normalizer = ctx.saved_tensors
    found = _differentiate(gradient, query, key, value, out, normalizer, first, last, slopes, ctx.way)
    return *found, None, None, None, None


_attend.register_autograd(_backward, setup_context=_keep)
