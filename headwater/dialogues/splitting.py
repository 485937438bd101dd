"""Which of many things are held back: their words decide."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import TypeVar

from headwater.corpus.deduplication.duplicates import exact_key

T = TypeVar("T")


def split(every: list[T], share: float, seed: int, words: Callable[[T], str]) -> tuple[list[T], list[T]]:
    """(train, held back), about this share, at least one: those of equal words (case, width and blanks aside) are on
    the same side, and each stays on its side whatever is added to the others."""
    drawn = [_draw(words(one), seed) for one in every]
    least = min(drawn, default=0.0)
    sides: tuple[list[T], list[T]] = [], []
    for one, number in zip(every, drawn):
        sides[number < share or number == least].append(one)
    return sides


def _draw(words: str, seed: int) -> float:
    """A number from 0 to 1 that the words and the seed alone decide."""
    salt = seed.to_bytes(8, "big")
    return int.from_bytes(hashlib.blake2b(exact_key(words), digest_size=8, salt=salt).digest(), "big") / 2**64
