"""Which documents are copies of an earlier one: exact by normalised text, near by LSH over MinHash signatures."""

from __future__ import annotations

import hashlib
import re
import unicodedata

import numpy as np
from numpy.typing import NDArray

from headwater.corpus.minhash import U32, U64, MinHashSettings

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


def first_in_cluster(signatures: U32, settings: MinHashSettings) -> I64:
    """For each signature [N, bands*rows] the lowest index of its cluster of near-duplicates.

    Two documents are linked when all rows of one band agree; clusters are the connected components. Memory is
    O(N) beside the signatures: bands are sorted one at a time.
    """
    count = len(signatures)
    parents = np.arange(count, dtype=np.int64)
    for band in range(settings.bands):
        keys = _band_keys(signatures[:, band * settings.rows:(band + 1) * settings.rows])
        order = np.argsort(keys, kind="stable")
        equal = keys[order[1:]] == keys[order[:-1]]
        parents = union(parents, order[:-1][equal], order[1:][equal])
    return parents


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


def _band_keys(rows: U32) -> U64:
    """One 64-bit hash per document of one band's rows [N, rows] (a chance collision: N^2 / 2^65)."""
    key = np.zeros(len(rows), np.uint64)
    for column in range(rows.shape[1]):
        key = (key ^ rows[:, column]) * np.uint64(0x9E3779B97F4A7C15)
        key ^= key >> np.uint64(32)
    return key
