"""The arguments of a forward pass, and whether they fit each other and the model."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from headwater.errors import InputError
from headwater.model.cache import KVCache
from headwater.model.config import ModelConfig
from headwater.model.intervals import Intervals
from headwater.model.prefix import Prefix, ReadContext


class Batch(NamedTuple):
    """The arguments of a forward pass, with where its tokens stand in their rows."""

    input_ids: Tensor
    attention_mask: Tensor | None
    position_ids: Tensor | None
    cache: KVCache | None
    slots: Tensor | None
    """int64 [B,T], given by a caller whose rows differ in length; None: after what the cache holds."""
    intervals: Intervals | None = None
    """Given instead of a mask."""
    prefix: Prefix | ReadContext | None = None
    """The model's, or what a caller gave in its place."""

    @property
    def front(self) -> int:
        """Keys before those of all tokens."""
        if self.cache is not None:
            return self.cache.front
        return 0 if self.prefix is None else self.prefix.length

    @property
    def fronts(self) -> Tensor | None:
        """int64 [B]: how many of these are each row's own, where they differ."""
        if self.cache is None or not self.cache.unequal:
            return None
        return torch.tensor(self.cache.fronts, device=self.input_ids.device)

    @property
    def start(self) -> int:
        return 0 if self.cache is None or self.slots is not None else self.cache.filled

    @property
    def fresh(self) -> bool:
        """Whether the rows begin here."""
        return self.slots is None and self.start == 0

    @property
    def places(self) -> Tensor:
        """The tokens' slots: [B,T], or [1,T] where all rows are alike."""
        if self.slots is not None:
            return self.slots
        return torch.arange(self.start, self.start + self.input_ids.shape[1], device=self.input_ids.device)[None]


def check(config: ModelConfig, batch: Batch) -> None:
    """Raises `InputError`. Shapes and types alone: a value would have to come from the device first."""
    ids, mask, positions, cache = batch.input_ids, batch.attention_mask, batch.position_ids, batch.cache
    if not isinstance(ids, Tensor) or ids.dim() != 2 or ids.numel() == 0 or ids.dtype not in (torch.int64, torch.int32):
        found = f"{ids.dtype} {list(ids.shape)}" if isinstance(ids, Tensor) else type(ids).__name__
        raise InputError(f"input_ids is {found}", fix="give an integer tensor [B, T] of at least one token")
    rows = len(ids)
    if cache is not None and cache.batch != rows:
        raise InputError(f"{rows} rows of input_ids for a cache of {cache.batch}", fix="make it for as many rows")
    if cache is not None and batch.prefix is not None and cache.fronts != [batch.prefix.length] * rows:
        raise InputError(f"a cache with a prefix of {cache.front} keys for a model with one of {batch.prefix.length}",
                         fix="make it with model.cache(...)")
    if batch.intervals is not None:
        _check_intervals(batch, batch.intervals)
    if mask is not None and len(mask) != rows and not (mask.dim() == 4 and len(mask) == 1):
        raise InputError(f"{rows} rows of input_ids, attention_mask has shape {list(mask.shape)}",
                         fix="give a row of the mask for every row of ids")
    if mask is not None and mask.dim() == 1 and config.position != "learned_2d":
        raise InputError("attention_mask [B], lengths of contexts read both ways, is for GLM alone",
                         fix="give [B, S] or bool [B, 1, T, S]")
    if mask is not None and mask.dim() == 4 and mask.shape[1] not in (1, config.num_attention_heads):
        raise InputError(f"attention_mask has shape {list(mask.shape)}", fix="give bool [B, 1, T, S]")
    if mask is not None and mask.dim() == 4 and mask.is_floating_point():
        raise InputError(f"attention_mask [B, 1, T, S] is {mask.dtype}, which may mean 0 or -inf for hidden",
                         fix="give bool, True = may attend")
    if positions is not None and positions.is_floating_point():
        raise InputError(f"position_ids is {positions.dtype}", fix="give integers")


def _check_intervals(batch: Batch, intervals: Intervals) -> None:
    if batch.cache is not None or batch.slots is not None:
        raise InputError("attention over intervals reads whole rows, and a cache was given",
                         fix="give attention_mask [B, S] or bool [B, 1, T, S]")
    for name, bound in intervals._asdict().items():
        if bound.shape != batch.input_ids.shape or bound.dtype != torch.int64:
            raise InputError(f"attention_mask.{name} is {bound.dtype} {list(bound.shape)}",
                             fix=f"give int64 {list(batch.input_ids.shape)}")
