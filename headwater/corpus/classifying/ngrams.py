"""Hashed character and word n-grams of many texts at once: the features of the linear classifiers, in numpy."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Annotated, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from headwater.corpus.judging.length import HAN
from headwater.settings import Settings

U32 = NDArray[np.uint32]
I64 = NDArray[np.int64]
_MULTIPLIER = np.uint32(0x9E3779B1)
_BASE = np.uint32(0x01000193)
_TABLE = 0x10000
_PLACES = 64
"""Letters of a word that hash by their place; a longer word's letters are compared modulo this distance."""
_SPACE, _NEWLINE = ord(" "), ord("\n")


class FeatureSettings(Settings):
    """Which n-grams a classifier sees, and into how many buckets they are hashed."""

    characters: Annotated[int, Field(ge=0, le=8)] = 4
    """Longest character n-gram; all from one character up are features."""
    words: Annotated[int, Field(ge=0, le=4)] = 2
    """Longest n-gram of words (of scripts that part words by spaces)."""
    bits: Annotated[int, Field(ge=8, le=24)] = 18
    """There are 2^bits buckets, each with one weight of one byte."""
    lowercase: bool = False
    """Take capitals for small letters."""

    @model_validator(mode="after")
    def _some_feature(self) -> FeatureSettings:
        if not self.characters and not self.words:
            raise ValueError("a classifier without character or word n-grams sees nothing")
        return self


class Grams(NamedTuple):
    """All n-grams of one order: `buckets` [S], of which text i owns buckets[starts[i]:ends[i]], repeats included."""

    buckets: U32
    starts: I64
    ends: I64


def ngrams(texts: list[str], settings: FeatureSettings) -> Iterator[Grams]:
    """The hashed n-grams of each order, characters first. Digits count as 0, runs of spaces as one, and a text begins
    and ends with a line break."""
    codes, bounds = _codes(texts, settings.lowercase)
    yield from _orders(codes, bounds, settings.characters, settings.bits, 1)
    if settings.words:
        yield from _orders(*_words(codes, bounds), settings.words, settings.bits, 101)


def _orders(units: U32, bounds: I64, longest: int, bits: int, seed: int) -> Iterator[Grams]:
    """n-grams of orders 1 to `longest` over the units of each text (polynomial hash, multiply-shift buckets)."""
    shift = np.uint32(32 - bits)
    rolling = np.zeros(len(units), np.uint32)
    for order in range(1, longest + 1):
        following = units[order - 1:]
        rolling = rolling[:len(following)] * _BASE + following
        mixed = (rolling ^ (rolling >> np.uint32(15))) * _MULTIPLIER + np.uint32(seed * order * 0x85EBCA6B & 0xFFFFFFFF)
        mixed ^= mixed >> np.uint32(13)
        buckets = (mixed * np.uint32(0xC2B2AE35)) >> shift
        yield Grams(buckets, np.minimum(bounds[:-1], len(buckets)),
                    np.clip(bounds[1:] - order + 1, np.minimum(bounds[:-1], len(buckets)), len(buckets)))


def _codes(texts: list[str], lowercase: bool) -> tuple[U32, I64]:
    """Hash of every kept character of all texts, and each text's bounds among them."""
    framed = [f"\n{text.lower() if lowercase else text}\n" for text in texts]
    raw = np.frombuffer("".join(framed).encode("utf-32-le", "surrogatepass"), np.uint32)
    raw = np.where((raw >= 48) & (raw <= 57), np.uint32(48), raw)
    blank = (raw == _SPACE) | (raw == 9) | (raw == 0x3000)
    repeated = np.zeros(len(raw), np.bool_)
    np.logical_and(blank[1:], blank[:-1], out=repeated[1:])
    ends = np.cumsum([len(text) for text in framed], dtype=np.int64)
    bounds = np.concatenate([[0], ends])
    if repeated.any():
        bounds = bounds - np.concatenate([[0], np.cumsum(repeated)])[bounds]
        raw = raw[~repeated]
    return raw, bounds


def _words(codes: U32, bounds: I64) -> tuple[U32, I64]:
    """Hash of every word of all texts, and each text's bounds among them."""
    inside = _letters()[np.minimum(codes, _TABLE - 1)]
    follows = np.zeros(len(inside), np.bool_)
    np.logical_and(inside[1:], inside[:-1], out=follows[1:])
    first = np.flatnonzero(inside & ~follows)
    if not len(first):
        return np.zeros(0, np.uint32), np.zeros_like(bounds)
    places = np.flatnonzero(inside)
    letters, starts = codes[places], np.flatnonzero(~follows[places])
    place = np.arange(len(letters)) - np.repeat(starts, np.diff(np.append(starts, len(letters))))
    hashes = np.add.reduceat((letters + np.uint32(7)) * _place_factors()[place % _PLACES], starts, dtype=np.uint32)
    return (hashes ^ (hashes >> np.uint32(16))) * _MULTIPLIER, np.searchsorted(first, bounds)


@lru_cache(maxsize=1)
def _letters() -> NDArray[np.bool_]:
    """Whether each code point of the first plane is part of a word; Chinese and Japanese characters are not."""
    import re

    unspaced = re.compile(f"[{HAN}\u3040-\u30ff]")
    return np.array([chr(code).isalnum() and not unspaced.match(chr(code)) for code in range(_TABLE - 1)] + [False])


@lru_cache(maxsize=1)
def _place_factors() -> U32:
    numbers = np.random.Generator(np.random.PCG64(5)).integers(0, 2**32, _PLACES, np.uint32)
    return numbers | np.uint32(1)
