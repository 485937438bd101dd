"""Sentences of a text with their places: nothing is lost, and what is no prose is told apart."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from headwater.corpus.judging.length import HAN

Kind = Literal["prose", "heading", "code", "table", "blank"]

MARKER = re.compile(r"[ \t\u3000]*(?:>[ \t]?)*(?:(?:[-*+•·]|\d{1,3}[.)、]|[（(]\d{1,3}[)）])[ \t]+)?")
"""What stands before a line's first sentence: indent, quotation marks of mail and Markdown, the mark of a list item."""

_FENCE = re.compile(r"[ \t]*(?:```|~~~)")
_HEADING = re.compile(r"#{1,6}[ \t]")
_TABLE = re.compile(r"[ \t]*\||[^\n]*\S\t[ \t]*\S")
_CODE = re.compile(r"(?: {4}|\t)|(?:\$|>>>|\.\.\.|//|#include|import|def|class|return) |[^\n]*[;{}][ \t]*$"
                   r"|[ \t]*(\$\$?)[^$\n]+\1[^\w\n]*$")
_MARGIN = 40
"""Characters of a line from which a margin may have broken it."""
_FINAL = ".!?:;。！？…：；"
_CLOSERS = "”’」』）》】\"')\\]*_"
_END = re.compile(
    f"(?:[。！？…][。！？…!?]*|．(?!\\d))[{_CLOSERS}]*"
    f"|[!?]+[{_CLOSERS}]*(?=\\s|$|[{HAN}“「『])"
    f"|(?P<stop>\\.)[{_CLOSERS}]*(?=\\s+(?:[\"'“‘(\\[*_]*[^\\W_a-z]|`)|\\s*$|[{HAN}])"
    r"|(?<=[^\W\d_][^\W\d_][^\W\d_][^\W\d_])(?P<plain>\.)(?=\s+[a-z])")  # a small letter, after no short word
_ABBREVIATED = re.compile(
    r"(?<![^\W_])(?:[^\W\d_a-z]|(?i:mr|mrs|ms|dr|prof|st|jr|sr|vs|etc|no|vol|fig|ed|eds|pp|al|inc|ltd|co|corp|gen|col"
    r"|capt|lt|rev|hon|approx|dept|univ|assoc|dist|resp|incl|excl|misc|orig|ibid|jan|feb|mar|apr|jun|jul|aug|sep|sept"
    r"|oct|nov|dec|cf|e\.g|i\.e|a\.m|p\.m|u\.s|u\.k))$")


@dataclass(frozen=True)
class Sentence:
    """text[start:end] with the blanks and the line end that follow it; only prose is ever split within a line."""

    start: int
    end: int
    kind: Kind


def split(text: str) -> list[Sentence]:
    """The sentences of `text` in order; each begins where the one before ends, so that joined they are the text.

    Lines are paragraphs, except those wrapped at a margin: one that ends within a sentence goes on in the next when
    that begins with a small letter. English sentences end at . ! ? before white space and a capital or figure, after a
    word of four letters also before a small one (not after known abbreviations and initials), Chinese ones at 。！？…;
    closing quotes and brackets belong to them. Headings (#), code (fenced, indented, ending in ; { }, or a formula on
    a line of its own) and table rows are one piece a line.
    """
    found: list[Sentence] = []
    for start, end, kind in _unwrapped(text):
        bounds = [start, *(_ends(text, start, end) if kind == "prose" else ()), end]
        found += [Sentence(one, other, kind) for one, other in pairwise(bounds)]
    return found


def _unwrapped(text: str) -> Iterator[tuple[int, int, Kind]]:
    """The lines, those that a margin broke put together."""
    begin, end = 0, 0
    kind: Kind = "blank"
    for start, last, own in _lines(text):
        broken = kind == own == "prose" and start - begin >= _MARGIN and text[start].islower()
        if broken and text[begin:start].rstrip()[-1] not in _FINAL:
            end = last
            continue
        if end:
            yield begin, end, kind
        begin, end, kind = start, last, own
    if end:
        yield begin, end, kind


def _lines(text: str) -> Iterator[tuple[int, int, Kind]]:
    start, fenced = 0, False
    while start < len(text):
        end = text.find("\n", start) + 1 or len(text)
        line = text[start:end]
        if _FENCE.match(line):
            fenced = not fenced
            yield start, end, "code"
        else:
            yield start, end, "code" if fenced else _kind(line)
        start = end


def _kind(line: str) -> Kind:
    if line.isspace():
        return "blank"
    if _HEADING.match(line):
        return "heading"
    if _TABLE.match(line):
        return "table"
    return "code" if _CODE.match(line.rstrip("\n")) else "prose"


def _ends(text: str, start: int, end: int) -> Iterator[int]:
    """Where sentences within text[start:end] end, the last one left out."""
    marker = MARKER.match(text, start, end)
    first = marker.end() if marker else start
    for match in _END.finditer(text, first, end):
        stopped = match["stop"] or match["plain"]
        if stopped and _ABBREVIATED.search(text, max(first, match.start() - 8), match.start()):
            continue
        place = match.end()
        while place < end and text[place].isspace():
            place += 1
        if place < end:
            yield place

