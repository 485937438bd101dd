"""Corpus: extraction quality and speed on real labelled pages, MinHash speed, the whole stage, each against its peers.

    python benchmarks/corpus.py [--full] [--pages FOLDER] [--text FOLDER] [--every N] [--only PART]

Quality is the token F1 of the extracted against the labelled text (Han characters and lower-cased words as a bag),
averaged over pages, per language, also on the half of the pages that our own weights were not fitted on
(`_extraction_weights.py`). Speed is one thread, in this process, the same pages for everyone.

End to end is every page and text of the folders (--quick: every 36th) through the stage and through datatrove's local
pipeline with the equivalent steps (`_datatrove.py`), each in processes of its own, in turn; memory is that of all its
processes. The growth is that of generated documents through every step.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from _end_to_end import end_to_end_rows, growth_rows
from _harness import Case, arguments, installed, measure_interleaved, report
from _labelled import PAGES, PAGES_OPTION, Page, labelled_pages

from headwater.corpus.deduplication.minhash import MinHashSettings, band_keys
from headwater.corpus.extraction.extract import extract, token_f1
from headwater.corpus.judging.length import tokens

TEXT = PAGES.parent / "text"
PEERS = ("datatrove", "trafilatura", "readability-lxml", "justext", "datasketch", "rensa", "resiliparse")
OURS = ("fast", "precise")


def extractors() -> dict[str, Callable[[str], str]]:
    """Ours first, then each installed peer in every mode that it offers; readers' comments as each has them."""
    found: dict[str, Callable[[str], str]] = {name: partial(extract, extractor=name) for name in OURS}
    if installed("trafilatura"):
        import trafilatura

        for mode in ("", "fast", "favor_precision", "favor_recall", "fast favor_recall"):
            options = dict.fromkeys(mode.split(), True)
            found[f"trafilatura {mode or 'default'}"] = (
                lambda page, options=options: trafilatura.extract(page, **options) or "")
    if installed("resiliparse"):
        from resiliparse.extract.html2text import extract_plain_text

        found["resiliparse"] = lambda page: extract_plain_text(page, main_content=True)
    if installed("readability-lxml"):
        from readability import Document

        found["readability-lxml"] = lambda page: extract(Document(page).summary(), None)
    if installed("justext"):
        # Its English stop list; for pages with Chinese, for which it has none, its best setting without. Where it
        # finds nothing (most short pages) it gets all visible text, which raises its score.
        found["justext"] = partial(extract, extractor="justext")
    return found


def _safely(function: Callable[[str], str], page: str) -> str:
    try:
        return function(page)
    except Exception:  # a peer that cannot take a page has extracted nothing from it
        return ""


def extraction_rows(pages: list[Page]) -> list[Case]:
    """Token F1 per language, on all pages and on the half that our weights were not fitted on, and pages per second.

    The extractors take each page in turn; seconds are CPU time of this process.
    """
    every = extractors()
    for function in every.values():
        _safely(function, pages[0].html)
    seconds = dict.fromkeys(every, 0.0)
    scores: dict[str, list[float]] = {name: [] for name in every}
    for page in pages:
        for name, function in every.items():
            start = time.process_time()
            text = _safely(function, page.html)
            seconds[name] += time.process_time() - start
            scores[name].append(token_f1(text, page.gold))
    rows = []
    for ours in OURS:
        for peer in [name for name in every if name not in OURS]:
            for language in ("en", "zh"):
                for half, counted in (("", [True, False]), (", unseen half", [False])):
                    chosen = [page.language == language and page.seen in counted for page in pages]
                    ours_f1, peer_f1 = (float(np.mean(np.array(scores[name])[chosen])) for name in (ours, peer))
                    rows.append(Case.compare(f"extract {ours} {language}{half}", "token F1", ours_f1, peer, peer_f1))
            rows.append(Case.compare(f"extract {ours}", "pages/s", len(pages) / seconds[ours], peer,
                                     len(pages) / seconds[peer]))
        rows += [Case(f"extract {ours}", "token F1", None, f"{peer} (not installed)")
                 for peer in ("trafilatura", "resiliparse", "readability-lxml", "justext") if not installed(peer)]
    return rows


def minhash_rows(texts: list[str], repeats: int) -> list[Case]:
    settings = MinHashSettings(loose=None)  # as many permutations as the peers make; the stage makes 184
    functions: dict[str, Callable[[], object]] = {
        "ours": lambda: [band_keys(texts[start:start + 64], settings) for start in range(0, len(texts), 64)]}
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
    options = arguments(__doc__, PAGES_OPTION,
                        ("--text", {"type": Path, "default": TEXT, "help": "folder of texts, en and zh"}),
                        ("--every", {"type": int, "help": "every N-th document end to end (36; 1 with --full)"}),
                        ("--only", {"choices": ("pages", "stage", "growth"), "help": "a part of it"}))
    chosen = {options.only} if options.only else {"pages", "stage", "growth"}
    rows: list[Case] = []
    if "pages" in chosen:
        rows += page_rows(options.pages, full=options.full)
    if "stage" in chosen:
        rows += end_to_end_rows(options.pages, options.text, options.every or (1 if options.full else 36),
                                3 if options.full else 1)
    if "growth" in chosen:
        rows += growth_rows(*((2000, 3) if options.full else (50, 1)))
    report("corpus", rows, ceilings(), PEERS)


def page_rows(folder: Path, *, full: bool) -> list[Case]:
    texts = [f"第{number}条河流 river {word} 流过城市 flows past city {number * word}. " * 40
             for number in range(100) for word in range(10)]
    if not folder.is_dir():
        return [Case("extract", "token F1", None, f"no labelled pages at {folder.name}"),
                *minhash_rows(texts, 9 if full else 5)]
    pages = list(labelled_pages(folder))
    return [*extraction_rows(pages if full else pages[::9]),
            *minhash_rows([page.gold for page in pages] * (4 if full else 1), 9 if full else 5)]


if __name__ == "__main__":
    main()
