"""A page's visible text as blocks (paragraph, heading, list item, cell, code), each with where it stands."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

from headwater.errors import MissingExtraError

ARTICLE, CONTENT, ASIDE, COMMENT, CHROME, DROP = 1, 2, 4, 8, 16, 32
"""What an element's tag, class or id says of all that is inside it; a block carries the bits of its ancestors."""

DEEPEST = 1000
"""Deeper nesting than this is refused (browsers stop at 512)."""
MOST_ATTRIBUTES = 1000
"""An element with more is refused: what builds trees takes time quadratic in them."""

_DROPPED = frozenset([
    "script", "style", "noscript", "template", "head", "title", "iframe", "object", "embed", "applet", "svg",
    "canvas", "audio", "video", "map", "select", "option", "datalist", "button", "input", "textarea", "dialog",
    "nav", "menu"])
_INLINE = frozenset([
    "a", "abbr", "acronym", "annotation", "b", "bdi", "bdo", "big", "br", "cite", "code", "data", "del", "dfn",
    "em", "font", "i", "img", "ins", "kbd", "label", "mark", "math", "mfrac", "mi", "mn", "mo", "mrow", "msub",
    "msup", "nobr", "picture", "q", "rp", "rt", "ruby", "s", "samp", "semantics", "small", "source", "span",
    "strike", "strong", "sub", "sup", "time", "tt", "u", "var", "wbr"])
_TAG_HINTS = {"article": ARTICLE, "main": ARTICLE, "aside": ASIDE, "footer": CHROME, "header": CHROME, "form": CHROME}
_NAMES = re.compile(
    r"(?P<drop>\b(?:gutter|linenos?|katex-html|sr-only|screen-reader-text|visually-?hidden|skip-link|headerlink)\b)"
    r"|(?P<comment>comment|disqus|repl(?:y|ies)|respond|pinglun)"
    r"|(?P<aside>side_?-?bar|related|recommend|popular|trending|widget|promo|sponsor|advert|\bads?\b|\bad[-_]|share"
    r"|sharing|social|tags?\b|newsletter|subscri|banner|cookie|modal|popup|hot-?news|rank|signup|author|byline|meta\b)"
    r"|(?P<chrome>foot|\bnav|[-_]nav|breadcrumb|crumb|menu|toc\b|head(?:er)?\b|toolbar|pag(?:er|ination)"
    r"|copyright|login|search|topbar|\btop\b|bottom)"
    r"|(?P<content>article|content|main|post|entry|body|text|story|markdown|prose|detail|message|thread|answer)")
_NAME_HINTS = {"drop": DROP, "comment": COMMENT, "aside": ASIDE, "chrome": CHROME, "content": CONTENT}
_HIDDEN = re.compile(r"display\s*:\s*none", re.IGNORECASE)
_WIDEST = 100
"""Columns that one cell may claim."""
_LONGEST_NAMES = 200
_BREAK = "\v"
_PIECE = 1 << 15


class NestingError(Exception):
    """A page nests deeper than `DEEPEST`, or has an element of more than `MOST_ATTRIBUTES`."""


@dataclass(frozen=True, slots=True)
class Block:
    """A run of text between two block boundaries; `link_bytes` of its `bytes` (UTF-8) stand in links.

    `element`, `row` and `cell` are places in `Page.parents`: of the element it stands directly in, of the table row
    and of the cell around it (0: none); `column` counts the cells of the row before that one, empty ones too.
    """

    text: str
    tag: str
    bytes: int
    link_bytes: int
    hints: int
    element: int
    row: int
    cell: int
    column: int


@dataclass(frozen=True, slots=True)
class Page:
    """Blocks in reading order; `parents[i] < i` is the parent of block-level element i, 0 the root."""

    blocks: list[Block] = field(default_factory=list)
    parents: list[int] = field(default_factory=lambda: [0])


class _Open(NamedTuple):
    """An element whose end has not come yet."""

    tag: str
    place: int
    hints: int
    row: int
    cell: int
    column: int = 0


class _Depth:
    """Receives the parser's events and counts how deep they nest, and attributes; builds no tree."""

    def __init__(self) -> None:
        self._depth = 0

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        self._depth += 1
        if self._depth > DEEPEST or len(attributes) > MOST_ATTRIBUTES:
            raise NestingError

    def end(self, tag: str) -> None:
        self._depth -= 1

    def close(self) -> None:
        pass


class _Blocks(_Depth):
    """Cuts the text between the events into blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.page = Page()
        self._open = [_Open("", 0, 0, 0, 0)]
        self._text: list[str] = []
        self._known: dict[str, int] = {}
        self._cells: dict[int, int] = {}  # of each row, those begun
        self._links = self._link_bytes = 0
        self._dropped = 0  # elements open inside a dropped one, itself included
        self._code = 0  # the same of <pre>, where white space counts

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        super().start(tag, attributes)
        if self._dropped:
            self._dropped += 1
            return
        hints = self._hints(attributes) if attributes and tag not in ("html", "body") else 0
        if hints & DROP or tag in _DROPPED:
            self._dropped = 1
        elif tag in _INLINE:
            if tag == "a":
                self._links += 1
            elif tag == "br":
                self._text.append("\n" if self._code else _BREAK)
        elif self._code:
            self._code += 1
        else:
            self._begin(tag, _TAG_HINTS.get(tag, 0) | hints, attributes.get("colspan", ""))

    def end(self, tag: str) -> None:
        super().end(tag)
        if self._dropped:
            self._dropped -= 1
        elif tag in _INLINE:
            if tag == "a" and self._links:
                self._links -= 1
        elif self._code > 1:
            self._code -= 1
            self._text.append("\n")
        elif len(self._open) > 1:
            self._flush()
            self._open.pop()
            self._code = 0

    def data(self, text: str) -> None:
        if not self._dropped:
            self._text.append(text)
            if self._links:
                self._link_bytes += len(text.encode("utf-8", "replace"))

    def close(self) -> None:
        self._flush()

    def _begin(self, tag: str, hints: int, width: str) -> None:
        self._flush()
        outer = self._open[-1]
        place = len(self.page.parents)
        self.page.parents.append(outer.place)
        row, cell, column = outer.row, outer.cell, outer.column
        if tag == "tr":
            row, cell, column = place, 0, 0
        elif tag in ("td", "th"):
            cell, column = place, self._cells.get(row, 0)
            self._cells[row] = column + (min(int(width), _WIDEST) if width.isdecimal() and width != "0" else 1)
        elif tag == "table":
            row = cell = column = 0
        self._open.append(_Open(tag, place, outer.hints | hints, row, cell, column))
        self._code = int(tag == "pre")

    def _flush(self) -> None:
        if not self._text:
            return
        text = "".join(self._text)
        self._text.clear()
        text = text.strip("\n") if self._code else _lines(text)
        if text and not text.isspace():
            inner = self._open[-1]
            size = len(text.encode("utf-8", "replace"))
            self.page.blocks.append(Block(text, inner.tag, size, min(self._link_bytes, size), inner.hints, inner.place,
                                          inner.row, inner.cell, inner.column))
        self._link_bytes = 0

    def _hints(self, attributes: dict[str, str]) -> int:
        style = attributes.get("style")
        if style and _HIDDEN.search(style[:_LONGEST_NAMES]):
            return DROP
        kind, name = attributes.get("class", ""), attributes.get("id", "")
        if "hidden" in attributes and not name.startswith("S:"):  # React streams what it will show as hidden "S:1"
            return DROP
        if not kind and not name:
            return 0
        names = f"{kind[:_LONGEST_NAMES]} {name[:_LONGEST_NAMES]}"
        hints = self._known.get(names)
        if hints is None:
            hints = 0
            for match in _NAMES.finditer(names.lower()):
                hints |= _NAME_HINTS[match.lastgroup or ""]
            self._known[names] = hints
        return hints


def _lines(text: str) -> str:
    """White space collapsed, except the breaks asked for."""
    if _BREAK in text:
        return "\n".join(line for part in text.split(_BREAK) if (line := " ".join(part.split())))
    return " ".join(text.split())


def read_blocks(page: str) -> Page:
    """The blocks of an HTML page, without scripts, navigation, forms' fields and what is hidden.

    Raises `NestingError`, and `MissingExtraError` when lxml is not installed.
    """
    target = _Blocks()
    _parse(page, target)
    return target.page


def check_nesting(page: str) -> None:
    """Raise `NestingError` for a page that takes what builds trees too long."""
    _parse(page, _Depth())


def _parse(page: str, target: _Depth) -> None:
    try:
        from lxml import etree  # type: ignore[import-untyped]
    except ImportError as error:
        raise MissingExtraError(f"lxml cannot be imported ({error})", fix="pip install 'headwater[corpus]'") from None
    parser = etree.HTMLParser(target=target, encoding="utf-8", huge_tree=True)
    content = page.encode("utf-8", "replace")
    for start in range(0, len(content) or 1, _PIECE):  # an error raised by the target only ends the piece
        parser.feed(content[start:start + _PIECE])
    parser.close()


def join_blocks(blocks: list[Block]) -> str:
    """The text of the blocks, one below the other; the cells of a table row stand in one line, parted by " | ", an
    empty one between its bars, so that each stays in its column."""
    in_cell = Counter(block.cell for block in blocks)
    simple = [bool(block.cell) and in_cell[block.cell] == 1 and "\n" not in block.text for block in blocks]
    in_row = Counter(block.row for block, alone in zip(blocks, simple) if alone)
    parts: list[str] = []
    row = column = 0
    for block, alone in zip(blocks, simple):
        if alone and block.row == row:
            parts.append(" |" * max(1, block.column - column) + " ")
        else:
            parts.append("\n" + "| " * (block.column if alone and in_row[block.row] > 1 else 0))
        parts.append(block.text)
        row, column = (block.row, block.column) if alone else (0, 0)
    return "".join(parts).removeprefix("\n")
