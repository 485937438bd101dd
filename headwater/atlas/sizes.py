"""How much of everything the sizes `tiny`, `small` and `large` hold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

SizeName = Literal["tiny", "small", "large"]


@dataclass(frozen=True)
class Size:
    """Counts of entities, and of pages per language."""

    regions: int
    rivers: int
    lakes: int
    cities: int
    people: int
    mountains: int
    articles_per_entity: int
    surveys_per_region: int
    comparisons: int
    plants: float
    """Multiplies the plants' counts in `plants.COUNTS`."""
    questions_per_fact: int
    conversations: float
    """Multiplies the counts of multi-turn, small-talk, preference, needle and tool dialogues."""


SIZES: dict[SizeName, Size] = {
    "tiny": Size(3, 5, 4, 6, 5, 4, 4, 4, 4, 0.1, 3, 0.1),
    "small": Size(8, 24, 18, 32, 30, 12, 10, 8, 60, 1.0, 4, 1.0),
    "large": Size(12, 240, 180, 320, 280, 100, 8, 40, 600, 10.0, 4, 10.0),
}
