"""Questions too short for n-grams, sought letter by letter and whole."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from headwater.corpus.decontamination.token_places import U64, letters
from headwater.corpus.deduplication.minhash import mix, odd_numbers

ARRAYS = ("heads", "tails", "lengths", "gaps", "owners", "levels")
_KEYS = 77
"""Seed of the factors."""
_BITS = 20


class Found(NamedTuple):
    """A question's number, and the characters of the document where it starts and ends."""

    owner: int
    start: int
    end: int


class ShortQuestions:
    """Whole short questions, compared without spaces, punctuation, case and width.

    One counts only where more than spaces follows it (a mark, a blank to fill in, a line's end): the stem "Consumer
    surplus is" begins many a clean sentence. Where the question has a question mark, that is what must follow.

    A question of n letters, 2^k <= n < 2^(k+1), is known by the hashes of its first and its last 2^k letters, which
    cover it; a document's stretches of 2^k letters are hashed by doubling, for all k at once, at every token's start.
    """

    def __init__(self, arrays: dict[str, NDArray[Any]]) -> None:
        self.arrays = arrays
        self._heads = np.asarray(arrays["heads"], np.uint64)
        self._tails, self._lengths, self._gaps, self._owners = (arrays[name] for name in ARRAYS[1:5])
        self._levels = [int(level) for level in np.asarray(arrays["levels"], np.int64)]
        self._bitmap = np.zeros(1 << _BITS, np.bool_)
        self._bitmap[self._heads >> np.uint64(64 - _BITS)] = True

    @classmethod
    def of(cls, questions: Iterable[tuple[int, str, tuple[str, ...]]], least: int) -> tuple[ShortQuestions, set[int]]:
        """Index (number, text, choices) of questions of at least `least` letters, where a Chinese character is two.

        A text that questions with other choices share ("Which of these is true?") is none of them. Returns the
        numbers that are sought, too.
        """
        held: dict[tuple[int, int, int, int], tuple[set[tuple[str, ...]], list[int]]] = {}
        for number, text, options in questions:
            key = _key(text, least)
            if key:
                choices, numbers = held.setdefault(key, (set(), []))
                choices.add(options)
                numbers.append(number)
        rows = sorted((*key, number) for key, (choices, numbers) in held.items() if len(choices) == 1
                      for number in numbers)
        heads, tails, lengths, gaps, owners = zip(*rows, strict=True) if rows else ((), (), (), (), ())
        levels = sorted({_level(length) for length in lengths})
        arrays: dict[str, NDArray[Any]] = {
            "heads": np.array(heads, np.uint64), "tails": np.array(tails, np.uint64),
            "lengths": np.array(lengths, np.int64), "gaps": np.array(gaps, np.uint8),
            "owners": np.array(owners, np.int64), "levels": np.array(levels, np.int64)}
        return cls(arrays), set(owners)

    def find(self, text: str) -> Iterator[Found]:
        """Every question that stands whole in the document, as often as it does."""
        if not self._levels:
            return
        found = letters(text)
        for level, hashes in _doubled(found.hashes, self._levels):
            starts = found.starts[found.starts < len(hashes)]
            heads = mix(hashes[starts])
            likely = np.flatnonzero(self._bitmap[heads >> np.uint64(64 - _BITS)])
            first = np.searchsorted(self._heads, heads[likely], "left")
            last = np.searchsorted(self._heads, heads[likely], "right")
            for place, low, high in zip(starts[likely], first, last, strict=True):
                for row in range(low, high):
                    end = int(place + self._lengths[row])
                    if (end <= len(found.at) and _level(end - int(place)) == level
                            and found.gaps[end - 1] >= self._gaps[row]
                            and mix(hashes[end - (1 << level):][:1])[0] == self._tails[row]):
                        yield Found(int(self._owners[row]), int(found.at[place]), int(found.at[end - 1]) + 1)


def _key(text: str, least: int) -> tuple[int, int, int, int] | None:
    """(hash of the head, of the tail, number of letters, what must follow); None for a question that is too short."""
    found = letters(text)
    if not len(found.starts):
        return None
    whole = found.hashes[found.starts[0]:]
    if len(whole) + found.han < least:
        return None
    level = _level(len(whole))
    hashes = next(hashes for _, hashes in _doubled(whole, [level]))
    return int(mix(hashes[:1])[0]), int(mix(hashes[-1:])[0]), len(whole), int(found.gaps[-1])


def _level(length: int) -> int:
    return length.bit_length() - 1


def _doubled(hashes: U64, levels: list[int]) -> Iterator[tuple[int, U64]]:
    """(k, hashes of every stretch of 2^k letters) for the levels k asked for, as far as the text is long enough."""
    factors = odd_numbers(_KEYS, 64)
    for level in range(max(levels) + 1):
        if level:
            half = 1 << (level - 1)
            if len(hashes) <= half:
                return
            hashes = hashes[:-half] + hashes[half:] * factors[level]
        if level in levels:
            yield level, hashes


