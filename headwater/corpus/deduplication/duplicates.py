"""Which documents have the same normalised text, and components of a graph of pairs."""

from __future__ import annotations

import hashlib
import re
import unicodedata

import numpy as np
from numpy.typing import NDArray

_BLANKS = re.compile(r"\s+")
I64 = NDArray[np.int64]


def exact_key(text: str) -> bytes:
    """16 bytes equal for texts that differ only in case, width (NFKC) or white space."""
    normal = _BLANKS.sub(" ", unicodedata.normalize("NFKC", text).casefold()).strip()
    return hashlib.blake2b(normal.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def first_with_key(keys: NDArray[np.void]) -> I64:
    """For each key [N] the lowest index that holds the same key."""
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    return first[inverse.reshape(-1)].astype(np.int64)


def union(parents: I64, left: I64, right: I64) -> I64:
    """Union-find over all edges (left[i], right[i]) at once; every component's label is its lowest member.

    `parents` [N] holds the labels so far (each points at its component's lowest member) and is not changed.
    """
    parents = parents.copy()
    while len(left):
        a, b = parents[left], parents[right]
        apart = a != b
        left, right, a, b = left[apart], right[apart], a[apart], b[apart]
        np.minimum.at(parents, np.maximum(a, b), np.minimum(a, b))
        parents = _compress(parents)
    return parents


def _compress(parents: I64) -> I64:
    while True:
        grandparents = parents[parents]
        if np.array_equal(grandparents, parents):
            return parents
        parents = grandparents
