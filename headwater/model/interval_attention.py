"""Attention over intervals: what a query sees is one run of keys, so nothing of T x T is ever made. A prefix, which all
queries see, is a second such attention.

On a CPU the project's own kernel (`native`), or pieces of PyTorch's where it cannot be had; on a GPU FlexAttention.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from headwater.model import attention_blocks, attention_pieces
from headwater.model.attention_pieces import empty_like_heads
from headwater.model.intervals import Intervals
from headwater.model.native import kernel
from headwater.model.positions import rotate

if TYPE_CHECKING:
    from torch.nn.attention.flex_attention import BlockMask


_FEWEST = 64
"""Keys of a prefix in a row."""


class Rotation(NamedTuple):
    """The tables that `positions.rotate` takes, cos and sin [B or 1,1,T,r], and how its pairs lie."""

    cos: Tensor
    sin: Tensor
    layout: str


def interval_attention(query: Tensor, key: Tensor, value: Tensor, intervals: Intervals, slopes: Tensor | None = None,
                       *, rotation: Rotation | None = None, blocks: BlockMask | None = None,
                       prefix: Tensor | None = None, way: str = "auto") -> Tensor:
    """softmax(q k^T / sqrt(d) - slopes |q - k|) v over the keys that `intervals` shows to each query.

    query [B,H,T,d], key and value [B,K,T,d] with K dividing H (2305.13245); slopes float32 [H] for ALiBi (2108.12409)
    or None. The native kernel also takes more keys, before those of the queries' own tokens; the intervals then count
    all of them, and nothing is differentiated. Returns [B,H,T,d] in the query's dtype, its memory laid out
    [B,T,H,d]. Differentiable in query, key and value; two runs with as many threads give the same bits.
    rotation: queries and keys are rotated by it first, which the kernel does as it reads them. blocks: on a GPU,
    `attention_blocks.blocks_of(intervals)`, so that layers share it. prefix: keys and values [2,K,P,d] that every query
    sees too, as they are and without a bias; differentiable. way: "auto"; on a CPU also "native" or "pieces", to have
    one or the other.
    """
    assert query.shape[1] % key.shape[1] == 0
    assert intervals.first.dtype == torch.int64
    assert prefix is None or prefix.shape[1] == key.shape[1]
    if way == "auto" and not query.is_cuda:
        way = _way(query.dtype, query.shape[-1])
    if rotation is not None and (way != "native" or rotation.cos.dim() != 4 or prefix is not None):
        query, key = (rotate(x, *rotation) for x in (query, key))
        rotation = None
    prefix = None if prefix is None else prefix.to(query.dtype)
    if query.is_cuda:
        blocks = attention_blocks.blocks_of(intervals) if blocks is None else blocks
        return attention_blocks.attend(query, key, value, blocks, slopes, prefix)
    if prefix is not None:
        joined: Tensor = _attend_both(query, key, value, prefix, intervals.first, intervals.last, slopes, way)[0]
        return joined
    cos, sin, layout = rotation or (None, None, "half")
    out: Tensor = _attend(query, key, value, intervals.first, intervals.last, slopes, cos, sin, layout, way)[0]
    return out


@torch.compiler.assume_constant_result
def _way(dtype: torch.dtype, width: int) -> str:
    return "native" if kernel.takes(dtype, width) else "pieces"


@torch.library.custom_op("headwater::interval_attention", mutates_args=(), device_types="cpu",
                         tags=torch.Tag.flexible_layout)
def _attend(query: Tensor, key: Tensor, value: Tensor, first: Tensor, last: Tensor, slopes: Tensor | None,
            cos: Tensor | None, sin: Tensor | None, layout: str, way: str) -> tuple[Tensor, Tensor]:
    """The mixed values, and the log-sum-exps float32 [B,H,T] that the backward pass starts from."""
    if way == "native":
        return kernel.forward(kernel.Call(query, key, value, first, last, slopes, cos, sin, layout == "interleaved"))
    assert cos is None
    return attention_pieces.forward(query, key, value, first, last, slopes)


@_attend.register_fake
def _attend_shapes(query: Tensor, key: Tensor, value: Tensor, first: Tensor, last: Tensor, slopes: Tensor | None,
                   cos: Tensor | None, sin: Tensor | None, layout: str, way: str) -> tuple[Tensor, Tensor]:
    return empty_like_heads(query), query.new_empty(query.shape[:3], dtype=torch.float32)


@torch.library.custom_op("headwater::interval_attention_backward", mutates_args=(), device_types="cpu",
                         tags=torch.Tag.flexible_layout)
def _differentiate(gradient: Tensor, out: Tensor, normalizer: Tensor, query: Tensor, key: Tensor, value: Tensor,
                   first: Tensor, last: Tensor, slopes: Tensor | None, cos: Tensor | None, sin: Tensor | None,
                   layout: str, way: str) -> tuple[Tensor, Tensor, Tensor]:
    assert key.shape == value.shape
    assert key.shape[2] == query.shape[2]
    if way == "native":
        return kernel.backward(gradient, out, normalizer, kernel.Call(query, key, value, first, last, slopes, cos, sin,
                                                                      layout == "interleaved"))
    return attention_pieces.backward(gradient, query, key, value, out, normalizer, first, last, slopes)


@_differentiate.register_fake
def _gradient_shapes(gradient: Tensor, out: Tensor, normalizer: Tensor, query: Tensor, key: Tensor, value: Tensor,
                     first: Tensor, last: Tensor, slopes: Tensor | None, cos: Tensor | None, sin: Tensor | None,
                     layout: str, way: str) -> tuple[Tensor, Tensor, Tensor]:
    return empty_like_heads(query), empty_like_heads(key), empty_like_heads(value)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    *tensors, ctx.layout, ctx.way = inputs
    ctx.save_for_backward(*output, *tensors)


def _backward(ctx: Any, gradient: Tensor, _: Tensor | None) -> tuple[Tensor | None, ...]:
    found = _differentiate(gradient, *ctx.saved_tensors, ctx.layout, ctx.way)
    return *found, *[None] * 7


_attend.register_autograd(_backward, setup_context=_keep)


@torch.library.custom_op("headwater::prefix_attention", mutates_args=(), device_types="cpu",
                         tags=torch.Tag.flexible_layout)
def _attend_both(query: Tensor, key: Tensor, value: Tensor, prefix: Tensor, first: Tensor, last: Tensor,
                 slopes: Tensor | None, way: str) -> tuple[Tensor, Tensor]:
    """Attention to the interval and to the prefix, joined by their log-sum-exps."""
    own = _attend(query, key, value, first, last, slopes, None, None, "half", way)
    copies = _copies(prefix)
    mixed, sums = _attend(*_beside(query, prefix, copies), None, None, None, "half", way)
    out, normalizer = attention_pieces.merge(own, (_whole(mixed, query), _whole(sums, query) - math.log(copies)))
    return own[0].copy_(out), normalizer


@_attend_both.register_fake
def _both_shapes(query: Tensor, key: Tensor, value: Tensor, prefix: Tensor, first: Tensor, last: Tensor,
                 slopes: Tensor | None, way: str) -> tuple[Tensor, Tensor]:
    return empty_like_heads(query), query.new_empty(query.shape[:3], dtype=torch.float32)


@torch.library.custom_op("headwater::prefix_attention_backward", mutates_args=(), device_types="cpu",
                         tags=torch.Tag.flexible_layout)
def _differentiate_both(gradient: Tensor, out: Tensor, normalizer: Tensor, query: Tensor, key: Tensor, value: Tensor,
                        prefix: Tensor, first: Tensor, last: Tensor, slopes: Tensor | None,
                        way: str) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Each part is given the joined output and log-sum-exps: its share of every weight is then the right one."""
    own = _differentiate(gradient, out, normalizer, query, key, value, first, last, slopes, None, None, "half", way)
    copies = _copies(prefix)
    upstream = (_rows(x, copies * prefix.shape[2]) for x in (gradient, out, normalizer + math.log(copies)))
    to_query, *to_prefix = _differentiate(*upstream, *_beside(query, prefix, copies), None, None, None, "half", way)
    sums = torch.stack([one.float().unflatten(2, (copies, -1)).sum((0, 2)) for one in to_prefix])
    return own[0].add_(_whole(to_query, query)), own[1], own[2], sums.to(prefix.dtype)


@_differentiate_both.register_fake
def _both_gradient_shapes(gradient: Tensor, out: Tensor, normalizer: Tensor, query: Tensor, key: Tensor, value: Tensor,
                          prefix: Tensor, first: Tensor, last: Tensor, slopes: Tensor | None,
                          way: str) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return empty_like_heads(query), empty_like_heads(key), empty_like_heads(value), prefix.new_empty(prefix.shape)


def _copies(prefix: Tensor) -> int:
    """How often a short prefix stands in a row, so that the kernel's blocks are full: nothing but the sum is larger."""
    return -(-_FEWEST // prefix.shape[2])


def _beside(query: Tensor, prefix: Tensor, copies: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """What shows the prefix to every query: rows of as many queries as keys, each of which see all of them."""
    count = copies * prefix.shape[2]
    queries = _rows(query, count)
    keys, values = (part.repeat(1, copies, 1).expand(len(queries), -1, -1, -1) for part in prefix)
    first = torch.zeros(len(queries), count, dtype=torch.int64)
    return queries, keys, values, first, torch.full_like(first, count - 1)


def _rows(x: Tensor, count: int) -> Tensor:
    """x [B,H,T,...] as rows [N,H,count,...], the last filled up with zeros."""
    flat = x.transpose(1, 2).flatten(0, 1)
    if spare := -len(flat) % count:
        flat = torch.cat((flat, flat.new_zeros(spare, *flat.shape[1:])))
    return flat.unflatten(0, (-1, count)).transpose(1, 2)


def _whole(rows: Tensor, query: Tensor) -> Tensor:
    """The inverse of `_rows`, for these queries [B,H,T,d]."""
    flat = rows.transpose(1, 2).flatten(0, 1)[: query.shape[0] * query.shape[2]]
    return flat.unflatten(0, (query.shape[0], -1)).transpose(1, 2)


def _keep_both(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    *tensors, ctx.way = inputs
    ctx.save_for_backward(*output, *tensors)


def _backward_both(ctx: Any, gradient: Tensor, _: Tensor | None) -> tuple[Tensor | None, ...]:
    return *_differentiate_both(gradient, *ctx.saved_tensors, ctx.way), *[None] * 4


_attend_both.register_autograd(_backward_both, setup_context=_keep_both)
