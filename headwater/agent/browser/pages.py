"""A page as it is read: its text, the links in it, its parts."""

from __future__ import annotations

import re
from dataclasses import dataclass
from html import unescape

TITLE = 200
"""Characters of a title that are kept."""
_HTML_TITLE = re.compile(r"<title\b[^<>]*+>([^<]*+)</title", re.IGNORECASE)


@dataclass(frozen=True)
class Link:
    """Where in the page's text a link stands [begin, end) and where it leads."""

    begin: int
    end: int
    url: str


@dataclass(frozen=True)
class Place:
    """Where something was found in a text, and the text around it, in one line."""

    at: int
    around: str


@dataclass(frozen=True)
class Page:
    """links: in the order of the text, apart from each other."""

    url: str
    title: str
    text: str
    links: tuple[Link, ...] = ()

    def parts(self, size: int) -> list[tuple[int, int]]:
        """The text cut into pieces [begin, end) of at most `size` characters, at ends of lines, else of words."""
        found, begin = [], 0
        while len(self.text) - begin > size:
            cut = max(self.text.rfind(mark, begin + size // 2, begin + size) for mark in "\n。") + 1
            cut = cut or self.text.rfind(" ", begin + size // 2, begin + size) + 1 or begin + size
            found.append((begin, cut))
            begin = cut
        return [*found, (begin, len(self.text))]

    def find(self, wanted: str, most: int, around: int) -> tuple[list[Place], int]:
        """The first places of the words, whatever their case and the white space between them, with so many characters
        around each; and how many places there are."""
        words = wanted.split()
        if not words:
            return [], 0
        found, total = [], 0
        for match in re.finditer(r"\s+".join(map(re.escape, words)), self.text, re.IGNORECASE):
            total += 1
            if total <= most:
                begin, end = max(0, match.start() - around), min(len(self.text), match.end() + around)
                line = " ".join(self.text[begin:end].split())
                found.append(Place(match.start(), "…" * (begin > 0) + line + "…" * (end < len(self.text))))
        return found, total


def html_title(page: str) -> str:
    """The title of an HTML page in one line, "" where it has none."""
    match = _HTML_TITLE.search(page)
    return " ".join(unescape(match[1]).split())[:TITLE] if match else ""


def first_line(text: str) -> str:
    """What stands for the title of a text without one."""
    return next((found[:TITLE] for line in text.splitlines() if (found := line.strip().lstrip("#").strip())), "")
