"""The keys and values of what was already read."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from headwater.model.config import ModelConfig


class Place(NamedTuple):
    """Where a forward pass stores its keys and values."""

    reach: int
    """Entries that the pass may see: one more than its largest position."""
    at: tuple[Tensor, Tensor] | None
    """Row [B,1] and position [B,T] of every token; None when the pass fills its rows from the beginning."""


class KVCache:
    """Keys and values of every layer, [B,K,S,d] each; the entry at index j of a row is the token at position j.

    Rows are independent and may be filled to different lengths: a query at position i sees the entries 0..i of its
    row, so whatever stands behind a row's own length is never read before it is overwritten.
    """

    def __init__(self, config: ModelConfig, batch: int, length: int, *, dtype: torch.dtype = torch.float32,
                 device: torch.device | str = "cpu") -> None:
        shape = (batch, config.num_key_value_heads, length, config.head_dim)
        self.keys = [torch.zeros(shape, dtype=dtype, device=device) for _ in range(config.num_hidden_layers)]
        self.values = [torch.zeros_like(key) for key in self.keys]

    @property
    def batch(self) -> int:
        return self.keys[0].shape[0]

    @property
    def length(self) -> int:
        """Tokens a row can hold."""
        return self.keys[0].shape[2]

    @property
    def bytes(self) -> int:
        return sum(tensor.nbytes for tensor in (*self.keys, *self.values))

    def rows(self, start: int, stop: int) -> KVCache:
        """A view of consecutive rows that shares this cache's memory."""
        view = object.__new__(KVCache)
        view.keys = [key[start:stop] for key in self.keys]
        view.values = [value[start:stop] for value in self.values]
        return view

    def move(self, source: int, target: int, length: int) -> None:
        """Copy the first `length` entries of row `source` over row `target`."""
        for tensor in (*self.keys, *self.values):
            tensor[target, :, :length] = tensor[source, :, :length]

    def update(self, layer: int, keys: Tensor, values: Tensor, place: Place) -> tuple[Tensor, Tensor]:
        """Store keys and values [B,K,T,d] at their place; return the layer's entries that the place reaches."""
        for stored, new in ((self.keys[layer], keys), (self.values[layer], values)):
            if place.at is None:
                stored[:, :, : place.reach] = new
            else:
                # Indexing with two tensors around a slice puts the indexed dimensions first: [B,T,K,d].
                stored[place.at[0], :, place.at[1]] = new.transpose(1, 2).to(stored.dtype)
        return self.keys[layer][:, :, : place.reach], self.values[layer][:, :, : place.reach]
