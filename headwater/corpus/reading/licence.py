"""The licence a web page says it is under."""

from __future__ import annotations

import re

_TAG = re.compile(r"<(?:a|link)\s[^>]{0,2000}>", re.IGNORECASE)
_REL = re.compile(r"""\srel\s*=\s*["']?[^"'>]*\blicen[sc]e\b""", re.IGNORECASE)
_ADDRESS = re.compile(r"""\shref\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s>]+))""", re.IGNORECASE)
_CREATIVE_COMMONS = re.compile(
    r"creativecommons\.org/(?:licenses/(by(?:-nc)?(?:-sa|-nd)?)/(\d\.\d)|publicdomain/(zero|mark)/(\d\.\d))",
    re.IGNORECASE)


def page_licence(page: str) -> str:
    """What the page links to as its licence (`rel="license"`), Creative Commons ones by their usual short name, or "".

    A link to a licence that is not marked as the page's own says nothing: it may be that of a picture.
    """
    if "licen" not in page and "LICEN" not in page:
        return ""
    for tag in _TAG.findall(page):
        if _REL.search(tag) and (found := _ADDRESS.search(tag)):
            return _short(next(filter(None, found.groups()), ""))
    return ""


def _short(address: str) -> str:
    found = _CREATIVE_COMMONS.search(address)
    if not found:
        return address.strip()[:200]
    kind, version, domain, of = found.groups()
    if kind:
        return f"CC-{kind.upper()}-{version}"
    return f"CC0-{of}" if domain.lower() == "zero" else f"PDM-{of}"
