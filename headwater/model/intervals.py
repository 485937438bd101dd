"""Which keys a query may see, as one interval per query: causal, packed, prefix, blank-infilling and windowed attention
alike, in memory linear in the length."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Intervals(NamedTuple):
    """Query q of row b sees the keys first[b,q] to last[b,q] of its row, both inclusive; int64 [B,T] each.

    Every query sees at least itself: first[b,q] <= q <= last[b,q]. Within one packed document `first` is where it
    begins; `last` is q where attention is causal, and the end of a part that is read both ways.
    """

    first: Tensor
    last: Tensor

    @classmethod
    def causal(cls, documents: Tensor) -> Intervals:
        """Attention to earlier tokens of the same document: `documents` int64 [B,T] holds runs of equal numbers, one
        run a document; tokens of number -1 are padding and see themselves alone."""
        places = torch.arange(documents.shape[1], device=documents.device).expand_as(documents)
        begins = torch.ones_like(documents, dtype=torch.bool)
        begins[:, 1:] = documents[:, 1:] != documents[:, :-1]
        begins |= documents < 0
        return cls(torch.where(begins, places, 0).cummax(1).values, places)

    def dense(self) -> Tensor:
        """bool [B,1,T,T], True where a query sees a key: for reference and for small rows, quadratic in T."""
        keys = torch.arange(self.first.shape[1], device=self.first.device)
        return ((keys >= self.first[..., None]) & (keys <= self.last[..., None]))[:, None]

    def to(self, device: torch.device | str) -> Intervals:
        return Intervals(self.first.to(device), self.last.to(device))
