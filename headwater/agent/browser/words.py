"""Texts as the words that an index knows, Chinese as pairs of characters; queries of them; what a page says of them."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from operator import add

from headwater.corpus.judging.length import HAN

MOST_WORDS = 48
"""Of a query; the later ones are left out."""
_KANA = "\u3040-\u30ff"
_RUN = re.compile(f"[{HAN}{_KANA}]+|[^\\W_{HAN}{_KANA}]+")
_IDEOGRAPH = re.compile(f"[{HAN}{_KANA}]")
SNIPPET = 240
"""Characters of what a result shows of its page."""
LOOKED_AT = 100_000
"""Characters of a page among which it is sought."""
EACH = 100
"""Places of each word that count."""
COMMON = frozenset([
    "a", "an", "and", "are", "as", "at", "be", "by", "can", "do", "does", "for", "from", "has", "have", "he", "her",
    "his", "how", "i", "if", "in", "is", "it", "its", "me", "my", "of", "on", "or", "she", "so", "than", "that",
    "the", "their", "them", "then", "there", "these", "they", "this", "to", "was", "we", "were", "what", "when",
    "where", "which", "who", "why", "will", "with", "would", "you", "your",
    "什么", "怎么", "为什", "么样", "多少", "哪里", "哪个", "哪些", "哪儿", "如何", "请问", "请告", "告诉", "诉我",
    "我们", "你们", "他们", "这个", "那个", "这些", "那些", "可以", "没有", "就是", "一个"])
"""Words and pairs that make a question and not its subject; left out of queries."""


def index_words(text: str) -> str:
    """The words of a text in order, apart by spaces: runs of letters and digits, and of Chinese and Japanese every two
    neighbouring characters, since nothing parts the words there."""
    return " ".join(_words(text))


def match_query(query: str) -> str:
    """What FTS5 is asked for: pages with any of the query's words, each quoted, so that nothing in a query is an
    operator. Words that nearly every page has are left out, unless there is no other. A single Chinese character is
    sought as the beginning of a pair. "" for a query without words."""
    return " OR ".join(f'"{word}"*' if len(word) == 1 and _IDEOGRAPH.match(word) else f'"{word}"'
                       for word in _sought(query))


def snippet(text: str, query: str) -> str:
    """The piece of the text with the most of the query's words, in one line."""
    begin = max(0, _best_begin(text, query) - SNIPPET // 8)
    piece = " ".join(text[begin:begin + SNIPPET].split())
    return "…" * (begin > 0) + piece + "…" * (begin + SNIPPET < len(text))


def _best_begin(text: str, query: str) -> int:
    """The place from which on a snippet holds the most different words of the query."""
    lower = text.lower()  # as long as the text but for a few letters
    places = sorted((place, word) for word in _sought(query) for place in islice(_places(lower, word), EACH))
    best = begin = behind = different = 0
    held: Counter[str] = Counter()
    for place, word in places:
        different += not held[word]
        held[word] += 1
        while place - places[behind][0] > SNIPPET * 3 // 4:
            held[places[behind][1]] -= 1
            different -= not held[places[behind][1]]
            behind += 1
        if different > best:
            best, begin = different, places[behind][0]
    return begin


def _places(text: str, word: str) -> Iterator[int]:
    """Where the word begins in the text, of letters and digits at the beginning of a word alone."""
    whole = not _IDEOGRAPH.match(word)
    place = text.find(word)
    while place >= 0:
        if not (whole and place and text[place - 1].isalnum() and not _IDEOGRAPH.match(text[place - 1])):
            yield place
        place = text.find(word, place + 1)


def _sought(query: str) -> list[str]:
    words = list(dict.fromkeys(_words(query)))
    return ([word for word in words if word not in COMMON] or words)[:MOST_WORDS]


def _words(text: str) -> list[str]:
    found: list[str] = []
    for run in _RUN.findall(_folded(text)):
        if run > "\u2fff" and len(run) > 1 and _IDEOGRAPH.match(run):  # the comparison spares most runs the match
            found += map(add, run, run[1:])
        else:
            found.append(run)
    return found


def _folded(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold()
