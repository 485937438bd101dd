"""Tokens of a text, counted without a tokenizer: words, and Han characters one by one."""

from __future__ import annotations

import re
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

HAN = "\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af"
"""Character ranges of Chinese characters, as they stand inside a regular expression's brackets."""
WORD, HAN_CHARACTER = 1, 2

_TOKEN = re.compile(f"[{HAN}]|[^\\W_{HAN}]+")
_LAST_LETTER = 0x323AF
"""No code point above it is a letter or a digit."""
_SHORT = 200
"""Characters up to which counting matches is faster than looking up every character."""


def tokens(text: str) -> list[str]:
    """The tokens of `text`: each Han character, and each lower-cased run of other letters and digits.

    Shingles and the length filter share this definition.
    """
    return _TOKEN.findall(text.lower())


def count_tokens(text: str) -> int:
    """Length of `text` in tokens: words for alphabetic scripts, characters for Chinese."""
    return len(_TOKEN.findall(text)) if len(text) < _SHORT else int(np.count_nonzero(token_starts(text)))


def token_starts(text: str) -> NDArray[np.bool_]:
    """Which characters [len(text)] begin a token."""
    kinds = token_kinds()[np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)]
    starts = kinds > 0
    starts[1:] &= (kinds[1:] == HAN_CHARACTER) | (kinds[:-1] != WORD)
    return starts


@lru_cache(maxsize=1)
def token_kinds() -> NDArray[np.uint8]:
    """For every code point: 0 separator, 1 part of a word, 2 Han character."""
    letters = "".join(map(chr, range(_LAST_LETTER + 1)))
    kinds = np.zeros(0x110000, np.uint8)
    for kind, pattern in ((WORD, r"[^\W_]+"), (HAN_CHARACTER, f"[{HAN}]+")):
        for match in re.finditer(pattern, letters):
            kinds[match.start():match.end()] = kind
    return kinds
