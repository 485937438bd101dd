"""An index of pages in one SQLite file, searched without a network."""

from __future__ import annotations

import sqlite3
import threading
import zlib
from dataclasses import dataclass
from pathlib import Path

from headwater.agent.browser.pages import Page
from headwater.agent.browser.words import LOOKED_AT, match_query, snippet
from headwater.errors import InputError

APPLICATION = 0x48574958
"""SQLite's mark of whose file it is: HWIX."""
VERSION = 1
"""Of the tables and of what is a word."""
SCHEMA = f"""
PRAGMA application_id = {APPLICATION};
PRAGMA user_version = {VERSION};
CREATE TABLE page (id INTEGER PRIMARY KEY, url TEXT NOT NULL UNIQUE, title TEXT NOT NULL, digest BLOB NOT NULL,
                   seen INTEGER NOT NULL);
CREATE TABLE body (id INTEGER PRIMARY KEY, text BLOB NOT NULL);
CREATE VIRTUAL TABLE words USING fts5(title, body, content='', tokenize="porter unicode61 remove_diacritics 2");
"""
# Apart from `page`, whose rows every build rewrites, and packed. The words are in `words` alone, which keeps no text.
TITLE_WEIGHT = 2.0
"""What a word in a title counts against one in the text."""


@dataclass(frozen=True)
class Result:
    """What a search found: where, and what it says there of what was sought."""

    url: str
    title: str
    snippet: str


class Index:
    """Searches and opens the pages of an index. Safe to use from several threads."""

    def __init__(self, file: Path) -> None:
        """Raises `InputError` for what is no index, or one of another version."""
        self.file = Path(file)
        self._lock = threading.Lock()
        self._connection = open_file(self.file)

    def search(self, query: str, count: int) -> list[Result]:
        """The best pages first, by BM25. Any text is a query; one without words finds nothing."""
        asked = match_query(query)
        if not asked:
            return []
        rows = self._rows("SELECT page.url, page.title, body.text FROM (SELECT rowid, rank FROM words WHERE words "
                          "MATCH ? AND rank MATCH ? ORDER BY rank LIMIT ?) AS found JOIN page ON page.id = found.rowid "
                          "JOIN body ON body.id = found.rowid ORDER BY found.rank, page.id",
                          asked, f"bm25({TITLE_WEIGHT}, 1.0)", count)
        return [Result(url, title, snippet(unpack(text, LOOKED_AT), query)) for url, title, text in rows]

    def page(self, url: str) -> Page | None:
        """The page of that address, or None."""
        rows = self._rows("SELECT page.title, body.text FROM page JOIN body USING (id) WHERE url = ?", url)
        return Page(url, rows[0][0], unpack(rows[0][1])) if rows else None

    def __len__(self) -> int:
        return int(self._rows("SELECT count(*) FROM page")[0][0])

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    def _rows(self, command: str, *values: object) -> list[tuple]:
        try:
            with self._lock:
                return self._connection.execute(command, values).fetchall()
        except sqlite3.DatabaseError as error:
            raise InputError(f"the index is damaged: {error}", where=self.file, fix="make it again") from None


def open_file(file: Path) -> sqlite3.Connection:
    """The index for reading. Raises `InputError`."""
    if not file.is_file():
        raise InputError("no such index", where=file, fix="make one: headwater index CORPUS --out FILE")
    try:
        # Immutable: a build replaces the file and never writes into it, so no locks are needed.
        connection = sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro&immutable=1", uri=True,
                                     check_same_thread=False)
        found = [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")]
    except sqlite3.DatabaseError:
        found = [0, 0]
    if found[0] != APPLICATION:
        raise InputError("no index", where=file, fix="make one: headwater index CORPUS --out FILE")
    if found[1] != VERSION:
        raise InputError(f"an index of version {found[1]}, not {VERSION}", where=file,
                         fix="delete it and make it again: headwater index CORPUS --out FILE")
    return connection


def pack(text: str) -> bytes:
    return zlib.compress(text.encode(), 1)


def unpack(packed: bytes, most: int = 0) -> str:
    """The text, or (`most`) about so many characters from its beginning."""
    return zlib.decompressobj().decompress(packed, 3 * most).decode("utf-8", "ignore" if most else "strict")
