"""What the quality rules and the score count in a text: words, lines, marks and repetition, in one pass each."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from headwater.corpus.judging import length

LONGEST = 1_000_000
"""Characters of a text that are counted; what follows is not looked at (memory stays near 100 bytes a character)."""
LONGEST_WORD = 1024
"""Places inside a word that hash differently."""
CHARACTERS_PER_WORD = 1.6
"""Han characters that stand for one English word wherever a published rule counts words."""
SHORT_LINE = {"en": 30, "zh": 10}
"""Characters of a line that FineWeb calls short; the Chinese figure holds as many words as the English."""
TOP_NGRAMS, DUPLICATE_NGRAMS = (2, 3, 4), (5, 6, 7, 8, 9, 10)
STOP_WORDS = frozenset(("the", "be", "to", "of", "and", "that", "have", "with"))
FUNCTION_CHARACTERS = frozenset(
    "的是不了在有和就这這人我也个個为為与與以之而其于於及等中或对對可由被从從到上将將后後他它们們你说說要会會"
    "能者所乎矣曰无無如则則此大一来來去时時地得着著过過那什么麼因下自")
"""Frequent characters of modern and classical Chinese, in both scripts: what stop words are to English."""
BULLETS = tuple("•‣▶◀◦■□▪▫●○·–*-")
LINE_ENDS = {"en": frozenset(".!?…。！？｡．\"'”’」』"), "zh": frozenset(".!?…。！？｡．\"'”’」』；：;:）)》")}
"""Last characters of a line that is a sentence; a Chinese clause in a list ends in a semicolon or colon as well."""

BLANK, HAN, LETTER, DIGIT, MARK, SYMBOL, BROKEN = range(7)
_MARKS = frozenset(",.;:!?，。；：！？、…“”‘’「」『』《》（）()\"'·—")
_HAN_ONE = re.compile(f"[{length.HAN}]")
# A pattern that begins with one set of characters, or with letters, skips to the next of them; hence lookbehinds.
_ELLIPSIS = re.compile(r"\.\.\.+|……*|。。。+")
_HEADING = re.compile(r"^[ \t>]{0,8}#{1,6}(?= )", re.MULTILINE)
_PARAGRAPH = re.compile(r"\n{2,}")
_MORE_BLANK_LINES = re.compile(r"\n{3,}")
_ENGLISH_WORD = re.compile("[a-z]+")
_FUNCTION = re.compile(f"[{''.join(sorted(FUNCTION_CHARACTERS))}]")
_SENTENCE_END = re.compile(r"[.!?。！？｡．…](?:(?<=[.!?])[.!?]*[\"'”’)\]]*(?=\s|$)|"
                           r"(?<=[。！？｡．!?])[。！？｡．!?]*|(?<=…)…*)")
_MISDECODED = re.compile("[锟烫屯ÃÂâäåæçèé](?:(?<=锟)斤拷|(?<=烫)烫烫|(?<=屯)屯屯|(?<=[ÃÂ])[\u0080-\u00bf]|(?<=â)€|"
                         "(?<=[äåæçèé])[\u0080-\u00bf]{2})")
_FACTOR = np.uint64(0x9E3779B97F4A7C15)
U64 = NDArray[np.uint64]
I64 = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Statistics:
    """Counts and shares (0 to 1) of one text; shares of characters leave blanks out.

    A word is a run of non-blank characters (in Chinese: a Han character, or what stands between two). An n-gram of a
    Chinese text has 1.6 n of them, rounded: "2gram" is then 3 characters. Of a Chinese text only the lines that hold
    a Han character are counted, since code and tables of figures between them repeat and abbreviate as they please;
    `han`, `broken` and `lorem_ipsum` alone are of all lines.
    """

    words: int
    """Words that hold a letter or digit."""
    mean_word_length: float
    longest_word: int
    hashes: float
    """Number signs per word; in Chinese those of headings (Markdown) are none."""
    ellipses: float
    """Ellipses per word."""
    bullet_lines: float
    ellipsis_lines: float
    """Share of lines that end in an ellipsis."""
    alphabetic_words: float
    """Share of words that hold a letter (Han characters are letters)."""
    stop_words: int
    """How many different ones of the eight English stop words occur; of the function characters in Chinese."""
    dup_lines: float
    """Share of lines that repeat an earlier line."""
    dup_line_chars: float
    dup_paragraphs: float
    dup_paragraph_chars: float
    top_2gram_chars: float
    """Characters in all occurrences of the most frequent repeated n-gram."""
    top_3gram_chars: float
    top_4gram_chars: float
    dup_5gram_chars: float
    """Characters inside repetitions of n-grams, each counted once, first occurrences left out."""
    dup_6gram_chars: float
    dup_7gram_chars: float
    dup_8gram_chars: float
    dup_9gram_chars: float
    dup_10gram_chars: float
    sentences: int
    """Sentence ends."""
    curly_brackets: float
    """Opening curly brackets per character."""
    lorem_ipsum: int
    punctuated_lines: float
    """Share of lines that end as a sentence does."""
    short_lines: float
    """Share of lines of at most 30 characters; in Chinese of at most 10, verses left out (they end as sentences do)."""
    newlines: float
    """Line ends per word."""
    letters: float
    """Share of characters that are letters or Han."""
    han: float
    digits: float
    symbols: float
    """Share of characters that are neither letters nor digits nor punctuation of sentences."""
    marks: float
    """Share of characters that are punctuation of sentences."""
    function_words: float
    """Function characters per Han character, stop words per word."""
    unpunctuated: float
    """Share of characters in lines without any punctuation."""
    broken: float
    """Characters that tell of a wrong decoding (U+FFFD, private use, known sequences), per character."""


def measure(text: str, language: str) -> Statistics:
    """Count everything the rules and the score ask about `text` (tidied: lines end in line feeds).

    `language` "zh" counts Chinese words as said at `Statistics`; every other one is counted as English is. An empty
    text has zeros throughout.
    """
    text, chinese = text[:LONGEST], language == "zh"
    points, kinds = characters(text)
    han, broken = _shares_of_all(text, kinds)
    lorem_ipsum = text.lower().count("lorem ipsum")
    if chinese:
        text = _MORE_BLANK_LINES.sub("\n\n", "\n".join(filter(_han_or_blank, text.split("\n"))))
        points, kinds = characters(text)
    count = np.bincount(kinds, minlength=7).tolist()
    visible = max(len(kinds) - count[BLANK], 1)
    starts, lengths, hashes = _words(points, kinds, split_han=chinese)
    words = _holding(kinds, starts, DIGIT)
    per_word, script = 1 / max(words, 1), "zh" if chinese else "en"
    ends = LINE_ENDS[script]
    ellipses = len(_ELLIPSIS.findall(text)) if any(mark in text for mark in ("...", "…", "。。。")) else 0
    stop_words, function_words = _function_words(text, chinese, count[HAN], words)
    lines = [line for line in map(str.strip, text.split("\n")) if line]
    dup_lines, dup_line_chars = _repeats(lines)
    dup_paragraphs, dup_paragraph_chars = _repeats(_PARAGRAPH.split(text)) if "\n\n" in text else (0.0, 0.0)
    tops, dups = _ngram_shares(hashes, lengths, CHARACTERS_PER_WORD if chinese else 1.0)
    return Statistics(
        words=words, mean_word_length=visible / max(len(starts), 1), longest_word=int(lengths.max(initial=0)),
        hashes=(text.count("#") - (_headings(text) if chinese else 0)) * per_word, ellipses=ellipses * per_word,
        bullet_lines=_share(line.startswith(BULLETS) for line in lines),
        ellipsis_lines=_share(line.endswith(("...", "…")) for line in lines),
        alphabetic_words=_holding(kinds, starts, LETTER) / max(len(starts), 1), stop_words=stop_words,
        dup_lines=dup_lines, dup_line_chars=dup_line_chars, dup_paragraphs=dup_paragraphs,
        dup_paragraph_chars=dup_paragraph_chars, top_2gram_chars=tops[0], top_3gram_chars=tops[1],
        top_4gram_chars=tops[2], dup_5gram_chars=dups[0], dup_6gram_chars=dups[1], dup_7gram_chars=dups[2],
        dup_8gram_chars=dups[3], dup_9gram_chars=dups[4], dup_10gram_chars=dups[5],
        sentences=len(_SENTENCE_END.findall(text)), curly_brackets=text.count("{") / visible,
        lorem_ipsum=lorem_ipsum, punctuated_lines=_share(line[-1] in ends for line in lines),
        short_lines=_share(len(line) <= SHORT_LINE[script] and not (chinese and line[-1] in ends) for line in lines),
        newlines=text.count("\n") * per_word,
        letters=(count[HAN] + count[LETTER]) / visible, han=han, digits=count[DIGIT] / visible,
        symbols=(count[SYMBOL] + count[BROKEN]) / visible, marks=count[MARK] / visible,
        function_words=function_words, unpunctuated=_unpunctuated(points, kinds),
        broken=broken)


def _headings(text: str) -> int:
    """Number signs that mark headings."""
    return sum(match[0].count("#") for match in _HEADING.finditer(text)) if "#" in text else 0


def characters(text: str) -> tuple[NDArray[np.uint32], NDArray[np.uint8]]:
    """Code points [N] of a text and what each of them is: blank, Han, letter, digit, mark, symbol or broken."""
    points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    return points, _kinds()[np.minimum(points, 0xFFFF + (points >= 0x20000))]


@lru_cache(maxsize=1)
def _kinds() -> NDArray[np.uint8]:
    """The kind of every character of the basic plane, then of other planes' symbols, then of their Han."""
    table = np.full(0x10001, SYMBOL, np.uint8)
    table[0x10000] = HAN
    for point in range(0xFFFF):
        character = chr(point)
        category = unicodedata.category(character)
        if character.isspace():
            table[point] = BLANK
        elif character in _MARKS:
            table[point] = MARK
        elif _HAN_ONE.match(character):
            table[point] = HAN
        elif category[0] in "LM":
            table[point] = LETTER
        elif category[0] == "N":
            table[point] = DIGIT
        elif character == "\ufffd" or category in ("Cc", "Co", "Cs"):
            table[point] = BROKEN
    return table


def _shares_of_all(text: str, kinds: NDArray[np.uint8]) -> tuple[float, float]:
    """Share of Han characters, and of those that tell of a wrong decoding."""
    visible = max(int(np.count_nonzero(kinds)), 1)
    broken = int(np.count_nonzero(kinds == BROKEN)) + (0 if text.isascii() else len(_MISDECODED.findall(text)))
    return int(np.count_nonzero(kinds == HAN)) / visible, min(broken / visible, 1.0)


def _han_or_blank(line: str) -> bool:
    return not line or _HAN_ONE.search(line) is not None


def _words(points: NDArray[np.uint32], kinds: NDArray[np.uint8], *, split_han: bool) -> tuple[I64, I64, U64]:
    """Where words start, how many characters each has, and a hash of it."""
    visible = kinds != BLANK
    start = visible.copy()
    start[1:] &= ~visible[:-1]
    if split_han:
        han = kinds == HAN
        start |= han
        start[1:] |= han[:-1] & visible[1:]
    starts = np.flatnonzero(start)
    if not len(starts):
        return starts, starts, np.zeros(0, np.uint64)
    inside = np.arange(len(points)) - starts[np.maximum(np.cumsum(start) - 1, 0)]
    letters = (points * visible).astype(np.uint64) * _powers()[inside % LONGEST_WORD]
    return starts, np.add.reduceat(visible, starts, dtype=np.int64), np.add.reduceat(letters, starts)


@lru_cache(maxsize=1)
def _powers() -> U64:
    return np.multiply.accumulate(np.full(LONGEST_WORD, _FACTOR, np.uint64))


def _holding(kinds: NDArray[np.uint8], starts: I64, last: int) -> int:
    """How many words hold a character whose kind is Han, letter, ... up to `last`."""
    found = (kinds > BLANK) & (kinds <= last)
    return int(np.count_nonzero(np.logical_or.reduceat(found, starts))) if len(starts) else 0


def _function_words(text: str, chinese: bool, han: int, words: int) -> tuple[int, float]:
    """How many different function words occur, and their share of the words (of the Han characters)."""
    if chinese:
        found = _FUNCTION.findall(text)
        return len(set(found)), len(found) / max(han, 1)
    found = [word for word in _ENGLISH_WORD.findall(text.lower()) if word in STOP_WORDS]
    return len(set(found)), len(found) / max(words, 1)


def _share(found: Iterable[bool]) -> float:
    values = list(found)
    return sum(values) / max(len(values), 1)


def _repeats(pieces: list[str]) -> tuple[float, float]:
    """Share of pieces that repeat an earlier one, and of the characters in them."""
    first = set(pieces)
    if len(first) == len(pieces):
        return 0.0, 0.0
    total = sum(map(len, pieces))
    return (len(pieces) - len(first)) / len(pieces), (total - sum(map(len, first))) / max(total, 1)


def _unpunctuated(points: NDArray[np.uint32], kinds: NDArray[np.uint8]) -> float:
    """Share of the characters that stand in lines without punctuation."""
    if not len(points):
        return 0.0
    starts = np.append(0, np.flatnonzero(points[:-1] == 0x0A) + 1)
    marks = np.logical_or.reduceat(kinds == MARK, starts)
    visible = np.add.reduceat(kinds != BLANK, starts, dtype=np.int64)
    return float(visible[~marks].sum() / max(visible.sum(), 1))


def _ngram_shares(words: U64, lengths: I64, scale: float) -> tuple[list[float], list[float]]:
    """Shares of characters: in the most frequent n-gram for each of `TOP_NGRAMS`, and in repetitions for each of
    `DUPLICATE_NGRAMS`; n times `scale` words, rounded, make an n-gram.

    Only where an n-gram is repeated can a longer one be, so every size looks at what the one before has left.
    """
    ends = np.append(0, np.cumsum(lengths))
    total, tops, dups = max(int(ends[-1]), 1), [], []
    places, grams, size = np.arange(len(words)), words, 1
    for n in (*TOP_NGRAMS, *DUPLICATE_NGRAMS):
        longer = round(n * scale)
        places = places[: np.searchsorted(places, len(words) - longer, "right")]
        grams = grams[: len(places)]
        for offset in range(size, longer):
            grams = grams * _FACTOR + words[places + offset]
        size = longer
        order = np.argsort(grams)
        again = _follows(grams[order])
        if not again.any():  # then no longer n-gram is repeated either
            break
        again[:-1] |= again[1:]
        repeated = np.sort(order[again])
        places, grams = places[repeated], grams[repeated]
        order = np.argsort(grams, kind="stable")  # in order of place too, and so of the few that are repeated alone
        again = _follows(grams[order])
        if n in TOP_NGRAMS:
            tops.append(_top(places[order], again, ends, size) / total)
        else:
            dups.append(_covered(places[order][again], lengths, size) / total)
    return tops + [0.0] * (len(TOP_NGRAMS) - len(tops)), dups + [0.0] * (len(DUPLICATE_NGRAMS) - len(dups))


def _follows(ranked: U64) -> NDArray[np.bool_]:
    """Which sorted n-grams equal the one before."""
    again = np.zeros(len(ranked), np.bool_)
    again[1:] = ranked[1:] == ranked[:-1]
    return again


def _top(places: I64, again: NDArray[np.bool_], ends: I64, size: int) -> int:
    """Characters of all occurrences of the most frequent n-gram (of equally frequent ones the longest).

    `places` are sorted by n-gram; `again` says which have the same as the one before.
    """
    first = np.flatnonzero(~again)
    counts = np.diff(np.append(first, len(places)))
    best = first[counts == counts.max()]
    return int(min(counts.max() * (ends[places[best] + size] - ends[places[best]]).max(), ends[-1]))


def _covered(places: I64, lengths: I64, size: int) -> int:
    """Characters inside the n-grams that start at `places`, each character once."""
    change = np.zeros(len(lengths) + 1, np.int64)
    change[places] += 1
    change[places + size] -= 1
    return int(lengths[np.cumsum(change[:-1]) > 0].sum())
