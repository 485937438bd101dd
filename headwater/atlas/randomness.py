"""Independent random streams: each entity and each document draws from its own, so adding one moves no other."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


def digest(*parts: object) -> str:
    """SHA-256, in hexadecimal, of the parts joined by a character that no part holds."""
    return hashlib.sha256("\x1f".join(map(str, parts)).encode()).hexdigest()


def stream(*parts: object) -> random.Random:
    """The random stream named by `parts`; the same on every machine, whatever PYTHONHASHSEED is."""
    return random.Random(int(digest(*parts)[:16], 16))


def shuffled(items: Sequence[T], rng: random.Random) -> list[T]:
    return rng.sample(items, len(items))


class Deck:
    """Deals the items in random order and reshuffles when they run out: an even use of every phrasing."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._left: dict[str, list[object]] = {}

    def draw(self, name: str, items: Sequence[T]) -> T:
        """The next of `items`; `name` tells the decks apart."""
        left = self._left.setdefault(name, [])
        if not left:
            left.extend(shuffled(items, self._rng))
        return left.pop()  # type: ignore[return-value]
