"""The similarity by which near copies are labelled."""

from __future__ import annotations

import re

_TOKEN = re.compile(r"[㐀-䶿一-鿿]|[^\W_㐀-䶿一-鿿]+")
N = 5


def tokens(text: str) -> list[str]:
    """Han characters one by one, and lower-case runs of other letters and digits."""
    return _TOKEN.findall(text.lower())


def shingles(text: str) -> set[tuple[str, ...]]:
    """The set of the text's 5-grams of tokens."""
    items = tokens(text)
    return {tuple(items[at : at + N]) for at in range(max(1, len(items) - N + 1))}


def jaccard(one: str, other: str) -> float:
    """Size of the intersection over size of the union of the two texts' 5-gram sets."""
    left, right = shingles(one), shingles(other)
    return len(left & right) / len(left | right)
