"""Attention to the last so many tokens, and to a few sinks: where the keys that a token sees are no single run."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from headwater.model.config import ModelConfig
from headwater.model.intervals import Intervals

QUERIES = 256
"""Scored at once, against the keys that any of them sees."""
NEVER = 1 << 62
"""The number of a slot that holds no token yet: behind every query."""


class Block(NamedTuple):
    """Some queries, and what they see."""

    queries: slice
    slots: Tensor
    """int64 [S]: of the keys that any of them sees."""
    seen: Tensor
    """bool [B or 1, T, S]."""
    sinks: Tensor
    """int64: those of these keys that are a sink of any of them."""
    as_sink: Tensor
    """bool [B or 1, T, len(sinks)]: for whom."""
    distances: Tensor
    """As ALiBi counts them, float32 [B or 1, T, S]: sinks lie right before the window."""


class Window(NamedTuple):
    """What all layers share."""

    blocks: list[Block]
    rotation: tuple[Tensor, Tensor] | None
    """Of queries as sinks meet them: at `nearest`. None without rotary positions or sinks."""


def nearest(config: ModelConfig, places: Tensor) -> Tensor:
    """Where a query at a place stands for the sinks: they lie right before its window, as in a cache that holds nothing
    else."""
    return places.clamp(max=config.attention_sinks + config.sliding_window - 1)


def narrowed(intervals: Intervals, size: int) -> Intervals:
    """No more than `size` tokens back."""
    places = torch.arange(intervals.first.shape[1], device=intervals.first.device)
    return Intervals(torch.maximum(intervals.first, places - size + 1), intervals.last)


def blocks_of(config: ModelConfig, queries: Tensor, keys: Tensor, begins: Tensor) -> list[Block]:
    """Who sees whom, by the tokens' numbers in their rows: queries int64 [B or 1, T] and keys [B or 1, S]. begins,
    [B or 1, T]: where each query's document begins."""
    size, reach, found = config.sliding_window, config.attention_sinks, []
    for start in range(0, queries.shape[1], QUERIES):
        at = slice(start, start + QUERIES)
        far, begin = queries[:, at, None], begins[:, at, None]
        inside = (keys > far.min() - size) | ((keys >= begin.min()) & (keys < begin.max() + reach))
        slots = ((keys <= far.max()) & inside).any(0).nonzero()[:, 0]
        near = keys[:, None, slots]
        sink = (near >= begin) & (near < begin + reach)
        seen = (near <= far) & (near >= begin) & ((near > far - size) | sink)
        distances = torch.where(sink, begin + nearest(config, far - begin), far) - near
        sinks = sink.flatten(0, 1).any(0).nonzero()[:, 0]
        found.append(Block(at, slots, seen, sinks, sink[..., sinks], distances.float()))
    return found


def behind(block: Block, count: int, own: Tensor | None = None) -> Block:
    """The same with so many keys before all others, which every query sees without a distance; own, int64 [B]: only the
    last so many of them."""
    always = torch.arange(count, device=block.slots.device)
    seen = F.pad(block.seen, (count, 0), value=True)
    if own is not None:
        seen = seen & (torch.arange(seen.shape[-1], device=own.device) >= (count - own)[:, None, None])
    return Block(block.queries, torch.cat((always, block.slots + count)), seen, block.sinks + count, block.as_sink,
                 F.pad(block.distances, (count, 0)))


def attend(query: Tensor, to_sinks: Tensor, key: Tensor, value: Tensor, blocks: list[Block],
           slopes: Tensor | None) -> Tensor:
    """softmax(q k^T / sqrt(d) - slopes distance) v over what each query sees: [B,H,T,d].

    query [B,H,T,d] at its own position, to_sinks at `nearest`; key and value [B,K,S,d]; slopes float32 [H] or None.
    Memory grows with a block's queries times the keys that they see.
    """
    kv_heads = key.shape[1]
    scale = query.shape[-1] ** -0.5
    query, to_sinks = ((x * scale).unflatten(1, (kv_heads, -1)) for x in (query, to_sinks))  # [B,K,G,T,d]
    mixed = []
    for at, slots, seen, sinks, as_sink, distances in blocks:
        keys, values = (x[:, :, None, slots] for x in (key, value))  # [B,K,1,S,d]
        scores = query[..., at, :] @ keys.transpose(-1, -2)
        if len(sinks):
            other = to_sinks[..., at, :] @ keys[..., sinks, :].transpose(-1, -2)
            scores[..., sinks] = torch.where(as_sink[:, None, None], other, scores[..., sinks])
        scores = scores.float()
        if slopes is not None:
            scores = scores - slopes.view(kv_heads, -1, 1, 1) * distances[:, None, None]
        scores = scores.masked_fill(~seen[:, None, None], -torch.inf)
        mixed.append(scores.softmax(-1).to(value.dtype) @ values)
    return torch.cat(mixed, -2).flatten(1, 2)
