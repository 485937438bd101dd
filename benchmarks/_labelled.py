"""The real pages with labelled main text that extraction is measured on."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from headwater.corpus.extraction.extract import extract
from headwater.corpus.judging.length import tokens
from headwater.corpus.reading.encodings import declared_charset, decode
from headwater.corpus.reading.readers import read
from headwater.corpus.reading.sources import Source, list_shards

PAGES = Path(__file__).resolve().parents[2] / "shared/data/html"
PAGES_OPTION = ("--pages", {"type": Path, "default": PAGES, "help": "folder of labelled pages"})
_FRONT_MATTER = re.compile(r"\A```json.*?```|\A---\n.*?\n---\n", re.DOTALL)
_MARKDOWN_LINK = re.compile(r"\]\([^)\s]*\)")


@dataclass(frozen=True)
class Page:
    """A page's decoded HTML and the text a person said is its main text; `source` names its set.

    `seen` marks the half (by the SHA-1 of set and name) on which our own extractor's weights were fitted.
    """

    source: str
    seen: bool
    language: str
    html: str
    gold: str


def labelled_pages(root: Path) -> Iterator[Page]:
    """Every English and Chinese page with a full-text label, from the public sets that `root` holds."""
    for name, language, file, gold in _labels(root):
        content = next(read(list_shards([Source(path=file, format="html")])[0])).content
        if language in ("en", "zh") and gold.strip():
            key = f"{name}/{file.parent.name if name == 'readability' else file.name}"
            seen = int(hashlib.sha1(key.encode()).hexdigest(), 16) % 2 == 0
            yield Page(name, seen, language, decode(content, declared_charset(content))[0], gold)


def _labels(root: Path) -> Iterator[tuple[str, str, Path, str]]:
    benchmark = root / "article_extraction_benchmark"
    for key, row in json.loads((benchmark / "ground-truth.json").read_text("utf-8")).items():
        yield "article_extraction_benchmark", "en", benchmark / "html" / f"{key}.html.gz", row["articleBody"]
    for kind in ("article", "forum"):
        folder = root / "magic_html" / kind
        for key, row in json.loads((folder / "base.json").read_text("utf-8")).items():
            yield f"magic_html {kind}", row["lang_guess"], folder / "htmls" / f"{key}.html", row["content"]
    for case in sorted((root / "readability").iterdir()):
        gold = extract((case / "expected.html").read_text("utf-8"), None)
        yield "readability", _script(gold), case / "source.html", gold
    for file in sorted((root / "defuddle/fixtures").glob("*.html")):
        gold = _plain((root / "defuddle/expected" / f"{file.stem}.md").read_text("utf-8"))
        yield "defuddle", _script(gold), file, gold
    for file in sorted((root / "llm_webkit_bench/origin").glob("*.html")):
        row = json.loads((root / "llm_webkit_bench/groundtruth" / f"{file.stem}.json").read_text("utf-8"))
        yield "llm_webkit_bench", _script(row["content"]), file, _plain(row["content"])
    for name in ("mdbook_rust_zh", "mkdocs_oiwiki_zh", "linux_command_zh"):
        for file in sorted((root / name / "html").glob("*.html")):
            yield name, "zh", file, _plain((root / name / "source" / f"{file.stem}.md").read_text("utf-8"))


def _plain(markdown: str) -> str:
    return _MARKDOWN_LINK.sub("]", _FRONT_MATTER.sub("", markdown))


def _script(text: str) -> str:
    found = tokens(text)
    return "zh" if sum(len(token) == 1 and token >= "\u3400" for token in found) > len(found) / 2 else "en"
