"""Dresses a document as a page of one of the invented sites."""

from __future__ import annotations

import html
import random
import string
from dataclasses import dataclass
from functools import cache
from importlib import resources

from headwater.atlas.chrome import CHROME, Chrome, Site
from headwater.atlas.documents import Block, Document
from headwater.atlas.randomness import digest, stream


@dataclass(frozen=True)
class WebPage:
    """A page as the web serves it."""

    url: str
    markup: str


def dress(document: Document, seed: int, charset: str = "utf-8") -> WebPage:
    """The document as HTML. A copy keeps the site of the page it copies, at another address, with other adverts."""
    rng = stream(seed, "site", document.key)
    chrome = CHROME[document.language]
    site = stream(seed, "host", document.of or document.key).choice(chrome.sites)
    day = f"{rng.randint(2009, 2024)}-{rng.randint(1, 12):02d}-{rng.randint(1, 28):02d}"
    folder = rng.choice(("places", "guide", "pages", day[:4]))
    url = f"https://{site.host}/{folder}/{digest(seed, 'url', document.key)[:10]}.html"
    values = _values(document, site, chrome, rng) | {"url": url, "date": day, "year": day[:4], "charset": charset}
    return WebPage(url, _layout(site.layout).substitute(values))


def _values(document: Document, site: Site, chrome: Chrome, rng: random.Random) -> dict[str, str]:
    adverts = rng.sample(chrome.adverts, 2)
    values = {"site": site.name, "motto": site.motto, "title": document.title, "author": rng.choice(chrome.authors),
              "cookie": rng.choice(chrome.cookies), "advert_1": adverts[0], "advert_2": adverts[1],
              "lang": "zh-CN" if document.language == "zh" else "en"}
    values |= {f"word_{name}": word for name, word in chrome.words.items()}
    escaped = {name: html.escape(value) for name, value in values.items()}
    return escaped | {
        "nav": _links(rng.sample(chrome.nav, 7)), "sidebar": _links(rng.sample(chrome.sidebar, 5)),
        "footer": _links(rng.sample(chrome.footer, 4)), "comments": _comments(chrome, rng),
        "body": "\n".join(_block(block, document.space) for block in document.blocks),
    }


@cache
def _layout(name: str) -> string.Template:
    path = resources.files("headwater.atlas").joinpath("layouts", f"{name}.html")
    return string.Template(path.read_text(encoding="utf-8"))


def _links(labels: list[str]) -> str:
    return "".join(f'<li><a href="/s/{digest(label)[:6]}">{html.escape(label)}</a></li>' for label in labels)


def _comments(chrome: Chrome, rng: random.Random) -> str:
    rows = zip(rng.sample(chrome.readers, 3), rng.sample(chrome.comments, 3), strict=True)
    return "".join(f'<li class="comment"><b>{html.escape(reader)}</b>: <span>{html.escape(text)}</span></li>'
                   for reader, text in rows)


def _block(block: Block, space: str) -> str:
    if block.kind == "table":
        header, *rows = block.rows
        return ("<table><thead>" + _row(header, "th") + "</thead><tbody>" + "".join(_row(row, "td") for row in rows)
                + "</tbody></table>")
    lines = [html.escape(line, quote=False) for line in block.lines(space)]
    if block.kind == "bullets":
        return "<ul>\n" + "\n".join(f"<li>{line}</li>" for line in lines) + "\n</ul>"
    tag = "h3" if block.kind == "heading" else "p"
    return "\n".join(f"<{tag}>{line}</{tag}>" for line in lines)


def _row(cells: tuple[str, ...], tag: str) -> str:
    return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>\n"
