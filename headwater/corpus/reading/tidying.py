"""A text as every later step expects it: lines, paragraphs, nothing that is no character."""

from __future__ import annotations

import re

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\xad\ufeff\ufffe\uffff]")
_LINE_END = re.compile(r"\r\n?|\x85|\u2028|\u2029")
_TRAILING = re.compile(r"(?<![ \t\u00a0\u3000])[ \t\u00a0\u3000]++(?=\n|$)")
_LOST_LINE = re.compile(r"^[ \t]*+\ufffd[ \t\ufffd]*+$", re.MULTILINE)
_BLANK_LINES = re.compile(r"\n{3,}")


def tidy(text: str) -> str:
    """`text` with line feeds only, without control characters, line-end blanks, runs of blank lines and lines of lost
    characters (U+FFFD) alone, which were ornaments.

    Lone surrogates (possible in JSON escapes) become U+FFFD, so the result always encodes as UTF-8.
    """
    text = _LINE_END.sub("\n", text)
    text = _TRAILING.sub("", _CONTROL.sub("", text))
    text = without_surrogates(text)
    text = _LOST_LINE.sub("", text) if "\ufffd" in text else text
    return _BLANK_LINES.sub("\n\n", text).strip()


def without_surrogates(text: str) -> str:
    """`text` with U+FFFD for every half of a surrogate pair, which is no character; whole pairs become theirs."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
