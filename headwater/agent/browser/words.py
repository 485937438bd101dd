"""Texts as the words that an index knows, Chinese as pairs of characters; queries of them; what a page says of them."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from itertools import islice

from headwater.corpus.judging.length import HAN

MOST_WORDS = 48
"""Of a query; the later ones are left out."""
_KANA = "\u3040-\u30ff"
_RUN = re.compile(f"[{HAN}{_KANA}]+|[^\\W_{HAN}{_KANA}]+")
_IDEOGRAPHS = re.compile(f"[{HAN}{_KANA}]")
SNIPPET = 240
"""Characters of what a result shows of its page."""
_LOOKED_AT = 200_000
_PLACES = 2000


def index_words(text: str) -> str:
    """The words of a text in order, apart by spaces: runs of letters and digits, and of Chinese and Japanese every two
    neighbouring characters, since nothing parts the words there."""
    return " ".join(word for run in _RUN.findall(_folded(text)) for word in _pairs(run))


def match_query(query: str) -> str:
    """What FTS5 is asked for: pages with any of the query's words, each quoted, so that nothing in a query is an
    operator. A single Chinese character is sought as the beginning of a pair. "" for a query without words."""
    words = dict.fromkeys(word for run in _RUN.findall(_folded(query)) for word in _pairs(run))
    return " OR ".join(f'"{word}"*' if len(word) == 1 and _IDEOGRAPHS.match(word) else f'"{word}"'
                       for word in list(words)[:MOST_WORDS])


def snippet(text: str, query: str) -> str:
    """The piece of the text with the most of the query's words, in one line."""
    text = text[:_LOOKED_AT]
    begin = _best_begin(text, query)
    begin = max(0, begin - SNIPPET // 8)
    piece = " ".join(text[begin:begin + SNIPPET].split())
    return "…" * (begin > 0) + piece + "…" * (begin + SNIPPET < len(text))


def _best_begin(text: str, query: str) -> int:
    """The place from which on a snippet holds the most different words of the query."""
    words = {word for run in _RUN.findall(_folded(query)) for word in _pairs(run)}
    if not words:
        return 0
    # Whole words; pairs overlap, so nothing is consumed.
    pattern = re.compile("(?=(" + "|".join(re.escape(word) if _IDEOGRAPHS.match(word) else
                                           rf"(?<![^\W_]){re.escape(word)}(?![^\W_])"
                                           for word in sorted(words)[:MOST_WORDS]) + "))", re.IGNORECASE)
    places = [(match.start(), match[1].lower()) for match in islice(pattern.finditer(text), _PLACES)]
    best = begin = behind = 0
    held: Counter[str] = Counter()
    for place, word in places:
        held[word] += 1
        while place - places[behind][0] > SNIPPET * 3 // 4:
            held[places[behind][1]] -= 1
            behind += 1
        if (different := len(+held)) > best:
            best, begin = different, places[behind][0]
    return begin


def _pairs(run: str) -> list[str]:
    """The words of a run: itself, or every two neighbours of Chinese or Japanese characters."""
    if len(run) == 1 or not _IDEOGRAPHS.match(run):
        return [run]
    return [run[place:place + 2] for place in range(len(run) - 1)]


def _folded(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold()
