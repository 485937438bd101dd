"""The command `headwater index`: a corpus as an index that a browsing model searches."""

from __future__ import annotations

import hashlib
import shutil
import sqlite3
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from pydantic import Field

from headwater.agent.browser.index import SCHEMA, open_file, pack, unpack
from headwater.agent.browser.pages import first_line, html_title
from headwater.agent.browser.words import index_words
from headwater.artifacts import atomic_write, says_full
from headwater.corpus.extraction.extract import extract, not_html
from headwater.corpus.reading.columns import check_columns
from headwater.corpus.reading.encodings import declared_charset, decode
from headwater.corpus.reading.readers import Raw, read
from headwater.corpus.reading.sources import Source, list_shards
from headwater.corpus.reading.tidying import tidy
from headwater.documents import PARTS, CorpusFile, corpus_files, read_documents
from headwater.errors import InputError, StorageError
from headwater.progress import Bar, bar, print_result, say
from headwater.settings import Settings

HASHED = 1 << 26
CACHE_KIB = 1 << 16
"""Memory that SQLite may take: bytes of words not written yet, and of pages of the file."""
SHOWN = 3
"""Problems that are told one by one."""


class IndexSettings(Settings):
    """What of a corpus becomes searchable. A folder that the corpus stage wrote is known by its own records; of
    another every file counts that the corpus stage could read."""

    text_column: str = "text"
    """Where JSON lines and Parquet hold the text; `url`, where they have it, is the page's address."""
    include: Annotated[tuple[str, ...], Field(min_length=1)] = ("**/*",)
    """Glob patterns relative to the folder."""
    exclude: tuple[str, ...] = ()
    """Patterns of what to leave out, in the same form."""
    longest: int = Field(default=1_000_000, ge=100)
    """Characters of a page that are kept; the rest of a longer one cannot be found."""


def index(corpus: Path, out: Path, settings: IndexSettings | None = None) -> dict[str, int]:
    """Write the index of the corpus's pages to the file `out`, which appears whole or stays as it was.

    Where `out` is an index already only what changed is worked on: pages are known by their addresses and contents,
    and those that the corpus no longer has are taken out. Returns what became of the pages. Raises `InputError` for a
    corpus without pages and for an `out` that is no index; `StorageError` on a full disk.
    """
    settings, out = settings or IndexSettings(), Path(out)
    documents = _documents(Path(corpus), settings)
    if out.exists():
        open_file(out).close()
    try:
        with atomic_write(out) as stream, bar("index") as shown:
            work = Path(stream.name)
            if out.exists():
                shutil.copyfile(out, work)
            counts = _build(work, documents, settings, shown)
            if not counts["pages"]:
                raise InputError("no page with text", where=corpus, fix="give a folder of pages, texts or documents")
    except sqlite3.OperationalError as error:
        if not says_full(error):
            raise
        raise StorageError(f"cannot write: {error}", where=out, fix="free some space and start again") from None
    told = ", ".join(f"{count:,} {name}" for name, count in counts.items() if count or name == "pages")
    print_result(f"{out}: {told}; {out.stat().st_size / 1e6:.1f} MB")
    return counts


def _documents(corpus: Path, settings: IndexSettings) -> Iterator[Raw]:
    """Asked for before any work: raises `InputError` for what is no corpus."""
    if (corpus / PARTS).exists():
        given = sorted(settings.model_fields_set & {"text_column", "include", "exclude"})
        if given:
            raise InputError(f"{given[0]} has no effect on a folder that the corpus stage wrote", where=corpus,
                             fix=f"leave out {given[0]}")
        files = [file for split in ("train", "validation") for file in _split(corpus, split)]
        return (Raw(row["url"], row["text"].encode()) for row in read_documents(files, ["url", "text"]))
    shards = list_shards([Source(path=corpus, text_column=settings.text_column, include=settings.include,
                                 exclude=settings.exclude)])
    check_columns(shards)
    return (raw for shard in shards for raw in read(shard))


def _split(corpus: Path, split: str) -> list[CorpusFile]:
    try:
        return corpus_files(corpus, split)
    except InputError:  # a corpus without validation
        if split == "train":
            raise
        return []


def _build(file: Path, documents: Iterator[Raw], settings: IndexSettings, shown: Bar) -> dict[str, int]:
    writer = _Writer(file, settings)
    try:
        for document in documents:
            writer.add(document)
            shown.advance()
            shown.note(f"{writer.counts['new']:,} new")
        writer.finish()
    finally:
        writer.connection.close()
    return {name: writer.counts[name] for name in ("pages", "new", "changed", "gone", "cut", "repeated", "empty",
                                                   "unreadable")}


class _Writer:
    """Brings the index in a file of its own up to the documents it is given. Nobody else reads the file meanwhile, and
    it is thrown away at any failure: there is no journal."""

    def __init__(self, file: Path, settings: IndexSettings) -> None:
        self.settings, self.counts = settings, Counter[str]()
        self.connection = sqlite3.connect(file, isolation_level=None)
        for pragma in ("journal_mode=OFF", "synchronous=OFF", "locking_mode=EXCLUSIVE", f"cache_size=-{CACHE_KIB}"):
            self.connection.execute(f"PRAGMA {pragma}")
        if not file.stat().st_size:
            self.connection.executescript(SCHEMA)
        self.connection.execute("INSERT INTO words(words, rank) VALUES ('hashsize', ?)", [HASHED])
        self.connection.execute("BEGIN")
        self.build = self.connection.execute("SELECT coalesce(max(seen), 0) + 1 FROM page").fetchone()[0]

    def add(self, raw: Raw) -> None:
        """Index the document, unless it is there as it is; the first of those with one address counts."""
        if raw.problem is not None:
            self._unreadable(raw, f"{raw.problem} {raw.detail}".strip())
            return
        digest = hashlib.blake2b(raw.content + f"|{raw.html}|{raw.charset}|{self.settings.longest}".encode(),
                                 digest_size=16).digest()
        known = self.connection.execute("SELECT id, digest, seen, title FROM page WHERE url = ?", [raw.url]).fetchone()
        if known and known[2] == self.build:
            self.counts["repeated"] += 1
        elif known and known[1] == digest:
            self.connection.execute("UPDATE page SET seen = ? WHERE id = ?", [self.build, known[0]])
        elif text := self._text(raw):
            if known:
                self._take_out(known[0], known[3])
            self._put(raw.url, *text, digest)
            self.counts["changed" if known else "new"] += 1

    def finish(self) -> None:
        """Take out the pages that were not given, and put the words in order."""
        gone = self.connection.execute("SELECT id, title FROM page WHERE seen < ?", [self.build]).fetchall()
        for number, title in gone:
            self._take_out(number, title)
        self.counts["gone"] = len(gone)
        self.counts["pages"] = self.connection.execute("SELECT count(*) FROM page").fetchone()[0]
        if self.counts["new"] or self.counts["changed"] or gone:
            self.connection.execute("INSERT INTO words(words) VALUES ('optimize')")
        self.connection.execute("COMMIT")

    def _text(self, raw: Raw) -> tuple[str, str] | None:
        """Title and text; None where there is none."""
        try:
            if raw.html and (kind := not_html(raw.content)) not in (None, "empty"):
                raise UnicodeError(f"{kind} and not HTML")
            content = decode(raw.content, raw.charset, declared_charset(raw.content) if raw.html else None)[0]
        except UnicodeError as error:
            self._unreadable(raw, str(error))
            return None
        text = extract(content) if raw.html else tidy(content)
        title = (html_title(content) if raw.html else "") or first_line(text)
        if not text:
            self.counts["empty"] += 1
            return None
        self.counts["cut"] += len(text) > self.settings.longest
        return title, text[:self.settings.longest]

    def _put(self, url: str, title: str, text: str, digest: bytes) -> None:
        number = self.connection.execute("INSERT INTO page (url, title, digest, seen) VALUES (?, ?, ?, ?)",
                                         [url, title, digest, self.build]).lastrowid
        self.connection.execute("INSERT INTO body VALUES (?, ?)", [number, pack(text)])
        self.connection.execute("INSERT INTO words (rowid, title, body) VALUES (?, ?, ?)",
                                [number, index_words(title), index_words(text)])

    def _take_out(self, number: int, title: str) -> None:
        """A table without texts forgets a row when it is told the same words again."""
        text = unpack(self.connection.execute("SELECT text FROM body WHERE id = ?", [number]).fetchone()[0])
        self.connection.execute("INSERT INTO words (words, rowid, title, body) VALUES ('delete', ?, ?, ?)",
                                [number, index_words(title), index_words(text)])
        for table in ("page", "body"):
            self.connection.execute(f"DELETE FROM {table} WHERE id = ?", [number])

    def _unreadable(self, raw: Raw, why: str) -> None:
        self.counts["unreadable"] += 1
        if self.counts["unreadable"] <= SHOWN:
            say(f"note: {raw.url} cannot be read: {why}")
