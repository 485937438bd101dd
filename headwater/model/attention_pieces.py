"""Attention over intervals as calls of PyTorch's own CPU kernel, which knows rectangles and causal squares alone.

Queries are cut into pieces whose keys are a rectangle, a causal square or, where neither fits, a small dense mask.
Pieces of the same queries are merged by their log-sum-exps, as ring attention does (2310.01889, section 3).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

_SHORT = 16
"""Runs of fewer queries are joined under one mask: a call costs about as much as so many queries."""
_DENSE = 128
"""Queries under one dense mask."""
_BIASED = 256
"""Queries of one piece with ALiBi, whose bias is counted from inside the piece and so stays small and exact."""


class Piece(NamedTuple):
    """Queries [begin, end) of a row, which see the keys [first, last)."""

    begin: int
    end: int
    first: int
    last: int
    kind: str
    """rectangle: all of these keys; causal: those up to the query (first = begin); dense: as the intervals say."""


def pieces_of(first: list[int], last: list[int], *, biased: bool) -> list[Piece]:
    """One row's pieces in the order of their queries; `biased`: with ALiBi, whose pieces are shorter."""
    found: list[Piece] = []
    for begin, end, kind in _runs(first, last):
        if kind == "dense" or (biased and kind == "rectangle"):  # |q - k| is a row of keys only where q is behind them
            for at in range(begin, end, _DENSE):
                to = min(at + _DENSE, end)
                found.append(Piece(at, to, min(first[at:to]), max(last[at:to]) + 1, "dense"))
            continue
        for at in range(begin, end, _BIASED if biased else end - begin):
            to = min(at + _BIASED, end) if biased else end
            behind = at if kind == "causal" else last[begin] + 1
            if first[begin] < behind:
                found.append(Piece(at, to, first[begin], behind, "rectangle"))
            if kind == "causal":
                found.append(Piece(at, to, at, to, "causal"))
    return found


def _runs(first: list[int], last: list[int]) -> Iterator[tuple[int, int, str]]:
    """Maximal runs of one `first` whose `last` is constant or the query itself; short ones are joined as dense."""
    at, loose = 0, 0
    while at < len(first):
        end, kind = _run(first, last, at)
        if end - at >= _SHORT or (at == 0 and end == len(first)):
            if loose < at:
                yield loose, at, "dense"
            yield at, end, kind
            loose = end
        at = end
    if loose < at:
        yield loose, at, "dense"


def _run(first: list[int], last: list[int], at: int) -> tuple[int, str]:
    causal = rectangle = at
    while causal < len(first) and first[causal] == first[at] and last[causal] == causal:
        causal += 1
    while rectangle < len(first) and first[rectangle] == first[at] and last[rectangle] == last[at]:
        rectangle += 1
    return (causal, "causal") if causal >= rectangle else (rectangle, "rectangle")


class _Rows(NamedTuple):
    """Rows [begin, end) of a batch with the same pieces."""

    begin: int
    end: int
    pieces: list[Piece]


def _plan(first: Tensor, last: Tensor, biased: bool) -> list[_Rows]:
    plans = [pieces_of(*row, biased=biased) for row in zip(first.tolist(), last.tolist())]
    if all(plan == plans[0] for plan in plans):
        return [_Rows(0, len(plans), plans[0])]
    return [_Rows(row, row + 1, plan) for row, plan in enumerate(plans)]


class _Bias(NamedTuple):
    """What is added to the scaled scores of one piece, and by how much their log-sum-exp is then too large [1,H,Tq]."""

    mask: Tensor | None
    excess: Tensor | float


def _bias(piece: Piece, first: Tensor, last: Tensor, slopes: Tensor | None) -> _Bias:
    """For the rows [R,T] of the bounds."""
    queries, keys = torch.arange(piece.begin, piece.end), torch.arange(piece.first, piece.last)
    if piece.kind == "dense":
        low, high = (bound[:, None, piece.begin : piece.end, None] for bound in (first, last))
        mask = torch.where((keys >= low) & (keys <= high), 0.0, -math.inf)  # [R,1,Tq,Tk]
        if slopes is not None:
            mask = mask - slopes[:, None, None] * (queries[:, None] - keys).abs()
        return _Bias(mask, 0.0)
    if slopes is None:
        return _Bias(None, 0.0)
    # -m (q - k) = m (k - c) - m (q - c): the second part is the same for all keys of a query, so softmax ignores it.
    to_keys, to_queries = (slopes[:, None] * (places - piece.begin) for places in (keys, queries))
    return _Bias(to_keys[None, :, None].expand(1, -1, len(queries), -1), to_queries[None])


def _plain(*tensors: Tensor) -> list[Tensor]:
    """The kernel takes heads with gaps between them, but none between the numbers of a head."""
    return [x if x.stride(-1) == 1 else x.contiguous() for x in tensors]


def forward(query: Tensor, key: Tensor, value: Tensor, first: Tensor, last: Tensor,
            slopes: Tensor | None) -> tuple[Tensor, Tensor]:
    """The mixed values [B,H,T,d] and the scores' log-sum-exps, float32 [B,H,T]."""
    query, key, value = _plain(query, key, value)
    out, normalizer = empty_like_heads(query), query.new_empty(query.shape[:3], dtype=torch.float32)
    for rows in _plan(first, last, slopes is not None):
        many = slice(rows.begin, rows.end)
        merged: tuple[Tensor, Tensor] | None = None
        for place, piece in enumerate(rows.pieces):
            queries, keys = slice(piece.begin, piece.end), slice(piece.first, piece.last)
            bias = _bias(piece, first[many], last[many], slopes)
            mixed, sums = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
                query[many, :, queries], key[many, :, keys], value[many, :, keys],
                is_causal=piece.kind == "causal", attn_mask=bias.mask)
            found = mixed, sums - bias.excess
            merged = found if merged is None else merge(merged, found)
            if place + 1 == len(rows.pieces) or rows.pieces[place + 1].begin != piece.begin:
                out[many, :, queries], normalizer[many, :, queries] = merged
                merged = None
    return out, normalizer


def merge(one: tuple[Tensor, Tensor], two: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Attention over two disjoint sets of keys from that over each and their log-sum-exps."""
    total = torch.logaddexp(one[1], two[1])
    shares = [(sums - total).exp()[..., None] for sums in (one[1], two[1])]
    return one[0] * shares[0] + two[0] * shares[1], total


def backward(gradient: Tensor, query: Tensor, key: Tensor, value: Tensor, out: Tensor, normalizer: Tensor,
             first: Tensor, last: Tensor, slopes: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of query, key and value. Every piece is given the merged output and log-sum-exp."""
    gradient, query, key, value, out = _plain(gradient, query, key, value, out)
    heads, kv_heads = query.shape[1], key.shape[1]
    if heads != kv_heads:
        key, value = (x.repeat_interleave(heads // kv_heads, 1) for x in (key, value))
    found = [torch.zeros_like(x, dtype=torch.float32) for x in (query, key, value)]
    for rows in _plan(first, last, slopes is not None):
        many = slice(rows.begin, rows.end)
        for piece in rows.pieces:
            queries, keys = slice(piece.begin, piece.end), slice(piece.first, piece.last)
            bias = _bias(piece, first[many], last[many], slopes)
            parts = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward(
                gradient[many, :, queries], query[many, :, queries], key[many, :, keys], value[many, :, keys],
                out[many, :, queries], normalizer[many, :, queries] + bias.excess, 0.0, piece.kind == "causal",
                attn_mask=bias.mask)
            for whole, part, where in zip(found, parts, (queries, keys, keys)):
                whole[many, :, where] += part
    grads = []
    for whole, like, count in zip(found, (query, key, value), (heads, kv_heads, kv_heads)):
        grad = empty_like_heads(like[:, :count])
        grad.copy_(whole.unflatten(1, (count, -1)).sum(2) if count != heads else whole)
        grads.append(grad)
    return grads[0], grads[1], grads[2]


def empty_like_heads(x: Tensor) -> Tensor:
    """An empty [B,H,T,d] whose memory is laid out [B,T,H,d], as the projections before and after attention have it."""
    batch, heads, length, width = x.shape
    return x.new_empty(batch, length, heads, width).transpose(1, 2)
