"""Search over an index of pages: what is found, how fast, how large, how long an index takes.

    python benchmarks/search.py [--full] [--data FOLDER]

Questions on the facts of the invented world, whose pages are known that tell each; and known-item search in the real
texts of FOLDER (JSON lines with `text`, below en/ and zh/): five words of one sentence, or two fragments of a Chinese
one, must bring back its document. Settings were chosen on the questions and documents whose SHA-1 is even; the rows
come from the others. bm25s and tantivy get the very same words (Chinese in pairs, English stemmed by their stemmers),
the same queries and, tantivy, the same weight of a title; they give places, ours pages with titles and snippets.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

from _harness import Case, arguments, installed, report
from _processes import run_measured

from headwater.agent.browser.building import IndexSettings, index
from headwater.agent.browser.index import TITLE_WEIGHT, Index
from headwater.agent.browser.pages import Page, first_line
from headwater.agent.browser.words import index_words, match_query
from headwater.atlas.choice import choice_questions
from headwater.atlas.language import LANGUAGES
from headwater.atlas.stage import AtlasSettings
from headwater.atlas.stage import run as write_atlas
from headwater.atlas.world import build_world

DATA = Path(__file__).resolve().parents[2] / "shared/data/text"
DEPTH = 10
HAN = "\u4e00-\u9fff"
NOBODY = "-"
Finder = Callable[[str], list[str]]
"""From a query to addresses, the best first."""


@dataclass(frozen=True)
class Asked:
    """A query and the pages that answer it."""

    query: str
    answers: frozenset[str]
    language: str


def is_held_out(text: str) -> bool:
    return hashlib.sha1(text.encode()).digest()[0] & 1 == 1


def atlas_questions(folder: Path, most: int, held_out: bool) -> list[Asked]:
    """Held-out questions on facts, with the pages of their language that tell each."""
    telling: dict[tuple[str, str], set[str]] = {}
    for line in (folder / "pages/labels.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        for fact in row["facts"]:
            telling.setdefault((row["lang"], fact), set()).add(f"pages/{row['file']}")
    world, asked = build_world("small", 0), []
    for code, language in LANGUAGES.items():
        known = [Asked(one.question, frozenset(telling[code, one.fact]), code)
                 for one in choice_questions(world, language)
                 if (code, one.fact) in telling and is_held_out(one.question) == held_out]
        asked += random.Random(0).sample(known, min(most, len(known)))
    return asked


def real_pages(folder: Path) -> list[Page]:
    """The documents of JSON lines below the folder, under addresses that say their language."""
    pages = []
    for path in sorted(folder.rglob("*.jsonl")):
        for number, line in enumerate(path.read_text(encoding="utf-8").split("\n")):
            row = json.loads(line or "{}")
            if text := row.get("text", "").strip():
                name = f"{path.parent.relative_to(folder).as_posix()}/{path.stem}-{number}"
                pages.append(Page(name, first_line(text), text))
    return pages


def known_items(pages: list[Page], most: int, held_out: bool) -> list[Asked]:
    """Words of one sentence each; documents that hold them all as well would be right too."""
    draw, asked = random.Random(1), []
    for code in ("en", "zh"):
        chosen = [page for page in pages if page.url.startswith(f"{code}/") and is_held_out(page.url) == held_out]
        draw.shuffle(chosen)
        found = [(page, pieces) for page in chosen if (pieces := _pieces(page.text, code, draw))][:most]
        for page, pieces in found:
            alike = {other.url for other in pages if all(piece in other.text for piece in pieces)}
            asked.append(Asked(" ".join(pieces), frozenset(alike | {page.url}), code))
    return asked


def _pieces(text: str, code: str, draw: random.Random) -> list[str]:
    if code == "zh":
        runs: list[str] = re.findall(f"[{HAN}]{{10,}}", text)
        run = draw.choice(runs) if runs else ""
        return [run[1:5], run[-5:-1]] if run else []
    sentences = [words for one in re.split(r"(?<=[.!?])\s", text) if len(words := re.findall(r"[A-Za-z]{4,}", one)) > 7]
    if not sentences:
        return []
    words = draw.choice(sentences)
    return [words[place] for place in sorted(draw.sample(range(len(words)), 5))]


class Bm25s:
    """BM25 over sparse matrices (https://github.com/xhluca/bm25s), in memory."""

    name = f"bm25s {installed('bm25s')}"

    def __init__(self, pages: Iterable[Page], folder: Path) -> None:
        import bm25s
        import Stemmer

        self.stem = Stemmer.Stemmer("english").stemWords
        self.urls: list[str] = []
        words = []
        for page in pages:
            self.urls.append(page.url)
            words.append(self.stem(index_words(f"{page.title} {page.text}").split()))
        self.engine = bm25s.BM25()
        self.engine.index(words, show_progress=False)
        self.engine.save(str(folder))

    def __call__(self, query: str) -> list[str]:
        words = [word for word in self.stem(index_words(query).split()) if word in self.engine.vocab_dict]
        if not words:
            return []
        places, _ = self.engine.retrieve([words], k=min(DEPTH, len(self.urls)), show_progress=False)
        return [self.urls[place] for place in places[0]]


class Tantivy:
    """The Rust library, by its Python binding."""

    name = f"tantivy {installed('tantivy')}"

    def __init__(self, pages: Iterable[Page], folder: Path) -> None:
        import tantivy

        builder = tantivy.SchemaBuilder()
        builder.add_text_field("url", stored=True, tokenizer_name="raw")
        for field in ("title", "body"):
            builder.add_text_field(field, tokenizer_name="en_stem")
        folder.mkdir()
        self.index = tantivy.Index(builder.build(), path=str(folder))
        writer = self.index.writer(64 << 20, 1)
        for page in pages:
            writer.add_document(tantivy.Document(url=page.url, title=index_words(page.title),
                                                 body=index_words(page.text)))
        writer.commit()
        writer.wait_merging_threads()
        self.index.reload()
        self.searcher = self.index.searcher()

    def __call__(self, query: str) -> list[str]:
        asked = " ".join(f'"{word}"' for word in index_words(query).split())
        parsed = self.index.parse_query(asked, ["title", "body"], {"title": TITLE_WEIGHT})
        return [self.searcher.doc(place)["url"][0] for _, place in self.searcher.search(parsed, DEPTH).hits]


PEERS: dict[str, Any] = {"bm25s": Bm25s, "tantivy": Tantivy}


def ours(file: Path) -> Finder:
    opened = Index(file)
    return lambda query: [one.url for one in opened.search(query, DEPTH)]


def peers_of(pages: Callable[[], Iterable[Page]], folder: Path) -> Iterator[tuple[str, Finder | None, float, Path]]:
    """Name, finder (None where it is not installed), seconds it took to build, and where it lies."""
    for package, kind in PEERS.items():
        if not installed(package):
            yield f"{package}: not installed", None, 0.0, folder
            continue
        start = time.process_time()
        finder = kind(pages(), folder / package)
        yield kind.name, finder, time.process_time() - start, folder / package


def recall(finder: Finder, asked: list[Asked], depth: int) -> float:
    return statistics.mean(not one.answers.isdisjoint(finder(one.query)[:depth]) for one in asked)


def quality(case: str, asked: list[Asked], finder: Finder, peers: dict[str, Finder | None]) -> list[Case]:
    rows = []
    for code in ("en", "zh"):
        of_language = [one for one in asked if one.language == code]
        for depth in (1, DEPTH):
            found = recall(finder, of_language, depth)
            label = f"{case}, {code}, {len(of_language)} queries"
            rows += [Case.compare(label, f"recall@{depth}", found, name, recall(peer, of_language, depth))
                     if peer else Case(label, f"recall@{depth}", found, name) for name, peer in peers.items()]
    return rows


def speed(asked: list[Asked], finder: Finder, peers: dict[str, Finder | None]) -> list[Case]:
    """CPU milliseconds of a query: every query is put to each in turn, in three rounds."""
    runs = {"ours": finder, **{name: peer for name, peer in peers.items() if peer}}
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for one in asked[:20]:
        for run in runs.values():
            run(one.query)
    for one in asked * 3:
        for name, run in runs.items():
            start = time.process_time()
            run(one.query)
            taken[name].append(1e3 * (time.process_time() - start))
    rows = []
    for metric, figure in (("CPU ms, median", statistics.median), ("CPU ms, 95 of 100", lambda all_: sorted(all_)[
            int(0.95 * len(all_))])):
        own = figure(taken["ours"])
        rows += [Case.compare("query", metric, own, name, figure(taken[name]), more_is_better=False)
                 if peer else Case("query", metric, own, name) for name, peer in peers.items()]
    return rows


def size_of(path: Path) -> float:
    return sum(file.stat().st_size for file in ([path] if path.is_file() else path.rglob("*")) if file.is_file()) / 1e6


def quietly(corpus: Path, out: Path, **settings: Any) -> float:
    """CPU seconds that an index takes."""
    start = time.process_time()
    with redirect_stdout(StringIO()):
        index(corpus, out, IndexSettings(**settings))
    return time.process_time() - start


def atlas(folder: Path, most: int) -> list[Case]:
    write_atlas(AtlasSettings(), folder / "atlas")
    quietly(folder / "atlas/pages", folder / "atlas.index", include=("**/*.html",))
    opened = Index(folder / "atlas.index")
    asked = atlas_questions(folder / "atlas", most, held_out=True)
    addresses = sorted(f"pages/{file.parent.name}/{file.name}" for file in (folder / "atlas/pages").rglob("*.html"))
    pages = [page for url in addresses if (page := opened.page(url))]
    peers = {name: finder for name, finder, _, _ in peers_of(lambda: pages, folder / "atlas")}
    return quality(f"questions on {len(pages):,} invented pages", asked, ours(folder / "atlas.index"), peers)


def real(folder: Path, data: Path, most: int, every: int) -> tuple[list[Case], dict[str, float]]:
    pages = real_pages(data)[::every]
    rows_file = folder / "real.jsonl"
    rows_file.write_text("".join(json.dumps({"url": page.url, "text": page.text}) + "\n" for page in pages))
    megabytes = sum(len(page.text.encode()) for page in pages) / 1e6
    file = folder / "real.index"
    built = quietly(rows_file, file)
    again = quietly(rows_file, file)
    asked = known_items(pages, most, held_out=True)
    case, rows, peers = f"{len(pages):,} real texts, {megabytes:.0f} MB", [], {}
    for name, finder, seconds, place in peers_of(lambda: pages, folder):
        peers[name] = finder
        for metric, own, theirs in (("build, CPU s", built, seconds), ("MB on disk", size_of(file), size_of(place))):
            rows.append(Case.compare(case, metric, own, name, theirs, more_is_better=False) if finder
                        else Case(case, metric, own, name))
    rows.append(Case(case, "build again, unchanged, CPU s", again, NOBODY))
    rows += quality(f"known items in {len(pages):,} real texts", asked, ours(file), peers)
    rows += speed(asked, ours(file), peers)
    return rows, ceilings(file, pages, asked)


def ceilings(file: Path, pages: list[Page], asked: list[Asked]) -> dict[str, float]:
    """What no index of these words can be built or asked faster than from Python: the words alone, FTS5's answer."""
    connection = Index(file)._connection
    queries = [match_query(one.query) for one in asked]

    def ask() -> None:
        for query in queries:
            connection.execute("SELECT rowid FROM words WHERE words MATCH ? AND rank MATCH ? ORDER BY rank LIMIT ?",
                               [query, f"bm25({TITLE_WEIGHT}, 1.0)", DEPTH]).fetchall()

    def split() -> None:
        for page in pages:
            index_words(page.text)

    found = {name: statistics.median(_cpu_seconds(work) for _ in range(3)) for name, work in (("fts5", ask),
                                                                                             ("words", split))}
    return {"words of the texts, CPU s": found["words"],
            "FTS5 alone, CPU ms a query": 1e3 * found["fts5"] / len(queries)}


def _cpu_seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def memory(folder: Path, pages: int) -> list[Case]:
    """Peak memory of the command over so many invented pages and over four times as many."""
    rows = []
    for count in (pages, 4 * pages):
        draw, corpus = random.Random(count), folder / f"{count}.jsonl"
        words = ["".join(draw.choices("abcdefghijklmnop", k=draw.randint(2, 9))) for _ in range(50_000)]
        with corpus.open("w") as stream:
            for _ in range(count):
                text = " ".join(draw.choices(words, k=300)) + "".join(
                    chr(0x4E00 + int(draw.paretovariate(0.5)) % 5000) for _ in range(300))
                stream.write(json.dumps({"text": text}, ensure_ascii=False) + "\n")
        cost = run_measured([sys.executable, "-m", "headwater", "index", str(corpus), "--out", str(folder / "m.index")])
        (folder / "m.index").unlink()
        rows += [Case(f"command, {count:,} invented pages", "peak MB", 1e3 * cost.peak_gb, NOBODY),
                 Case(f"command, {count:,} invented pages", "CPU s", cost.cpu_seconds, NOBODY)]
    return rows


def main() -> None:
    given = arguments(__doc__, ("--data", {"type": Path, "default": DATA}))
    most = 400 if given.full else 100
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        rows, limits = atlas(folder, most), {}
        if given.data.is_dir():
            found, limits = real(folder, given.data, most, 1 if given.full else 4)
            rows += found
        else:
            rows.append(Case("known items in real texts", "recall@1", None, f"{given.data} is not here"))
        rows += memory(folder, 50_000 if given.full else 500)
        report("search", rows, limits, ("bm25s", "tantivy", "PyStemmer"))


if __name__ == "__main__":
    main()
