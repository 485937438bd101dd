"""Labelled texts from files: what a classifier is trained and judged on."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from headwater.artifacts import read_jsonl
from headwater.corpus.reading.tidying import tidy
from headwater.errors import InputError
from headwater.settings import Settings, nearest_name

_TRUE, _FALSE = {"1", "true", "yes"}, {"0", "false", "no"}


class Columns(Settings):
    """Names of the columns; one of language, group or source that is not set may be absent from a file."""

    text: str = "text"
    """The text."""
    label: str = "label"
    """1, true or yes for the positive class; 0, false or no for the other."""
    language: str = "lang"
    """ISO 639-1; absent, the language is identified."""
    group: str = "group"
    """Rows of one group (a text and its rewrites) fall on the same side of the split; absent, each row stands alone."""
    source: str = "source"
    """Where the row comes from, for the card; absent, the file's name."""


class Labelled(NamedTuple):
    """One labelled text."""

    text: str
    label: bool
    language: str
    group: str
    source: str

    def draw(self) -> float:
        """A number in [0, 1) that depends on the group alone."""
        return int.from_bytes(hashlib.blake2b(self.group.encode("utf-8", "surrogatepass"), digest_size=8).digest(),
                              "big") / 2**64


def read_labelled(path: Path, columns: Columns) -> Iterator[Labelled]:
    """Rows of a JSONL, CSV or Parquet file, tidied; rows without text are left out.

    Raises `InputError` for another kind of file, a missing column or a label that is neither true nor false.
    """
    for number, row in enumerate(_rows(path), 1):
        _require(row, columns, path)
        text = row[columns.text]
        if not isinstance(text, str):
            raise InputError(f"row {number}: '{columns.text}' holds {type(text).__name__}, not text", where=path,
                             fix="name the column of text in columns.text")
        if tidied := tidy(text):
            yield Labelled(tidied, _label(row[columns.label], number, path, columns),
                           str(row.get(columns.language) or "") or _identified(tidied),
                           str(row.get(columns.group) or tidied), str(row.get(columns.source) or path.stem))


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    name = path.name.lower()
    if not path.is_file():
        raise InputError("no such file", where=path, fix="give a JSONL, CSV or Parquet file of labelled texts")
    if name.endswith((".jsonl", ".ndjson")):
        for number, row in enumerate(read_jsonl(path), 1):
            if not isinstance(row, dict):
                raise InputError(f"row {number} is not an object", where=path, fix="write one {...} per line")
            yield row
    elif name.endswith(".csv"):
        yield from _csv_rows(path)
    elif name.endswith(".parquet"):
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            for batch in pq.ParquetFile(path).iter_batches(1024):
                yield from batch.to_pylist()
        except pa.ArrowException as error:
            raise InputError(f"not a readable Parquet file: {error}", where=path, fix="write it again") from None
    else:
        raise InputError(f"unknown kind of file '{path.suffix}'", where=path,
                         fix="give labelled texts as .jsonl, .csv or .parquet")


def _csv_rows(path: Path) -> Iterator[dict[str, Any]]:
    try:
        with open(path, encoding="utf-8-sig", newline="") as stream:
            yield from csv.DictReader(stream)
    except UnicodeDecodeError as error:
        raise InputError(f"not UTF-8 text: {error}", where=path, fix="convert the file to UTF-8") from None
    except csv.Error as error:
        raise InputError(f"not readable as CSV: {error}", where=path, fix="correct the file") from None


def _require(row: dict[str, Any], columns: Columns, path: Path) -> None:
    for setting in dict.fromkeys(("text", "label", *sorted(columns.model_fields_set))):
        if (column := getattr(columns, setting)) not in row:
            nearest = nearest_name(column, map(str, row))
            raise InputError(f"no column '{column}' (columns: {', '.join(map(str, row))})", where=path,
                             fix=f"set columns.{setting}" + (f", perhaps to '{nearest}'" if nearest else ""))


def _label(value: Any, number: int, path: Path, columns: Columns) -> bool:
    plain = str(int(value) if isinstance(value, float) and value.is_integer() else value).strip().lower()
    if plain not in _TRUE | _FALSE:
        raise InputError(f"row {number}: '{columns.label}' is {value!r}, expected 1 or 0", where=path,
                         fix="write 1 (true, yes) for the positive class and 0 (false, no) for the other")
    return plain in _TRUE


def _identified(text: str) -> str:
    from headwater.corpus.judging.language import identify

    return identify(text).code
