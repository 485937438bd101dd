"""Tokens of a text, counted without a tokenizer: words, and Han characters one by one."""

from __future__ import annotations

import re

HAN = "\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af"
"""Character ranges of Chinese characters, as they stand inside a regular expression's brackets."""

_TOKEN = re.compile(f"[{HAN}]|[^\\W_{HAN}]+")


def tokens(text: str) -> list[str]:
    """The tokens of `text`: each Han character, and each lower-cased run of other letters and digits.

    Shingles and the length filter share this definition.
    """
    return _TOKEN.findall(text.lower())


def count_tokens(text: str) -> int:
    """Length of `text` in tokens: words for alphabetic scripts, characters for Chinese."""
    return len(_TOKEN.findall(text))
