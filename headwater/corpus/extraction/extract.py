"""The main text of an HTML page, navigation, adverts and comments left out."""

from __future__ import annotations

import logging
import re
from collections import Counter
from html import unescape
from typing import Literal, get_args

from headwater.corpus.extraction.blocks import NestingError, check_nesting, join_blocks, read_blocks
from headwater.corpus.extraction.boilerplate import main_blocks
from headwater.corpus.judging.length import HAN, tokens
from headwater.corpus.reading.tidying import tidy, without_surrogates
from headwater.errors import MissingExtraError

Extractor = Literal["fast", "precise", "trafilatura", "resiliparse", "justext"]
DISAGREEMENT = 0.3
"""Token F1 below which the precise extractor takes the other opinion, when that is the longer one."""

_UNSEEN = re.compile(r"<!--.*?(?:-->|\Z)|<(script|style)\b.*?(?:</\1\b[^>]*+(?:>|\Z)|\Z)", re.IGNORECASE | re.DOTALL)
_ANY_TAG = re.compile(r"<[^>]*+(?:>|\Z)")
_TAG = re.compile(r"<[a-zA-Z!/?]")
_HAN = re.compile(f"[{HAN}]")
_HAN_SHARE = 0.02
_MAGIC = [(b"%PDF-", "PDF"), (b"PK\x03\x04", "ZIP"), (b"\x89PNG", "PNG image"), (b"GIF8", "GIF image"),
          (b"\xff\xd8\xff", "JPEG image"), (b"\x1f\x8b", "gzip"), (b"\x28\xb5\x2f\xfd", "zstd"),
          (b"RIFF", "RIFF media"), (b"PAR1", "Parquet"), (b"\xd0\xcf\x11\xe0", "Office document"),
          (b"{\\rtf", "RTF"), (b"\x7fELF", "ELF binary")]


def not_html(content: bytes) -> str | None:
    """What `content` is when its first bytes say that it is no HTML page ("PDF", "binary", "empty"), else None."""
    head = content[:1024].lstrip()
    if not head:
        return "empty"
    for magic, name in _MAGIC:
        if head.startswith(magic):
            return name
    wide = content[:4].startswith((b"\xff\xfe", b"\xfe\xff", b"\x00\x00\xfe\xff"))
    return "binary" if not wide and head.count(0) > len(head) // 50 else None


def has_tags(page: str) -> bool:
    """Whether the text holds anything that looks like an HTML tag."""
    return _TAG.search(page) is not None


def extract(page: str, extractor: Extractor | None = "fast", *, comments: bool = False) -> str:
    """The main text of an HTML page, tidied; paragraphs are lines; empty when there is none.

    "fast" judges the page's blocks by weights of our own (`boilerplate`); "precise" asks trafilatura for a second
    opinion on them. "trafilatura", "resiliparse" and "justext" are those libraries; None takes all visible text of
    the page, and so is a page read in which an extractor finds nothing. `comments` keeps readers' comments and
    replies. Deterministic. Raises `ValueError` for an extractor that does not exist, `MissingExtraError` when the
    library is not installed, and whatever the library raises on a page it cannot parse.

    A page nested deeper than `blocks.DEEPEST`, or with an element of more than `blocks.MOST_ATTRIBUTES`, gives the text
    between its tags: every extractor, or the parser below it, takes time quadratic in those, minutes for a hostile
    page.
    """
    if extractor not in (None, *get_args(Extractor)):
        raise ValueError(f"no extractor is called {extractor!r}: give {', '.join(get_args(Extractor))} or None")
    page = without_surrogates(page.replace("\x00", ""))
    try:
        text = tidy(_main_text(page, extractor, comments)) if extractor else ""
        if text:
            return text
        check_nesting(page)
    except NestingError:
        return tidy(unescape(_ANY_TAG.sub("\n", _UNSEEN.sub("\n", page))))
    return tidy(_resiliparse(page, main_content=False, comments=True))


def token_f1(one: str, other: str) -> float:
    """Harmonic mean of precision and recall of one bag of tokens against the other; 1 when they are the same."""
    first, second = Counter(tokens(one)), Counter(tokens(other))
    shared = (first & second).total()
    return 2 * shared / (first.total() + second.total()) if shared else 0.0


def second_opinion(page: str) -> str:
    """What trafilatura finds when it favours recall, in which it does best on labelled pages.

    With comments, which a forum's replies are to it.
    """
    return _trafilatura(page, comments=True, fast=False)


def _main_text(page: str, extractor: Extractor, comments: bool) -> str:
    if extractor == "fast":
        return join_blocks(main_blocks(read_blocks(page), comments=comments))
    if extractor == "precise":
        return _precise(page, comments)
    check_nesting(page)
    if extractor == "justext":
        return _justext(page)
    if extractor == "trafilatura" and (text := _trafilatura(page, comments, fast=True)):
        return text
    return _resiliparse(page, main_content=True, comments=comments)


def _precise(page: str, comments: bool) -> str:
    found = read_blocks(page)
    opinion = second_opinion(page)
    text = join_blocks(main_blocks(found, opinion, comments=comments))
    # Pages that build their text by script hold it where only trafilatura looks (JSON-LD).
    if len(opinion) > len(text) and token_f1(text, opinion) < DISAGREEMENT:
        return opinion if comments else _trafilatura(page, comments=False, fast=False)
    return text


def _resiliparse(page: str, main_content: bool, comments: bool) -> str:
    try:
        from resiliparse.extract.html2text import extract_plain_text
    except ImportError as error:
        raise _missing("resiliparse", error) from None
    return extract_plain_text(page, main_content=main_content, alt_texts=False, comments=comments)


def _trafilatura(page: str, comments: bool, fast: bool) -> str:
    try:
        import trafilatura
    except ImportError as error:
        raise _missing("trafilatura", error) from None
    logging.getLogger("trafilatura").setLevel(logging.CRITICAL)  # it reports every page it finds nothing in
    # Fast mode leaves out the fallback extractors; favouring recall more than makes up for them.
    return trafilatura.extract(page, fast=fast, favor_recall=True, include_comments=comments) or ""


def _justext(page: str) -> str:
    try:
        import justext  # type: ignore[import-untyped]
    except ImportError as error:
        raise _missing("justext", error) from None
    if len(_HAN.findall(page)) > _HAN_SHARE * len(page):
        # It has no Chinese stop list and measures in characters: no stop words, a third of the lengths.
        paragraphs = justext.justext(page.encode("utf-8", "replace"), frozenset(), length_low=20, length_high=60,
                                     stopwords_low=0, stopwords_high=0, encoding="utf-8")
    else:
        paragraphs = justext.justext(page.encode("utf-8", "replace"), justext.get_stoplist("English"),
                                     encoding="utf-8")
    return "\n".join(paragraph.text for paragraph in paragraphs if not paragraph.is_boilerplate)


def _missing(package: str, error: ImportError) -> MissingExtraError:
    return MissingExtraError(f"the extractor {package} cannot be imported ({error})",
                             fix="pip install 'headwater[corpus]'")
