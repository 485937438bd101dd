"""Edits planted in real text: kinds of change a copy suffers, each at a stated share of the text's tokens."""

from __future__ import annotations

import random
import re
from collections.abc import Callable

from headwater.corpus.judging.length import HAN

_TOKEN = re.compile(f"([{HAN}]|[^\\W_{HAN}]+)")
_SENTENCE = re.compile(r"(?<=[。！？\n])|(?<=[.!?] )")
_PUNCTUATION = str.maketrans("，。；：！？（）,.;:!?()", ",.;:!?()，。；：！？（）")

Edit = Callable[[str, float, "list[str]", random.Random], str]
"""(text, share of tokens, other texts to take words and sentences from, draw) to the edited text."""


def pieces(text: str) -> list[str]:
    """Separators at even places, tokens at odd ones; joined they are the text."""
    return _TOKEN.split(text)


def tokens_of(text: str) -> list[str]:
    return pieces(text)[1::2]


def _scattered(change: Callable[[str, str, random.Random], str]) -> Edit:
    def edit(text: str, share: float, others: list[str], draw: random.Random) -> str:
        parts = pieces(text)
        places = range(1, len(parts), 2)
        words = tokens_of(draw.choice(others)) or ["x"]
        for place in draw.sample(places, max(1, round(share * len(places)))):
            parts[place] = change(parts[place], draw.choice(words), draw)
        return "".join(parts)

    return edit


def _space(old: str) -> str:
    return " " if old.isascii() else ""


def _typo(old: str, new: str, draw: random.Random) -> str:
    if len(old) < 2:
        return new
    place = draw.randrange(len(old) - 1)
    return draw.choice([old[:place] + old[place + 1:], old[:place] + old[place + 1] + old[place] + old[place + 2:],
                        old[:place] + draw.choice("aeinorst") + old[place + 1:]])


def _synonyms(text: str, share: float, others: list[str], draw: random.Random) -> str:
    """Whole words, each replaced by another one wherever it stands (in Chinese two characters by two)."""
    parts = pieces(text)
    left = max(1, round(share * (len(parts) // 2)))
    words = tokens_of(draw.choice(others)) or ["x"]
    kinds = sorted({part for part in parts[1::2] if len(part) > 3 or not part.isascii()})
    draw.shuffle(kinds)
    for kind in kinds:
        new = draw.choice(words)
        for place in [at for at in range(1, len(parts), 2) if parts[at] == kind][:left]:
            left -= 1
            parts[place] = new
        if left <= 0:
            break
    return "".join(parts)


def _surface(text: str, share: float, others: list[str], draw: random.Random) -> str:
    """Case, width, punctuation and spacing of that share of the tokens and of what stands between them."""
    parts = pieces(text)
    for place in range(len(parts)):
        if draw.random() < share:
            wide = "".join(chr(ord(char) + 0xFEE0) if "0" <= char <= "z" and char.isalnum() else char
                           for char in parts[place])
            parts[place] = draw.choice([parts[place].upper(), parts[place].swapcase(), wide,
                                        parts[place].translate(_PUNCTUATION), parts[place].replace("，", "， ")])
    return "".join(parts)


def sentences_of(text: str) -> list[str]:
    """Roughly; joined they are the text."""
    return [sentence for sentence in _SENTENCE.split(text) if sentence]


def _block(others: list[str], size: int, draw: random.Random) -> str:
    """So many tokens in a row of another text."""
    parts = pieces(draw.choice(others))
    start = draw.randrange(max(1, len(parts) // 2 - size)) * 2
    return "".join(parts[start + 1:start + 2 * size + 1]) + "\n"


def _removed(text: str, share: float, others: list[str], draw: random.Random) -> str:
    parts = pieces(text)
    size = max(1, round(share * (len(parts) // 2)))
    start = 1 + 2 * draw.randrange(max(1, len(parts) // 2 - size))
    return "".join(parts[:start] + parts[start + 2 * size:])


def _inserted(text: str, share: float, others: list[str], draw: random.Random) -> str:
    found = sentences_of(text)
    place = draw.randrange(len(found) + 1)
    block = _block(others, max(1, round(share * len(tokens_of(text)))), draw)
    return "".join([*found[:place], block, *found[place:]])


def _replaced(text: str, share: float, others: list[str], draw: random.Random) -> str:
    parts = pieces(text)
    size = max(1, round(share * (len(parts) // 2)))
    start = 1 + 2 * draw.randrange(max(1, len(parts) // 2 - size))
    return "".join([*parts[:start], _block(others, size, draw), *parts[start + 2 * size:]])


def _framed(text: str, share: float, others: list[str], draw: random.Random) -> str:
    size = max(1, round(share * len(tokens_of(text)) / 2))
    return _block(others, size, draw) + text + "\n" + _block(others, size, draw)


EDITS: dict[str, Edit] = {
    "block removed": _removed, "block inserted": _inserted, "block replaced": _replaced, "header and footer": _framed,
    "tokens substituted": _scattered(lambda old, new, draw: new),
    "tokens deleted": _scattered(lambda old, new, draw: ""),
    "tokens inserted": _scattered(lambda old, new, draw: old + _space(old) + new),
    "typos": _scattered(_typo), "synonyms": _synonyms, "case, width, punctuation": _surface,
}
CONTIGUOUS = ("block removed", "block inserted", "block replaced", "header and footer")
