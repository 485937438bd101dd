"""Attention over intervals on a GPU: FlexAttention over the blocks of keys that anybody sees."""

from __future__ import annotations

from functools import cache, partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from headwater.model.attention_pieces import merge
from headwater.model.intervals import Intervals

if TYPE_CHECKING:
    from torch.nn.attention.flex_attention import BlockMask

_BLOCK = 128


def blocks_of(intervals: Intervals) -> BlockMask:
    """Which blocks of keys each block of queries sees, and which of them wholly: made once a batch, for all layers."""
    from torch.nn.attention.flex_attention import BlockMask

    first, last = intervals
    length = first.shape[1]
    count = -(-length // _BLOCK)
    spare = count * _BLOCK - length
    lows, highs = (torch.cat((bound, bound[:, -1:].expand(-1, spare)), 1).unflatten(1, (count, _BLOCK))
                   for bound in (first, last))
    blocks = torch.arange(count, device=first.device)
    begins, ends = blocks * _BLOCK, (blocks + 1) * _BLOCK - 1

    def against(bound: Tensor) -> Tensor:  # [B, query blocks] beside the blocks of keys
        return bound[..., None]

    touched = (ends >= against(lows.amin(2))) & (begins <= against(highs.amax(2)))
    whole = (begins >= against(lows.amax(2))) & (ends <= against(highs.amin(2)))

    def sees(row: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return (key >= first[row, query]) & (key <= last[row, query])

    return BlockMask.from_kv_blocks(*_listed(touched & ~whole), *_listed(whole), BLOCK_SIZE=_BLOCK, mask_mod=sees,
                                    seq_lengths=(length, length))


def _listed(chosen: Tensor) -> tuple[Tensor, Tensor]:
    """How many blocks of keys are chosen for each block of queries, int32 [B,1,n], and which, these first [B,1,n,n]."""
    order = chosen.to(torch.int8).argsort(dim=-1, descending=True, stable=True)
    return chosen.sum(-1, dtype=torch.int32)[:, None], order.to(torch.int32)[:, None]


def attend(query: Tensor, key: Tensor, value: Tensor, blocks: BlockMask, slopes: Tensor | None,
           prefix: Tensor | None = None) -> Tensor:
    """As `interval_attention`, with the intervals as `blocks_of` gives them."""
    from torch.nn.attention.flex_attention import AuxRequest, flex_attention

    def biased(score: Tensor, row: Tensor, head: Tensor, at: Tensor, to: Tensor) -> Tensor:
        assert slopes is not None
        return score - slopes[head] * (at - to).abs()

    alone = query.is_cuda and not torch.compiler.is_compiling()
    form = partial(_compiled() if alone else flex_attention, enable_gqa=query.shape[1] != key.shape[1],
                   return_aux=None if prefix is None else AuxRequest(lse=True))
    found = form(query, key, value, score_mod=None if slopes is None else biased, block_mask=blocks)
    if prefix is None:
        own: Tensor = found
        return own
    shared, aux = form(query, *(part.expand(len(query), -1, -1, -1) for part in prefix))
    return merge((found[0], found[1].lse), (shared, aux.lse))[0].to(query.dtype)


@cache
def _compiled() -> Any:
    """Not compiled, FlexAttention makes all scores: only good where it is part of what is being compiled."""
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention, dynamic=False)
