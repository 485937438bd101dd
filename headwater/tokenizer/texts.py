"""Texts of files and folders, told apart by language, for measuring tokenizers on them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from headwater.errors import InputError
from headwater.progress import say

BATCH = 256
CHINESE = 0.2
"""Share of Han characters from which a text counts as Chinese."""
SPOKEN = ("text", "content", "value", "instruction", "input", "output", "prompt", "response", "question", "answer",
          "utterance", "message")
"""Keys of JSON whose strings are text; the others name roles, ids and the like."""


def read_texts(path: Path) -> Iterator[tuple[str, str]]:
    """(text, language) of a file, or of every file below a folder, in order; files of a folder that are not text or not
    UTF-8, and JSON without text, are left out and named.

    .parquet: the column `text`, and `language` where there is one. .jsonl and .json: what stands under `SPOKEN`'s keys,
    at any depth, an object or a line being one text. Everything else is one text. Raises `InputError` for a damaged
    table, and for a file that was named itself.
    """
    if not path.exists():
        raise InputError("no such file or folder", where=path, fix="give the path of existing text")
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    for file in files:
        try:
            yield from _texts_of(file)
        except (OSError, ValueError, KeyError, RecursionError, pa.ArrowException) as error:
            if file != path and file.suffix != ".parquet":
                say(f"{file} is left out: {error}")
                continue
            raise InputError(f"cannot be read as text: {error}", where=file,
                             fix="give UTF-8 text, JSON, JSON lines or Parquet with a column `text`") from None


def _texts_of(file: Path) -> Iterator[tuple[str, str]]:
    if file.suffix != ".parquet":
        yield from ((text, language_of(text)) for text in _written(file) if text)
        return
    with pq.ParquetFile(file) as opened:
        named = [name for name in ("text", "language") if name in opened.schema_arrow.names]
        for batch in opened.iter_batches(BATCH, columns=named):
            texts = batch["text"].cast(pa.string()).to_pylist()
            languages = batch["language"].to_pylist() if "language" in named else [None] * len(texts)
            yield from ((text, language or language_of(text)) for text, language in zip(texts, languages) if text)


def _written(file: Path) -> Iterator[str]:
    """The texts of a text file. Raises `ValueError` for another."""
    data = file.read_bytes()
    if b"\0" in data[:8192]:
        raise ValueError("it holds bytes of 0, which no text does")
    text = data.decode("utf-8-sig")
    if file.suffix not in (".json", ".jsonl"):
        yield text
        return
    rows = _rows(text, whole=file.suffix == ".json")
    spoken = ["\n".join(_spoken(row)) for row in rows]
    if rows and not any(spoken):
        raise ValueError(f"nothing stands under any of the keys {', '.join(SPOKEN)}")
    "".join(spoken).encode()  # JSON can spell halves of surrogate pairs, which are no text
    yield from spoken


def _rows(text: str, *, whole: bool) -> list[Any]:
    """Lines of JSON; of a `whole` file the elements of its list, or itself, where it is no such lines."""
    if whole:
        try:
            value = json.loads(text)
            return value if isinstance(value, list) else [value]
        except ValueError:
            pass  # JSON lines under another name
    rows = []
    for number, line in enumerate(text.split("\n"), 1):
        try:
            rows += [json.loads(line)] if line.strip() else []
        except ValueError as error:
            raise ValueError(f"line {number}: {error}") from None
    return rows


def _spoken(value: Any, under: bool = False) -> Iterator[str]:
    """The strings below a key that holds what is said."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _spoken(inner, under=key in SPOKEN)
    elif isinstance(value, list):
        for inner in value:
            yield from _spoken(inner, under)
    elif under and isinstance(value, str):
        yield value


def batches(texts: Iterable[tuple[str, str]], limit: int | None = None) -> Iterator[tuple[str, list[str]]]:
    """(text, language) pairs as texts of one language together; of each no more than `limit` characters, the last text
    cut."""
    waiting: dict[str, list[str]] = {}
    taken: Counter[str] = Counter()
    for text, language in texts:
        left = len(text) if limit is None else limit - taken[language]
        if left <= 0:
            continue
        taken[language] += len(text)
        waiting.setdefault(language, []).append(text[:left])
        if len(waiting[language]) >= BATCH:
            yield language, waiting.pop(language)
    yield from waiting.items()


def language_of(text: str) -> str:
    han = sum("\u3400" <= character <= "\u9fff" for character in text)
    return "zh" if han >= CHINESE * max(1, sum(not character.isspace() for character in text)) else "en"
