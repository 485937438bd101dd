"""What was fetched as a page: decoded, its main text with the links that stand in it, its title."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from headwater.agent.browser.pages import Link, Page, first_line, html_title
from headwater.agent.browser.web.fetching import Fetched
from headwater.agent.browser.web.urls import Refused, Url, join_url
from headwater.agent.tool import ToolError
from headwater.corpus.extraction.blocks import Block, NestingError, check_nesting, join_blocks, read_blocks
from headwater.corpus.extraction.blocks import Page as Blocks
from headwater.corpus.extraction.boilerplate import main_blocks
from headwater.corpus.extraction.extract import extract, has_tags, not_html
from headwater.corpus.reading.encodings import declared_charset, decode
from headwater.corpus.reading.tidying import tidy
from headwater.errors import MissingExtraError

LINKS = 1000
"""Links of a page that are kept."""
_BEGIN, _END = 0xF0000, 0x100000
"""A character of the private planes before and after the text of link 0; extraction takes them for letters."""
_PRIVATE = re.compile("[\U000f0000-\U000fffff\U00100000-\U0010ffff]")


def read_page(fetched: Fetched) -> Page:
    """The page's main text, tidied, as the corpus would read it. Raises `ToolError` for what is no text."""
    html = "html" in fetched.media_type
    kind = not_html(fetched.content)
    if kind is not None:
        raise Refused("the page is empty" if kind == "empty" else f"the page is {kind}, not text", where=fetched.url,
                      fix="try another page")
    try:
        text = decode(fetched.content, fetched.charset, declared_charset(fetched.content))[0]
    except UnicodeError:
        raise ToolError("the page is in no encoding that is known", where=fetched.url, fix="try another page") from None
    text = _PRIVATE.sub("", text)
    if not html and (fetched.media_type or not has_tags(text)):
        plain = tidy(text)
        return Page(str(fetched.url), first_line(plain), plain)
    marked, targets = _marked(text, fetched.url)
    main, links = _unmarked(_main_text(marked), targets) if targets else ("", ())
    main = main or extract(text)
    return Page(str(fetched.url), html_title(text) or first_line(main), main, links)


def _marked(page: str, url: Url) -> tuple[str, list[str]]:
    """The page with a mark at both ends of every link, and where the links lead."""
    try:
        from lxml import etree, html  # type: ignore[import-untyped]
    except ImportError as error:
        raise MissingExtraError(f"lxml cannot be imported ({error})", fix="pip install 'headwater[corpus]'") from None
    try:
        check_nesting(page)
    except NestingError:
        return page, []
    try:
        tree = html.document_fromstring(page.encode("utf-8", "replace"), ensure_head_body=True,
                                        parser=html.HTMLParser(encoding="utf-8", huge_tree=True))
    except etree.ParserError:  # nothing but comments
        return page, []
    base = next((join_url(str(url), one.get("href", "")) for one in tree.iter("base")), str(url))
    targets: list[str] = []
    for element in tree.iter("a"):
        target = _target(element, base)
        if target and len(targets) < LINKS:
            element.text = chr(_BEGIN + len(targets)) + (element.text or "")
            last = element[-1] if len(element) else None
            if last is None:
                element.text += chr(_END + len(targets))
            else:
                last.tail = (last.tail or "") + chr(_END + len(targets))
            targets.append(target)
    return etree.tostring(tree, encoding="unicode", method="html"), targets


def _target(element: Any, base: str) -> str:
    """Where a link leads, "" for what is no other page."""
    reference = element.get("href", "").strip()
    if not reference or reference.startswith("#"):
        return ""
    target = join_url(base, reference).partition("#")[0]
    return target if target.lower().startswith(("http://", "https://")) else ""


def _main_text(marked: str) -> str:
    """The text of the blocks that are chosen where there are no marks, with the marks."""
    page = read_blocks(marked)
    bare = [_without_marks(block) for block in page.blocks]
    with_text = [place for place, block in enumerate(bare) if block.text]
    chosen = {id(block) for block in main_blocks(Blocks([bare[place] for place in with_text], page.parents))}
    return tidy(join_blocks([page.blocks[place] for place in with_text if id(bare[place]) in chosen]))


def _without_marks(block: Block) -> Block:
    text, marks = _PRIVATE.subn("", block.text)
    if not marks:
        return block
    if block.tag != "pre":
        text = "\n".join(line for part in text.split("\n") if (line := " ".join(part.split())))
    size = len(text.encode("utf-8", "replace"))
    return replace(block, text=text, bytes=size, link_bytes=max(0, min(block.link_bytes - 4 * marks, size)))


def _unmarked(text: str, targets: list[str]) -> tuple[str, tuple[Link, ...]]:
    """The text without its marks, and the links whose two marks stand in it with some text between them."""
    parts: list[str] = []
    links: list[Link] = []
    length = behind = 0
    opened: tuple[int, int] | None = None
    for match in _PRIVATE.finditer(text):
        parts.append(text[behind:match.start()])
        length, behind = length + len(parts[-1]), match.end()
        code = ord(match[0])
        if code < _END:
            opened = code - _BEGIN, length
        elif opened and opened[0] == code - _END:
            if length > opened[1] and opened[0] < len(targets):
                links.append(Link(opened[1], length, targets[opened[0]]))
            opened = None
    return "".join([*parts, text[behind:]]), tuple(links)
