"""Four-bit codes as the public layouts pack them, eight to an int32, and what all readers refuse."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from headwater.errors import CheckpointError
from headwater.model.folder import WeightFolder
from headwater.model.int4 import GROUPS, apart, joined

PER_WORD = 8
COPY_AGAIN = "copy the folder again, or quantize the float model anew"


def codes_of(words: Tensor) -> Tensor:
    """uint8 [r, 8 c] of int32 [r, c], the first in the lowest bits."""
    return apart(words.flatten().view(torch.uint8).view(len(words), -1))


def words_of(codes: Tensor) -> Tensor:
    """The other way round; rows whose length eight does not divide are filled with noughts."""
    packed = joined(F.pad(codes, (0, -codes.shape[1] % PER_WORD)))
    return packed.flatten().view(torch.int32).view(len(codes), -1)


def read_words(weights: WeightFolder, name: str) -> Tensor:
    """A tensor of int32. Raises `CheckpointError` for another type."""
    stored = weights.stored[name]
    if stored.dtype != torch.int32:
        raise CheckpointError(f"{name} is {stored.dtype}, and packed weights are int32".replace("torch.", ""),
                              where=weights.folder, fix=COPY_AGAIN)
    found = torch.empty(stored.shape, dtype=torch.int32)
    weights.read_into(name, found)
    return found


def read_scale(weights: WeightFolder, name: str) -> Tensor:
    """Scales of a float type. Raises `CheckpointError` for another."""
    stored = weights.stored[name]
    if not stored.dtype.is_floating_point:
        raise CheckpointError(f"{name} is {stored.dtype}, and scales are floats".replace("torch.", ""),
                              where=weights.folder, fix=COPY_AGAIN)
    found = torch.empty(stored.shape, dtype=stored.dtype)
    weights.read_into(name, found)
    return found


def require_group(group: object, known: Sequence[int] = GROUPS) -> int:
    """Raises `ValueError`."""
    if group not in known:
        raise ValueError(f"group_size {group!r} is not supported: known are {', '.join(map(str, known))}")
    assert isinstance(group, int)
    return group
