"""Corpus: extraction quality and speed on real labelled pages, MinHash speed, each against its peers.

    python benchmarks/corpus.py [--full] [--pages FOLDER]

Quality is the token F1 of the extracted against the labelled text (Han characters and lower-cased words as a bag),
averaged over pages, per language. Speed is one thread, in this process, the same pages for everyone.
"""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from _harness import Case, arguments, installed, measure_interleaved, report

from headwater.corpus.encodings import declared_charset, decode
from headwater.corpus.extract import extract
from headwater.corpus.length import tokens
from headwater.corpus.minhash import MinHashSettings, signatures
from headwater.corpus.readers import read
from headwater.corpus.sources import Source, list_shards

PAGES = Path(__file__).resolve().parents[2] / "shared/data/html"
PEERS = ("trafilatura", "readability-lxml", "justext", "datasketch", "rensa", "resiliparse")
_FRONT_MATTER = re.compile(r"\A```json.*?```|\A---\n.*?\n---\n", re.DOTALL)
_MARKDOWN_LINK = re.compile(r"\]\([^)\s]*\)")


@dataclass(frozen=True)
class Page:
    """A page's decoded HTML and the text a person said is its main text."""

    name: str
    language: str
    html: str
    gold: str


def labelled_pages(root: Path) -> Iterator[Page]:
    """Every English and Chinese page with a full-text label, from the public sets that `root` holds."""
    for name, language, file, gold in _labels(root):
        content = next(read(list_shards([Source(path=file, format="html")])[0])).content
        if language in ("en", "zh") and gold.strip():
            yield Page(name, language, decode(content, declared_charset(content))[0], gold)


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


def token_f1(found: str, gold: str) -> float:
    """Harmonic mean of precision and recall of the bag of tokens."""
    one, two = Counter(tokens(found)), Counter(tokens(gold))
    shared = (one & two).total()
    return 2 * shared / (one.total() + two.total()) if shared else 0.0


def extractors() -> dict[str, Callable[[str], str]]:
    """Ours first, then each installed peer with its usual settings."""
    found: dict[str, Callable[[str], str]] = {
        "ours: resiliparse": lambda page: extract(page, "resiliparse"),
        "ours: trafilatura": lambda page: extract(page, "trafilatura")}
    if installed("trafilatura"):
        import trafilatura

        found["trafilatura default"] = lambda page: trafilatura.extract(page) or ""
    if installed("readability-lxml"):
        from readability import Document

        found["readability-lxml"] = lambda page: extract(Document(page).summary(), None)
    if installed("justext"):
        import justext

        stops = justext.get_stoplist("English")  # it ships no Chinese list
        found["justext"] = lambda page: "\n".join(
            part.text for part in justext.justext(page.encode(), stops, encoding="utf-8") if not part.is_boilerplate)
    return found


def _safely(function: Callable[[str], str], page: str) -> str:
    try:
        return function(page)
    except Exception:  # a peer that cannot take a page has extracted nothing from it
        return ""


def extraction_rows(pages: list[Page], repeats: int) -> list[Case]:
    every = extractors()
    scores = {name: {language: float(np.mean([token_f1(_safely(function, page.html), page.gold)
                                              for page in pages if page.language == language]))
                     for language in ("en", "zh")} for name, function in every.items()}
    seconds = measure_interleaved({name: lambda function=function: [_safely(function, page.html) for page in pages]
                                   for name, function in every.items()}, repeats)
    rows = []
    for ours in ("ours: resiliparse", "ours: trafilatura"):
        for peer in [name for name in every if not name.startswith("ours")]:
            for language in ("en", "zh"):
                rows.append(Case.compare(f"extract {ours[6:]} {language}", "token F1", scores[ours][language], peer,
                                         scores[peer][language]))
            rows.append(Case.compare(f"extract {ours[6:]}", "pages/s", len(pages) / seconds[ours], peer,
                                     len(pages) / seconds[peer]))
        rows += [Case(f"extract {ours[6:]}", "token F1", None, f"{peer} (not installed)")
                 for peer in ("readability-lxml", "justext") if not installed(peer)]
    return rows


def minhash_rows(texts: list[str], repeats: int) -> list[Case]:
    settings = MinHashSettings()
    functions: dict[str, Callable[[], object]] = {
        "ours": lambda: [signatures(texts[start:start + 64], settings) for start in range(0, len(texts), 64)]}
    if installed("datasketch"):
        from datasketch import MinHash

        functions["datasketch"] = lambda: list(MinHash.generator(
            [[" ".join(gram).encode() for gram in _grams(text)] for text in texts], num_perm=112))
    if installed("rensa"):
        from rensa import RMinHash

        def rensa() -> None:
            for text in texts:
                RMinHash(num_perm=112, seed=1).update([" ".join(gram) for gram in _grams(text)])

        functions["rensa"] = rensa
    rates = {name: len(texts) / value for name, value in measure_interleaved(functions, repeats).items()}
    rows = [Case.compare("minhash 112, 5-grams, with shingling", "documents/s", rates["ours"], peer, rates[peer])
            for peer in rates if peer != "ours"]
    return rows + [Case("minhash 112, 5-grams, with shingling", "documents/s", rates["ours"], f"{peer} (not installed)")
                   for peer in ("datasketch", "rensa") if peer not in rates]


def _grams(text: str) -> list[list[str]]:
    found = tokens(text)
    return [found[start:start + 5] for start in range(max(1, len(found) - 4))]


def ceilings() -> dict[str, float]:
    """What bounds signatures: 32-bit multiply-add-minimum in cache, and copying memory."""
    values = np.arange(1 << 16, dtype=np.uint32)
    seconds = _best(lambda: (values * np.uint32(2654435761) + np.uint32(1)).min())
    block = np.ones(1 << 25, np.uint8)
    return {"permutations/s, one thread (multiply, add, minimum of 32 bits)": len(values) / seconds,
            "memory copy GB/s, one thread": 2 * block.nbytes / _best(block.copy) / 1e9}


def _best(function: Callable[[], object]) -> float:
    taken = []
    for _ in range(50):
        start = time.perf_counter()
        function()
        taken.append(time.perf_counter() - start)
    return min(taken)


def main() -> None:
    options = arguments(__doc__, ("--pages", {"type": Path, "default": PAGES, "help": "folder of labelled pages"}))
    rows: list[Case] = []
    texts = [f"第{number}条河流 river {word} 流过城市 flows past city {number * word}. " * 40
             for number in range(100) for word in range(10)]
    if options.pages.is_dir():
        pages = list(labelled_pages(options.pages))
        texts = [page.gold for page in pages] * 4
        rows += extraction_rows(pages if options.full else pages[::2], 3 if options.full else 1)
    else:
        rows.append(Case("extract", "token F1", None, f"no labelled pages at {options.pages.name}"))
    rows += minhash_rows(texts, 9 if options.full else 5)
    report("corpus", rows, ceilings(), PEERS)


if __name__ == "__main__":
    main()
