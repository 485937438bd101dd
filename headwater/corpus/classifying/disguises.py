"""Words written so that a search does not see them: wide letters, look-alikes (n1gger), stars (f*ck), spacing."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

LATIN = "0-9A-Za-z_\u00c0-\u024f"
"""What joins a Latin word; a Han neighbour does not (Python's word boundary takes it for a letter)."""
_LOOKS = {"a": "@4", "e": "3", "g": "9", "i": "1!|", "l": "1|", "o": "0", "s": "$5", "t": "7"}
_VOWELS = frozenset("aeiou")
_MOST = 2
"""Letters of a word that may be disguised: of more little is left to know it by."""
_SIGN = re.compile(r"[@|*$!0134579](?=[@|*$!0134579]?[a-z])(?<=[a-z].)|\$(?=[a-z])")
_SPACED = re.compile(rf"([ .-])(?<=[a-z].)(?<![{LATIN}][a-z].)[a-z]\1[a-z]\1[a-z](?:\1[a-z]){{0,22}}(?![{LATIN}])")
"""What follows the first letter of a spaced word."""
_AFTER = frozenset(["", "u", "you", "off"])
"""What may follow a spaced word as if it were of it; anything else makes another word (S P I C E)."""
_JOINED = re.compile(f"[{LATIN}]")
_LETTER = frozenset("abcdefghijklmnopqrstuvwxyz")
_WIDE = ({0xFF21 + letter: ord("a") + letter for letter in range(26)}
         | {0xFF41 + letter: ord("a") + letter for letter in range(26)}
         | {0xFF10 + digit: ord("0") + digit for digit in range(10)}
         | {ord(wide): ord(narrow) for wide, narrow in zip("＊＠＄｜", "*@$|")})
_ANY_WIDE = re.compile("[ａ-ｚＡ-Ｚ０-９＊＠＄｜]")


class Disguise(NamedTuple):
    """A word disguised at text[start:end]."""

    word: str
    start: int
    end: int


def narrowed(text: str) -> str:
    """The text in small letters, with ASCII letters, digits and signs for their full-width forms: each character stands
    where it stood."""
    lowered = text.lower()
    if len(lowered) != len(text):  # a few capitals have longer small letters
        lowered = "".join(character.lower() if len(character.lower()) == 1 else character for character in text)
    return lowered.translate(_WIDE) if not lowered.isascii() and _ANY_WIDE.search(lowered) else lowered


def disguise_finder(words: Iterable[str]) -> Callable[[str], Iterator[Disguise]]:
    """A function that finds these words (of four letters or more) in a text that was `narrowed`: with one or two
    letters replaced by others that look alike or by stars, or with the same sign between all letters. A star stands
    for a vowel, and another beside it for any letter, as f**k does."""
    by_initial: dict[str, list[str]] = {}
    for word in sorted((word for word in words if len(word) > 3 and word.isalpha()), key=lambda word: -len(word)):
        for initial in word[0] + "$" * (word[0] == "s"):
            by_initial.setdefault(initial, []).append(word)

    def find(text: str) -> Iterator[Disguise]:
        done = 0
        for sign in _SIGN.finditer(text):
            start = _beginning(text, sign.start())
            if start < done or (start and _JOINED.match(text[start - 1])):
                continue
            for word in by_initial.get(text[start], ()):
                done = start + len(word)
                if _disguised(text[start:done], word) and not _JOINED.match(text[done:done + 1]):
                    yield Disguise(word, start, done)
                    break
            else:
                done = 0
        for run in _SPACED.finditer(text):
            start = run.start() - 1
            letters = text[start:run.end():2]
            for word in by_initial.get(letters[0], ()):
                if letters.startswith(word) and letters[len(word):] in _AFTER:
                    yield Disguise(word, start, start + 2 * len(word) - 1)
                    break

    return find


def _beginning(text: str, sign: int) -> int:
    """Where the word begins that has this sign in it; no word that is looked for has 16 letters before one."""
    start = sign
    while start and sign - start < 16 and text[start - 1] in _LETTER:
        start -= 1
    return start


def _disguised(written: str, word: str) -> bool:
    changed = 0
    for place, (one, letter) in enumerate(zip(written, word)):
        if one == letter:
            continue
        changed += 1
        starred = one == "*" and 0 < place < len(word) - 1 and (letter in _VOWELS or written[place - 1] == "*")
        if changed > _MOST or not (starred or one in _LOOKS.get(letter, "")):
            return False
    return changed > 0 and len(written) == len(word)
