"""What training is asked about and in which words, and what is kept for validation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeVar, get_args

from headwater.atlas.world import Entity

Split = Literal["train", "validation"]
SPLITS: tuple[Split, ...] = get_args(Split)
EVERY = 4
"""Of the entities of a kind every fourth is the validation's."""

T = TypeVar("T")


def entities(found: Sequence[Entity], split: Split) -> list[Entity]:
    """Those of a split, told by their number."""
    return [one for one in found if (int(one.id.rpartition("-")[2]) % EVERY == EVERY - 1) == (split == "validation")]


def wordings(found: Sequence[T], split: Split, held_back: int = 1) -> Sequence[T]:
    """The last ones are the validation's."""
    return found[-held_back:] if split == "validation" else found[:-held_back]
