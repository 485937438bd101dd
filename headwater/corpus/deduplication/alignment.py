"""How much of two token sequences agrees in order, for many pairs of short sequences at once."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from headwater.corpus.deduplication.clusters import F32, Estimate
from headwater.corpus.deduplication.minhash import I64, U8, U64

WIDTH = 64
"""Tokens compared: the first ones of a longer sequence."""
_PAIRS = 1 << 12


def token_bytes(tokens: U64, bounds: I64) -> U8:
    """A byte from 1 to 255 for each of the first 64 tokens of N sequences, 0 beyond the end: [N, 64].

    `tokens` [T] are hashes; sequence i owns tokens[bounds[i]:bounds[i + 1]].
    """
    counts = np.minimum(np.diff(bounds), WIDTH)
    filled = np.arange(WIDTH) < counts[:, None]
    result = np.zeros((len(counts), WIDTH), np.uint8)
    result[filled] = tokens[(bounds[:-1, None] + np.arange(WIDTH))[filled]] % np.uint64(255) + np.uint64(1)
    return result


def alignment_from(sequences: Callable[[I64], U8]) -> Estimate:
    """Twice the tokens that two sequences have in common in the same order, over the tokens of both: 0 to 1.

    `sequences` gives the `token_bytes` [n, 64] of the n sequences asked for. Two different tokens pass for equal once
    in 255 times.
    """

    def estimate(left: I64, right: I64) -> F32:
        result = np.ones(len(left), np.float32)
        for start in range(0, len(left), _PAIRS):
            pairs = slice(start, start + _PAIRS)
            one, other = sequences(left[pairs]), sequences(right[pairs])
            result[pairs] = 2 * np.bitwise_count(common(one, other)) / np.maximum(1, lengths(one) + lengths(other))
        return result

    return estimate


def conserved(clusters: I64, weights: I64, sequences: Callable[[I64], U8]) -> tuple[I64, F32]:
    """Of each cluster, which share of its representative's tokens at least half of its members have.

    `clusters` [N] names each member's representative (itself a member), `weights` [N] how often a member counts.
    Copies with scattered changes agree on nearly all tokens; instances of a pattern filled differently each time agree
    on the pattern alone. Returns (representatives [R] with other members, shares [R]). Memory: about 400 bytes per
    cluster.
    """
    members = np.flatnonzero(clusters != np.arange(len(clusters)))
    roots, place = np.unique(clusters[members], return_inverse=True)
    own = sequences(roots)
    support = np.zeros(own.shape, np.int32)
    for start in range(0, len(members), _PAIRS):
        part = slice(start, start + _PAIRS)
        bits = common(own[place[part]], sequences(members[part])).astype("<u8").view(np.uint8).reshape(-1, 8)
        found = np.unpackbits(bits, axis=1, bitorder="little")
        np.add.at(support, place[part], found * weights[members[part], None])
    others = np.bincount(place, weights[members], len(roots))
    agreed = (2 * (support + weights[roots, None]) >= (others + weights[roots])[:, None]) & (own != 0)
    return roots, (agreed.sum(axis=1) / np.maximum(1, lengths(own))).astype(np.float32)


def lengths(sequences: U8) -> I64:
    return np.count_nonzero(sequences, axis=1)


def common(one: U8, other: U8) -> U64:
    """Bit i is set when token i of `one` counts in a longest common subsequence with `other`: [n, 64] twice to [n].

    Bit-parallel (Hyyro 2004): a bit of the state falls to 0 where the subsequence grows by one. Zeros are no tokens.
    """
    state = np.full(len(one), ~np.uint64(0))
    for place in range(int(lengths(other).max(initial=0))):
        token = other[:, place:place + 1]
        equal = np.packbits((one == token) & (token != 0), axis=1, bitorder="little").view("<u8")[:, 0]
        matched = state & equal
        state = (state + matched) | (state - matched)
    return ~state
