"""Rows of the files in which benchmarks are published: CSV, JSON, JSON lines, each with its place in the folder."""

from __future__ import annotations

import csv
import gzip
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from headwater.errors import InputError

_LONGEST_CELL = 1 << 24
_END = "\x03end of the file\x03"


class Cells(NamedTuple):
    """A row of a CSV file."""

    where: str
    cells: list[str] | None
    """None: cannot be told apart (a quote that nothing closes)."""


class Record(NamedTuple):
    """A row of a JSON file."""

    where: str
    fields: dict[str, Any] | None
    """None: no JSON object."""


def place(file: Path, folder: Path, row: int) -> str:
    """FILE:ROW below the benchmark's folder."""
    return f"{file.relative_to(folder).as_posix()}:{row}"


def read_text(file: Path) -> str:
    """UTF-8 with or without a byte order mark; a name that ends with .gz is that of a compressed file. Lines end as
    they do in the file. Raises `InputError`."""
    try:
        content = file.read_bytes()
        return (gzip.decompress(content) if file.suffix == ".gz" else content).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"not UTF-8 text: {error.reason} at byte {error.start}", where=file,
                         fix="fetch the file again, or convert it to UTF-8") from None
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"cannot be read: {error}", where=file, fix="fetch the file again") from None


def read_csv(file: Path, folder: Path, header: Sequence[str] | None = None) -> Iterator[Cells]:
    """Rows as pandas' `read_csv` divides them, which the official scripts use: empty lines are none, cells may hold
    quotes and line ends. Unlike there every cell stays the text that it is: None and NA are words, 1.50 is no 1.5.

    header: columns that the first row must name; of each row these cells, in this order, "" where it is too short. A
    row longer than its header is told as unreadable. Raises `InputError`.
    """
    csv.field_size_limit(_LONGEST_CELL)
    rows = _divided(read_text(file))
    if header is None:
        yield from (Cells(place(file, folder, number), cells) for number, cells in enumerate(rows, 1))
        return
    names = next(rows, None) or []
    if missing := [name for name in header if name not in names]:
        raise InputError(f"no column {', '.join(missing)} among {', '.join(names) or 'none'}", where=file,
                         fix="name the columns in the first row")
    columns = [names.index(name) for name in header]
    for number, cells in enumerate(rows, 1):
        whole = cells is not None and len(cells) <= len(names)
        yield Cells(place(file, folder, number),
                    [cells[column] if column < len(cells) else "" for column in columns] if cells and whole else None)


def header_of(file: Path) -> list[str]:
    """The first row. Raises `InputError`."""
    return next(_divided(read_text(file)), None) or []


def _divided(text: str) -> Iterator[list[str] | None]:
    """A last line of our own shows whether a quote was still open: then it is part of a cell, the line with that quote
    is no row, and the next line begins one again."""
    lines = [*_line_ends(text.splitlines(keepends=True)), "\n", f"{_END}\n"] if text else []
    start = 0
    while start < len(lines):
        reader, begun = csv.reader(lines[start:]), 0
        try:
            for cells in reader:
                if any(_END in cell for cell in cells):
                    break
                if cells:
                    yield cells
                begun = reader.line_num
        except csv.Error:
            yield None
            return
        start += begun + 1
        if start < len(lines):
            yield None


def _line_ends(lines: list[str]) -> Iterator[str]:
    """Lines as CSV has them: `str.splitlines` also breaks at characters that are text (U+2028, form feed)."""
    held = ""
    for line in lines:
        held += line
        if held.endswith(("\n", "\r")):
            yield held
            held = ""
    if held:
        yield held + "\n"


def read_jsonl(file: Path, folder: Path) -> Iterator[Record]:
    """Lines that are not empty. Raises `InputError`."""
    for number, line in enumerate(read_text(file).split("\n"), 1):
        if line.strip():
            try:
                value = json.loads(line)
            except (ValueError, RecursionError):
                value = None
            yield Record(place(file, folder, number), value if isinstance(value, dict) else None)


def read_json(file: Path) -> Any:
    """Raises `InputError`."""
    try:
        return json.loads(read_text(file))
    except (ValueError, RecursionError) as error:
        raise InputError(f"not JSON: {error}", where=file, fix="fetch the file again") from None


def text_of(fields: Mapping[str, Any], name: str) -> str:
    """A field's text; "" for what is absent or no text. Numbers are told as JSON writes them."""
    value = fields.get(name)
    return value if isinstance(value, str) else "" if value is None or isinstance(value, bool | dict | list) \
        else json.dumps(value)
