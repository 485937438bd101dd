"""MinHash signatures and band keys of many texts at once, in numpy (Broder 1997; bands and rows as in FineWeb)."""

from __future__ import annotations

from functools import lru_cache
from typing import Annotated, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from headwater.corpus.judging.length import WORD, token_kinds
from headwater.settings import Seed, Settings

U32 = NDArray[np.uint32]
U64 = NDArray[np.uint64]
U8 = NDArray[np.uint8]
I64 = NDArray[np.int64]
_POWERS = 1024
"""Positions inside a word that hash differently; beyond, a word's letters are compared modulo this distance."""


class LooseBands(Settings):
    """A second set of bands over shorter shingles, for copies whose every tenth word was changed.

    A change kills n shingles of n tokens: after one in ten, scattered, 5-grams agree to 0.42 (which 14 x 8 bands find
    once in a hundred) and 3-grams to 0.57. What these bands propose is always verified.
    """

    ngram: Annotated[int, Field(ge=1, le=50)] = 3
    """Words and Han characters in a shingle."""
    bands: Annotated[int, Field(ge=1, le=256)] = 24
    """Chances to meet."""
    rows: Annotated[int, Field(ge=1, le=64)] = 3
    """Hashes that must agree in a band."""


class MinHashSettings(Settings):
    """Near-duplicate detection: two documents of Jaccard similarity s meet with probability 1 - (1 - s^rows)^bands.

    The nominal threshold is (1/bands)^(1/rows): 0.719 with the default 14 x 8 (112 permutations). Those that meet are
    copies when their estimated similarity reaches `similarity`.
    """

    ngram: Annotated[int, Field(ge=1, le=50)] = 5
    """Words and Han characters in a shingle."""
    bands: Annotated[int, Field(ge=1, le=256)] = 14
    """Chances to meet; more find less similar copies."""
    rows: Annotated[int, Field(ge=1, le=64)] = 8
    """Hashes that must agree in a band; more find only more similar copies."""
    loose: LooseBands | None = LooseBands()
    """More bands, for copies with many small changes; null finds only what the bands above find."""
    similarity: Annotated[float, Field(ge=0, lt=1)] = 0.4
    """Least estimated Jaccard similarity (of the loose shingles, if there are any) of two copies; 0 verifies none."""
    seed: Seed = 1
    """Of the hash functions."""

    @property
    def permutations(self) -> int:
        return self.bands * self.rows

    @property
    def all_bands(self) -> int:
        """Columns of band keys: the main bands, then the loose ones."""
        return self.bands + (self.loose.bands if self.loose else 0)

    @property
    def sketch_bytes(self) -> int:
        """Bytes of a document's sketch, by which candidates are verified."""
        return self.loose.bands * self.loose.rows if self.loose else self.permutations


class BandKeys(NamedTuple):
    """What is stored of N texts to find copies among them.

    `keys` [N, all_bands] are one hash per band (0 for a text without tokens, which is nobody's copy), `sketch`
    [N, sketch_bytes] the low bytes of the MinHashes (Li and Koenig 2010), `present` [N] who has a signature.
    """

    keys: U64
    sketch: U8
    present: NDArray[np.bool_]


def detection_probability(similarity: float, settings: MinHashSettings) -> float:
    """Probability that two documents of that Jaccard similarity share a band."""
    return 1 - (1 - similarity**settings.rows) ** settings.bands


def shingles(texts: list[str], ngram: int) -> tuple[U32, I64]:
    """Hashes of every text's n-grams of tokens (Han characters and lower-cased alphanumeric runs), in order.

    Returns (hashes [S], bounds [len(texts)+1]): text i owns hashes[bounds[i]:bounds[i+1]], repeats included. A text
    shorter than n tokens has one shingle, all of it; a text without tokens has none.
    """
    return ngrams(*token_hashes(texts), ngram)


def ngrams(tokens: U64, bounds: I64, ngram: int) -> tuple[U32, I64]:
    """`shingles` of texts whose tokens are hashed already: text i owns tokens[bounds[i]:bounds[i+1]]."""
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


def minimums(hashes: U32, bounds: I64, count: int, seed: int) -> U32:
    """The least hash of each text under each permutation: [count, texts], 0 for a text without shingles.

    Permutation p of shingle x is a_p x + b_p mod 2^32 with a_p odd (multiply-shift, Dietzfelbinger et al. 1997).
    """
    present = np.diff(bounds) > 0
    factors, offsets = _permutations(count, seed)
    result = np.zeros((count, len(present)), np.uint32)
    if present.any():
        starts, permuted = bounds[:-1][present], np.empty_like(hashes)
        for row in range(count):
            np.multiply(hashes, factors[row], out=permuted)
            permuted += offsets[row]
            result[row, present] = np.minimum.reduceat(permuted, starts)
    return result


def band_keys(texts: list[str], settings: MinHashSettings) -> BandKeys:
    """The texts' band keys and sketches; equal whatever company a text is computed in."""
    tokens, bounds = token_hashes(texts)
    values = minimums(*ngrams(tokens, bounds, settings.ngram), settings.permutations, settings.seed)
    keys = fold_bands(values, settings.rows)
    if settings.loose:
        values = minimums(*ngrams(tokens, bounds, settings.loose.ngram), settings.sketch_bytes, settings.seed)
        keys = np.concatenate([keys, fold_bands(values, settings.loose.rows)])
    present = np.diff(bounds) > 0
    return BandKeys(np.ascontiguousarray(keys.T) * present[:, None], values.T.astype(np.uint8, order="C"), present)


def fold_bands(values: U32, rows: int) -> U64:
    """One 64-bit hash, never 0, per band of `rows` permutations: [permutations, N] to [bands, N].

    A chance collision anywhere among N texts has probability N^2 / 2^65 a band.
    """
    keys = np.zeros((len(values) // rows, values.shape[1]), np.uint64)
    for row in range(rows):
        keys = mix((keys ^ values[row::rows]) * np.uint64(0x9E3779B97F4A7C15))
    return np.maximum(keys, np.uint64(1))


def sequence_hashes(tokens: U64, bounds: I64) -> U64:
    """One 64-bit hash, never 0, of each text's whole sequence of tokens; 0 for a text without tokens."""
    counts = np.diff(bounds)
    place = np.arange(len(tokens)) - np.repeat(bounds[:-1], counts)
    factors = mix((place.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15))
    result = np.zeros(len(counts), np.uint64)
    if len(tokens):
        sums = np.add.reduceat(mix(tokens ^ factors), bounds[:-1][counts > 0])
        result[counts > 0] = np.maximum(mix(sums), np.uint64(1))
    return result


def exact_jaccard(first: str, second: str, ngram: int) -> float:
    """Jaccard similarity of the two texts' shingle sets (1 for two texts without tokens)."""
    hashes, bounds = shingles([first, second], ngram)
    one, two = np.unique(hashes[:bounds[1]]), np.unique(hashes[bounds[1]:])
    union = len(np.union1d(one, two))
    return len(np.intersect1d(one, two)) / union if union else 1.0


def token_hashes(texts: list[str]) -> tuple[U64, I64]:
    """A hash of every token of every text, and the bounds of each text's tokens.

    Tokens are those of `length.tokens`; letters and figures of full width are those of half.
    """
    lowered = [text.lower() for text in texts]
    codes = np.frombuffer("\n".join([*lowered, ""]).encode("utf-32-le", "surrogatepass"), np.uint32)
    kinds = token_kinds()[codes]
    follows = np.zeros(len(kinds), np.bool_)
    np.logical_and(kinds[1:] == WORD, kinds[:-1] == WORD, out=follows[1:])
    kept = kinds > 0
    starts_at = np.flatnonzero(kept & ~follows)
    letters = codes[kept].astype(np.uint64)
    letters[(letters >= 0xFF10) & (letters <= 0xFF5A)] -= np.uint64(0xFEE0)  # full-width forms
    starts = np.flatnonzero(~follows[kept])
    place = np.arange(len(letters)) - np.repeat(starts, np.diff(np.append(starts, len(letters))))
    weighted = letters * odd_numbers(1, _POWERS)[place & (_POWERS - 1)]
    hashes = mix(np.add.reduceat(weighted, starts)) if len(starts) else np.zeros(0, np.uint64)
    ends = np.cumsum([len(text) + 1 for text in lowered])
    return hashes, np.concatenate([[0], np.searchsorted(starts_at, ends)])


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


def _cumulative(counts: I64) -> I64:
    return np.concatenate([[0], np.cumsum(counts)])
