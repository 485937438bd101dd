"""Clusters of near-duplicates from band keys, a band at a time, each candidate verified; memory linear and stated."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from headwater.corpus.deduplication.duplicates import union
from headwater.corpus.deduplication.minhash import I64, U8, U64

F32 = NDArray[np.float32]
Estimate = Callable[[I64, I64], F32]
"""Similarities of pairs: (documents [n], documents [n]) to [n]."""

RANGE_DOCUMENTS = 1 << 24
"""More documents than this are sorted in ranges of their keys, so that sorting takes 1 GB at most."""
ROUNDS = 4
"""Leaders that a bucket tries: documents that meet by chance rarely fill one, and templates would cost their square."""
DRIFT = 0.6
"""A copy of a copy stays in the cluster while it is at least this share of the threshold similar to the kept one."""
_PAIRS = 1 << 16
_CHANCE = 1 / 256


class Clusters(NamedTuple):
    """`representative` [N] is the index of the document kept in place of each (its own for a kept one), `similarity`
    [N] the estimated Jaccard similarity to it (1 for itself)."""

    representative: I64
    similarity: F32


def representatives(columns: Iterable[U64], estimate: Estimate, lengths: I64, similarity: float, *,
                    join: bool = False, drift: float = DRIFT, range_documents: int = RANGE_DOCUMENTS) -> Clusters:
    """Which document stands for each of N: the longest of its cluster, among equally long ones the earliest.

    `columns` yields each band's keys [N] in turn (0: none; one is held at a time), `estimate` gives the similarities
    of pairs of documents (`estimate_from`), `lengths` [N] ranks. Documents that share a key and whose estimated
    similarity reaches `similarity` are linked, each to the best-ranked one it met; a cluster is a tree of such links,
    or with `join` a connected component of all of them. No chain drifts: whoever is less than `drift` of the
    threshold similar to the one kept is kept as well. So every document that is removed has a kept one to which it was
    compared, and the result depends on the contents, the lengths and the order alone.

    Beside the sketches it takes about 50 bytes per document, and 1 GB for sorting.
    """
    order = np.argsort(-np.asarray(lengths, np.int64), kind="stable")

    def ranked(left: I64, right: I64) -> F32:
        return estimate(order[left], order[right])

    parents = np.arange(len(order))
    for column in columns:
        keys = np.asarray(column)[order]
        for members in key_ranges(keys, range_documents):
            _link(keys[members], members, parents, ranked, similarity, join)
    found, alike = _resolve(parents, ranked, drift * similarity)
    representative, similarities = np.empty_like(order), np.empty(len(order), np.float32)
    representative[order], similarities[order] = order[found], alike
    return Clusters(representative, similarities)


def estimate_from(sketches: Callable[[I64], U8]) -> Estimate:
    """Estimated Jaccard similarity of pairs: their sketches' equal bytes, less those that are equal by chance.

    `sketches` gives the sketches [n, bytes] of the n documents asked for, for example from a memory map.
    """

    def estimate(left: I64, right: I64) -> F32:
        result = np.ones(len(left), np.float32)
        for start in range(0, len(left), _PAIRS):
            pairs = slice(start, start + _PAIRS)
            result[pairs] = (sketches(left[pairs]) == sketches(right[pairs])).mean(axis=1)
        return np.maximum(0, (result - _CHANCE) / (1 - _CHANCE)).astype(np.float32)

    return estimate


def key_ranges(keys: U64, most: int) -> Iterator[I64]:
    """Indices of the documents that have a key, in consecutive ranges of keys of about `most` documents."""
    count = max(1, -(-len(keys) // most))
    bounds = [number * (2**64 // count) for number in range(count)] + [2**64 - 1]
    for low, high in pairwise(bounds):
        yield np.flatnonzero((keys > np.uint64(low)) & (keys <= np.uint64(high)) if count > 1 else keys != 0)


def _link(keys: U64, members: I64, parents: I64, estimate: Estimate, similarity: float, join: bool) -> None:
    """Point the members (ranks, ascending) that share a key to the best-ranked similar one, where that is better;
    with `join`, to the best-ranked one of the component that they and it are then in."""
    order = np.argsort(keys, kind="stable")
    keys, members = keys[order], members[order]
    for _ in range(ROUNDS):
        follows = _follows(keys)
        shared = follows.copy()
        shared[:-1] |= follows[1:]
        keys, members = keys[shared], members[shared]
        if not len(keys):
            return
        follows = _follows(keys)
        leaders = members[np.maximum.accumulate(np.where(follows, 0, np.arange(len(keys))))]
        met = parents[leaders] if join else leaders
        unsettled = np.flatnonzero(follows & (parents[members] != met if join else parents[members] > met))
        if similarity > 0:
            unsettled = unsettled[estimate(members[unsettled], leaders[unsettled]) >= similarity]
        if join:
            parents[:] = union(parents, members[unsettled], leaders[unsettled])
        else:
            parents[members[unsettled]] = leaders[unsettled]
        remaining = follows & (parents[members] != (parents[leaders] if join else leaders))
        keys, members = keys[remaining], members[remaining]


def _follows(keys: U64) -> NDArray[np.bool_]:
    """Which sorted keys equal the one before."""
    result = np.zeros(len(keys), np.bool_)
    result[1:] = keys[1:] == keys[:-1]
    return result


def _resolve(parents: I64, estimate: Estimate, least: float) -> tuple[I64, F32]:
    """The root of each tree of links, where it is at least so similar; trees are walked from the roots, by level."""
    roots, similarity = np.arange(len(parents)), np.ones(len(parents), np.float32)
    settled = parents == roots
    pending = np.flatnonzero(~settled)
    while len(pending):
        ready = settled[parents[pending]]
        level = pending[ready]
        candidates = roots[parents[level]]
        alike = estimate(level, candidates)
        kept = alike >= least
        roots[level[kept]], similarity[level[kept]] = candidates[kept], alike[kept]
        settled[level] = True
        pending = pending[~ready]
    return roots, similarity
