"""Attention of one new token in each row to what its row of a cache holds, and the token's own key and value into it.

A row's keys are read in parts by programs of their own, as many as the GPU has processors for; how far each part goes
follows from the row's slot, which lies in the GPU's memory: the same launch serves texts of every length. What the
parts found is then put together (Flash-Decoding's way).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from headwater.model.config import ModelConfig
from headwater.model.gpu import FUSED
from headwater.model.gpu.products import ROUNDED, taken

_KEYS = 64
"""Scored at once."""
_MOST = 32
"""Parts of a row."""


class Angles(NamedTuple):
    """Of every row's position, float32 [B, rope_dims/2], and ALiBi's slopes [H]; None where there are none."""

    cosines: Tensor | None
    sines: Tensor | None
    slopes: Tensor | None


class Parts(NamedTuple):
    """What the parts of rows found: sums float32 [B,H,P,d], and the highest score and the weights' sum [B,H,P]."""

    sums: Tensor
    highest: Tensor
    weights: Tensor

    @classmethod
    def empty(cls, config: ModelConfig, rows: int, processors: int, device: torch.device) -> Parts:
        """Of so many rows, enough of them for two programs a processor."""
        groups, heads = rows * config.num_key_value_heads, config.num_attention_heads
        count = min(_MOST, triton.next_power_of_2(triton.cdiv(2 * processors or 2, groups)))
        beside = torch.empty(rows, heads, count, device=device)
        return cls(torch.empty(rows, heads, count, config.head_dim, device=device), beside, torch.empty_like(beside))


def attend(config: ModelConfig, qkv: Tensor, slots: Tensor, angles: Angles, keys: Tensor, values: Tensor, parts: Parts,
           mixed: Tensor, dtype: torch.dtype) -> None:
    """mixed float32 [B,H*d] from qkv float32 [B,(H+2K)*d] and a layer's keys and values [B,K,S,d], floats or bytes with
    their scale as `KVCache` has them, into which the new ones go at `slots`.

    dtype: of the model, to which queries and weights are rounded.
    """
    heads, kv_heads, width = config.num_attention_heads, config.num_key_value_heads, config.head_dim
    rows, count = len(qkv), parts.sums.shape[2]
    stored = keys.dtype == torch.int8
    scales = [one.view(torch.float32) if stored else None for one in (keys, values)]
    strides = [stride // 4 if stored else stride for stride in keys.stride()[:3]]  # bytes lie by fours, which is told
    _read[(rows, kv_heads, count)](
        qkv, slots, *angles, keys, values, *scales, mixed, *parts, *strides,
        config.score_scale / math.sqrt(width) / math.log(2), math.log(config.log_n_length or 1),
        HEADS=heads, KV_HEADS=kv_heads, GROUP=max(16, triton.next_power_of_2(heads // kv_heads)), WIDTH=width,
        WIDE=max(16, triton.next_power_of_2(width)), ROTATED=config.rope_dims if angles.cosines is not None else 0,
        INTERLEAVED=config.rope_layout == "interleaved", LOG_N=config.log_n_length > 0, PARTS=count, KEYS=_KEYS,
        DTYPE=ROUNDED[dtype], TAKEN=taken(dtype, qkv.device), num_warps=4, num_stages=2, **FUSED)
    if count > 1:
        _put_together[(rows, heads)](*parts, mixed, WIDTH=width, WIDE=triton.next_power_of_2(width), PARTS=count,
                                     num_warps=1, **FUSED)


@triton.jit
def _turned(qkv: tl.tensor, head: tl.tensor, there: tl.tensor, cosines: tl.tensor, sines: tl.tensor, row: tl.tensor,
            WIDTH: tl.constexpr, WIDE: tl.constexpr, ROTATED: tl.constexpr, INTERLEAVED: tl.constexpr) -> tl.tensor:
    """Heads of a row [heads, WIDE], their pairs turned by the angles of its position."""
    column = tl.arange(0, WIDE)
    mask = there[:, None] & (column < WIDTH)[None, :]
    x = tl.load(qkv + head[:, None] * WIDTH + column[None, :], mask=mask, other=0.0)
    if ROTATED > 0:
        if INTERLEAVED:
            pair, first, other = column // 2, column % 2 == 0, column ^ 1
        else:
            first = column < ROTATED // 2
            pair = tl.where(first, column, column - ROTATED // 2)
            other = tl.where(first, column + ROTATED // 2, column - ROTATED // 2)
        turns = column < ROTATED
        at = row * (ROTATED // 2) + pair
        cosine, sine = tl.load(cosines + at, mask=turns, other=1.0), tl.load(sines + at, mask=turns, other=0.0)
        beside = tl.load(qkv + head[:, None] * WIDTH + other[None, :], mask=mask & turns[None, :], other=0.0)
        x = x * cosine[None, :] + beside * tl.where(first, -sine, sine)[None, :]
    return x


@triton.jit
def _kept(x: tl.tensor, into: tl.tensor, scales: tl.tensor, at: tl.tensor, writes: tl.tensor, WIDTH: tl.constexpr,
          WIDE: tl.constexpr) -> tl.tensor:
    """A key or value [WIDE] as the cache holds it, as floats; written there where this program is the one to do so."""
    column = tl.arange(0, WIDE)
    mask = tl.where(writes, column, WIDTH) < WIDTH
    if scales is None:
        rounded = x.to(into.dtype.element_ty)
        tl.store(into + at + column, rounded, mask=mask)
        kept = rounded.to(tl.float32)
    else:
        largest = tl.max(tl.abs(x), 0)
        scale = tl.where(largest > 0, largest / 127, 1.0)
        whole = tl.floor(x / scale + 0.5)
        tl.store(into + at + column, whole.to(tl.int8), mask=mask)
        tl.store(scales + (at + WIDTH) // 4, scale, mask=writes)
        kept = whole * scale
    return kept


@triton.jit
def _newest(own: tl.tensor, kv_head: tl.tensor, row: tl.tensor, at: tl.tensor, writes: tl.tensor, cosines: tl.tensor,
            sines: tl.tensor, keys: tl.tensor, values: tl.tensor, key_scales: tl.tensor, value_scales: tl.tensor,
            HEADS: tl.constexpr, KV_HEADS: tl.constexpr, WIDTH: tl.constexpr, WIDE: tl.constexpr,
            ROTATED: tl.constexpr, INTERLEAVED: tl.constexpr) -> tl.tensor:
    """The token's own key and value [WIDE], which one program writes into the cache."""
    column, single = tl.arange(0, WIDE), tl.arange(0, 1)
    turned = _turned(own, HEADS + kv_head + single, single == 0, cosines, sines, row, WIDTH, WIDE, ROTATED, INTERLEAVED)
    key = _kept(tl.sum(turned, 0), keys, key_scales, at, writes, WIDTH, WIDE)
    value = tl.load(own + (HEADS + KV_HEADS + kv_head) * WIDTH + column, mask=column < WIDTH, other=0.0)
    return key, _kept(value, values, value_scales, at, writes, WIDTH, WIDE)


@triton.jit
def _scores(query: tl.tensor, keys: tl.tensor, key_scales: tl.tensor, place: tl.tensor, seen: tl.tensor,
            behind: tl.tensor, by_two: tl.tensor, slope: tl.tensor, WIDTH: tl.constexpr, WIDE: tl.constexpr,
            TAKEN: tl.constexpr) -> tl.tensor:
    """Of queries with some keys, of which 2^score is what is summed; behind: how far these are."""
    column = tl.arange(0, WIDE)
    mask = (column < WIDTH)[:, None] & seen[None, :]
    found = tl.load(keys + place[None, :] + column[:, None], mask=mask, other=0)
    scores = tl.dot(query, found.to(TAKEN), input_precision="ieee") * by_two
    if key_scales is not None:
        scores *= tl.load(key_scales + (place + WIDTH) // 4, mask=seen, other=0.0)[None, :]
    if slope is not None:
        scores -= slope[:, None] * behind.to(tl.float32)[None, :]
    return tl.where(seen[None, :], scores, float("-inf"))


@triton.jit
def _read(qkv: tl.tensor, slots: tl.tensor, cosines: tl.tensor, sines: tl.tensor, slopes: tl.tensor, keys: tl.tensor,
          values: tl.tensor, key_scales: tl.tensor, value_scales: tl.tensor, mixed: tl.tensor, sums: tl.tensor,
          highest: tl.tensor, weights: tl.tensor, by_row: tl.tensor, by_head: tl.tensor, by_token: tl.tensor,
          by_two: tl.tensor, log_n: tl.tensor, HEADS: tl.constexpr, KV_HEADS: tl.constexpr, GROUP: tl.constexpr,
          WIDTH: tl.constexpr, WIDE: tl.constexpr, ROTATED: tl.constexpr, INTERLEAVED: tl.constexpr,
          LOG_N: tl.constexpr, PARTS: tl.constexpr, KEYS: tl.constexpr, DTYPE: tl.constexpr, TAKEN: tl.constexpr
          ) -> None:
    """A part of a row's keys, for all query heads that share them."""
    row, kv_head, part = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    slot = tl.load(slots + row)
    if key_scales is not None:
        by_row, by_head, by_token = by_row * 4, by_head * 4, by_token * 4
    member, column = tl.arange(0, GROUP), tl.arange(0, WIDE)
    there, inside = member < HEADS // KV_HEADS, column < WIDTH
    head = kv_head * (HEADS // KV_HEADS) + member
    own = qkv + row * ((HEADS + 2 * KV_HEADS) * WIDTH)
    query = _turned(own, head, there, cosines, sines, row, WIDTH, WIDE, ROTATED, INTERLEAVED).to(DTYPE).to(TAKEN)
    if LOG_N:
        by_two *= tl.maximum(tl.log((slot + 1).to(tl.float32)) / log_n, 1.0)
    slope = None
    if slopes is not None:
        slope = tl.load(slopes + head, mask=there, other=0.0).to(tl.float32) * 1.4426950408889634
    base = row.to(tl.int64) * by_row + kv_head * by_head
    key, value = _newest(own, kv_head, row, base + slot * by_token, part == 0, cosines, sines, keys, values, key_scales,
                         value_scales, HEADS, KV_HEADS, WIDTH, WIDE, ROTATED, INTERLEAVED)

    # The first part begins with the token itself, whose key nobody need find in the cache.
    most = tl.where(part == 0, tl.sum(query.to(tl.float32) * key[None, :], 1) * by_two, float("-inf"))
    total = tl.where(part == 0, tl.full([GROUP], 1.0, tl.float32), 0.0)
    mix = tl.where(part == 0, value[None, :] + tl.zeros([GROUP, WIDE], tl.float32), 0.0)
    each = tl.cdiv(tl.cdiv(slot, PARTS), KEYS) * KEYS
    begin = part * each
    end = tl.minimum(begin + each, slot)
    for at in range(begin, end, KEYS):
        token = at + tl.arange(0, KEYS)
        place, seen = base + token * by_token, token < end
        scores = _scores(query, keys, key_scales, place, seen, slot - token, by_two, slope, WIDTH, WIDE, TAKEN)
        higher = tl.maximum(most, tl.max(scores, 1))
        shrink, share = tl.exp2(most - higher), tl.exp2(scores - higher[:, None])
        most, total = higher, total * shrink + tl.sum(share, 1)
        found = tl.load(values + place[:, None] + column[None, :], mask=seen[:, None] & inside[None, :], other=0)
        if value_scales is not None:
            share *= tl.load(value_scales + (place + WIDTH) // 4, mask=seen, other=0.0)[None, :]
        mix = tl.dot(share.to(DTYPE).to(TAKEN), found.to(TAKEN), mix * shrink[:, None], input_precision="ieee")
    mask = there[:, None] & inside[None, :]
    if PARTS == 1:
        tl.store(mixed + (row * HEADS + head)[:, None] * WIDTH + column[None, :], mix / total[:, None], mask=mask)
    else:
        beside = (row * HEADS + head) * PARTS + part
        tl.store(sums + beside[:, None] * WIDTH + column[None, :], mix, mask=mask)
        tl.store(highest + beside, most, mask=there)
        tl.store(weights + beside, total, mask=there)


@triton.jit
def _put_together(sums: tl.tensor, highest: tl.tensor, weights: tl.tensor, mixed: tl.tensor, WIDTH: tl.constexpr,
                  WIDE: tl.constexpr, PARTS: tl.constexpr) -> None:
    """The parts of one head."""
    one = tl.program_id(0) * tl.num_programs(1) + tl.program_id(1)
    part, column = tl.arange(0, PARTS), tl.arange(0, WIDE)
    inside = column < WIDTH
    most = tl.load(highest + one * PARTS + part)
    share = tl.exp2(most - tl.max(most, 0))
    found = tl.load(sums + (one * PARTS + part)[:, None] * WIDTH + column[None, :], mask=inside[None, :], other=0.0)
    total = tl.sum(share * tl.load(weights + one * PARTS + part), 0)
    tl.store(mixed + one * WIDTH + column, tl.sum(found * share[:, None], 0) / total, mask=inside)
