"""Where the tokens of a text stand, each with a hash that forgets case, width and punctuation."""

from __future__ import annotations

import unicodedata
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from headwater.corpus.deduplication.minhash import U64, mix, odd_numbers
from headwater.corpus.judging.length import HAN_CHARACTER, WORD, token_kinds

I64 = NDArray[np.int64]
U32 = NDArray[np.uint32]
_POWERS = 1024
_LETTER, _OPENS, _CLOSES, _SIGN, _SPACE, _ASKS = 1, 2, 4, 8, 16, 32


class Tokens(NamedTuple):
    """Hashes of a text's tokens [T], the characters where they start and end [T], and how many are Chinese."""

    hashes: U64
    starts: I64
    ends: I64
    han: int


def places(text: str) -> Tokens:
    """The tokens of `length.tokens`, compatibility forms (full width and the like) folded character by character.

    Labels of choices are left out: one letter or figure that ends in a bracket, dot or colon and follows a space, an
    opening bracket or a line's end ("A. ", "(b)", "C、", "1."); so a question is the same however they are written.
    """
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    folded, kinds = _folded()[codes], token_kinds()[codes]
    kept = np.flatnonzero(kinds)
    kinds = kinds[kept]
    follows = np.zeros(len(kept), np.bool_)
    np.logical_and(np.diff(kept) == 1, (kinds[1:] == WORD) & (kinds[:-1] == WORD), out=follows[1:])
    first = np.flatnonzero(~follows)
    if not len(first):
        nothing = np.zeros(0, np.int64)
        return Tokens(np.zeros(0, np.uint64), nothing, nothing, 0)
    lengths = np.diff(np.append(first, len(kept)))
    place = np.arange(len(kept)) - np.repeat(first, lengths)
    weighted = folded[kept].astype(np.uint64) * odd_numbers(1, _POWERS)[place % _POWERS]
    hashes = mix(np.add.reduceat(weighted, first))
    starts = kept[first]
    real = ~_labels(codes, starts, lengths)
    starts, lengths = starts[real], lengths[real]
    return Tokens(hashes[real], starts, starts + lengths, int((kinds[first][real] == HAN_CHARACTER).sum()))


class Letters(NamedTuple):
    """Hashes [N] of a text's letters, digits and signs of calculation, the characters where they stand [N], which of
    them start a token [S], what stands between each and the next [N] (0 spaces or nothing, 1 more or the text's end,
    2 a question mark), and how many are Chinese."""

    hashes: U64
    at: I64
    starts: I64
    gaps: NDArray[np.uint8]
    han: int


def letters(text: str) -> Letters:
    """What is left of a text without spaces, brackets and punctuation, folded as in `places`; "+-*/=<>[]{}" stay,
    for a sum is made of them."""
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    folded, kinds, classes = _folded()[codes], token_kinds()[codes], _classes()[codes]
    kept = (kinds > 0) | (classes & _SIGN > 0)
    at = np.flatnonzero(kept)
    kinds = kinds[at]
    begins = kinds > 0
    begins[1:] &= (np.diff(at) != 1) | (kinds[1:] != WORD) | (kinds[:-1] != WORD)
    gaps = _between(~kept & (classes & _SPACE == 0), at).astype(np.uint8)
    gaps[-1:] = 1
    gaps[_between(classes & _ASKS > 0, at)] = 2
    return Letters(mix(folded[at].astype(np.uint64) + np.uint64(1)), at, np.flatnonzero(begins), gaps,
                   int((kinds == HAN_CHARACTER).sum()))


def _between(marks: NDArray[np.bool_], at: I64) -> NDArray[np.bool_]:
    """Whether a mark stands between each place and the next, or the end."""
    seen = np.cumsum(marks)
    return np.diff(seen[at], append=seen[-1:]) > 0 if len(at) else np.zeros(0, np.bool_)


def ngrams(hashes: U64, size: int, salt: int) -> U64:
    """Hashes of a text's n-grams in order [max(0, T - size + 1)]; another salt or size gives other hashes."""
    count = max(0, len(hashes) - size + 1)
    total = np.full(count, salt, np.uint64)
    for offset, key in enumerate(odd_numbers(2 + salt, size)):
        total += hashes[offset:offset + count] * key
    return mix(total)


def _labels(codes: U32, starts: I64, lengths: I64) -> NDArray[np.bool_]:
    """Which tokens are labels of choices."""
    result = lengths == 1
    single = np.flatnonzero(result)
    classes = _classes()
    around = np.concatenate([[32], codes, [32]])
    at = starts[single] + 1
    result[single] = ((classes[around[at]] & _LETTER > 0) & (classes[around[at - 1]] & _OPENS > 0)
                      & (classes[around[at + 1]] & _CLOSES > 0))
    return result


@lru_cache(maxsize=1)
def _classes() -> NDArray[np.uint8]:
    classes = np.zeros(0x110000, np.uint8)
    for letters, bit in (("ABCDEFGHabcdefgh123456789ＡＢＣＤＥＦＧＨａｂｃｄｅｆｇｈ１２３４５６７８９", _LETTER),
                         (" \t\n\r\u3000\xa0([（［【", _OPENS), (".．、)）]］】:：", _CLOSES),
                         ("+-*/=<>[]{}＋－＊／＝＜＞［］｛｝", _SIGN), (" \t\u3000\xa0", _SPACE),
                         ("?？", _ASKS)):
        classes[[ord(letter) for letter in letters]] |= np.uint8(bit)
    return classes


@lru_cache(maxsize=1)
def _folded() -> U32:
    """For every code point: its lower-cased NFKC form where that is one character, else itself."""
    folded = np.arange(0x110000, dtype=np.uint32)
    for code in range(0x110000):
        if 0xD800 <= code < 0xE000:
            continue
        form = unicodedata.normalize("NFKC", chr(code)).lower()
        if len(form) == 1:
            folded[code] = ord(form)
    return folded
