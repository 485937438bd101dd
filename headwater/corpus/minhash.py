"""MinHash signatures of many texts at once, in numpy (Broder 1997; bands and rows as in FineWeb)."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from headwater.corpus.length import HAN
from headwater.settings import Seed, Settings

U32 = NDArray[np.uint32]
U64 = NDArray[np.uint64]
_WORD, _HAN = 1, 2
_POWERS = 1024
"""Positions inside a word that hash differently; beyond, a word's letters are compared modulo this distance."""


class MinHashSettings(Settings):
    """Near-duplicate detection: two documents of Jaccard similarity s meet with probability 1 - (1 - s^rows)^bands.

    The nominal threshold is (1/bands)^(1/rows): 0.719 with the default 14 x 8 (112 permutations).
    """

    ngram: Annotated[int, Field(ge=1, le=50)] = 5
    """Words and Han characters in a shingle."""
    bands: Annotated[int, Field(ge=1, le=256)] = 14
    """Chances to meet; more find less similar copies."""
    rows: Annotated[int, Field(ge=1, le=64)] = 8
    """Hashes that must agree in a band; more find only more similar copies."""
    seed: Seed = 1
    """Of the hash functions."""

    @property
    def permutations(self) -> int:
        return self.bands * self.rows


def detection_probability(similarity: float, settings: MinHashSettings) -> float:
    """Probability that two documents of that Jaccard similarity share a band."""
    return 1 - (1 - similarity**settings.rows) ** settings.bands


def shingles(texts: list[str], ngram: int) -> tuple[U32, NDArray[np.int64]]:
    """Hashes of every text's n-grams of tokens (Han characters and lower-cased alphanumeric runs), in order.

    Returns (hashes [S], bounds [len(texts)+1]): text i owns hashes[bounds[i]:bounds[i+1]], repeats included. A text
    shorter than n tokens has one shingle, all of it; a text without tokens has none.
    """
    tokens, bounds = _token_hashes(texts)
    lengths = np.diff(bounds)
    padding = np.where((lengths > 0) & (lengths < ngram), ngram - lengths, 0)
    if padding.any():
        tokens = np.insert(tokens, np.repeat(bounds[1:], padding), np.uint64(0))
        lengths = lengths + padding
    counts = np.maximum(lengths - ngram + 1, 0)
    shingle_bounds, token_bounds = _cumulative(counts), _cumulative(lengths)
    first = np.arange(shingle_bounds[-1]) + np.repeat(token_bounds[:-1] - shingle_bounds[:-1], counts)
    keys = odd_numbers(2, ngram)
    total = np.zeros(len(first), np.uint64)
    for offset in range(ngram):
        total += tokens[first + offset] * keys[offset]
    return (mix(total) >> np.uint64(32)).astype(np.uint32), shingle_bounds


def signatures(texts: list[str], settings: MinHashSettings) -> tuple[U32, NDArray[np.bool_]]:
    """MinHash signatures [len(texts), permutations] and whether each text has one (it has no shingle otherwise).

    Permutation p of shingle x is a_p x + b_p mod 2^32 with a_p odd (multiply-shift, Dietzfelbinger et al. 1997).
    """
    hashes, bounds = shingles(texts, settings.ngram)
    present = np.diff(bounds) > 0
    factors, offsets = _permutations(settings.permutations, settings.seed)
    result = np.zeros((len(texts), settings.permutations), np.uint32)
    if present.any():
        starts = bounds[:-1][present]
        for column in range(settings.permutations):
            result[present, column] = np.minimum.reduceat(hashes * factors[column] + offsets[column], starts)
    return result, present


def signature(text: str, settings: MinHashSettings) -> U32:
    """The MinHash signature [permutations] of one text (all zeros for a text without tokens)."""
    return signatures([text], settings)[0][0]


def estimated_jaccard(first: U32, second: U32) -> float:
    """Share of equal signature places: an unbiased estimate, standard error sqrt(s (1 - s) / permutations)."""
    return float((first == second).mean())


def exact_jaccard(first: str, second: str, ngram: int) -> float:
    """Jaccard similarity of the two texts' shingle sets (1 for two texts without tokens)."""
    hashes, bounds = shingles([first, second], ngram)
    one, two = np.unique(hashes[:bounds[1]]), np.unique(hashes[bounds[1]:])
    union = len(np.union1d(one, two))
    return len(np.intersect1d(one, two)) / union if union else 1.0


def _token_hashes(texts: list[str]) -> tuple[U64, NDArray[np.int64]]:
    """A hash of every token of every text, and the bounds of each text's tokens; same tokens as `length.tokens`."""
    lowered = [text.lower() for text in texts]
    codes = np.frombuffer("\n".join([*lowered, ""]).encode("utf-32-le", "surrogatepass"), np.uint32)
    kinds = token_kinds()[codes]
    follows = np.zeros(len(kinds), np.bool_)
    np.logical_and(kinds[1:] == _WORD, kinds[:-1] == _WORD, out=follows[1:])
    kept = kinds > 0
    starts_at = np.flatnonzero(kept & ~follows)
    letters = codes[kept].astype(np.uint64)
    starts = np.flatnonzero(~follows[kept])
    place = np.arange(len(letters)) - np.repeat(starts, np.diff(np.append(starts, len(letters))))
    weighted = letters * odd_numbers(1, _POWERS)[place % _POWERS]
    hashes = mix(np.add.reduceat(weighted, starts)) if len(starts) else np.zeros(0, np.uint64)
    ends = np.cumsum([len(text) + 1 for text in lowered])
    return hashes, np.concatenate([[0], np.searchsorted(starts_at, ends)])


@lru_cache(maxsize=1)
def token_kinds() -> NDArray[np.uint8]:
    """For every code point: 0 separator, 1 part of a word, 2 Han character."""
    everything = "".join(map(chr, range(0x110000)))
    kinds = np.zeros(0x110000, np.uint8)
    for match in re.finditer(r"[^\W_]+", everything):
        kinds[match.start():match.end()] = _WORD
    for match in re.finditer(f"[{HAN}]+", everything):
        kinds[match.start():match.end()] = _HAN
    return kinds


@lru_cache(maxsize=8)
def odd_numbers(seed: int, count: int) -> U64:
    return np.random.Generator(np.random.PCG64(seed)).integers(0, 2**63, count, np.uint64) * np.uint64(2) + np.uint64(1)


@lru_cache(maxsize=8)
def _permutations(count: int, seed: int) -> tuple[U32, U32]:
    numbers = np.random.Generator(np.random.PCG64(seed)).integers(0, 2**32, (2, count), np.uint32)
    return numbers[0] | np.uint32(1), numbers[1]


def mix(values: U64) -> U64:
    """MurmurHash3's 64-bit finalizer: every input bit reaches every output bit."""
    values = (values ^ (values >> np.uint64(33))) * np.uint64(0xFF51AFD7ED558CCD)
    values = (values ^ (values >> np.uint64(33))) * np.uint64(0xC4CEB9FE1A85EC53)
    return values ^ (values >> np.uint64(33))


def _cumulative(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(counts)])
